"""Backups: whole copies of one moment, and the way back. What goes wrong changes nothing."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from store_making import new_run, opened

from tidemill.errors import DatabaseError
from tidemill.store import backups, connections, runs, schema

pytestmark = pytest.mark.thorough

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def quiet(done: int, whole: int) -> None:
    """Nobody looks."""


async def made(folder: Path, *seqs: int) -> Path:
    """A closed database with these runs."""
    folder.mkdir(exist_ok=True)
    async with opened(folder) as store:
        for seq in seqs:
            await store.write(runs.CREATE_RUNS, new_run(seq))
    return folder / "tidemill.db"


def seqs(path: Path) -> list[int]:
    with closing(connections.open_reader(path)) as reader:
        return [row[0] for row in reader.execute("SELECT seq FROM run ORDER BY seq")]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- copies ----------------------------------------------------------------------------------------------------------


async def test_a_copy_is_the_database_of_one_moment_however_much_is_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one read transaction every commit would begin the copy anew, and it might never end."""
    monkeypatch.setattr(backups, "PAGES", 1)
    source, target = tmp_path / "tidemill.db", tmp_path / "copy.db"
    async with opened(tmp_path) as store:
        for seq in (1, 2, 3):
            await store.write(runs.CREATE_RUNS, new_run(seq))
        told: list[int] = []
        with closing(connections.connect_writer(source)) as writer:

            def write(done: int, whole: int) -> None:
                told.append(done)
                writer.execute("UPDATE run SET name = 'later', created = ?", (len(told),))

            copied = backups.backup(source, target, tell=write)
        assert len(told) > 10
        assert told == sorted(told)
    assert seqs(target) == [1, 2, 3]
    with closing(connections.open_reader(target)) as reader:
        assert reader.execute("SELECT count(*) FROM run WHERE name = 'later'").fetchone() == (0,)
    assert copied.facts.flow_runs == {"Scheduled": 3}
    assert copied.bytes == target.stat().st_size


async def test_a_copy_is_one_private_file_that_needs_no_log_beside_it(tmp_path: Path) -> None:
    source = await made(tmp_path / "state", 1)
    backups.backup(source, tmp_path / "copy.db", tell=quiet)
    assert names(tmp_path) == {"state", "copy.db"}
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    with closing(connections.open_reader(tmp_path / "copy.db")) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert names(tmp_path) == {"state", "copy.db"}


async def test_a_copy_takes_the_place_of_an_older_one_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    backups.backup(await made(tmp_path / "a", 1), target, tell=quiet)
    first = target.stat().st_ino

    def looked(done: int, whole: int) -> None:
        assert seqs(target) == [1]  # until the new one is whole

    backups.backup(await made(tmp_path / "b", 7), target, tell=looked)
    assert seqs(target) == [7]
    assert target.stat().st_ino != first


