"""HTTP to the daemon: over its control socket, or over TCP where a URL was given."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

from tidemill.errors import (
    DaemonUnreachableError,
    NotFoundError,
    StoreUnavailableError,
    TidemillError,
    TransitionError,
)

CONNECT_S = 5.0
ANSWER_S = 60.0
# The daemon's streams say something at least this often.
SILENCE_S = 60.0

_ERRORS: dict[int, type[TidemillError]] = {404: NotFoundError, 409: TransitionError, 503: StoreUnavailableError}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_S)
        try:
            self.sock.connect(self.path)
        except BaseException:
            self.sock.close()
            raise


class Wire:
    """Requests to one daemon, each answered by the JSON value or a TidemillError with the daemon's own words."""

    live = True

    def __init__(self, connection: http.client.HTTPConnection, where: str, base: str = "/api") -> None:
        self.where = where
        self._connection = connection
        self._base = base

    @classmethod
    def to_socket(cls, path: str) -> Wire:
        """Return a wire to a control socket; connects at once. Raises OSError where nobody answers."""
        return cls._connected(_UnixConnection(path), path, "/api")

    @classmethod
    def to_url(cls, url: str) -> Wire:
        """Return a wire to ``http://host:port`` (``/api`` is added) or ``unix:///path``; connects at once."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls.to_socket(parts.path)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise TidemillError(f'"{url}" is not the address of a daemon; write for example http://127.0.0.1:4200')
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        base = parts.path.rstrip("/") or "/api"
        return cls._connected(kind(parts.hostname, port, timeout=CONNECT_S), url, base)

    @classmethod
    def _connected(cls, connection: http.client.HTTPConnection, where: str, base: str) -> Wire:
        connection.connect()
        return cls(connection, where, base)

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """Return the answer to one request; None where there is none (204)."""
        with self._send(method, path, body, query, ANSWER_S) as response:
            text = self._read(response)
            if response.status >= 400:
                raise _error(response.status, text, f"{method} {path}")
            try:
                return json.loads(text) if text else None
            except ValueError as error:
                raise DaemonUnreachableError(f"{self.where} does not answer as a tidemill daemon does") from error

    def stream(self, path: str, query: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (event, data) of a stream of server-sent events until it ends."""
        with self._send("GET", path, None, query, SILENCE_S) as response:
            if response.status >= 400:
                raise _error(response.status, self._read(response), f"GET {path}")
            event, data = "message", ""
            while True:
                try:
                    line = response.readline().decode()
                except (OSError, http.client.HTTPException) as error:
                    raise DaemonUnreachableError(f"{self.where} went away: {error}") from error
                if not line:
                    return
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    data += value
                elif not name and data:
                    yield event, json.loads(data)
                    event, data = "message", ""

    def _send(
        self, method: str, path: str, body: Any, query: dict[str, Any] | None, timeout_s: float
    ) -> http.client.HTTPResponse:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = self._base + path + (f"?{urlencode(given)}" if given else "")
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        try:
            if self._connection.sock is None:
                self._connection.connect()
            self._connection.sock.settimeout(timeout_s)
            self._connection.request(method, target, payload, headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._gone(error) from error

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> DaemonUnreachableError:
        if isinstance(error, TimeoutError):
            return DaemonUnreachableError(f"{self.where} accepts connections but does not answer; is the daemon stuck?")
        return DaemonUnreachableError(f"{self.where} broke off: {error or type(error).__name__}")

    def close(self) -> None:
        self._connection.close()


def _error(status: int, text: bytes, what: str) -> TidemillError:
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = text[:500].decode(errors="replace").strip() or "no reason given"
    if status >= 500 and status not in _ERRORS:
        detail = f"the daemon failed at {what} ({status}): {detail}"
    return _ERRORS.get(status, TidemillError)(str(detail))
