"""The event bus: what was committed, told in order to whoever listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from tidemill.core.events import Event, TaskRunChanged

Hear = Callable[[Sequence[Event]], None]


class EventBus:
    """Tells each committed group's events to its listeners, on the loop, right after the commit.

    Task runs change thousands of times a second: who wants to hear of them says so, and where nobody does they are not
    told at all.
    """

    def __init__(self) -> None:
        self._listeners: list[Hear] = []
        self._task_listeners: list[Hear] = []
        self._line_listeners: list[Callable[[], None]] = []

    @property
    def task_runs_wanted(self) -> bool:
        """Whether somebody listens to the changes of task runs."""
        return bool(self._task_listeners)

    def publish(self, events: Sequence[Event]) -> None:
        """Tell ``events`` to every listener, in the order in which they came to listen."""
        for hear in self._listeners:
            hear(events)

    def publish_task_runs(self, events: Sequence[TaskRunChanged]) -> None:
        """Tell changes of task runs, which are durable or soon will be, to those who want them."""
        for hear in self._task_listeners:
            hear(events)

    def lines_stored(self) -> None:
        """Tell those who want to know that lines of runs or of the daemon were stored; what they say, they read."""
        for hear in self._line_listeners:
            hear()

    def listen_to_lines(self, hear: Callable[[], None]) -> Callable[[], None]:
        """Call ``hear`` whenever lines were stored, from now on; the returned function ends it."""
        self._line_listeners.append(hear)
        return lambda: self._line_listeners.remove(hear)

    def listen_to_task_runs(self, hear: Hear) -> Callable[[], None]:
        """Call ``hear`` with changes of task runs from now on; the returned function ends it."""
        self._task_listeners.append(hear)
        return lambda: self._task_listeners.remove(hear)

    def listen(self, hear: Hear) -> Callable[[], None]:
        """Call ``hear`` with every group from now on; the returned function ends it. ``hear`` must not wait."""
        self._listeners.append(hear)
        return lambda: self._listeners.remove(hear)

    def subscribe(self, *, backlog: int = 1000, task_runs: bool = False, lines: bool = False) -> Subscription:
        """Return the events from now on as an async iterator that holds at most ``backlog`` unread ones.

        ``task_runs``: those of task runs, too; ``lines``: a batch also comes, perhaps empty, when lines were stored.
        """
        return Subscription(self, backlog, task_runs=task_runs, lines=lines)


class Subscription:
    """Events for one slow reader. When it falls behind by more than its backlog the oldest are dropped and counted."""

    def __init__(self, bus: EventBus, backlog: int, *, task_runs: bool = False, lines: bool = False) -> None:
        self.dropped = 0
        self._unread: deque[Event] = deque(maxlen=backlog)
        self._more = asyncio.Event()
        self._closed = False
        self._leave = [bus.listen(self._hear)]
        if task_runs:
            self._leave.append(bus.listen_to_task_runs(self._hear))
        if lines:
            self._leave.append(bus.listen_to_lines(self._more.set))

    def _hear(self, events: Sequence[Event]) -> None:
        room = (self._unread.maxlen or 0) - len(self._unread)
        self.dropped += max(0, len(events) - room)
        self._unread.extend(events)
        self._more.set()

    def close(self) -> None:
        """End the iteration, also for a reader that waits."""
        if not self._closed:
            self._closed = True
            for leave in self._leave:
                leave()
            self._more.set()

    async def batch(self) -> list[Event] | None:
        """Wait until there is something; return all that came since the last batch. None: nothing more will come."""
        await self._more.wait()
        self._more.clear()
        found = list(self._unread)
        self._unread.clear()
        if not self._closed:
            return found
        self._more.set()  # the next batch need not wait for its end
        return found or None

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._unread:
                yield self._unread.popleft()
            if self._closed:
                return
            self._more.clear()
            await self._more.wait()
