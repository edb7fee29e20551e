"""Faults: what an error of SQLite means for the store."""

from __future__ import annotations

import enum
import os
import sqlite3
from pathlib import Path

from tidemill.errors import TidemillError

ROOM_BYTES = 256 * 1024  # free on the disk before a database that could not be written is tried again


class Fault(enum.Enum):
    """What to do about a failed write."""

    ITEM = "item"  # an item's own fault: the others are well without it
    LOCKED = "locked"  # another process writes: wait and try again
    UNAVAILABLE = "unavailable"  # disk full or read-only: refuse for now
    IO = "io"  # the disk failed: as unavailable, and the connection is no longer trusted
    FATAL = "fatal"  # the file is damaged or gone


_BY_CODE = {
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_FULL: Fault.UNAVAILABLE,
    sqlite3.SQLITE_READONLY: Fault.UNAVAILABLE,
    sqlite3.SQLITE_CANTOPEN: Fault.UNAVAILABLE,
    sqlite3.SQLITE_PERM: Fault.UNAVAILABLE,
    sqlite3.SQLITE_NOMEM: Fault.UNAVAILABLE,
    sqlite3.SQLITE_PROTOCOL: Fault.LOCKED,
    sqlite3.SQLITE_IOERR: Fault.IO,
    sqlite3.SQLITE_CORRUPT: Fault.FATAL,
    sqlite3.SQLITE_NOTADB: Fault.FATAL,
}
# Not every error of the module carries SQLite's code.
_BY_TEXT = (
    ("database is locked", Fault.LOCKED),
    ("table is locked", Fault.LOCKED),
    ("disk is full", Fault.UNAVAILABLE),
    ("readonly database", Fault.UNAVAILABLE),
    ("unable to open", Fault.UNAVAILABLE),
    ("disk i/o error", Fault.IO),
    ("malformed", Fault.FATAL),
    ("not a database", Fault.FATAL),
)
_ADVICE = {
    Fault.LOCKED: "another process holds the database; writing waits for it",
    Fault.UNAVAILABLE: "nothing was changed; make room or make it writable, and writing goes on by itself",
    Fault.IO: "nothing was changed; look at the disk (dmesg)",
    Fault.FATAL: "the daemon must stop; restore a copy",
}


class MissingFileError(TidemillError):
    """The database file was removed or replaced while it was open."""


def classify(error: BaseException) -> Fault:
    """Say what a failed write means."""
    if not isinstance(error, sqlite3.Error):
        return Fault.ITEM
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _BY_CODE.get(code & 0xFF, Fault.ITEM)
    text = str(error).lower()
    return next((fault for part, fault in _BY_TEXT if part in text), Fault.ITEM)


def explain(error: BaseException, fault: Fault) -> str:
    """Return the fact and the remedy in one line."""
    return f"{error}; {_ADVICE[fault]}" if fault in _ADVICE else str(error)


def has_room(path: Path) -> bool:
    """Say whether the file system of the database has room for a group of changes.

    A full disk takes a small write all the same, into what the log beside the database has left of a write that failed;
    that it did so says nothing. True where nobody can tell.
    """
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return True
    return room.f_bavail * room.f_frsize >= ROOM_BYTES
