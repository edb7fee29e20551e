"""What systemd is told while the daemon runs: that it lives, and in one line how it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta

from tidemill import systemd
from tidemill.clock import Clock
from tidemill.core.events import Event
from tidemill.services.headline import Headline
from tidemill.services.house import House
from tidemill.store import instance

STATUS_S = 2.0  # between two status lines, at least
MOST_S = 15.0  # between two beats, at most: also for a watchdog that waits for hours

logger = logging.getLogger("tidemill.watchdog")


class Heartbeat:
    """Feeds systemd's watchdog and keeps its status line fresh.

    A beat goes through the database and through the scheduler: a daemon whose loop turns while either is stuck is not
    well. Where they do not answer systemd hears nothing, and after WatchdogSec= ends the daemon and starts it again.
    """

    def __init__(self, *, house: House, notifier: systemd.Notifier, clock: Clock, environ: Mapping[str, str]) -> None:
        self._house = house
        self._notifier = notifier
        self._clock = clock
        self._patience = systemd.watchdog_interval(environ)
        self._changed = asyncio.Event()
        self._told = ""
        self._headline = Headline(house)

    def ready(self) -> None:
        """Say that the start is complete."""
        self._told = self._headline.line()
        self._notifier.ready(self._told)

    def stopping(self, grace: timedelta) -> None:
        """Say that the daemon stops, and that it may take so long."""
        self._notifier.stopping(f"stopping: what runs has {grace.total_seconds():g} s to end")
        # Beyond TimeoutStopSec= of the unit, where the configuration gives runs more time than that.
        self._notifier.extend_timeout(grace + systemd.MARGIN)

    def stopped(self, said: str) -> None:
        """Leave the last word, which ``systemctl status`` shows until the next start."""
        self._notifier.status(said)

    async def run(self) -> None:
        """Beat until cancelled; return at once where nobody listens."""
        if not self._notifier.wanted:
            return
        leave = self._house.bus.listen(self._hear)
        try:
            if self._patience is None:
                await self._tell()
            else:
                await asyncio.gather(self._tell(), self._feed(self._patience))
        finally:
            leave()

    # --- the status line --------------------------------------------------------------------------------------------

    def _hear(self, events: Sequence[Event]) -> None:
        self._changed.set()

    async def _tell(self) -> None:
        """Tell how the daemon is whenever that may have changed; nothing is looked at while nothing happens."""
        while True:
            line = self._headline.line()
            if line != self._told:
                self._told = line
                self._notifier.status(line)
            await self._clock.sleep(STATUS_S)
            await self._changed.wait()
            self._changed.clear()

    # --- the watchdog -----------------------------------------------------------------------------------------------

    async def _feed(self, patience: timedelta) -> None:
        # A third: an answer that takes as long again comes in time.
        pause_s = min(MOST_S, patience.total_seconds() / 3)
        while True:
            try:
                await self.beat(pause_s)
            except Exception as error:
                logger.critical("no heartbeat, the database cannot be read: %s", error)
            else:
                self._notifier.watchdog()
            self._changed.set()  # what is wrong may have changed without an event
            await self._clock.sleep(pause_s)

    async def beat(self, patience_s: float) -> None:
        """Return when database and scheduler have answered; after ``patience_s`` say who has not, and wait on."""
        await self._answer("database", self._house.store.read(instance.last_alive), patience_s)
        await self._answer("scheduler", self._house.scheduler.beat(), patience_s)

    async def _answer(self, who: str, answer: Awaitable[object], patience_s: float) -> None:
        waiting = asyncio.ensure_future(answer)
        told = False
        try:
            while not waiting.done():
                if who == "scheduler" and self._house.store.degraded is not None:
                    return  # it waits for a database that cannot be written now, and goes on when it can
                await asyncio.wait({waiting}, timeout=patience_s)
                if not waiting.done() and not told:
                    told = True
                    logger.critical("no heartbeat: the %s has not answered for %.1f s", who, patience_s)
            waiting.result()
        finally:
            waiting.cancel()
