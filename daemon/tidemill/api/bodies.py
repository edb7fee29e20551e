"""The bodies of the ``filter`` routes: Prefect's filters, as far as they mean something here.

A filter that is not known is refused by name: passing over it would answer more than was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from tidemill.core.states import StateType
from tidemill.errors import WrongUsageError

MAX_LIMIT = 200  # Prefect's; also what is answered where no limit is given
MAX_OFFSET = 2**63 - 1  # SQLite's


class BadRequestError(WrongUsageError):
    """The request does not say what it should. The text says what is wrong."""


class AnyOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    any_: list[str] | None = None


class NameLike(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    any_: list[str] | None = None
    like_: str | None = None


class TypeAnyOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    any_: list[StateType] | None = None


class AllOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    all_: list[str] | None = None


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Instants, both included."""

    before_: datetime | None = None
    after_: datetime | None = None


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ge_: int | None = None


class StateFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: str | None = None
    type: TypeAnyOf | None = None
    name: AnyOf | None = None


class RunsFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: str | None = None
    id: AnyOf | None = None
    name: NameLike | None = None
    tags: AllOf | None = None
    deployment_id: AnyOf | None = None
    work_queue_name: AnyOf | None = None
    state: StateFilter | None = None
    expected_start_time: Window | None = None


class NamedFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Flows, deployments, queues and pools: by id or name."""

    operator: str | None = None
    id: AnyOf | None = None
    name: NameLike | None = None


class LogsFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: str | None = None
    flow_run_id: AnyOf | None = None
    level: Level | None = None


class ArtifactsFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: str | None = None
    id: AnyOf | None = None
    key: NameLike | None = None
    flow_run_id: AnyOf | None = None


class TaskRunsFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: str | None = None
    id: AnyOf | None = None
    name: NameLike | None = None
    tags: AllOf | None = None
    state: StateFilter | None = None
    flow_run_id: AnyOf | None = None


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What any ``filter`` route takes. Each route says which of the filters it goes by."""

    flow_runs: RunsFilter | None = None
    flows: NamedFilter | None = None
    deployments: NamedFilter | None = None
    work_queues: NamedFilter | None = None
    work_pools: NamedFilter | None = None
    logs: LogsFilter | None = None
    artifacts: ArtifactsFilter | None = None
    task_runs: TaskRunsFilter | None = None
    variables: NamedFilter | None = None
    concurrency_limits: NamedFilter | None = None
    block_documents: NamedFilter | None = None
    automations: NamedFilter | None = None
    sort: str | None = None
    limit: int | None = None
    offset: int = 0

    @property
    def most(self) -> int:
        return MAX_LIMIT if self.limit is None else min(self.limit, MAX_LIMIT)


# msgspec works out what a type is when it is first converted to, and two threads that do so at the same time take the
# whole process down (seen with 0.22). Bodies are read in the readers' threads, so it is done here and now.
msgspec.convert({}, Query)


def query(body: Any, *goes_by: str, sorts: tuple[str, ...] = ()) -> Query:
    """Return what a body asks for. ``goes_by`` names the filters that the route honours; ``sorts`` its orders.

    Raises BadRequestError.
    """
    try:
        found = msgspec.convert(_without_nulls(body), Query)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"the body does not fit: {error}") from error
    if found.offset < 0 or (found.limit is not None and found.limit < 0):
        raise BadRequestError("limit and offset are 0 or more")
    if found.offset > MAX_OFFSET:
        raise BadRequestError(f"offset is at most {MAX_OFFSET}")
    if found.sort is not None and found.sort not in sorts:
        raise BadRequestError(f'there is no order "{found.sort}" here; there are {", ".join(sorts) or "none"}')
    for name in msgspec.structs.asdict(found):
        value = getattr(found, name)
        if isinstance(value, msgspec.Struct):
            operator = getattr(value, "operator", None)
            if operator not in (None, "and_"):
                raise BadRequestError(f'{name}.operator: "{operator}" is not known here; filters are joined by and_')
            if name not in goes_by and _says_something(value):
                raise BadRequestError(f"this list cannot be filtered by {name}; by {', '.join(goes_by) or 'nothing'}")
    return found


def _without_nulls(value: Any) -> Any:
    """Leave out what is null: Prefect's client sends every filter it knows, most of them so."""
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value


def _says_something(value: msgspec.Struct) -> bool:
    return any(getattr(value, field) is not None for field in value.__struct_fields__ if field != "operator")


def number(given: Mapping[str, str], name: str, default: int) -> int:
    """Return a number from a request's query string. Raises BadRequestError where it is none."""
    text = given.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequestError(f'{name}: "{text[:40]}" is not a number')
    return int(text)


def matches(value: NameLike | None, text: str) -> bool:
    """Say whether a name fits ``any_`` and ``like_`` (a part of it, whatever its case)."""
    if value is None:
        return True
    if value.any_ is not None and text not in value.any_:
        return False
    return value.like_ is None or value.like_.strip("%").lower() in text.lower()


def any_of(value: AnyOf | NameLike | None) -> list[str] | None:
    """Return what is listed; None: anything."""
    return None if value is None else value.any_
