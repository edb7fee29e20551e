"""Pings: a dead man's switch elsewhere is told of runs' starts and ends, and that the daemon itself is well.

A ping says what is so now: it is tried a few times, and one that something newer follows is not tried again. Nothing of
them is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tidemill.clock import Clock
from tidemill.config.settings import Settings
from tidemill.core.channels import UndeliveredError
from tidemill.core.deployments import Ping, SecretRef
from tidemill.core.events import Event, RunChanged
from tidemill.core.states import StateType
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.outside import Outside
from tidemill.services.wake import Wake

AGAIN_S = (5.0, 15.0, 60.0, 180.0)  # waits between tries
TRY_S = 30.0
AT_A_TIME = 10
MOST = 20  # of one deployment that wait
LAST_WORDS_S = 2.0  # at a stop
IDLE_S = 3600.0
DAEMON = ""  # whose pings are the daemon's own: no deployment is called so

_WORDS = {
    StateType.RUNNING: "start",
    StateType.COMPLETED: "success",
    StateType.FAILED: "fail",
    StateType.CRASHED: "fail",
}

logger = logging.getLogger("tidemill.ping")


class Pings:
    """Listens to the bus, and asks the URLs."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        clock: Clock,
        outside: Outside,
        bus: EventBus,
        well: Callable[[], Awaitable[bool]],
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._outside = outside
        self._well = well
        self._waiting: dict[str, deque[str]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._at_a_time = asyncio.Semaphore(AT_A_TIME)
        self._failing: dict[str, str] = {}  # whose last ping did not arrive, and why
        self._wake = Wake()
        self._closed = False
        bus.listen(self._hear)
        catalogue.on_replaced.append(self._replaced)

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, RunChanged):
                continue
            run = event.run
            word = _WORDS.get(run.state.type)
            if word is None or (word == "start" and run.attempt > 1):
                continue
            deployment = self._catalogue.deployments.get(run.deployment or "")
            if deployment is not None and _address(deployment.ping, word) is not None:
                self._put(deployment.name, word)

    def _put(self, name: str, word: str) -> None:
        waiting = self._waiting.setdefault(name, deque(maxlen=MOST))
        waiting.append(word)
        if name not in self._tasks:
            task = self._tasks[name] = asyncio.create_task(self._tell(name, waiting), name=f"ping {name}")
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _tell(self, name: str, waiting: deque[str]) -> None:
        while waiting:
            word = waiting.popleft()
            for wait_s in (*AGAIN_S, None):
                error = await self._ask(name, word)
                if error is None or wait_s is None or waiting:
                    break
                await self._clock.sleep(wait_s)

    async def _ask(self, name: str, word: str) -> str | None:
        """Send one ping; return why it did not arrive."""
        whose = f"deployment {name}" if name else "the daemon"
        ping = self._catalogue.settings.daemon.ping
        if name:
            deployment = self._catalogue.deployments.get(name)
            ping = None if deployment is None else deployment.ping
        address = _address(ping, word)
        if address is None:
            return None
        try:
            async with self._at_a_time, asyncio.timeout(TRY_S):
                await self._outside.ping(*address)
        except (UndeliveredError, TimeoutError) as error:
            reason = str(error) or f"no answer within {TRY_S:.0f} s"
            if self._failing.get(name) != reason:
                logger.warning("the %s ping of %s did not arrive: %s", word, whose, reason)
            self._failing[name] = reason
            return reason
        if self._failing.pop(name, None) is not None:
            logger.info("pings of %s arrive again", whose)
        return None

    # -- the daemon's own --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell that the daemon is well, again and again, until closed."""
        while not self._closed:
            settings = self._catalogue.settings.daemon
            if settings.ping is None:
                await self._wake.wait(IDLE_S)
                continue
            await self.tick()
            await self._wake.wait(settings.ping_interval.total_seconds())

    async def tick(self) -> str:
        """Tell how the daemon is; return what was told."""
        word = "success" if await self._well() else "fail"
        await self._ask(DAEMON, word)
        return word

    def _replaced(self, before: Settings, after: Settings) -> None:
        for name in [name for name in self._failing if name and name not in after.deployments]:
            del self._failing[name]
        if (before.daemon.ping, before.daemon.ping_interval) != (after.daemon.ping, after.daemon.ping_interval):
            self._failing.pop(DAEMON, None)
            self._wake.set()

    async def aclose(self) -> None:
        """Say what is still to be said, for a moment; then nothing more."""
        self._closed = True
        self._wake.set()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_WORDS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def document(self) -> list[dict[str, Any]]:
        """Return whose pings do not arrive, as JSON values."""
        return [{"deployment": name or None, "error": reason} for name, reason in self._failing.items()]

    def problems(self) -> list[str]:
        """Return which pings do not arrive, in words."""
        return [
            f"ping of {f'deployment {name}' if name else 'the daemon'}: {reason}"
            for name, reason in self._failing.items()
        ]


def _address(ping: Ping | None, word: str) -> tuple[str | SecretRef, str] | None:
    """Return the URL for a word, and what is added to its path; None: nobody is to be told of it."""
    if ping is None:
        return None
    if ping.base is not None:
        return ping.base, "" if word == "success" else word
    one: str | SecretRef | None = getattr(ping, word)
    return None if one is None else (one, "")
