"""Opening: what is set, what is refused, how an older database is brought up to date, and doors."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiosqlite
import pytest
from store_making import IDS, T0, begin, new_run, opened

from fakes import FakeClock
from tidemill.errors import DatabaseError
from tidemill.store import AiosqliteDoor, DoorFactory, Store, aiosqlite_doors, connections, inline_doors, runs, schema


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A process that lets everybody read and write what it makes."""
    before = os.umask(0)
    yield
    os.umask(before)


async def test_the_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path, open_umask: None) -> None:
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, new_run(1))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert modes == dict.fromkeys(("tidemill.db", "tidemill.db-wal", "tidemill.db-shm"), 0o600)


async def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "tidemill.db"
    path.touch(mode=0o644)
    async with opened(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("auto_vacuum", 2),  # incremental
        ("application_id", schema.APPLICATION_ID),
        ("user_version", len(schema.migrations())),
        ("busy_timeout", connections.BUSY_MS),
        ("mmap_size", 0),
    ],
)
async def test_the_writer_has_its_pragmas(tmp_path: Path, name: str, value: object) -> None:
    async with opened(tmp_path) as store:
        query = f"PRAGMA {name}"
        assert await store._writer._door.call(lambda connection: connection.execute(query).fetchone()[0]) == value


async def test_readers_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store.read(lambda connection: connection.execute("DELETE FROM run"))


async def test_after_a_close_the_file_alone_is_whole_and_can_be_read(tmp_path: Path) -> None:
    run = new_run(1)
    async with opened(tmp_path, doors=aiosqlite_doors) as store:
        await store.write(runs.CREATE_RUNS, run)
    assert [path.name for path in tmp_path.iterdir()] == ["tidemill.db"]
    with closing(connections.open_reader(tmp_path / "tidemill.db")) as reader:
        assert runs.get(reader, run.id) == run


async def test_a_reader_without_a_daemon_reads_beside_one_too(tmp_path: Path) -> None:
    run = new_run(1)
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        with closing(connections.open_reader(store.path)) as reader:
            assert runs.get(reader, run.id) == run
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute("DELETE FROM run")


def test_a_reader_of_nothing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"nothing\.db: cannot be read: unable to open database file"):
        connections.open_reader(tmp_path / "nothing.db")


async def no_thread_is_left() -> None:
    """A connection's thread is no daemon thread: one that is left keeps the process alive."""
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            thread.join(30)
            assert not thread.is_alive()


async def refused(path: Path, says: str) -> None:
    """Hold that the database is refused, and left as it was."""
    before = path.read_bytes()
    for doors in (inline_doors, aiosqlite_doors):
        with pytest.raises(DatabaseError, match=says):
            await Store.open(path, clock=FakeClock(T0), ids=IDS, doors=doors)
    assert path.read_bytes() == before
    await no_thread_is_left()


async def test_a_newer_database_is_refused_with_the_way_back(tmp_path: Path) -> None:
    """P16."""
    path = tmp_path / "tidemill.db"
    async with opened(tmp_path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.migrations()) + 1}")
    await refused(path, r"newer than this program's \d+; install the newer tidemill again, or put back the copy")


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tidemill.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cookies (x)")
    await refused(path, r"a database, but not tidemill's \(application id 0x0\)")


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "tidemill.db"
    path.write_bytes(b"dear diary, " * 1000)
    await refused(path, "file is not a database; restore a copy, or move the file away")


async def test_a_damaged_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "tidemill.db"
    async with opened(tmp_path) as store:
        for seq in range(1, 200):
            store.post(runs.CREATE_RUNS, new_run(seq))
    with path.open("r+b") as file:
        file.seek(20_000)
        file.write(b"\xff" * 8192)
    await refused(path, r"tidemill\.db: .*(damaged|malformed)")


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"gone/tidemill\.db: cannot be opened: No such file or directory"):
        await Store.open(tmp_path / "gone" / "tidemill.db", clock=FakeClock(), ids=IDS, doors=inline_doors)


async def test_a_first_start_that_was_cut_off_leaves_a_new_database(tmp_path: Path) -> None:
    """An empty file, or one with nothing in it, is not another program's."""
    path = tmp_path / "tidemill.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
    async with opened(tmp_path) as store:
        assert await store.write(runs.CREATE_RUNS, new_run(1))


# -- migrations ------------------------------------------------------------------------------------------------------

_NEWEST = len(schema.migrations())
_FURTHER = (
    "-- A further migration.\nCREATE TABLE extra (x TEXT NOT NULL) STRICT;\nINSERT INTO extra VALUES ('a;b');\n",
)
_BROKEN = ("CREATE TABLE extra (x TEXT) STRICT;\nINSERT INTO nowhere VALUES (1);\n",)


async def older(folder: Path) -> Path:
    """Make a database of this version with a run in it."""
    async with opened(folder) as store:
        await store.write(runs.CREATE_RUNS, new_run(1))
        return store.path


