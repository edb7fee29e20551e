"""Faults of the world: a full disk, a read-only file, a lock, a failing disk, a file that is gone (P11)."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from store_making import T0, begin, new_run, op, opened

from fakes import FakeClock
from tidemill.core.runs import LogRow
from tidemill.errors import DatabaseError, StoreUnavailableError
from tidemill.store import Store, connections, faults, logs, runs, writer


@asynccontextmanager
async def standing(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Store]:
    """A store with one run in it."""
    async with opened(tmp_path, clock=clock) as store:
        await store.write(runs.CREATE_RUNS, new_run(1))
        yield store


async def pragma(store: Store, text: str) -> None:
    """Set a pragma on the writer's connection, as an op does."""

    def apply(connection: sqlite3.Connection, items: Sequence[Any]) -> list[None]:
        connection.execute("COMMIT")  # some take only outside a transaction
        connection.execute(f"PRAGMA {text}").fetchall()
        if text != "query_only = 1":
            connection.execute("BEGIN IMMEDIATE")
        else:
            connection.execute("BEGIN")
        return [None]

    await store.write(op("pragma", apply), None)


# What a full and a read-only disk say, brought about without one; and what ends it. The real ones: test_store_disk.py
TROUBLES = [
    pytest.param("max_page_count = 1", "database or disk is full", "max_page_count = 1073741823", id="full"),
    pytest.param("query_only = 1", "attempt to write a readonly database", "query_only = 0", id="read-only"),
]


@pytest.mark.parametrize(("cause", "says", "remedy"), TROUBLES)
async def test_a_disk_that_takes_nothing_refuses_waiters_and_heals(
    tmp_path: Path, cause: str, says: str, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P11: degraded, said once a minute, heals by itself, loses nothing acknowledged."""
    clock = FakeClock(T0)
    big = {"parameters": {"x": "y" * 50_000}}
    async with standing(tmp_path, clock) as store:
        door = store._writer._door
        await pragma(store, cause)
        for seq in (2, 3):
            with pytest.raises(StoreUnavailableError, match=says) as caught:
                await store.write(runs.CREATE_RUNS, new_run(seq, **big))
            assert "goes on by itself" in str(caught.value)
        assert store.degraded is not None and says in store.degraded
        assert await store.read(runs.last_seq) == 1  # reads go on
        await door.call(lambda connection: connection.execute(f"PRAGMA {remedy}").fetchall())
        assert await store.write(runs.CREATE_RUNS, new_run(4, **big))  # the next to write finds it well
        assert store.degraded is None
        assert await store.read(runs.last_seq) == 4
    said = [record for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(said) == 1
    assert "The database can be written again" in caplog.text


async def test_nobody_need_ask_for_the_database_to_heal(tmp_path: Path) -> None:
    clock = FakeClock(T0)
    async with standing(tmp_path, clock) as store:
        door = store._writer._door
        await pragma(store, "query_only = 1")
        with pytest.raises(StoreUnavailableError):
            await store.write(runs.CREATE_RUNS, new_run(2))
        with pytest.raises(StoreUnavailableError):
            await store.flush()
        for _ in range(2):  # it tries, in vain
            await clock.until_asleep()
            clock.advance(writer.HEAL_S[1])
            await clock.until_asleep()
            assert store.degraded is not None
        await door.call(lambda connection: connection.execute("PRAGMA query_only = 0"))
        clock.advance(writer.HEAL_S[1])
        for _ in range(20):  # turns of the loop, more than it takes
            await asyncio.sleep(0)
        assert store.degraded is None


async def test_a_full_disk_that_takes_a_small_write_is_full_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: else it would be well and unwell in turn, and say so to nobody's use."""
    free = [0]
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free[0], f_frsize=4096))
    clock = FakeClock(T0)
    async with standing(tmp_path, clock) as store:
        door = store._writer._door
        await pragma(store, "query_only = 1")
        with pytest.raises(StoreUnavailableError):
            await store.write(runs.CREATE_RUNS, new_run(2))
        await door.call(lambda connection: connection.execute("PRAGMA query_only = 0"))
        for _ in range(2):
            await clock.until_asleep()
            clock.advance(writer.HEAL_S[1])
            await clock.until_asleep()
            assert store.degraded is not None
        assert await store.write(runs.CREATE_RUNS, new_run(3))
        assert store.degraded is not None
        free[0] = 1_000_000
        clock.advance(writer.HEAL_S[1])
        for _ in range(20):  # turns of the loop, more than it takes
            await asyncio.sleep(0)
        assert store.degraded is None


