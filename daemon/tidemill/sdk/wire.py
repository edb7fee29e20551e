"""Requests to a daemon's API from a script: nothing but the standard library."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tidemill.errors import (
    DaemonUnreachableError,
    NotFoundError,
    StoreUnavailableError,
    TidemillError,
    TransitionError,
)

CONNECT_S = 5.0
_ERRORS = {404: NotFoundError, 409: TransitionError, 503: StoreUnavailableError}


class Wire:
    """A daemon at ``http://host:port`` (``/api`` is added where no path stands) or ``unix:///path``.

    Callable from any thread; connections are kept open and used again.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "unix") or not (parts.hostname or parts.scheme == "unix"):
            raise DaemonUnreachableError(f"{url} is no address of a daemon: http://host:port, or unix:///path")
        self.where = url
        self._parts = parts
        self._base = "/api" if parts.scheme == "unix" else parts.path.rstrip("/") or "/api"
        self._idle: list[Any] = []  # http.client's connections
        self._lock = threading.Lock()

    def ask(self, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0) -> Any:
        """Return the JSON answer; raises a TidemillError in the daemon's words, or DaemonUnreachableError."""
        return msgspec.json.decode(text) if (text := self.send(method, path, body, timeout_s=timeout_s)) else None

    async def ask_async(self, method: str, path: str, body: Any = None) -> Any:
        """Do what :meth:`ask` does, in a thread."""
        return await asyncio.to_thread(self.ask, method, path, body)

    def send(self, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0) -> bytes:
        """Return the answer's bytes; raises as :meth:`ask` does."""
        # Imported by who asks somebody: a daemon's own flows do not, and a start would pay 10 ms for it.
        from http.client import HTTPException

        payload = None if body is None else msgspec.json.encode(body)
        headers = {} if payload is None else {"Content-Type": "application/json"}
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        used = connection is not None
        while True:
            if connection is None:
                connection = self._connection()
            try:
                connection.timeout = timeout_s
                if connection.sock is not None:
                    connection.sock.settimeout(timeout_s)
                connection.request(method, self._base + path, payload, headers)
                response = connection.getresponse()
                text: bytes = response.read()
                break
            except (OSError, HTTPException) as error:
                connection.close()
                if used and isinstance(error, BrokenPipeError | ConnectionResetError):  # http's own is one of them
                    connection, used = None, False  # the daemon had closed an idle connection
                    continue
                raise DaemonUnreachableError(f"the daemon at {self.where} does not answer: {error}") from error
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        if response.status >= 400:
            raise _ERRORS.get(response.status, TidemillError)(_detail(text) or f"HTTP {response.status}")
        return text

    def _connection(self) -> Any:
        from tidemill.sdk.connections import connection

        return connection(self._parts)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _detail(text: bytes) -> str | None:
    try:
        told = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    detail = told.get("detail") if isinstance(told, dict) else None
    return detail if isinstance(detail, str) else None


def control_sockets(environ: Mapping[str, str]) -> list[Path]:
    """Return where a daemon's control socket may be, in the order of looking; as the commands look."""
    folders = [Path("/run/tidemill")]
    if environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        folders.append(Path(environ["XDG_RUNTIME_DIR"]) / "tidemill")
    if environ.get("XDG_STATE_HOME", "").startswith("/"):
        folders.append(Path(environ["XDG_STATE_HOME"]) / "tidemill")
    elif environ.get("HOME"):
        folders.append(Path(environ["HOME"]) / ".local" / "state" / "tidemill")
    return [folder / "control.sock" for folder in folders]


def answers(path: Path) -> bool:
    """Whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