async def test_an_older_database_is_copied_aside_and_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_umask: None
) -> None:
    """P16: the copy is private, whole, and what an older program opens again."""
    path = await older(tmp_path)
    first = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: first + _FURTHER)
    async with opened(tmp_path) as store:
        copy = store.set_aside
        assert await store.read(lambda connection: connection.execute("SELECT x FROM extra").fetchall()) == [("a;b",)]
    assert copy == tmp_path / f"tidemill.db.v{_NEWEST}.bak"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    async with opened(tmp_path) as store:
        assert store.set_aside is None
    monkeypatch.setattr(schema, "migrations", lambda: first)
    with pytest.raises(DatabaseError, match="newer"):
        await Store.open(path, clock=FakeClock(), ids=IDS, doors=inline_doors)
    copy.replace(path)
    async with opened(tmp_path) as store:
        assert await store.read(runs.last_seq) == 1


async def test_a_migration_that_fails_changes_nothing_and_names_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P16: atomic."""
    path = await older(tmp_path)
    first = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: first + _BROKEN)
    says = (
        rf"migration {_NEWEST + 1:04} failed: no such table: nowhere; nothing of it was applied; "
        rf"a copy from before is .*v{_NEWEST}\.bak"
    )
    with pytest.raises(DatabaseError, match=says):
        await Store.open(path, clock=FakeClock(), ids=IDS, doors=inline_doors)
    monkeypatch.setattr(schema, "migrations", lambda: first)
    async with opened(tmp_path) as store:
        query = "SELECT count(*) FROM sqlite_schema WHERE name = 'extra'"
        assert await store.read(lambda connection: connection.execute(query).fetchone()) == (0,)


async def test_no_migration_begins_where_the_copy_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await older(tmp_path)
    first = schema.migrations()
    (tmp_path / f"tidemill.db.v{_NEWEST}.bak").mkdir()
    monkeypatch.setattr(schema, "migrations", lambda: first + _FURTHER)
    with pytest.raises(DatabaseError, match=r"could not be copied to .* before the upgrade: .*make room there"):
        await Store.open(path, clock=FakeClock(), ids=IDS, doors=inline_doors)
    assert not (tmp_path / f"tidemill.db.v{_NEWEST}.bak.part").exists()
    monkeypatch.setattr(schema, "migrations", lambda: first)
    async with opened(tmp_path) as store:
        assert await store.read(runs.last_seq) == 1


def test_migrations_are_numbered_without_a_gap() -> None:
    assert len(schema.migrations()) >= 1


# -- doors -----------------------------------------------------------------------------------------------------------

DOORS = [pytest.param(inline_doors, id="inline"), pytest.param(aiosqlite_doors, id="aiosqlite")]


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


@pytest.mark.parametrize("doors", DOORS)
async def test_a_door_gives_what_the_function_returns_and_raises_what_it_raises(doors: DoorFactory) -> None:
    door = await doors(connect)
    try:
        assert await door.call(lambda connection: connection.execute("SELECT 1 + 1").fetchone()) == (2,)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await door.call(lambda connection: connection.execute("DELETE FROM nowhere"))
        assert await door.call(lambda connection: connection.in_transaction) is False
    finally:
        await door.aclose()
    await door.aclose()  # a second one does nothing
    with pytest.raises((sqlite3.ProgrammingError, ValueError)):
        await door.call(lambda connection: connection.execute("SELECT 1"))


@pytest.mark.parametrize("doors", DOORS)
async def test_calls_through_a_door_run_one_after_another_in_their_order(doors: DoorFactory) -> None:
    door = await doors(connect)
    order: list[int] = []
    try:
        await asyncio.gather(*(door.call(lambda connection, place=place: order.append(place)) for place in range(20)))
    finally:
        await door.aclose()
    assert order == list(range(20))


@pytest.mark.parametrize("doors", DOORS)
async def test_a_connection_that_cannot_be_opened_leaves_no_thread(doors: DoorFactory) -> None:
    def fail() -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        await doors(fail)
    await no_thread_is_left()


async def test_a_call_through_aiosqlite_is_one_hop_by_its_private_callable() -> None:
    """`_execute` is not promised by aiosqlite: its version is pinned, and this holds what is used of it."""
    assert importlib.metadata.version("aiosqlite").startswith("0.22.")
    door = await AiosqliteDoor.open(connect)
    try:
        assert isinstance(door._connection, aiosqlite.Connection)
        queue = door._connection._tx
        call = door.call(lambda connection: (threading.current_thread(), connection))
        thread, connection = await call
        assert thread is not threading.main_thread()
        assert connection is door._raw
        assert queue.empty()
    finally:
        await door.aclose()


async def test_a_cancelled_call_still_runs() -> None:
    """So a transaction is one call: it can be abandoned, never cut in half."""
    door = await AiosqliteDoor.open(connect)
    ran = threading.Event()
    begun = threading.Event()
    loop = asyncio.get_running_loop()
    entered = asyncio.Event()

    def slow(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(entered.set)
        assert begun.wait(120)
        ran.set()

    try:
        task = asyncio.create_task(door.call(slow))
        await entered.wait()
        task.cancel()
        begun.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await door.call(lambda connection: None)
        assert ran.is_set()
    finally:
        await door.aclose()


async def test_reads_beyond_the_readers_wait_for_one(tmp_path: Path) -> None:
    run = new_run(1)
    async with opened(tmp_path, doors=aiosqlite_doors, readers=1) as store:
        await store.write(runs.CREATE_RUNS, run)
        await store.write(runs.TRANSITIONS, begin(run))
        found = await asyncio.gather(*(store.read(runs.unfinished) for _ in range(10)))
        assert [[each.seq for each in answer] for answer in found] == [[1]] * 10
