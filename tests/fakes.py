"""Stand-ins for the world that more than one floor's tests use: ``from fakes import FakeClock``."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta


class FakeClock:
    """A :class:`tidemill.clock.Clock` that stands still until :meth:`advance` moves it."""

    def __init__(self, start: datetime = datetime(2026, 11, 21, 9, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), waker))
        self._slept.set()
        await waker

    def advance(self, seconds: float) -> None:
        """Move both clocks forward and wake who slept until then, in order."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, waker = heapq.heappop(self._sleepers)
            if not waker.done():
                waker.set_result(None)

    def set_wall(self, now: datetime) -> None:
        """Set the wall clock, as a person or NTP does; the monotonic one goes on as it was."""
        self._now = now

    @property
    def sleepers(self) -> int:
        """How many are asleep now."""
        return sum(1 for _, _, waker in self._sleepers if not waker.done())

    async def until_asleep(self, count: int = 1) -> None:
        """Return when ``count`` sleep: what they had to do before it, they have done."""
        while self.sleepers < count:
            self._slept.clear()
            await self._slept.wait()
