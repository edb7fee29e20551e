"""Schedules: how far each was dealt with, and the fires that made no run."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.store import runs
from tidemill.store.ops import Op, rows, scalar
from tidemill.store.statements import load

_SQL = load("schedules")
MAX_SKIPPED = 200  # in one answer


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The last due time of a schedule that was dealt with: its run made, or the fire skipped."""

    deployment: str
    schedule: str  # identity
    last_due: datetime
    planned_as: str | None = None  # digest of what its upcoming runs take from their deployment


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass of the scheduler decided, written as one: never a run without its cursor."""

    runs: tuple[FlowRun, ...] = ()
    cursors: tuple[Cursor, ...] = ()
    skipped: tuple[SkippedFire, ...] = ()
    delete: tuple[int, ...] = ()  # row numbers; a run that has started meanwhile stays


_cursor_rows = msgspec.json.Decoder(list[tuple[str, str, int]])
_skipped_rows = msgspec.json.Decoder(list[tuple[str, str, int, int, int, int, str, int]])


def _plan(connection: sqlite3.Connection, items: Sequence[Plan]) -> list[tuple[int, ...]]:
    runs.delete_never_started(connection, [seq for plan in items for seq in plan.delete])
    made = runs.insert(connection, [run for plan in items for run in plan.runs])
    skipped = [
        (
            fire.deployment,
            fire.schedule,
            to_us(fire.first),
            to_us(fire.last),
            fire.count,
            int(fire.exact),
            fire.reason,
            to_us(fire.at),
        )
        for plan in items
        for fire in plan.skipped
    ]
    if skipped:
        connection.execute(_SQL["skip"], {"rows": rows(skipped)})
    cursors = [
        (cursor.deployment, cursor.schedule, to_us(cursor.last_due), cursor.planned_as)
        for plan in items
        for cursor in plan.cursors
    ]
    if cursors:
        connection.execute(_SQL["advance"], {"rows": rows(cursors)})
    return [tuple(run.seq for run in plan.runs if run.seq in made) for plan in items]


PLAN: Op[Plan, tuple[int, ...]] = Op(name="plan", rank=10, apply=_plan)
"""Delete, make runs, record skipped fires and advance cursors, all or nothing. Returns the row numbers really made."""


def cursors(connection: sqlite3.Connection) -> Mapping[tuple[str, str], datetime]:
    """Return the last due time dealt with, by (deployment, schedule identity)."""
    found = _cursor_rows.decode(str(scalar(connection, _SQL["cursors"], {})))
    return {(deployment, identity): from_us(us) for deployment, identity, us in found}


def skipped(
    connection: sqlite3.Connection, *, deployment: str | None = None, limit: int = MAX_SKIPPED, offset: int = 0
) -> list[SkippedFire]:
    """Return fires that made no run, newest first, at most 200; of one deployment, or of all."""
    text = scalar(
        connection,
        _SQL["skipped" if deployment is None else "skipped_of"],
        {"deployment": deployment, "limit": min(limit, MAX_SKIPPED), "offset": offset},
    )
    return _fires(text)


def skipped_between(
    connection: sqlite3.Connection, deployment: str, first: datetime, last: datetime
) -> list[SkippedFire]:
    """Return a deployment's fires that made no run and reach into a stretch of time, oldest first, at most 200."""
    asked = {"deployment": deployment, "first": to_us(first), "last": to_us(last), "limit": MAX_SKIPPED}
    return _fires(scalar(connection, _SQL["skipped_between"], asked))


def runs_between(connection: sqlite3.Connection, deployment: str, first: datetime, last: datetime) -> list[FlowRun]:
    """Return the runs that a deployment's schedules made for due times of a stretch, in order, at most 200."""
    asked = {"deployment": deployment, "first": to_us(first), "last": to_us(last), "limit": MAX_SKIPPED}
    return runs.documents(connection, str(scalar(connection, _SQL["runs_between"], asked)))


def _fires(text: object) -> list[SkippedFire]:
    return [
        SkippedFire(
            deployment=name,
            schedule=schedule,
            first=from_us(first),
            last=from_us(last),
            count=count,
            exact=bool(exact),
            reason=reason,
            at=from_us(at),
        )
        for name, schedule, first, last, count, exact, reason, at in _skipped_rows.decode(str(text))
    ]
