"""Requests a second of the API: the whole daemon in one process, who asks in another, on loopback, connections kept."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks import process
from benchmarks.figures import Figure, median
from benchmarks.rig import folder

TITLE = "The API: requests a second from a second process on loopback"
CONNECTIONS = 8
HEALTH = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
_BODY = b'{"limit": 20}'
FILTER = (
    b"POST /api/flow_runs/filter HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class _Asker(asyncio.Protocol):
    """Asks the same thing again as soon as the answer is there."""

    def __init__(self, request: bytes, over: Callable[[], bool]) -> None:
        self.answers = 0
        self._request = request
        self._over = over
        self._buffer = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over():
            raise SystemExit(f"who was asked closed the connection: {exc}")

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._buffer += data
            head, end, body = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            _, _, rest = head.lower().partition(b"content-length: ")
            self._left = int(rest.split(b"\r\n", 1)[0]) - len(body)
            self._buffer = b""
        if self._left == 0:
            self.answers += 1
            if not self._over():
                self._transport.write(self._request)


async def ask(port: int, request: bytes, seconds: float) -> float:
    """Return answers a second over a few kept connections."""
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds
    began = time.perf_counter()
    made = [
        await loop.create_connection(lambda: _Asker(request, lambda: time.perf_counter() >= end), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(seconds)
    spent = time.perf_counter() - began
    count = sum(asker.answers for _, asker in made)
    for transport, _ in made:
        transport.close()
    return count / spent


class _Answerer(asyncio.Protocol):
    """The floor: answers every request with the same bytes and looks at nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue")


def answer(pipe: Connection) -> None:
    """Serve the floor, in a process of its own."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Answerer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def floor(seconds: float) -> float:
    """Return answers a second of a bare asyncio protocol, asked by the same asker."""
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    server = context.Process(target=answer, args=(other,), daemon=True)
    server.start()
    try:
        return asyncio.run(ask(mine.recv(), HEALTH, seconds))
    finally:
        server.kill()
        server.join()


def measure(quick: bool) -> list[Figure]:
    rounds, seconds = (1, 1.0) if quick else (3, 2.0)
    port = process.free_port()
    found: dict[bytes, list[float]] = {HEALTH: [], FILTER: []}
    cpu: dict[bytes, list[float]] = {HEALTH: [], FILTER: []}
    floors: list[float] = []
    with folder() as directory:
        path = process.config(directory, process.many(100, port))  # 300 runs stand ahead
        with process.daemon(path, port) as running:
            for _ in range(rounds):
                floors.append(floor(seconds))
                for request, speeds in found.items():
                    before = running.cpu_s()
                    speed = asyncio.run(ask(port, request, seconds))
                    speeds.append(speed)
                    cpu[request].append((running.cpu_s() - before) / (speed * seconds) * 1e6)
    return [
        Figure(
            name="GET /api/health",
            value=median(found[HEALTH]),
            unit="req/s",
            floor=median(floors),
            note=f"{CONNECTIONS} connections, {median(cpu[HEALTH]):.0f} µs of CPU a request; floor: a bare asyncio "
            "protocol",
        ),
        Figure(
            name="POST /api/flow_runs/filter, 20 of 300 runs",
            value=median(found[FILTER]),
            unit="req/s",
            floor=median(floors),
            note=f"{median(cpu[FILTER]):.0f} µs of CPU a request",
        ),
    ]
