"""The floor: plain loops over sqlite3 that commit what the daemon commits, with nothing of tidemill around them.

The same schema with the same indexes, the same journal mode and FULL syncs, the same rows in the same commits a run
(made Scheduled; then Pending and Running; then Completed), with prepared statements, in groups of 100 runs, in one
thread.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from tidemill.clock import SystemClock, to_us
from tidemill.core.states import StateType
from tidemill.ids import Ids
from tidemill.store import connections, instance, schema
from tidemill.store.history import NUMBER_OF

CLOCK = SystemClock()
GROUP = 100
BOOT = "0192e4b0-0000-7000-8000-000000000000"


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A new, empty database as the daemon makes it, open for writing."""
    connections.create_private(path)
    with closing(connections.connect_writer(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connections.settle_writer(connection, path)
        schema.migrate(connection, path, 0, schema.migrations())
        instance.create(connection, Ids(random.Random(1)).new(CLOCK.now()), CLOCK.now())
        connection.execute("INSERT INTO route VALUES (1, 'noop', 'noop', 'default', 'default')")
        connection.execute("INSERT INTO owner VALUES (1, ?)", (BOOT,))
        yield connection


def make(connection: sqlite3.Connection, ids: Ids, seqs: Sequence[int]) -> None:
    """Commit new runs with their first state."""
    now = to_us(CLOCK.now())
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO run (seq, id, name, route, expected_start, state_type, created) VALUES (?, ?, ?, 1, ?, 0, ?)",
        [(seq, ids.new(CLOCK.now()), ids.name(), now, now) for seq in seqs],
    )
    connection.executemany("INSERT INTO history (run, number, type, at) VALUES (?, 1, 0, ?)", [(s, now) for s in seqs])
    connection.execute("COMMIT")


def begin(connection: sqlite3.Connection, seqs: Sequence[int]) -> None:
    """Commit the starts of runs: Pending and Running."""
    now = to_us(CLOCK.now())
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "UPDATE run SET state_type = 2, state_number = 3, attempt = 1, owner = 1, start_time = ?"
        " WHERE seq = ? AND state_number = 1",
        [(now, seq) for seq in seqs],
    )
    connection.executemany(
        "INSERT INTO history (run, number, before, type, at) VALUES (?, ?, ?, ?, ?)",
        [row for seq in seqs for row in ((seq, 2, 0, 1, now), (seq, 3, 1, 2, now))],
    )
    connection.execute("COMMIT")


def end(connection: sqlite3.Connection, seqs: Sequence[int]) -> None:
    """Commit the ends of runs: Completed."""
    now = to_us(CLOCK.now())
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "UPDATE run SET state_type = 5, state_number = 4, end_time = ?, run_time = 100"
        " WHERE seq = ? AND state_number = 3",
        [(now, seq) for seq in seqs],
    )
    connection.executemany(
        "INSERT INTO history (run, number, before, type, at) VALUES (?, 4, 2, 5, ?)", [(seq, now) for seq in seqs]
    )
    connection.execute("COMMIT")


def groups(count: int, size: int = GROUP) -> Iterator[range]:
    """Return the row numbers from 1, by groups."""
    for first in range(1, count + 1, size):
        yield range(first, min(first + size, count + 1))


def seconds(path: Path, count: int, *, made_before: bool) -> float:
    """Return how long ``count`` runs take; ``made_before`` leaves their making out."""
    ids = Ids(random.Random(1))
    with database(path) as connection:
        if made_before:
            for seqs in groups(count):
                make(connection, ids, seqs)
        started = time.perf_counter()
        for seqs in groups(count):
            if not made_before:
                make(connection, ids, seqs)
            begin(connection, seqs)
            end(connection, seqs)
        return time.perf_counter() - started


def burst(path: Path, count: int) -> list[float]:
    """Return after how long each of ``count`` runs would start, were their starts committed in groups of 100."""
    ids = Ids(random.Random(1))
    with database(path) as connection:
        for seqs in groups(count):
            make(connection, ids, seqs)
        late: list[float] = []
        started = time.perf_counter()
        for seqs in groups(count):
            begin(connection, seqs)
            late += [time.perf_counter() - started] * len(seqs)
        return late


async def lateness(path: Path, dues: Sequence[datetime]) -> list[float]:
    """Return by how many seconds a bare loop is late that waits for each time and commits one start in a thread."""
    ids = Ids(random.Random(1))
    late: list[float] = []
    with database(path) as connection:
        for seqs in groups(len(dues)):
            make(connection, ids, seqs)
        for seq, due in enumerate(dues, start=1):
            await asyncio.sleep(max(0.0, (due - CLOCK.now()).total_seconds()))
            await asyncio.to_thread(begin, connection, [seq])
            late.append((CLOCK.now() - due) / timedelta(seconds=1))
            await asyncio.to_thread(end, connection, [seq])
    return late


def check(path: Path, count: int) -> float:
    """Return bytes a run. Raises SystemExit unless every run is Completed with its four states."""
    with closing(sqlite3.connect(path)) as connection:
        done = connection.execute(
            "SELECT count(*) FROM run WHERE state_type = ? AND state_number = 4", (NUMBER_OF[StateType.COMPLETED],)
        ).fetchone()[0]
        states = connection.execute("SELECT count(*) FROM history").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if (done, states) != (count, 4 * count):
        raise SystemExit(f"{path}: {done} runs with {states} states, expected {count} with {4 * count}")
    return path.stat().st_size / count
