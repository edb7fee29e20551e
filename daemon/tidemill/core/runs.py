"""Runs: what one execution of a flow is, and the values its life is told in."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import msgspec

from tidemill.core.states import State


class FlowRun(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a flow, with its present state. Instants are aware UTC; changed by making a new one.

    ``state_number`` counts the states of this run from 1; every change names the number it decided on, so that a stale
    decision fails instead of overwriting. ``attempt`` counts starts from 1 (0: never started); reports of an older
    attempt are refused.
    """

    seq: int  # row number, given out by the one process that writes
    id: str
    name: str
    flow: str
    deployment: str | None = None
    work_pool: str = "default"
    work_queue: str = "default"
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    schedule: str | None = None  # the schedule's identity; None: made by hand
    due: datetime | None = None  # what the schedule said, before jitter
    expected_start: datetime
    state: State
    state_number: int = 1
    attempt: int = 0
    retries_used: int = 0
    owner: str | None = None  # boot id of the daemon that took it
    created: datetime
    created_by: str = "schedule"  # schedule, person, backfill, crash; parent (a subflow), flow (run_deployment), script
    start_time: datetime | None = None
    end_time: datetime | None = None
    run_time_s: float = 0.0  # of all attempts
    idempotency_key: str | None = None
    parent_run_id: str | None = None  # the run that began it (a subflow) or asked for it
    parent_task_run_id: str | None = None  # the task run that stands for it in the parent


class Step(enum.Enum):
    """What a transition changes of a run beside its state."""

    BEGIN = "begin"  # attempt, owner and start
    END = "end"  # end and run time
    OTHER = "other"  # any of attempt, retries, owner, expected start, start, end and run time


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A decided change: ``run`` as it will be, the state number it was decided on, and the states passed through.

    ``states`` are in order and the last equals ``run.state``; ``run.state_number == expected_number + len(states)``.
    ``step`` says what else of the run is new; writing no more than that spares the indexes of the rest.
    """

    run: FlowRun
    expected_number: int
    states: tuple[State, ...]
    step: Step = Step.OTHER


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a run printed or logged. ``level`` is logging's number."""

    run: int  # FlowRun.seq
    run_id: str
    at: datetime
    level: int
    logger: str
    message: str
    task_run_id: str | None = None


class TaskRun(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a task inside a flow run."""

    id: str
    run: int  # FlowRun.seq of the flow run it belongs to
    run_id: str
    name: str
    task_key: str
    dynamic_key: str
    state: State
    state_number: int = 1
    attempt: int = 0
    tags: tuple[str, ...] = ()
    created: datetime
    expected_start: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    run_time_s: float = 0.0
    cache_key: str | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a keyed JSON document. ``text`` is the canonical JSON (sorted keys, no blanks, no NaN)."""

    id: str
    key: str | None
    version: int  # from 1, by key; 0: not stored yet
    type: str  # json, table, markdown, link, image, progress
    text: str
    description: str | None = None
    run_id: str | None = None
    task_run_id: str | None = None
    deployment: str | None = None
    created: datetime
    keep_versions: int | None = None  # None: the store's default
    new_version: bool = False  # make a version though the content is equal


class SkippedFire(msgspec.Struct, frozen=True, kw_only=True):
    """Fires of a schedule that made no run, and why. ``first`` to ``last``, both included."""

    deployment: str
    schedule: str
    first: datetime
    last: datetime
    count: int
    exact: bool = True  # False: more than could be counted in bounded time
    reason: str
    at: datetime
