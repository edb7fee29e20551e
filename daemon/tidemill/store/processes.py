"""Processes that attempts started and that must not outlive them, until the attempt has ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tidemill.store.ops import Op, rows, scalar
from tidemill.store.statements import load

_SQL = load("processes")


class RunProcess(msgspec.Struct, frozen=True, array_like=True):
    """The leader of a process group: ``birth`` in clock ticks since the boot of that id tells it from later ones."""

    run: int  # FlowRun.seq
    attempt: int
    pid: int
    birth: int
    boot_id: str


_rows = msgspec.json.Decoder(list[RunProcess])


def of_unfinished(connection: sqlite3.Connection) -> list[RunProcess]:
    """Return the processes of attempts that have not ended, as far as is known."""
    return _rows.decode(str(scalar(connection, _SQL["all"], {})))


def _started(connection: sqlite3.Connection, items: Sequence[RunProcess]) -> list[None]:
    connection.execute(_SQL["add"], {"rows": rows(items)})
    return [None] * len(items)


def _ended(connection: sqlite3.Connection, items: Sequence[tuple[int, int]]) -> list[None]:
    connection.execute(_SQL["remove"], {"rows": rows(items)})
    return [None] * len(items)


PROCESS_STARTED: Op[RunProcess, None] = Op(name="process_started", rank=25, apply=_started, item="a run's process")
"""Put a process on record."""

PROCESSES_ENDED: Op[tuple[int, int], None] = Op(
    name="processes_ended", rank=26, apply=_ended, item="the end of a run's processes"
)
"""Forget the processes of (run, attempt): the attempt has ended."""
