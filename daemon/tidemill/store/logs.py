"""Logs: lines that runs printed or logged."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.runs import LogRow
from tidemill.store.ops import Lane, Op, rows, scalar, whole
from tidemill.store.statements import load

_SQL = load("logs")
PRINT = "print"  # the usual logger: kept as NULL
MAX_LINES = 1000  # in one answer

_Line = tuple[int, int, str, int, int, str | None, str, str | None]
_lines = msgspec.json.Decoder(list[_Line])


class StoredLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line with its number, by which a reader goes on where it stopped."""

    number: int
    row: LogRow


def _add(connection: sqlite3.Connection, items: Sequence[LogRow]) -> list[None]:
    connection.execute(
        _SQL["add"],
        {
            "rows": rows(
                [
                    (
                        row.run,
                        to_us(row.at),
                        row.level,
                        None if row.logger == PRINT else row.logger,
                        whole(row.message),
                        row.task_run_id,
                    )
                    for row in items
                ]
            )
        },
    )
    return [None] * len(items)


LOGS: Op[LogRow, None] = Op(name="logs", rank=50, lane=Lane.LOGS, apply=_add, item="a line of a run")
"""Add a line to its run. A line of a run that was deleted meanwhile is nobody's and is left out."""


def _read(connection: sqlite3.Connection, statement: str, parameters: dict[str, object]) -> list[StoredLine]:
    text = str(scalar(connection, _SQL[statement], parameters))
    return [
        StoredLine(
            number=number,
            row=LogRow(
                run=run,
                run_id=run_id,
                at=from_us(at),
                level=level,
                logger=logger or PRINT,
                message=message,
                task_run_id=task_run_id,
            ),
        )
        for number, run, run_id, at, level, logger, message, task_run_id in _lines.decode(text)
    ]


def of_run(
    connection: sqlite3.Connection,
    seq: int,
    *,
    after: int = 0,
    limit: int = 200,
    offset: int = 0,
    level: int = 0,
) -> list[StoredLine]:
    """Return a run's lines in order: numbers above ``after``, at least ``level``, at most 1,000."""
    return _read(
        connection,
        "of_run",
        {"run": seq, "after": after, "level": level, "limit": min(limit, MAX_LINES), "offset": offset},
    )


def tail_of_run(connection: sqlite3.Connection, seq: int, *, limit: int = 200, level: int = 0) -> list[StoredLine]:
    """Return a run's last lines, in order, at most 1,000."""
    newest_first = _read(connection, "tail_of_run", {"run": seq, "level": level, "limit": min(limit, MAX_LINES)})
    return newest_first[::-1]


def of_all(
    connection: sqlite3.Connection, *, after: int = 0, limit: int = 200, offset: int = 0, level: int = 0
) -> list[StoredLine]:
    """Return lines of all runs in the order they were written: numbers above ``after``, at most 1,000."""
    return _read(
        connection, "of_all", {"after": after, "level": level, "limit": min(limit, MAX_LINES), "offset": offset}
    )


def last_number(connection: sqlite3.Connection) -> int:
    """Return the number of the last line of any run, 0 for none: where one that follows begins."""
    number: int = connection.execute(_SQL["last_number"]).fetchone()[0]
    return number


def count_of_run(connection: sqlite3.Connection, seq: int, *, level: int = 0) -> int:
    """Return how many lines of at least ``level`` a run has."""
    count: int = connection.execute(_SQL["count_of_run"], {"run": seq, "level": level}).fetchone()[0]
    return count
