"""uvicorn in the daemon's loop: its protocol, none of its process management.

What is taken away, each measured: its signal handlers (the daemon owns signals), its loop that wakes ten times a second
to look at a flag and a clock (an idle daemon does nothing), its polling shutdown. What is added: bounds on a request's
head and on how long it may take to arrive.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server as UvicornServer
from uvicorn.server import ServerState

from tidemill.api import asker
from tidemill.api.gate import MAX_HEADER_BYTES, MAX_HEADERS
from tidemill.clock import Clock

logger = logging.getLogger("tidemill.api")

CLOSING_TURNS = 5
MAX_CONNECTIONS = 256
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
        self._second = 0

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
        super().connection_made(transport)
        self._peer = asker.address_of(transport.get_extra_info("socket"))
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
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        super().__init__(config)
        self.server_state: ServerState = _State(clock)
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
        for connection in list(self.server_state.connections):
            connection.shutdown()
        tasks = set(self.server_state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE_S)
            for task in late:
                task.cancel()
            if late:
                logger.warning("cut off %d answers that were still under way", len(late))
                await asyncio.wait(late, timeout=GRACE_S)
        # Some turns: who had just been accepted becomes a connection, and one that is closed hears that it is.
        for _ in range(CLOSING_TURNS):
            for connection in list(self.server_state.connections):
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
