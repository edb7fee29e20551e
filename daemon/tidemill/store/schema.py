"""The schema's keeper: says whether a database may be used, and brings an older one up to date.

``user_version`` counts the migrations applied. They only go forward; the way back is the copy that is set aside before
the first one of an existing database.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from tidemill.errors import DatabaseError
from tidemill.store.connections import create_private

APPLICATION_ID = 0x7469646D  # "tidm"


def migrations() -> tuple[str, ...]:
    """Return the texts of ``migrations/0001.sql`` and on, in order. Raises ``ValueError`` for a gap in the numbers."""
    folder = resources.files(__package__).joinpath("migrations")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    for number, entry in enumerate(files, start=1):
        if entry.name != f"{number:04}.sql":
            raise ValueError(f"migrations/{entry.name}: expected {number:04}.sql here")
    return tuple(entry.read_text(encoding="utf-8") for entry in files)


def statements(script: str) -> Iterator[str]:
    """Cut a script into its statements. (``executescript`` would commit the open transaction first.)"""
    pending = ""
    for line in script.splitlines(keepends=True):
        if not pending and (not line.strip() or line.lstrip().startswith("--")):
            continue
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if pending.strip():
        raise ValueError(f"the script ends inside a statement: {pending.strip()[:60]!r}")


def inspect(connection: sqlite3.Connection, path: Path, *, newest: int) -> int:
    """Return the database's version, 0 for a new one. Raises DatabaseError for one that must not be touched."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and application == 0:
        return 0
    if application != APPLICATION_ID:
        raise DatabaseError(
            f"{path}: a database, but not tidemill's (application id {application:#x}); name another state directory"
        )
    if version > newest:
        raise DatabaseError(
            f"{path}: schema version {version}, newer than this program's {newest}; install the newer tidemill again, "
            "or put back the copy that was set aside before the upgrade"
        )
    return version


def require_readable(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseError unless what is there can be read by this program as it stands."""
    newest = len(migrations())
    try:
        version = inspect(connection, path, newest=newest)
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: cannot be read: {error}; restore a copy") from error
    if not version:
        raise DatabaseError(f"{path}: is empty; a daemon that starts on it fills it")
    if version < newest:
        raise DatabaseError(
            f"{path}: schema version {version}, older than this program's {newest}; start the daemon once, which "
            "brings it up to date"
        )


def require_restorable(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of a database that a daemon can start on, also an older one. Raises DatabaseError."""
    try:
        version = inspect(connection, path, newest=len(migrations()))
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: cannot be read: {error}; is it a copy of a tidemill database?") from error
    if not version:
        raise DatabaseError(f"{path}: is empty; name a copy that `tidemill db backup` has made")
    return version


def quick_check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseError where SQLite finds the file damaged. Costs about 3 ms a MB."""
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise DatabaseError(f"{path}: damaged: {answer}; restore a copy (the file was left as it is)")


def migrate(connection: sqlite3.Connection, path: Path, version: int, scripts: Sequence[str]) -> Path | None:
    """Apply what is missing, each script in its own transaction. Return the copy that was set aside, if one was.

    Raises DatabaseError naming the migration that failed; the database is then as that migration found it.
    """
    if version == len(scripts):
        return None
    copy = set_aside(connection, path, version) if version else None
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            kept = f"; a copy from before is {copy}" if copy else ""
            raise DatabaseError(
                f"{path}: migration {number:04} failed: {error}; nothing of it was applied{kept}"
            ) from error
    return copy


def set_aside(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy the database beside itself, compact and private, and return where. An older copy of that name is replaced.

    The copy appears under its name only when it is whole and on disk.
    """
    copy = path.with_name(f"{path.name}.v{version}.bak")
    part = path.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    create_private(part)  # VACUUM INTO accepts an empty file and keeps its mode
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(copy)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise DatabaseError(
            f"{path}: could not be copied to {copy} before the upgrade: {error}; make room there, or move it"
        ) from error
    directory = os.open(copy.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return copy
