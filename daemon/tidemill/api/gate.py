"""The one gate in front of every route and stream.

The API has no password: it trusts who can reach it. A browser on this machine can reach it too, on behalf of any page
it shows, so the gate lets in only what no foreign page can send: a Host this daemon goes by (DNS rebinding), the same
Origin and Sec-Fetch-Site (cross-site requests), JSON for writes (forms). There are no CORS headers, hence no exemption.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemill.core.script_runs import MAX_BODY_BYTES as LONGEST_SAYING

MAX_BODY_BYTES = 512 * 1024  # Prefect's bound for parameters
SCRIPTS = b"/api/script_runs/"  # whose reports hold artifacts of up to 1 MiB
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
NO_NAMES = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - every address is no name
READS = frozenset({"GET", "HEAD"})
SAME_SITE = frozenset({b"same-origin", b"none"})


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of this program
    """The gate's answer to a request that may not pass."""

    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail
        super().__init__(detail)


class Headers:
    """The few headers that the gate looks at, each of which may be there once."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            self._values.setdefault(name.lower(), []).append(value.strip())

    def one(self, name: bytes) -> bytes | None:
        values = self._values.get(name, [])
        if len(values) > 1:
            raise Refusal(400, f"the header {name.decode()} stands there more than once")
        return values[0] if values else None


def allowed_names(listen: Sequence[str], allowed_hosts: Sequence[str]) -> frozenset[str]:
    """Return the host names this daemon answers to: loopback, where it listens, and what the file allows."""
    names = {address.rpartition(":")[0].strip("[]").lower() for address in listen if not address.startswith("unix:")}
    return (LOOPBACK_NAMES | names | {name.strip("[]").lower() for name in allowed_hosts}) - NO_NAMES


def host_name(host: str) -> str | None:
    """Return the name in a Host header (``name``, ``name:port``, ``[v6]:port``), lowered; None: malformed."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
        return name.lower()
    name, colon, port = host.partition(":")
    if not name or (colon and not _is_port(":" + port)):
        return None
    return name.lower().removesuffix(".")


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()


def examine(scope: Scope, names: frozenset[str]) -> None:
    """Raise Refusal unless the request may pass. Looks at the head of the request only."""
    raw: list[tuple[bytes, bytes]] = scope["headers"]
    if len(raw) > MAX_HEADERS or sum(len(name) + len(value) for name, value in raw) > MAX_HEADER_BYTES:
        raise Refusal(431, f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them")
    headers = Headers(raw)
    host = (headers.one(b"host") or b"").decode("latin-1")
    _check_host(host, scope, names)
    _check_site(headers, host)
    _check_path(scope.get("raw_path") or scope["path"].encode())
    _check_body(scope["method"], headers, bound_of(scope))


def _check_host(host: str, scope: Scope, names: frozenset[str]) -> None:
    name = host_name(host)
    if name is None:
        raise Refusal(400, "the Host header is missing or malformed")
    if name in names or name == _arrived_at(scope):
        return
    raise Refusal(403, f'this daemon does not go by the name "{name[:80]}"; add it to [api] allowed_hosts if it should')


def _arrived_at(scope: Scope) -> str | None:
    """Return the address the connection arrived at: a page that rebinds a name cannot make the browser say that."""
    server = scope.get("server")
    if not server or server[1] is None:
        return None
    try:
        return str(ipaddress.ip_address(server[0]))
    except ValueError:
        return None


def _check_site(headers: Headers, host: str) -> None:
    site = headers.one(b"sec-fetch-site")
    if site is not None and site.lower() not in SAME_SITE:
        raise Refusal(403, "a page of another site may not call this API")
    origin = headers.one(b"origin")
    if origin is None:
        return
    try:
        parts = urlsplit(origin.decode("latin-1"))
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or parts.netloc.lower() != host.lower():
        raise Refusal(403, "the Origin is not this API's own; pages of other origins may not call it")


def _check_path(raw_path: bytes) -> None:
    lowered = raw_path.lower()
    odd = b"//" in lowered or any(code in lowered for code in (b"%2f", b"%5c", b"%00", b"\\"))
    if odd or any(part in (b".", b"..", b"%2e", b"%2e%2e", b".%2e", b"%2e.") for part in lowered.split(b"/")):
        raise Refusal(400, "the path is not plain")


def bound_of(scope: Scope) -> int:
    """Return how many bytes a request's body may have."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return LONGEST_SAYING if raw.startswith(SCRIPTS) else MAX_BODY_BYTES


def _check_body(method: str, headers: Headers, bound: int) -> None:
    length = headers.one(b"content-length")
    if length is not None:
        if not length.isdigit():
            raise Refusal(400, "Content-Length is not a number")
        if int(length) > bound:
            raise _too_large(bound)
    if method in READS:
        return
    content_type = headers.one(b"content-type")
    bare = content_type is None and length in (None, b"0") and headers.one(b"transfer-encoding") is None
    # DELETE is never sent across sites without a preflight, which gets no leave here; so it may come without a body.
    if method == "DELETE" and bare:
        return
    if content_type is None or content_type.split(b";")[0].strip().lower() != b"application/json":
        raise Refusal(415, "send JSON with Content-Type: application/json")


def _too_large(bound: int) -> Refusal:
    return Refusal(413, f"the body is larger than {bound // 1024} KiB")


class Gate:
    """ASGI middleware around the whole application. ``names`` is asked at each request: settings may change."""

    def __init__(self, app: ASGIApp, names: Callable[[], frozenset[str]]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "there are no websockets here"})
            return
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            examine(scope, self.names())
            await self.app(scope, _counted(receive, bound_of(scope)), note)
        except Refusal as refusal:
            if started:
                raise
            await refuse(send, refusal)


def _counted(receive: Receive, bound: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > bound:
            raise _too_large(bound)
        return message

    return counted


async def refuse(send: Send, refusal: Refusal) -> None:
    """Answer a refused request and close its connection, whose body may still be on its way."""
    body: bytes = msgspec.json.encode({"detail": refusal.detail})
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *SAFETY,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# On every answer: nothing here is a page, is to be framed, guessed at or kept by a browser.
SAFETY = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
