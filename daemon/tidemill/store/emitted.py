"""Events that the code of runs emitted: what the log tells of each, kept with its run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tidemill.clock import to_us
from tidemill.store.ops import Lane, Op, rows, whole
from tidemill.store.statements import load

_SQL = load("emitted")


class EmittedRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the run with that row number: when it was told, and when it happened by its own account."""

    run: int
    at: datetime
    occurred: datetime
    event: str
    about: str | None


def _add(connection: sqlite3.Connection, items: Sequence[EmittedRow]) -> list[None]:
    values = [
        (row.run, to_us(row.at), to_us(row.occurred), whole(row.event), None if row.about is None else whole(row.about))
        for row in items
    ]
    connection.execute(_SQL["add"], {"rows": rows(values)})
    return [None] * len(items)


EMITTED: Op[EmittedRow, None] = Op(name="emitted", rank=52, lane=Lane.LOGS, apply=_add, item="an event of a run")
"""Keep an event with its run. One of a run that was deleted meanwhile is nobody's and is left out."""