def damage(path: Path) -> None:
    """Write over the middle of the file, as a broken disk does."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 & ~4095)
        file.write(os.urandom(8192))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage, "damaged|malformed"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"hello" * 1000), "cannot be read|not a database"),
    ],
    ids=["damaged", "empty", "no database"],
)
async def test_what_cannot_be_copied_whole_leaves_the_older_copy(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    source, target = await made(tmp_path / "state", *range(1, 200)), tmp_path / "copy.db"
    target.write_text("older")
    spoil(source)
    with pytest.raises(DatabaseError, match=words):
        backups.backup(source, target, tell=quiet)
    assert target.read_text() == "older"
    assert names(tmp_path) == {"state", "copy.db"}


async def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source, target = await made(tmp_path / "state", 1), tmp_path / "copy.db"

    def full(done: int, whole: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DatabaseError, match=r"could not be copied .* No space left on device"):
        backups.backup(source, target, tell=full)
    assert names(tmp_path) == {"state"}


async def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    source = await made(tmp_path / "state", 1)

    def interrupted(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backups.backup(source, tmp_path / "copy.db", tell=interrupted)
    with pytest.raises(KeyboardInterrupt):
        backups.restore(source, tmp_path / "other.db", NOW, tell=interrupted)
    assert names(tmp_path) == {"state"}


# -- the way back ----------------------------------------------------------------------------------------------------


async def test_what_is_restored_is_the_copy_and_what_was_there_is_kept(tmp_path: Path) -> None:
    copy, target = await made(tmp_path / "old", 1, 2), await made(tmp_path / "state", 7)
    restored = backups.restore(copy, target, NOW, tell=quiet)
    assert seqs(target) == [1, 2]
    assert restored.aside == tmp_path / "state" / "tidemill.db.20261121T090000Z.aside"
    assert seqs(restored.aside) == [7]
    async with opened(tmp_path / "state") as store:  # a daemon starts on it
        assert await store.read(lambda connection: connection.execute("SELECT count(*) FROM run").fetchone()) == (2,)


async def test_a_log_that_a_crash_left_goes_aside_with_its_database_and_never_into_the_new_one(tmp_path: Path) -> None:
    """SQLite would apply a log it finds beside a database to it, whosever it was."""
    copy, crashed = await made(tmp_path / "old", 1), tmp_path / "crashed"
    crashed.mkdir()
    (tmp_path / "live").mkdir()
    async with opened(tmp_path / "live") as store:
        await store.write(runs.CREATE_RUNS, new_run(7))
        for name in ("tidemill.db", "tidemill.db-wal"):
            shutil.copy(tmp_path / "live" / name, crashed / name)
    assert (crashed / "tidemill.db-wal").stat().st_size
    restored = backups.restore(copy, crashed / "tidemill.db", NOW, tell=quiet)
    assert seqs(crashed / "tidemill.db") == [1]
    assert restored.aside is not None
    assert seqs(restored.aside) == [7]


async def test_a_damaged_database_is_kept_with_its_log_too(tmp_path: Path) -> None:
    copy, target = await made(tmp_path / "old", 1), tmp_path / "tidemill.db"
    target.write_bytes(b"no database")
    (tmp_path / "tidemill.db-wal").write_bytes(b"its log")
    restored = backups.restore(copy, target, NOW, tell=quiet)
    assert seqs(target) == [1]
    assert restored.aside is not None
    assert restored.aside.read_bytes() == b"no database"
    assert not (tmp_path / "tidemill.db-wal").exists()
    assert (tmp_path / f"{restored.aside.name}-wal").read_bytes() == b"its log"


async def test_where_there_is_none_the_copy_is_simply_put(tmp_path: Path) -> None:
    copy = await made(tmp_path / "old", 1)
    restored = backups.restore(copy, tmp_path / "tidemill.db", NOW, tell=quiet)
    assert restored.aside is None
    assert seqs(tmp_path / "tidemill.db") == [1]


def set_version(path: Path, version: int, application: int = schema.APPLICATION_ID) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {application}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage, "damaged|malformed"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"hello" * 1000), "cannot be read|not a database"),
        (lambda path: set_version(path, 99), "newer than this program's"),
        (lambda path: set_version(path, 1, application=4711), "not tidemill's"),
    ],
    ids=["damaged", "empty", "no database", "newer", "another program's"],
)  # fmt: skip
async def test_what_no_daemon_could_start_on_is_not_restored(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    copy, target = await made(tmp_path / "old", *range(1, 200)), await made(tmp_path / "state", 7)
    spoil(copy)
    with pytest.raises(DatabaseError, match=words):
        backups.restore(copy, target, NOW, tell=quiet)
    assert names(tmp_path / "state") == {"tidemill.db"}
    assert seqs(target) == [7]


async def test_a_copy_from_before_an_upgrade_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back: the older program is installed again, and gets the copy that the upgrade has set aside."""
    copy, target = await made(tmp_path / "old", 1), await made(tmp_path / "state", 7)
    newest = len(schema.migrations())
    monkeypatch.setattr(schema, "migrations", lambda: ("",) * (newest + 1))
    restored = backups.restore(copy, target, NOW, tell=quiet)
    assert restored.facts.schema == newest
    assert restored.facts.newest_schema == newest + 1
