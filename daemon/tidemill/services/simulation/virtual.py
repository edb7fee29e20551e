"""A virtual clock: weeks in seconds, the same seed giving the same trace.

:class:`VirtualLoop` is an asyncio event loop that never waits: where a real one would block until the next timer, it
moves its clock there. Nothing may go through threads or sockets; the store's door and the threads port run inline.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
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
    """An event loop whose time is moved by hand, and whose ready callbacks can come in a seeded order.

    It calls what asyncio's would call, in the same order, and leaves out what a simulated run pays for most: selecting,
    debugging, and comparing timers in Python. Timers of one instant are called in the order in which they were set.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self._virtual_now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap
        self._timer_number = 0
        self._cancelled_timers = 0  # of those in the heap
        super().__init__()
        self._shuffle = random.Random(seed) if seed is not None else None  # noqa: S311 - a seed is the point
        self.set_exception_handler(_raise)
        self.failure: BaseException | None = None

    def time(self) -> float:
        return self._virtual_now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._virtual_now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled_timers += 1

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:  # type: ignore[override]
        """Run ``func`` here and now: there are no threads on a virtual clock."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        if self._cancelled_timers > MANY_CANCELLED and self._cancelled_timers > len(timers) // 2:
            timers[:] = [entry for entry in timers if not entry[2].cancelled()]
            heapq.heapify(timers)
            self._cancelled_timers = 0
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._forward()
        now = self._virtual_now
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])
        if self._shuffle is not None and len(ready) > 1:
            shuffled = list(ready)
            self._shuffle.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _forward(self) -> None:
        """Move the clock to the next timer."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
            self._cancelled_timers = max(0, self._cancelled_timers - 1)
        if not timers:
            raise DeadlockError("every task waits and no timer is set")
        self._virtual_now = max(self._virtual_now, timers[0][0])


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
