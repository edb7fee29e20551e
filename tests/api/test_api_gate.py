"""The gate: who may call this API, decided before any route is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill.api import gate
from tidemill.api.gate import Refusal, allowed_names, examine, host_name

NAMES = allowed_names(["127.0.0.1:4200", "mill.example:4200"], ["tides.example"])


def scope(
    *headers: tuple[str, str],
    method: str = "GET",
    path: str = "/api/health",
    server: tuple[str, int | None] | None = None,
) -> dict[str, Any]:
    given = {name.lower() for name, _ in headers}
    base = [] if "host" in given else [("host", "localhost:4200")]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "server": server,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (*base, *headers)],
    }


JSON = ("content-type", "application/json")

PASSES = [
    scope(),
    scope(("host", "127.0.0.1:4200")),
    scope(("host", "[::1]:4200")),
    scope(("host", "LOCALHOST")),
    scope(("host", "localhost.:4200")),
    scope(("host", "mill.example:4200")),  # it listens there
    scope(("host", "tides.example")),  # the file allows it
    scope(("host", "192.0.2.7:4200"), server=("192.0.2.7", 4200)),  # the address that the connection came to
    scope(("origin", "http://localhost:4200")),
    scope(("sec-fetch-site", "same-origin")),
    scope(("sec-fetch-site", "none")),  # typed into the address bar
    scope(JSON, method="POST"),
    scope(("content-type", "application/json; charset=utf-8"), method="POST"),
    scope(method="DELETE"),  # without a body; never sent across sites without asking first
]


@pytest.mark.parametrize("request_scope", PASSES)
def test_requests_of_this_machines_own_programs_pass(request_scope: dict[str, Any]) -> None:
    """P15"""
    examine(request_scope, NAMES)


REFUSED = [
    (403, scope(("host", "evil.example"))),  # DNS rebinding: the browser says the page's own name
    (403, scope(("host", "localhost.evil.example"))),
    (403, scope(("host", "127.0.0.1.evil.example:4200"))),
    (403, scope(("host", "192.0.2.7:4200"), server=("127.0.0.1", 4200))),
    (403, scope(("host", "/run/tidemill/control.sock"), server=("/run/tidemill/control.sock", None))),
    (400, scope(("host", ""))),
    (400, scope(("host", "localhost:80:80"))),
    (400, scope(("host", "[::1"))),
    (400, scope(("host", "localhost"), ("host", "evil.example"))),
    (403, scope(("origin", "http://evil.example"))),
    (403, scope(("origin", "http://localhost:3000"))),  # another program's page on this machine
    (403, scope(("origin", "null"))),  # a sandboxed frame
    (403, scope(("origin", "http://[bad"))),
    (403, scope(("sec-fetch-site", "cross-site"))),
    (403, scope(("sec-fetch-site", "same-site"))),
    (415, scope(method="POST")),
    (415, scope(("content-type", "text/plain"), method="POST")),  # what a form can send
    (415, scope(("content-type", "application/x-www-form-urlencoded"), method="PATCH")),
    (415, scope(("content-length", "3"), method="DELETE")),
    (415, scope(("transfer-encoding", "chunked"), method="DELETE")),
    (413, scope(JSON, ("content-length", str(gate.MAX_BODY_BYTES + 1)), method="POST")),
    (400, scope(JSON, ("content-length", "-1"), method="POST")),
    (431, scope(*[(f"x-{number}", "y") for number in range(gate.MAX_HEADERS)])),
    (431, scope(("x-long", "y" * gate.MAX_HEADER_BYTES))),
    (400, scope(path="/api//health")),
    (400, scope(path="/api/../health")),
    (400, scope(path="/api/%2e%2e/health")),
    (400, scope(path="/api/flow_runs/a%2Fset_state")),  # a slash from inside a name
    (400, scope(path="/api/flow_runs/a%00b")),
]


@pytest.mark.parametrize(("status", "request_scope"), REFUSED)
def test_what_a_foreign_page_can_send_is_refused(status: int, request_scope: dict[str, Any]) -> None:
    """P15"""
    with pytest.raises(Refusal) as refusal:
        examine(request_scope, NAMES)
    assert refusal.value.status == status


def test_a_name_that_means_every_address_is_not_a_name_of_this_daemon() -> None:
    assert allowed_names(["0.0.0.0:4200", "[::]:4200"], []) == gate.LOOPBACK_NAMES


def test_a_unix_socket_adds_no_name() -> None:
    assert allowed_names(["unix:/run/mill.sock"], []) == gate.LOOPBACK_NAMES


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("localhost:4200", "localhost"),
        ("[::1]:4200", "::1"),
        ("Mill.Example.", "mill.example"),
        ("", None),
        (":4200", None),
        ("a:b", None),
        ("[::1]x", None),
        ("::1", None),
    ],
)
def test_the_name_of_a_host_header(host: str, name: str | None) -> None:
    assert host_name(host) == name


async def call(app: Any, request_scope: dict[str, Any], *bodies: bytes) -> tuple[int, dict[bytes, bytes]]:
    parts = list(bodies) or [b""]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        body = parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    await gate.Gate(app, lambda: NAMES)(request_scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    """P13"""
    half = b"x" * (gate.MAX_BODY_BYTES // 2)
    assert (await call(reads_all, scope(JSON, method="POST"), half, half))[0] == 200
    status, headers = await call(reads_all, scope(JSON, method="POST"), half, half, b"x")
    assert status == 413
    assert headers[b"connection"] == b"close"


async def test_a_refusal_tells_no_other_origin_that_it_may_read() -> None:
    """P15"""
    status, headers = await call(reads_all, scope(("origin", "http://evil.example")))
    assert status == 403
    assert not [name for name in headers if name.startswith(b"access-control")]


async def test_a_websocket_is_closed_before_any_route() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await gate.Gate(reads_all, lambda: NAMES)({"type": "websocket", "headers": []}, None, send)  # type: ignore[arg-type]
    assert sent[0]["type"] == "websocket.close"
