"""The threads and the loop of one flow run, for tasks that were submitted.

Every run has its own, so runs never wait for each other's. A thread that waits for a future lends its place to another
one: however deep tasks wait for tasks, somebody always works.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from tidemill.sdk.futures import lending


class ThreadWorkers:
    """At most ``limit`` threads that work at a time, begun as they are needed and ended by :meth:`close`."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._waiting: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._lent = 0
        self._closed = False

    def submit(self, work: Callable[[], None]) -> None:
        """Have ``work`` done by a thread; it must not raise."""
        with self._changed:
            self._waiting.append(work)
            self._staff()

    def _staff(self) -> None:
        """Wake an idle thread for what waits, or begin one; under the lock."""
        if self._idle:
            self._changed.notify()
        elif self._threads < self._limit + self._lent:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name} worker", daemon=True).start()

    def _work(self) -> None:
        lending.place = self
        while True:
            with self._changed:
                while not self._waiting or self._threads - self._idle > self._limit + self._lent:
                    if self._closed or self._threads > self._limit + self._lent:
                        self._threads -= 1
                        self._changed.notify_all()
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                work = self._waiting.popleft()
            work()
            del work  # what it holds must not live as long as the thread idles

    def lend(self) -> None:
        """A thread of ours waits: another one may work meanwhile."""
        with self._changed:
            self._lent += 1
            if self._waiting:
                self._staff()

    def take_back(self) -> None:
        """The thread goes on."""
        with self._changed:
            self._lent -= 1

    def drop_waiting(self) -> int:
        """Forget what no thread has begun; return how many."""
        with self._changed:
            count = len(self._waiting)
            self._waiting.clear()
            return count

    def close(self) -> None:
        """Let the threads end as soon as nothing waits; does not wait for them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class LoopWorkers:
    """Async tasks side by side, at most ``limit``, on the run's own loop in a thread, or on a loop that is given."""

    def __init__(self, limit: int, name: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._limit = limit
        self._name = name
        self._loop = loop
        self._own = loop is None
        self._thread: threading.Thread | None = None
        self._waiting: deque[tuple[Callable[[], Coroutine[Any, Any, None]], Context]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()

    def submit(self, work: Callable[[], Coroutine[Any, Any, None]], context: Context) -> None:
        """Have ``work()`` awaited; it must not raise."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, name=f"{self._name} loop", daemon=True)
                self._thread.start()
            self._waiting.append((work, context))
        if asyncio._get_running_loop() is self._loop:
            self._begin()
        else:
            self._loop.call_soon_threadsafe(self._begin)

    def _run(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _begin(self) -> None:
        assert self._loop is not None
        while len(self._running) < self._limit:
            with self._lock:
                if not self._waiting:
                    return
                work, context = self._waiting.popleft()
            task = context.run(self._loop.create_task, work())
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()
        self._begin()

    def drop_waiting(self) -> int:
        with self._lock:
            count = len(self._waiting)
            self._waiting.clear()
            return count

    def cancel(self) -> None:
        """Cancel what runs."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in list(self._running)])

    def close(self) -> None:
        """Stop the run's own loop; nothing may run on it any more."""
        if self._own and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
