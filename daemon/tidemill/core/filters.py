"""Filters: which runs a list is to show, in which order, and which part of it."""

from __future__ import annotations

import enum
from datetime import datetime

import msgspec

from tidemill.core.states import StateType

MAX_LIMIT = 200


class RunSort(enum.StrEnum):
    """Orders of a list of runs; the words are Prefect's. A run without the instant counts as earliest."""

    EXPECTED_START_TIME_DESC = "EXPECTED_START_TIME_DESC"
    EXPECTED_START_TIME_ASC = "EXPECTED_START_TIME_ASC"
    START_TIME_DESC = "START_TIME_DESC"
    START_TIME_ASC = "START_TIME_ASC"
    END_TIME_DESC = "END_TIME_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    ID_DESC = "ID_DESC"


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions that all hold. None: no condition; an empty tuple: nothing fits. Instants are aware UTC.

    ``after`` and ``before`` include the instant itself. ``limit`` is cut at 200.
    """

    ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None  # the run's own name, whole
    text: str | None = None  # a part of the run's name, whatever its case; or how its id begins, from 8 characters on
    deployments: tuple[str, ...] | None = None
    flows: tuple[str, ...] | None = None
    work_queues: tuple[str, ...] | None = None
    work_pools: tuple[str, ...] | None = None
    state_types: tuple[StateType, ...] | None = None
    state_names: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None  # the run has every one of them
    expected_start_after: datetime | None = None
    expected_start_before: datetime | None = None
    start_after: datetime | None = None
    start_before: datetime | None = None
    end_after: datetime | None = None
    end_before: datetime | None = None
    sort: RunSort = RunSort.EXPECTED_START_TIME_DESC
    limit: int = MAX_LIMIT
    offset: int = 0


class TaskRunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions that all hold. None: no condition; an empty tuple: nothing fits. ``limit`` is cut at 200."""

    ids: tuple[str, ...] | None = None
    runs: tuple[int, ...] | None = None  # row numbers of flow runs
    names: tuple[str, ...] | None = None  # whole
    text: str | None = None  # a part of the name, whatever its case
    state_types: tuple[StateType, ...] | None = None
    state_names: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None  # the task run has every one of them
    newest_first: bool = False
    limit: int = MAX_LIMIT
    offset: int = 0
