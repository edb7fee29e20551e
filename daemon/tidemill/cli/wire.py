"""HTTP to the daemon: over its control socket, or over TCP where a URL was given.

A few lines of HTTP/1.1 of our own: http.client with what it imports would be a third of a command's whole time.
Every request has a connection of its own, which ends with the answer.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from tidemill.errors import (
    DaemonUnreachableError,
    NotFoundError,
    StoreUnavailableError,
    TidemillError,
    TransitionError,
    WrongUsageError,
)

CONNECT_S = 5.0
ANSWER_S = 60.0  # the daemon's streams, too, say something more often than this
MAX_LINE_BYTES = 64 * 1024

_ERRORS: dict[int, type[TidemillError]] = {
    404: NotFoundError,
    409: TransitionError,
    422: WrongUsageError,
    503: StoreUnavailableError,
}
Connect = Callable[[], socket.socket]


class Wire:
    """Requests to one daemon, each answered by the JSON value or a TidemillError with the daemon's own words."""

    live = True

    def __init__(self, connect: Connect, where: str, *, host: str = "localhost", base: str = "/api") -> None:
        self.where = where
        self._connect, self._host, self._base = connect, host, base
        self._ready: socket.socket | None = connect()  # now, so that a wire is known to lead somewhere

    @classmethod
    def to_socket(cls, path: str) -> Wire:
        """Return a wire to a control socket. Raises OSError where nobody answers."""

        def connect() -> socket.socket:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            opened.settimeout(CONNECT_S)
            try:
                opened.connect(path)
            except BaseException:
                opened.close()
                raise
            return opened

        return cls(connect, path)

    @classmethod
    def to_url(cls, url: str) -> Wire:
        """Return a wire to ``http://host:port`` (``/api`` is added) or ``unix:///path``. Raises OSError."""
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise _no_address(url) from error
        if parts.scheme == "unix":
            return cls.to_socket(parts.path)
        name = parts.hostname
        if parts.scheme not in {"http", "https"} or not name:
            raise _no_address(url)

        def connect() -> socket.socket:
            opened = socket.create_connection((name, port), CONNECT_S)
            if parts.scheme == "http":
                return opened
            import ssl

            return ssl.create_default_context().wrap_socket(opened, server_hostname=name)

        return cls(connect, url, host=parts.netloc.rpartition("@")[2], base=parts.path.rstrip("/") or "/api")

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """Return the answer to one request; None where there is none (204)."""
        try:
            with self._send(method, path, body, query) as answer:
                status, chunks = _answer(answer)
                text = b"".join(chunks)
        except (OSError, ValueError) as error:
            raise self._gone(error) from error
        if status >= 400:
            raise self._error(status, text, f"{method} {path}")
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise DaemonUnreachableError(f"{self.where} does not answer as a tidemill daemon does") from error

    def text(self, path: str) -> str:
        """Return the answer to a request outside of the API, as it is."""
        try:
            with self._send("GET", path, None, None, base="") as answer:
                status, chunks = _answer(answer)
                text = b"".join(chunks)
        except (OSError, ValueError) as error:
            raise self._gone(error) from error
        if status >= 400:
            raise self._error(status, text, f"GET {path}")
        return text.decode(errors="replace")

    def stream(self, path: str, query: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (event, data) of a stream of server-sent events until it ends."""
        try:
            with self._send("GET", path, None, query) as answer:
                status, chunks = _answer(answer)
                if status >= 400:
                    raise self._error(status, b"".join(chunks), f"GET {path}")
                yield from _events(chunks)
        except (OSError, ValueError) as error:
            raise self._gone(error) from error

    def _send(
        self, method: str, path: str, body: Any, query: dict[str, Any] | None, *, base: str | None = None
    ) -> BinaryIO:
        target = (self._base if base is None else base) + path
        if given := {name: value for name, value in (query or {}).items() if value is not None}:
            from urllib.parse import urlencode

            target += f"?{urlencode(given)}"
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: */*\r\nConnection: close\r\n"
        payload = b""
        if body is not None:
            payload = json.dumps(body).encode()
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        connection, self._ready = self._ready or self._connect(), None
        with connection:  # the file below keeps the descriptor until it is closed
            connection.settimeout(ANSWER_S)
            answer = connection.makefile("rb")
            try:
                connection.sendall(f"{head}\r\n".encode("ascii") + payload)
            except BaseException:
                answer.close()
                raise
        return answer

    def _gone(self, error: Exception) -> DaemonUnreachableError:
        if isinstance(error, TimeoutError):
            return DaemonUnreachableError(f"{self.where} accepts connections but does not answer; is the daemon stuck?")
        if isinstance(error, ValueError):
            return DaemonUnreachableError(f"{self.where} does not answer as a tidemill daemon does ({error})")
        return DaemonUnreachableError(f"{self.where} broke off: {str(error) or type(error).__name__}")

    def _error(self, status: int, text: bytes, what: str) -> TidemillError:
        try:
            detail = json.loads(text)["detail"]
        except (ValueError, KeyError, TypeError):
            if status == 404:  # a daemon says what there is not; another program at that port has no such path
                return DaemonUnreachableError(f"{self.where} does not answer as a tidemill daemon does (404 at {what})")
            detail = text[:500].decode(errors="replace").strip() or "no reason given"
        if status >= 500 and status not in _ERRORS:
            detail = f"the daemon failed at {what} ({status}): {detail}"
        return _ERRORS.get(status, TidemillError)(str(detail))

    def close(self) -> None:
        if self._ready is not None:
            self._ready.close()
            self._ready = None


def _no_address(url: str) -> TidemillError:
    return TidemillError(f'"{url}" is not the address of a daemon; write for example http://127.0.0.1:4200')


def _answer(answer: BinaryIO) -> tuple[int, Iterator[bytes]]:
    """Return the status of an answer and its body in pieces. Raises ValueError where it is not HTTP."""
    version, _, status = _line(answer).partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdigit():
        raise ValueError("not HTTP")
    headers: dict[str, str] = {}
    while line := _line(answer):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return int(status[:3]), _chunks(answer)
    length = int(headers.get("content-length", "0"))
    return int(status[:3]), iter([_exactly(answer, length)] if length else [])


def _chunks(answer: BinaryIO) -> Iterator[bytes]:
    while size := int(_line(answer).partition(";")[0], 16):
        yield _exactly(answer, size)
        _line(answer)
    _line(answer)


def _line(answer: BinaryIO) -> str:
    line = answer.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the connection ended in the middle of an answer")
    return line.rstrip(b"\r\n").decode("latin-1")


def _exactly(answer: BinaryIO, size: int) -> bytes:
    found = answer.read(size)
    if len(found) < size:
        raise ConnectionResetError("the connection ended in the middle of an answer")
    return found


def _events(chunks: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    unread, event, data = b"", "message", b""
    for chunk in chunks:
        *lines, unread = (unread + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.partition(b": ")
            if name == b"event":
                event = value.decode()
            elif name == b"data":
                data += value
            elif not line and data:
                yield event, json.loads(data)
                event, data = "message", b""
