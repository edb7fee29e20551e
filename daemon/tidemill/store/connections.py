"""Connections: how the database is opened for the one writer and for readers, and what is refused."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from tidemill.clock import Clock
from tidemill.errors import DatabaseError
from tidemill.store.faults import Fault, MissingFileError
from tidemill.store.groups import UnwritableError

# Set on the writer's connection and read back: a pragma that does not take is silent.
_PRAGMAS: tuple[tuple[str, int | str], ...] = (
    ("synchronous", 2),  # FULL: with NORMAL a power cut loses acknowledged commits
    ("foreign_keys", 1),
    ("trusted_schema", 0),
    ("cell_size_check", 1),
    ("temp_store", 2),
    ("cache_size", -16_384),  # KiB
    ("wal_autocheckpoint", 2000),  # pages; larger costs memory and start-up time after a crash, smaller more syncs
    ("journal_size_limit", 64 * 1024 * 1024),
)
BUSY_MS = 200  # how long SQLite itself waits for a lock; longer waits are the writer's, without holding the thread


def create_private(path: Path) -> None:
    """Make the file, or keep it, readable by its owner only, whatever the umask. SQLite's -wal and -shm follow it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open for writing, without touching what is in it: the schema's keeper decides first whether it may be used."""
    return sqlite3.connect(
        uri(path, "rw"),
        uri=True,
        isolation_level=None,  # transactions are begun and ended in words
        check_same_thread=False,
        timeout=BUSY_MS / 1000,
        cached_statements=256,
    )


def settle_writer(connection: sqlite3.Connection, path: Path) -> None:
    """Set the pragmas and read them back. Raises DatabaseError naming the one that did not take."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise DatabaseError(f"{path}: journal_mode is {mode!r}, not 'wal'; the file system must support shared memory")
    for name, value in _PRAGMAS:
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        (got,) = connection.execute(f"PRAGMA {name}").fetchone()
        if got != value:
            raise DatabaseError(f"{path}: SQLite keeps {name} at {got}, not {value}; this build of it cannot be used")


def open_reader(path: Path) -> sqlite3.Connection:
    """Open for reading only. Works beside a running daemon and without one.

    Raises DatabaseError where there is no readable database at ``path``.
    """
    try:
        connection = sqlite3.connect(
            uri(path, "ro"), uri=True, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=256
        )
        connection.execute("PRAGMA query_only = 1")
        connection.execute("PRAGMA trusted_schema = 0")
        connection.execute("PRAGMA temp_store = 2")
        connection.execute("PRAGMA cache_size = -8192")
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        if path.is_dir():
            raise DatabaseError(f"{path}: is a folder; name a file in it") from error
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        remedy = "restore a copy, or name another" if damaged else "check the path and the file's owner"
        raise DatabaseError(f"{path}: cannot be read: {error}; {remedy}") from error
    return connection


class FileWatch:
    """Notices a database that was deleted or replaced: SQLite goes on writing into a file that nobody can find."""

    EVERY_S = 1.0

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        file = path.stat()
        self._file = (file.st_dev, file.st_ino)
        self._looked = clock.monotonic()

    def look(self) -> None:
        """Look for the file, at most once a second. Raises UnwritableError when it is not the one that was opened."""
        now = self._clock.monotonic()
        if now - self._looked < self.EVERY_S:
            return
        self._looked = now
        try:
            file = self._path.stat()
        except FileNotFoundError as error:
            raise UnwritableError(Fault.FATAL, MissingFileError("the file was deleted while in use")) from error
        except OSError:
            return  # not known; writing will tell
        if (file.st_dev, file.st_ino) != self._file:
            raise UnwritableError(Fault.FATAL, MissingFileError("the file was replaced while in use"))
