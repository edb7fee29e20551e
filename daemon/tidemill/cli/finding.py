"""Finding the daemon, or the database of one that is down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.api import places
from tidemill.cli.wire import Wire
from tidemill.errors import DaemonUnreachableError, DatabaseError

if TYPE_CHECKING:
    import sqlite3

Now = Callable[[], datetime]
TIMELINE = "/logs/timeline"  # the one stream that has a beginning: it can be read while the daemon is down


class Link(Protocol):
    """Where answers come from: a daemon, or the database of one that is down."""

    live: bool
    where: str

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any: ...

    def text(self, path: str) -> str: ...

    def stream(self, path: str, query: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]: ...

    def close(self) -> None: ...


def find(environ: Mapping[str, str], now: Now, *, api: str | None, state_dir: Path | None) -> Link:
    """Return a link to the first daemon that answers, else to the first database that can be read.

    Raises DaemonUnreachableError naming each place that was looked at, and what was found there.
    """
    if url := api or environ.get("TIDEMILL_API_URL"):
        source = "--api" if api else "TIDEMILL_API_URL"
        try:
            return Wire.to_url(url)
        except OSError as error:
            raise DaemonUnreachableError(f"no daemon answers at {url} ({source}): {_why(error)}") from error
    looked: list[str] = []
    for socket_path in sockets(environ, state_dir):
        try:
            return Wire.to_socket(str(socket_path))
        except OSError as error:
            looked.append(f"{socket_path}: {_why(error)}")
    for database in databases(environ, state_dir):
        link = Database(database, now, list(looked))
        if (problem := link.open()) is None:
            return link
        looked.append(f"{database}: {problem}")
    raise DaemonUnreachableError(
        "\n  ".join(["no daemon was found; looked at", *looked])
        + "\nstart one with `tidemill start`, or say where it is with --state-dir or --api"
    )


def sockets(environ: Mapping[str, str], state_dir: Path | None) -> list[Path]:
    """Return where a control socket may be, in the order of looking."""
    if state_dir is not None:
        return [state_dir.expanduser().absolute() / places.SOCKET]
    runtime = places.user_runtime(environ)
    folders = [places.SYSTEM_RUNTIME, *([runtime] if runtime else []), places.user_state(environ)]
    return [folder / places.SOCKET for folder in folders]


def databases(environ: Mapping[str, str], state_dir: Path | None) -> list[Path]:
    """Return where the database of a daemon that is down may be, in the order of looking."""
    folders = [state_dir.expanduser().absolute()] if state_dir else [places.SYSTEM_STATE, places.user_state(environ)]
    return [folder / places.DATABASE for folder in folders]


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "not there"
    if isinstance(error, ConnectionRefusedError):
        return "nobody answers"
    if isinstance(error, PermissionError):
        return "not allowed; be the daemon's user, in its group, or root"
    return error.strerror or str(error)


class Database:
    """Reads on the database itself, for its owner and root, while the daemon is down."""

    live = False

    def __init__(self, path: Path, now: Now, looked: list[str]) -> None:
        self.path, self.where, self._now, self._looked = path, str(path), now, looked
        self._connection: sqlite3.Connection | None = None

    def open(self) -> str | None:
        """Open the database for reading; return why it cannot be, or None."""
        from tidemill.store.connections import open_reader
        from tidemill.store.schema import require_readable

        try:
            owner = self.path.stat().st_uid
        except FileNotFoundError:
            return "not there"
        except OSError as error:
            return _why(error)
        # Another user's read would need the write-ahead log's files, which a clean stop has removed.
        if os.geteuid() not in (0, owner):
            return "belongs to another user; be that user, or root"
        connection = None
        try:
            connection = open_reader(self.path)
            require_readable(connection, self.path)
        except DatabaseError as error:
            if connection is not None:
                connection.close()
            return str(error).removeprefix(f"{self.path}: ")
        self._connection = connection
        return None

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """Answer a read from the database; a change raises DaemonUnreachableError."""
        import sqlite3

        from tidemill.api import reads

        if self._connection is None:
            raise DaemonUnreachableError(f"{self.where} is closed")
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        found = reads.find(method, path)
        if found is None:
            raise DaemonUnreachableError(
                "the daemon is down, and changes need it; looked at\n  " + "\n  ".join(self._looked)
            )
        read, parameters = found
        try:
            return read(reads.Ask(self._connection, self._now(), parameters, given, body or {}))
        except sqlite3.Error as error:
            raise DaemonUnreachableError(f"{self.where} cannot be read: {error}") from error

    def text(self, path: str) -> str:
        """Nobody serves what is not of the API."""
        raise DaemonUnreachableError(f"the daemon is down: nobody answers {path}")

    def stream(self, path: str, query: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Yield the log of everything up to its end; other streams raise DaemonUnreachableError."""
        if path != TIMELINE or self._connection is None:
            raise DaemonUnreachableError("the daemon is down: there is nothing to follow")
        import sqlite3

        from tidemill.api import following

        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        try:
            yield from following.read_all(self._connection, given)
        except sqlite3.Error as error:
            raise DaemonUnreachableError(f"{self.where} cannot be read: {error}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
