"""Threads for blocking calls, a bounded number for each pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class PoolThreads:
    """The threads of one pool. At most ``limit`` calls at a time; further ones wait, on the loop.

    Each pool has its own: forty flows of one pool that all wait for something leave another pool's threads alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._limiter: Any = None  # anyio's, made at the first call: with it comes all of anyio, 40 ms of a start

    async def run(self, call: Callable[[], T], /) -> T:
        """Run ``call`` in a thread with the caller's context variables; a cancelled caller leaves the thread behind.

        A thread left behind so no longer counts against the limit: who cares for the limit waits for the end instead.
        """
        import anyio.to_thread

        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._limit)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    @property
    def busy(self) -> int:
        """How many calls hold a thread now."""
        return 0 if self._limiter is None else int(self._limiter.borrowed_tokens)
