"""A virtual clock: weeks in seconds, the same seed giving the same trace.

:class:`VirtualLoop` is an asyncio event loop that never waits: where a real one would block until the next timer, it
moves its clock there. Nothing may go through threads or sockets; the store's door and the threads port run inline.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

# On a virtual clock nothing is ever suspended, so sleeps need not be cut short to notice it.
VIRTUAL_SLICE_S = 3600.0
# Cancelled timers that may lie in the heap before it is worth going through, as asyncio has it.
MANY_CANCELLED = 100
T = TypeVar("T")


class DeadlockError(RuntimeError):
    """Everything waits, and no timer is set: on a real clock this would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is moved by hand, and whose ready callbacks can come in a seeded order."""

    def __init__(self, *, seed: int | None = None) -> None:
        self._virtual_now = 0.0
        super().__init__()
        self._shuffle = random.Random(seed) if seed is not None else None  # noqa: S311 - a seed is the point
        self.set_exception_handler(_raise)
        self.failure: BaseException | None = None

    def time(self) -> float:
        return self._virtual_now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:  # type: ignore[override]
        """Run ``func`` here and now: there are no threads on a virtual clock."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        # asyncio's own without selecting: a simulated run takes some ten turns, which are much of its cost.
        ready: Any = self._ready  # type: ignore[attr-defined]
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        self._drop_cancelled(timers)
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not timers:
                raise DeadlockError("every task waits and no timer is set")
            self._virtual_now = max(self._virtual_now, timers[0].when())
        now = self._virtual_now
        while timers and timers[0].when() <= now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        if self._shuffle is not None and len(ready) > 1:
            shuffled = list(ready)
            self._shuffle.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _drop_cancelled(self, timers: list[Any]) -> None:
        count = self._timer_cancelled_count  # type: ignore[has-type]
        if count > MANY_CANCELLED and count > len(timers) // 2:
            for timer in timers:
                timer._scheduled = not timer.cancelled()
            timers[:] = [timer for timer in timers if timer._scheduled]
            heapq.heapify(timers)
            self._timer_cancelled_count = 0
        while timers and timers[0].cancelled():
            self._timer_cancelled_count -= 1
            heapq.heappop(timers)._scheduled = False


def _raise(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    assert isinstance(loop, VirtualLoop)
    loop.failure = loop.failure or error or RuntimeError(context["message"])


class VirtualClock:
    """Wall and monotonic time of a :class:`VirtualLoop`. The wall can be set; the loop's time only goes forward."""

    def __init__(self, loop: VirtualLoop, start: datetime) -> None:
        self._loop = loop
        self._start = start
        self._began = loop.time()
        self._told = (self._began, start)  # it is asked many times at each instant

    def now(self) -> datetime:
        at = self._loop.time()
        if self._told[0] != at:
            self._told = (at, self._start + timedelta(seconds=at - self._began))
        return self._told[1]

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set(self, wall: datetime) -> None:
        """Set the wall clock, as a person or a time service would: the monotonic one does not notice."""
        self._start, self._began = wall, self._loop.time()
        self._told = (self._began, wall)


class InlineThreads:
    """The threads port without threads: a call blocks the loop, which on a virtual clock takes no time."""

    async def run(self, call: Callable[[], T], /) -> T:
        return call()


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run ``main(loop)`` on a new virtual loop to its end and return what it returns.

    ``seed``: what is ready at once comes in an order drawn from it. Raises what an abandoned task raised, and
    :class:`DeadlockError` where nothing could ever happen again.
    """
    loop = VirtualLoop(seed=seed)
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(main(loop))
        if loop.failure is not None:
            raise loop.failure
        return result
    finally:
        asyncio.set_event_loop(None)
        loop.close()
