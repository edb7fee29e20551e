"""uvicorn in the daemon's loop: its protocol, none of its process management.

What is taken away, each measured: its signal handlers (the daemon owns signals), its loop that wakes ten times a second
to look at a flag and a clock (an idle daemon does nothing), its polling shutdown. What is added: bounds on a request's
head and on how long it may take to arrive, and room on the control socket however many call by other ways.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server as UvicornServer
from uvicorn.server import ServerState

from tidemill.api import asker
from tidemill.api.gate import MAX_HEADER_BYTES, MAX_HEADERS
from tidemill.clock import Clock

logger = logging.getLogger("tidemill.api")

CLOSING_TURNS = 5
# By the control socket, and as many by all other ways together: who fills the port does not shut the command line out.
MAX_CONNECTIONS = 256
# That connections are refused is said so often at most.
SAY_FULL_S = 60.0
MAX_URL_BYTES = 8 * 1024
# How long a request, or the silence before the first one, may take to arrive.
ARRIVAL_S = 20.0
KEEP_ALIVE_S = 30
# How long answers that are under way may take once the daemon stops. Streams end at once by themselves.
GRACE_S = 2.0


class _State(ServerState):
    """What the connections share. The Date header is made when a request comes, at most once a second."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.control = ServerState()  # who came by the control socket
        self._second = 0
        self._said: float | None = None

    def everyone(self) -> list[Any]:
        """Return the connections that are open, by whatever way."""
        return [*self.connections, *self.control.connections]

    def underway(self) -> set[asyncio.Task[None]]:
        """Return the requests that are being answered, by whatever way."""
        return self.tasks | self.control.tasks

    def is_full(self, where: str) -> None:
        """Say in the log that a request was refused, once in a while."""
        now = self.clock.monotonic()
        if self._said is None or now - self._said >= SAY_FULL_S:
            self._said = now
            logger.warning("refuses requests %s: %d connections are open, which is the most", where, MAX_CONNECTIONS)

    def refresh_date(self) -> None:
        now = self.clock.now()
        second = int(now.timestamp())
        if second != self._second:
            self._second = second
            self.default_headers = [(b"date", format_datetime(now, usegmt=True).encode())]


class _Protocol(HttpToolsProtocol):
    """One connection, with bounds that uvicorn leaves to a proxy in front, which a daemon on loopback has not."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _peer: dict[Any, Any] | None = None  # who is at the other end of a unix socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._peer = asker.address_of(transport.get_extra_info("socket"))
        state = self.server_state
        if isinstance(state, _State) and asker.by_control(self._peer):
            self.connections, self.tasks = state.control.connections, state.control.tasks
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # uvicorn's keep-alive timer ends with the first byte; from there on a request has its time to arrive.
        if getattr(self.cycle, "response_complete", True):  # None before the first request
            self._arm()
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()
        self.scope["extensions"] = {asker.EXTENSION: self._peer or {}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url), len(self.url) > MAX_URL_BYTES)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value), len(self.headers) > MAX_HEADERS)

    def _count(self, size: int, too_many: bool) -> None:
        self._head_bytes += size
        if too_many or self._head_bytes > MAX_HEADER_BYTES + MAX_URL_BYTES:
            # The parser has no way to stop short but an error, which becomes a 400 and a closed connection.
            raise ValueError("request head too large")

    def on_headers_complete(self) -> None:
        state = self.server_state
        if isinstance(state, _State):
            state.refresh_date()
            if len(self.connections) > MAX_CONNECTIONS:
                state.is_full(
                    "on the control socket" if self.connections is state.control.connections else "of the API"
                )
                self.app = _refuse
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(ARRIVAL_S, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


async def _refuse(_: Scope, __: Receive, send: Send) -> None:
    """Answer 503: too many connections are open."""
    detail = f"the daemon has {MAX_CONNECTIONS} connections open, which is the most; try again when some are closed"
    body = msgspec.json.encode({"detail": detail})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server(UvicornServer):
    """Serves one application on sockets that are bound already, until told to stop."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket], *, clock: Clock) -> None:
        config = Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        super().__init__(config)
        self.server_state: _State = _State(clock)
        self.sockets = list(sockets)

    async def open(self) -> None:
        """Begin to accept connections; those made since the sockets were bound have waited in line."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=self.sockets)

    async def aclose(self) -> None:
        """Stop accepting, let answers under way end within a short grace, close every connection."""
        # Nobody new first, and a turn for who was just accepted: asyncio loses a connection whose server closes before.
        loop = asyncio.get_running_loop()
        for opened in self.sockets:
            loop.remove_reader(opened)
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for opened in self.sockets:
            opened.close()
        for connection in self.server_state.everyone():
            connection.shutdown()
        tasks = self.server_state.underway()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE_S)
            for task in late:
                task.cancel()
            if late:
                logger.warning("cut off %d answers that were still under way", len(late))
                await asyncio.wait(late, timeout=GRACE_S)
        # Some turns: who had just been accepted becomes a connection, and one that is closed hears that it is.
        for _ in range(CLOSING_TURNS):
            for connection in self.server_state.everyone():
                transport: Any = connection.transport
                transport.close()
            await asyncio.sleep(0)

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. Costs nothing while nobody calls."""
        await self.open()
        try:
            await stop.wait()
        finally:
            await self.aclose()
