"""Backups: whole copies of the database, made beside a running daemon, and one put back in its place.

A copy is taken through SQLite from one read transaction: it is the database as it was at one moment, however much is
written meanwhile, and nothing waits for it. (Copying the file with ``cp`` while it is in use gives a broken one.)
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from tidemill.errors import DatabaseError
from tidemill.store import connections, inspection, schema

PAGES = 2000  # copied between two tellings: 8 MB
Tell = Callable[[int, int], None]
"""Hears how much is done, of how much, in bytes."""


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied to where. ``bytes`` is the size of the copy, which has been looked through and is whole."""

    path: Path
    bytes: int
    facts: inspection.Facts


def backup(source: Path, target: Path, *, tell: Tell, verifying: Callable[[], None] = lambda: None) -> Copied:
    """Copy the database at ``source`` to ``target``, which is replaced in one step when the copy is whole and on disk.

    Works beside a running daemon and without one. Raises DatabaseError where the source cannot be read, where there is
    no room, or where the copy turns out damaged; ``target`` is then as it was.
    """
    part = target.with_name(f".{target.name}.part")
    with closing(connections.open_reader(source)) as reader, _removed_on_failure(part):
        schema.require_readable(reader, source)
        _copy(reader, source, part, tell)
        verifying()
        facts = _verified(part, f"the copy of {source}")
        part.replace(target)
    _sync_folder(target.parent)
    return Copied(path=target, bytes=target.stat().st_size, facts=facts)


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was put back. ``aside`` is where the database that stood there is now; None: there was none."""

    aside: Path | None
    facts: inspection.Facts


def restore(
    source: Path, target: Path, now: datetime, *, tell: Tell, verifying: Callable[[], None] = lambda: None
) -> Restored:
    """Put a copy in the place of the database at ``target``, which is kept beside it. The caller holds the state lock.

    The copy is looked through before anything is touched, and takes the place in one step: a crash leaves the old
    database or the new one. Raises DatabaseError where it cannot be used.
    """
    part = target.with_name(f".{target.name}.part")
    verifying()
    _verified(source, str(source))
    with closing(connections.open_reader(source)) as reader, _removed_on_failure(part):
        _copy(reader, source, part, tell)
        verifying()
        facts = _verified(part, f"the copy of {source}")
        own_as(target.parent, part)
        aside = _set_aside(target, now) if target.exists() else None
        part.replace(target)
    _sync_folder(target.parent)
    return Restored(aside=aside, facts=facts)


def _copy(reader: sqlite3.Connection, source: Path, part: Path, tell: Tell) -> None:
    page_size = reader.execute("PRAGMA page_size").fetchone()[0]

    def progress(status: int, remaining: int, total: int) -> None:
        tell((total - remaining) * page_size, total * page_size)

    try:
        part.unlink(missing_ok=True)
        connections.create_private(part)
        with closing(sqlite3.connect(connections.uri(part, "rw"), uri=True, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # synced once, at the end
            # An open read transaction pins the moment. Without it every commit of the daemon begins the copy anew.
            reader.execute("BEGIN")
            reader.execute("SELECT 1 FROM sqlite_schema").fetchone()
            reader.backup(copy, pages=PAGES, progress=progress)
            reader.execute("COMMIT")
            # One file that can be read anywhere, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        with part.open("rb") as file:
            os.fsync(file.fileno())
    except (sqlite3.Error, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DatabaseError(
            f"{source} could not be copied to {part.parent}: {why}; is there room, and leave?"
        ) from error


def _verified(path: Path, named: str) -> inspection.Facts:
    with closing(connections.open_reader(path)) as reader:
        schema.require_restorable(reader, path)
        if problems := inspection.damage(reader, full=True):
            raise DatabaseError(f"{named} is damaged: {problems[0]}; use another one")
        return inspection.facts(reader, path)


def _set_aside(target: Path, now: datetime) -> Path:
    """Give the present database a second name, with everything in its one file where that can be done."""
    aside = _free(target, now)
    if _is_whole(target):
        with closing(connections.connect_writer(target)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    # One that is damaged keeps its log, under the name that belongs to it. Beside the new one SQLite would apply it.
    for suffix in ("-wal", "-shm"):
        beside = target.with_name(target.name + suffix)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + suffix))
    os.link(target, aside)
    return aside


def _free(target: Path, now: datetime) -> Path:
    """Return a name that nothing has: two restores in one second must not cost the first one's old database."""
    stamp = f"{target.name}.{now:%Y%m%dT%H%M%SZ}"
    others = (target.with_name(f"{stamp}-{number}.aside") for number in itertools.count(2))
    names = itertools.chain([target.with_name(f"{stamp}.aside")], others)
    return next(name for name in names if not any(Path(f"{name}{suffix}").exists() for suffix in ("", "-wal", "-shm")))


def _is_whole(path: Path) -> bool:
    try:
        with closing(connections.open_reader(path)) as reader:
            schema.require_restorable(reader, path)
            return not inspection.damage(reader, full=False)
    except DatabaseError:
        return False


def own_as(folder: Path, *paths: Path) -> None:
    """Give files to whom the state directory belongs: root restores, another user's daemon reads."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def _removed_on_failure(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C, too
        for path in (part, *(part.with_name(part.name + suffix) for suffix in ("-journal", "-wal", "-shm"))):
            path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
