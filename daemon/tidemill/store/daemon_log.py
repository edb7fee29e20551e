"""The daemon's diary in the database: what the daemon said of itself, kept beside the histories of runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.daemon_log import DaemonLine
from tidemill.store.ops import Lane, Op, rows, scalar, whole
from tidemill.store.statements import load

_SQL = load("daemon_log")
MAX_LINES = 1000  # in one answer
MAX_NAMED = 10_000
KEEP_LINES = 100_000  # whatever their age
_EVER = (-(2**62), 2**62)

_Line = tuple[int, int, int, str | None, str | None, str | None, str, dict[str, Any] | None]
_lines = msgspec.json.Decoder(list[_Line])
_HOUSE = "tidemill"  # the usual logger: kept as NULL


class StoredDaemonLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line with its number, by which a reader goes on where it stopped."""

    number: int
    line: DaemonLine


def _add(connection: sqlite3.Connection, items: Sequence[DaemonLine]) -> list[None]:
    values = [
        (
            to_us(line.at),
            line.level,
            None if line.logger == _HOUSE else line.logger,
            line.event,
            line.deployment,
            whole(line.message),
            rows([line.fields])[1:-1] if line.fields else None,
        )
        for line in items
    ]
    connection.execute(_SQL["add"], {"rows": rows(values)})
    return [None] * len(items)


NOTE: Op[DaemonLine, None] = Op(name="note", rank=55, lane=Lane.LOGS, apply=_add, item="a line of the daemon's own log")
"""Add a line to the diary."""


def lines(
    connection: sqlite3.Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    level: int = 0,
    after: int = 0,
    limit: int = 200,
) -> list[StoredDaemonLine]:
    """Return lines in the order they were written: from ``since``, before ``until``, numbers above ``after``.

    At most 1,000.
    """
    parameters = {**_span(since, until), "level": level, "after": after, "limit": min(limit, MAX_LINES)}
    return _read(connection, "lines", parameters)


def named(
    connection: sqlite3.Connection,
    events: Sequence[str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[StoredDaemonLine]:
    """Return the lines of these events from ``since`` and before ``until``, oldest first; of too many the newest."""
    return _read(connection, "named", {"events": rows(events), **_span(since, until), "limit": MAX_NAMED})


def newest(connection: sqlite3.Connection, *, limit: int) -> list[StoredDaemonLine]:
    """Return the last lines, oldest first; at most 1,000."""
    return lines(connection, after=(_number(connection, "last_number") or 0) - limit, limit=limit)


def before(connection: sqlite3.Connection, when: datetime, *, limit: int) -> int | None:
    """Return up to which number the oldest ``limit`` lines are older than ``when``; None: none of them is."""
    return _number(connection, "lines_before", before=to_us(when), limit=limit)


def beyond(connection: sqlite3.Connection, *, limit: int) -> int | None:
    """Return up to which number lines are too many, at most ``limit`` of them; None: there is room."""
    return _number(connection, "lines_beyond", keep=KEEP_LINES, limit=limit)


def delete(connection: sqlite3.Connection, last: int) -> int:
    """Delete the lines up to that number; return how many they were."""
    return connection.execute(_SQL["delete"], {"last": last}).rowcount


def _number(connection: sqlite3.Connection, statement: str, **parameters: int) -> int | None:
    number: int | None = connection.execute(_SQL[statement], parameters).fetchone()[0]
    return number


def _span(since: datetime | None, until: datetime | None) -> dict[str, int]:
    return {
        "since": _EVER[0] if since is None else to_us(since),
        "until": _EVER[1] if until is None else to_us(until),
    }


def _read(connection: sqlite3.Connection, statement: str, parameters: dict[str, Any]) -> list[StoredDaemonLine]:
    text = str(scalar(connection, _SQL[statement], parameters))
    return [
        StoredDaemonLine(
            number=number,
            line=DaemonLine(
                at=from_us(at),
                level=level,
                event=event,
                deployment=deployment,
                message=message,
                fields=fields or {},
                logger=logger or _HOUSE,
            ),
        )
        for number, at, level, logger, event, deployment, message, fields in _lines.decode(text)
    ]
