"""Backfills in the database: they go on after a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.backfills import Backfill, prefix
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.store import runs
from tidemill.store.history import TYPE_OF
from tidemill.store.ops import Op, instant, microseconds, scalar
from tidemill.store.statements import load

_SQL = load("backfills")
KEEP = 200  # that ended
MOST = 200  # in one answer

_Row = tuple[
    str, str, int, int, int, int, dict[str, Any], int, int | None, int, int, int, str, int | None, str | None
]  # fmt: skip
_rows = msgspec.json.Decoder(list[_Row])
_fire = msgspec.json.Decoder(tuple[list[int], int | None])


def _put(connection: sqlite3.Connection, items: Sequence[Backfill]) -> list[None]:
    for item in items:  # a person's doing: never many
        connection.execute(
            _SQL["put"],
            {
                "id": item.id,
                "deployment": item.deployment,
                "first": to_us(item.first),
                "last": to_us(item.last),
                "at_a_time": item.at_a_time,
                "again": int(item.again),
                "parameters": msgspec.json.encode(item.parameters).decode(),
                "total": item.total,
                "cursor": microseconds(item.cursor),
                "passed_over": item.passed_over,
                "made": item.made,
                "created": to_us(item.created),
                "by": item.by,
                "ended": microseconds(item.ended),
                "outcome": item.outcome,
            },
        )
    connection.execute(_SQL["forget"], {"keep": KEEP})
    return [None] * len(items)


PUT_BACKFILL: Op[Backfill, None] = Op(name="put_backfill", rank=8, apply=_put)
"""Keep a backfill as it is now; one that has ended stays as it ended."""


def backfills(
    connection: sqlite3.Connection, *, deployment: str | None = None, unfinished: bool = False, limit: int = MOST
) -> list[Backfill]:
    """Return backfills: those under way oldest first, then those that ended, newest first."""
    asked = {"deployment": deployment, "unfinished": unfinished, "limit": min(limit, MOST)}
    return [_backfill(row) for row in _rows.decode(str(scalar(connection, _SQL["all"], asked)))]


def _backfill(row: _Row) -> Backfill:
    own, deployment, first, last, at_a_time, again, parameters, total, cursor, passed, made, created, by, ended, how = (
        row
    )
    return Backfill(
        id=own,
        deployment=deployment,
        first=from_us(first),
        last=from_us(last),
        at_a_time=at_a_time,
        again=bool(again),
        parameters=parameters,
        total=total,
        cursor=instant(cursor),
        passed_over=passed,
        made=made,
        created=from_us(created),
        by=by,
        ended=instant(ended),
        outcome=how,
    )


def of_fire(
    connection: sqlite3.Connection, deployment: str, schedule: str, due: datetime
) -> tuple[list[StateType], StateType | None]:
    """Return the states of the runs that backfills made of one fire, and that of the schedule's own run of it."""
    start = prefix(deployment, schedule, due)
    asked = {
        "from": start,
        "to": start + "\U0010ffff",
        "due": to_us(due),
        "deployment": deployment,
        "schedule": schedule,
    }
    made, own = _fire.decode(str(scalar(connection, _SQL["of_fire"], asked)))
    return [TYPE_OF[kind] for kind in made], None if own is None else TYPE_OF[own]


def runs_between(
    connection: sqlite3.Connection, deployment: str, schedule: str, first: datetime, last: datetime
) -> list[FlowRun]:
    """Return the runs that backfills made of a schedule's fires of a stretch, in order, at most 200."""
    asked = {
        "from": prefix(deployment, schedule, first),  # instants of one length, so their order is that of their texts
        "to": prefix(deployment, schedule, last) + "\U0010ffff",
        "limit": MOST,
    }
    return runs.documents(connection, str(scalar(connection, _SQL["runs_between"], asked)))