async def test_posted_states_are_kept_over_a_full_disk_and_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    clock = FakeClock(T0)
    run = new_run(1)
    line = LogRow(run=1, run_id=run.id, at=T0, level=20, logger="print", message="x")
    async with opened(tmp_path, clock=clock) as store:
        await store.write(runs.CREATE_RUNS, run)
        door = store._writer._door
        await pragma(store, "query_only = 1")
        store.post(runs.TRANSITIONS, begin(run))
        store.post(runs.CREATE_RUNS, new_run(2))
        store.post(logs.LOGS, line)
        await clock.until_asleep()
        assert (store.stats.dropped, store.degraded is None) == (1, False)
        await door.call(lambda connection: connection.execute("PRAGMA query_only = 0"))
        clock.advance(writer.HEAL_S[1])
        await store.flush()
        assert store.degraded is None
        assert await store.read(runs.last_seq) == 2
        present = await store.read(lambda connection: runs.get(connection, run.id))
        assert present == begin(run).run
        assert await store.read(lambda connection: logs.count_of_run(connection, 1)) == 0


async def test_posts_that_wait_for_a_full_disk_are_bounded(tmp_path: Path) -> None:
    clock = FakeClock(T0)
    async with opened(tmp_path, clock=clock, backlog_items=5) as store:
        await pragma(store, "query_only = 1")
        for seq in range(1, 31):
            store.post(runs.CREATE_RUNS, new_run(seq))
        await clock.until_asleep()
        assert store.stats.dropped == 20


async def test_a_close_gives_up_what_a_full_disk_does_not_take(tmp_path: Path) -> None:
    clock = FakeClock(T0)
    async with standing(tmp_path, clock) as store:
        await pragma(store, "query_only = 1")
        store.post(runs.CREATE_RUNS, new_run(2))
        await clock.until_asleep()
        await store.aclose()
        assert store.stats.dropped == 1


async def test_a_lock_of_another_process_is_waited_for_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "BUSY_MS", 1)
    clock = FakeClock(T0)
    async with standing(tmp_path, clock) as store:
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in (2, 3, 4)]
            store.post(runs.CREATE_RUNS, new_run(5))
            for tried in range(1, 6):
                await clock.until_asleep()
                assert (store.degraded is not None) == (tried >= writer.LOCKED_TRIES)
                clock.advance(writer.LOCKED_S[1])
                await asyncio.sleep(0)
            assert not any(future.done() for future in waiting)  # they wait; the loop does not
            assert "another process holds the database" in (store.degraded or "")
            late = store.submit(runs.CREATE_RUNS, new_run(6))
            await clock.until_asleep()
            other.execute("ROLLBACK")
        clock.advance(writer.LOCKED_S[1])
        assert await asyncio.gather(*waiting, late) == [True] * 4
        assert store.degraded is None
        await store.flush()
        order = await store.read(lambda connection: connection.execute("SELECT seq FROM run").fetchall())
        assert order == [(1,), (2,), (3,), (4,), (5,), (6,)]


async def test_a_close_does_not_wait_for_ever_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_MS", 1)
    clock = FakeClock(T0)
    async with standing(tmp_path, clock) as store:
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = store.submit(runs.CREATE_RUNS, new_run(2))
            closing_down = asyncio.create_task(store.aclose())
            for _ in range(writer.CLOSING_TRIES):
                await clock.until_asleep()
                clock.advance(writer.LOCKED_S[1])
                await asyncio.sleep(0)
            with pytest.raises(StoreUnavailableError, match="database is locked"):
                await waiting
            await closing_down


