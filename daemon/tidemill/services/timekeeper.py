"""Watching the clock: what a suspended machine, a changed clock and a missing battery do to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from tidemill.clock import Clock

# Differences below this are the ordinary corrections of a time service: runs are late by them, no more.
TOLERANCE = timedelta(seconds=5)

logger = logging.getLogger("tidemill.clock")


class Timekeeper:
    """Compares the wall clock with the monotonic one at every look.

    A forward jump (also a suspended machine, which the monotonic clock sleeps through) is downtime: ``missed_since``
    to ``missed_until`` is the time that nobody lived through, and nothing that is due may start until the scheduler
    has applied the catch-up policies to it and calls :meth:`caught_up`. A backward jump re-fires nothing; it is said.
    At start, a clock that stands before the last time the daemon recorded holds scheduling until it has passed it (a
    machine with no battery clock starts in 1970).
    """

    def __init__(self, clock: Clock, *, last_alive: datetime | None = None) -> None:
        self._clock = clock
        self._wall = clock.now()
        self._monotonic = clock.monotonic()
        self.missed_since: datetime | None = None
        self.missed_until = self._wall
        self.on_caught_up: list[Callable[[], None]] = []
        self._hold_until = last_alive if last_alive is not None and self._wall < last_alive else None
        if self._hold_until is not None:
            logger.warning(
                "the clock says %s, before the last time on record, %s; nothing is scheduled until it has passed that",
                f"{self._wall:%Y-%m-%d %H:%M:%SZ}",
                f"{self._hold_until:%Y-%m-%d %H:%M:%SZ}",
            )

    @property
    def held(self) -> str | None:
        """Why nothing may become due at the moment; None: it may."""
        if self._hold_until is not None:
            return f"the clock stands before {self._hold_until:%Y-%m-%d %H:%M:%SZ}, the last time on record"
        if self.missed_since is not None:
            return "the clock jumped forward; missed fires are being looked at"
        return None

    def look(self) -> datetime:
        """Return the present time, having noticed what happened to the clock since the last look."""
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        before = self._wall
        jump = wall - before - timedelta(seconds=monotonic - self._monotonic)
        self._wall, self._monotonic = wall, monotonic
        if self._hold_until is not None:
            if wall >= self._hold_until:
                # Time passed or the clock was set right: what lay between is downtime like any other.
                self.missed_since, self._hold_until = self._hold_until, None
                self.missed_until = max(self.missed_since, before + jump)
                fields = _jump(self.missed_since, self.missed_until)
                logger.warning("the clock is right again: scheduling goes on", extra={"fields": fields})
        elif jump > TOLERANCE:
            if self.missed_since is None:
                self.missed_since = before
            self.missed_until = before + jump
            fields = _jump(before, before + jump)
            logger.warning(
                "the clock went forward by %s: what was due meanwhile counts as missed", jump, extra={"fields": fields}
            )
        elif jump < -TOLERANCE:
            logger.warning(
                "the clock went back by %s: nothing fires again, schedules go on once it has caught up",
                -jump,
                extra={"fields": _jump(before, before + jump)},
            )
        return wall

    def caught_up(self) -> None:
        """Let runs become due again: missed fires have been dealt with."""
        self.missed_since = None
        for tell in self.on_caught_up:
            tell()


def _jump(since: datetime, until: datetime) -> dict[str, str]:
    return {"event": "clock-jumped", "since": since.isoformat(), "until": until.isoformat()}
