"""What systemd is told while the daemon runs: that it lives, and in one line how it is."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill import systemd
from tidemill.clock import Clock
from tidemill.services.house import House
from tidemill.store import instance

STATUS_S = 10.0


class Heartbeat:
    """Feeds systemd's watchdog and keeps its status line fresh."""

    def __init__(self, *, house: House, notifier: systemd.Notifier, clock: Clock, environ: Mapping[str, str]) -> None:
        self._house = house
        self._notifier = notifier
        self._clock = clock
        self._environ = environ

    async def run(self) -> None:
        """Beat until cancelled; return at once where nobody listens."""
        interval = systemd.watchdog_interval(self._environ)
        if not self._notifier.wanted:
            return
        pause = STATUS_S if interval is None else min(STATUS_S, interval.total_seconds() / 2)
        told = ""
        while True:
            # Through a database round trip: a daemon that cannot read its database is not well.
            await self._house.store.read(instance.last_alive)
            self._notifier.watchdog()
            line = self._house.status.line()
            if line != told:
                self._notifier.status(line)
                told = line
            await self._clock.sleep(pause)
