"""The connection of one pool to its Dask scheduler: made, lost, and made again by itself."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import random
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from tidemill.clock import Clock
from tidemill.core.deployments import WorkPool
from tidemill.durations import format_duration

CONNECT_S = 10.0
BACKOFF_S = (1.0, 30.0)  # the first wait, and the longest
LOOK_S = 1.0  # between two looks whether the connection holds
CLOSE_S = 5.0
# The client asks for what nobody here looks at, several times a second; that it is alive it may say more rarely, too.
_QUIET = {
    "distributed.client.scheduler-info-interval": "1h",
    "distributed.client.heartbeat": "30s",
}

logger = logging.getLogger("tidemill.dask")


class ClusterLostError(Exception):
    """The scheduler has not answered for as long as the pool's lease lasts. The text says which, and why."""


class Cluster:
    """Keeps a client of the scheduler, in the daemon's loop. Nothing of Dask is imported before :meth:`start`."""

    def __init__(
        self,
        pool: WorkPool,
        *,
        clock: Clock,
        source: random.Random,
        lease: timedelta,
        connected: Callable[[Any], Any],
    ) -> None:
        assert pool.address is not None
        self.address = pool.address
        self.problem: str | None = f"Dask scheduler {self.address} is being connected"
        self.changed: Callable[[], None] = lambda: None  # called when ``problem`` has changed
        self.client: Any = None
        self._pool = pool
        self._clock = clock
        self._source = source
        self._lease = lease
        self._connected = connected  # awaited with each new client, before anybody else gets it
        self._there = asyncio.Event()
        self._lost: asyncio.Event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and stay connected."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._stay(), name=f"dask {self._pool.name}")

    async def get(self) -> tuple[Any, asyncio.Event]:
        """Return the client, as soon as there is one, and the event that says when it is of no use any more.

        Raises ClusterLostError when there is none for as long as the lease lasts.
        """
        self.start()
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                await self._there.wait()
                while not self.holds():
                    await asyncio.sleep(0)  # until the loss is noticed
                    await self._there.wait()
        except TimeoutError:
            raise ClusterLostError(f"{self.problem}, for {format_duration(self._lease)} now") from None
        return self.client, self._lost

    def holds(self) -> bool:
        """Say whether the connection is there; notice where it is not."""
        if self.client is not None and self.client.status != "running":
            self._lost.set()
        return self.client is not None and not self._lost.is_set()

    async def aclose(self) -> None:
        """Leave the scheduler. What runs there runs on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._leave()

    async def _stay(self) -> None:
        wait_s = BACKOFF_S[0]
        while True:
            try:
                self.client = await self._connect()
                self._lost = asyncio.Event()
                await self._connected(self.client)
            except Exception as error:
                await self._leave()
                self._say(f"Dask scheduler {self.address} does not answer ({_text(error)})")
                # Spread, so that many daemons do not fall upon a scheduler that has just come back.
                await self._clock.sleep(wait_s * self._source.uniform(0.8, 1.2))
                wait_s = min(BACKOFF_S[1], wait_s * 2)
                continue
            wait_s = BACKOFF_S[0]
            self._say(None)
            self._there.set()
            while self.holds():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._lost.wait(), LOOK_S)
            self._there.clear()
            self._say(f"the connection to Dask scheduler {self.address} is lost")
            await self._leave()

    def _say(self, problem: str | None) -> None:
        before, self.problem = self.problem, problem
        if problem == before:
            return
        if problem is None:
            logger.info("work pool %s: connected to Dask scheduler %s", self._pool.name, self.address)
        else:
            logger.warning("work pool %s: %s; its runs wait", self._pool.name, problem)
        self.changed()

    async def _connect(self) -> Any:
        # In a thread: the import takes a second of work, and the loop has other things to do.
        distributed: Any = await asyncio.to_thread(_imported)
        import dask

        with dask.config.set(_QUIET):
            client = distributed.Client(
                self.address,
                asynchronous=True,
                timeout=CONNECT_S,
                set_as_default=False,
                security=_security(self._pool.tls, distributed),
                name=f"tidemill-{self._pool.name}",
            )
        try:
            return await client
        except BaseException:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), CLOSE_S)
            raise

    async def _leave(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), CLOSE_S)


def _imported() -> Any:
    present = "distributed" in sys.modules
    distributed = importlib.import_module("distributed")
    if present:
        return distributed
    # Its loggers come with handlers that write to stderr past everybody; what they say belongs into the daemon's log.
    for name in ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application"):
        library = logging.getLogger(name)
        for handler in list(library.handlers):
            library.removeHandler(handler)
        library.propagate = True
        library.setLevel(logging.ERROR)
    return distributed


def _security(tls: Mapping[str, str], distributed: Any) -> Any:
    if not tls:
        return None
    return distributed.Security(
        tls_ca_file=tls["ca"], tls_client_cert=tls["cert"], tls_client_key=tls["key"], require_encryption=True
    )


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