def failing(error: sqlite3.Error, times: int) -> Any:
    """An op that fails so the first few times: what a disk does."""
    left = [times]

    def apply(connection: sqlite3.Connection, items: Sequence[Any]) -> list[str]:
        if left[0]:
            left[0] -= 1
            raise error
        return ["written"] * len(items)

    return op("failing", apply)


async def test_after_a_failure_of_the_disk_the_database_is_opened_anew(tmp_path: Path) -> None:
    """An fsync that failed once may say yes the next time without having written: the connection is not trusted."""
    async with standing(tmp_path, FakeClock(T0)) as store:
        before = store._writer._door
        broken = failing(sqlite3.OperationalError("disk I/O error"), 1)
        with pytest.raises(StoreUnavailableError, match="disk I/O error; nothing was changed; look at the disk"):
            await store.write(broken, 1)
        assert await store.write(broken, 1) == "written"
        assert store._writer._door is not before
        assert store.degraded is None
        assert await store.write(runs.CREATE_RUNS, new_run(2))


async def test_a_disk_that_fails_and_then_shows_a_damaged_file_ends_it(tmp_path: Path) -> None:
    async with standing(tmp_path, FakeClock(T0)) as store:
        await store._writer._door.call(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
        size = store.path.stat().st_size
        with store.path.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * (size - 100))
        with pytest.raises(StoreUnavailableError, match="disk I/O error"):
            await store.write(failing(sqlite3.OperationalError("disk I/O error"), 1), 1)
        assert "cannot be opened again" in str(await store.fatal)


@pytest.mark.parametrize("change", [pytest.param("unlink", id="deleted"), pytest.param("replace", id="replaced")])
async def test_a_database_that_is_gone_while_in_use_is_noticed_and_final(tmp_path: Path, change: str) -> None:
    clock = FakeClock(T0)
    async with standing(tmp_path, clock) as store:
        if change == "unlink":
            store.path.unlink()
        else:
            other = tmp_path / "other"
            other.write_bytes(store.path.read_bytes())
            other.replace(store.path)
        assert not store.fatal.done()
        clock.advance(connections.FileWatch.EVERY_S)
        with pytest.raises(StoreUnavailableError, match="while in use; the daemon must stop"):
            await store.write(runs.CREATE_RUNS, new_run(2))
        error = await store.fatal
        assert isinstance(error, DatabaseError)
        for attempt in (store.write(runs.CREATE_RUNS, new_run(3)), store.flush()):
            with pytest.raises(DatabaseError, match="while in use"):
                await attempt


async def test_damage_found_in_writing_is_final_and_fails_all_who_wait(tmp_path: Path) -> None:
    async with standing(tmp_path, FakeClock(T0)) as store:
        bad = store.submit(failing(sqlite3.DatabaseError("database disk image is malformed"), 1), 1)
        others = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in range(2, 200)]
        results = await asyncio.gather(bad, *others, return_exceptions=True)
        assert all(isinstance(result, DatabaseError | StoreUnavailableError) for result in results)
        assert "malformed" in str(await store.fatal)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (sqlite3.OperationalError("database or disk is full"), faults.Fault.UNAVAILABLE),
        (sqlite3.OperationalError("attempt to write a readonly database"), faults.Fault.UNAVAILABLE),
        (sqlite3.OperationalError("unable to open database file"), faults.Fault.UNAVAILABLE),
        (sqlite3.OperationalError("database is locked"), faults.Fault.LOCKED),
        (sqlite3.OperationalError("disk I/O error"), faults.Fault.IO),
        (sqlite3.DatabaseError("file is not a database"), faults.Fault.FATAL),
        (sqlite3.IntegrityError("UNIQUE constraint failed: run.id"), faults.Fault.ITEM),
        (ValueError("no error of SQLite's"), faults.Fault.ITEM),
    ],
)
def test_errors_without_sqlites_code_are_told_by_their_text(error: Exception, fault: faults.Fault) -> None:
    """Not every error of the module carries one."""
    assert faults.classify(error) is fault


def test_an_error_with_sqlites_code_is_told_by_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(sqlite3.Error) as caught:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("CREATE TABLE t (x)")
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_READONLY
    assert faults.classify(caught.value) is faults.Fault.UNAVAILABLE
