"""uvicorn inside the daemon's loop: real sockets, no signals, no ticking."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeClock
from tidemill.api import server as api_server
from tidemill.api import sockets
from tidemill.api.server import Server

HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Running:
    """A server on a unix socket in ``folder``."""

    def __init__(self, folder: Path, app: Callable[..., Awaitable[None]], clock: FakeClock) -> None:
        self.path = folder / "control.sock"
        self.stop = asyncio.Event()
        self.server = Server(app, [sockets.bind_control(self.path)], clock=clock)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Running]:
        task = asyncio.create_task(self.server.serve_until(self.stop))
        try:
            yield self
        finally:
            self.stop.set()
            await task

    async def say(self, request: bytes) -> bytes:
        """Send bytes on a new connection and return what comes until one answer, or the end."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            return head + (await reader.readexactly(int(length[0].split(b":")[1])) if length else await reader.read())
        except (asyncio.IncompleteReadError, ConnectionResetError) as error:
            return error.partial if isinstance(error, asyncio.IncompleteReadError) else b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_it_answers_with_the_date_of_the_request(tmp_path: Path, clock: FakeClock) -> None:
    async with Running(tmp_path, hello, clock).serving() as running:
        first = await running.say(HELLO)
        clock.advance(3600)
        second = await running.say(HELLO)
    dates = [answer.split(b"date: ")[1].split(b"\r\n")[0].decode() for answer in (first, second)]
    assert dates[0].endswith("GMT")
    assert dates[0] != dates[1]
    assert b"server:" not in first


@pytest.mark.parametrize("turns", range(5))
async def test_who_is_accepted_while_it_stops_is_let_go(tmp_path: Path, clock: FakeClock, turns: int) -> None:
    """asyncio forgets a connection whose server closes between its being accepted and its first step."""
    client = socket.socket(socket.AF_UNIX)
    async with Running(tmp_path, hello, clock).serving() as running:
        await running.say(HELLO)
        client.setblocking(False)
        client.connect(str(running.path))
        for _ in range(turns):
            await asyncio.sleep(0)
    with client, contextlib.suppress(ConnectionResetError):  # where it was not even accepted
        assert client.recv(1) == b"", "not left open"


async def test_signals_stay_the_daemons(tmp_path: Path, clock: FakeClock) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with Running(tmp_path, hello, clock).serving() as running:
        await running.say(HELLO)
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_an_idle_server_sets_no_timer(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn's own loop wakes ten times a second; an idle daemon does nothing."""
    timers: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def noting(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **options)

    async with Running(tmp_path, hello, clock).serving() as running:
        await running.say(HELLO)
        monkeypatch.setattr(loop, "call_at", noting)
        for _ in range(50):
            await asyncio.sleep(0)
        assert timers == []
        monkeypatch.undo()


async def test_a_stream_ends_when_the_daemon_stops(tmp_path: Path, clock: FakeClock) -> None:
    """P9: a reader of a stream does not hold the stop up."""
    running: Running
    ended = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await running.stop.wait()
        await send({"type": "http.response.body", "body": b""})
        ended.set()

    running = Running(tmp_path, stream, clock)
    async with running.serving():
        reader, writer = await asyncio.open_unix_connection(running.path)
        writer.write(HELLO)
        await reader.readuntil(b"begun")
        started = asyncio.get_running_loop().time()
    assert ended.is_set()
    assert asyncio.get_running_loop().time() - started < api_server.GRACE_S / 2
    assert (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()


async def test_an_answer_that_takes_for_ever_is_cut_off_after_the_grace(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9"""
    monkeypatch.setattr(api_server, "GRACE_S", 0.05)
    begun, cut = asyncio.Event(), asyncio.Event()

    async def never(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.set()
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async with Running(tmp_path, never, clock).serving() as running:
        _, writer = await asyncio.open_unix_connection(running.path)
        writer.write(HELLO)
        await begun.wait()
    assert cut.is_set()
    writer.close()


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /" + b"a" * (api_server.MAX_URL_BYTES + 1) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (api_server.MAX_HEADERS + 1) + b"\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * (api_server.MAX_HEADER_BYTES + api_server.MAX_URL_BYTES) + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_a_request_head_is_bounded_while_it_comes(tmp_path: Path, clock: FakeClock, request_head: bytes) -> None:
    """P13"""
    async with Running(tmp_path, hello, clock).serving() as running:
        assert b"400 Bad Request" in await running.say(request_head)
        assert b"200 OK" in await running.say(HELLO)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: loc", b"\r\n"])
async def test_a_request_that_does_not_arrive_is_not_waited_for(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """P13"""
    monkeypatch.setattr(api_server, "ARRIVAL_S", 0.02)
    async with Running(tmp_path, hello, clock).serving() as running:
        assert await running.say(sent) == b""


async def test_more_connections_than_are_served_get_a_word(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P13"""
    monkeypatch.setattr(api_server, "MAX_CONNECTIONS", 1)
    caplog.set_level(logging.WARNING)
    async with Running(tmp_path, hello, clock).serving() as running:
        _, silent = await asyncio.open_unix_connection(running.path)
        for _ in range(2):
            said = await running.say(HELLO)
            assert b"503 Service Unavailable" in said
            assert b"the daemon has 1 connections open, which is the most; try again when some are closed" in said
        silent.close()
        await silent.wait_closed()
    assert caplog.messages == ["refuses requests on the control socket: 1 connections are open, which is the most"]


@pytest.mark.network
async def test_who_fills_the_port_does_not_shut_out_the_control_socket(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the other way round: each has its own number of connections."""
    monkeypatch.setattr(api_server, "MAX_CONNECTIONS", 1)
    running = Running(tmp_path, hello, clock)
    running.server.sockets += (port := sockets.bind(["127.0.0.1:0"]))
    async with running.serving():
        silent = [await asyncio.open_connection(*port[0].getsockname()) for _ in range(2)]
        assert (await running.say(HELLO)).endswith(b"hello")
        reader, writer = silent[1]
        writer.write(HELLO)
        assert b"503 Service Unavailable" in await reader.readuntil(b"\r\n")
        for _, each in silent:
            each.close()


@pytest.mark.network
async def test_the_servers_side_of_a_connection_sends_at_once(clock: FakeClock) -> None:
    """Without TCP_NODELAY each further answer on a kept connection would take some 40 ms."""
    opened = sockets.bind(["127.0.0.1:0"])
    stop = asyncio.Event()
    server = Server(hello, opened, clock=clock)
    task = asyncio.create_task(server.serve_until(stop))
    reader, writer = await asyncio.open_connection(*opened[0].getsockname())
    writer.write(HELLO)
    await reader.readuntil(b"hello")
    (connection,) = server.server_state.connections
    nodelay = connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()
    await writer.wait_closed()
    stop.set()
    await task
    assert nodelay
