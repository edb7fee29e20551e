"""The writer: one task that carries all changes to the database, many in one commit.

What waits is gathered into a group, and the group is one transaction and one hop to the database's thread. A waiter
that is cancelled does not take its change back.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidemill.clock import Clock
from tidemill.core.histograms import Histogram
from tidemill.errors import DatabaseError, StoreUnavailableError, TidemillError
from tidemill.store.connections import FileWatch
from tidemill.store.doors import Door
from tidemill.store.faults import Fault, classify, explain, has_room
from tidemill.store.groups import Group, UnwritableError, Waiting
from tidemill.store.ops import Lane, Op

logger = logging.getLogger("tidemill.store")
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

GROUP_ITEMS = 1000  # changes in one commit
GROUP_LOGS = 4000  # lines in one commit, beside the changes
SHARED_FROM = 50  # waiting changes from which on a group takes only half of them
BACKLOG_ITEMS = 20_000  # waiting changes; beyond it, writers wait, and beyond twice as many they are refused
BACKLOG_LOGS = 50_000  # waiting lines; beyond it, lines are dropped
COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)  # bounds of the histogram
COMPLAIN_S = 60.0  # how often one kind of trouble is logged
LOCKED_TRIES = 3  # tries before another process's lock is called trouble; each waits some itself
LOCKED_S = (0.02, 1.0)  # first and longest wait for another process's lock
HEAL_S = (0.2, 5.0)  # first and longest wait before an unasked try to write again
CLOSING_TRIES = 10  # for a locked database, when the store is being closed


class Stats(msgspec.Struct, kw_only=True):
    """Counts since the store was opened. ``backlog`` and ``backlog_logs`` are how many waited at the last commit."""

    groups: int = 0
    items: int = 0
    largest_group: int = 0
    commit_s: float = 0.0  # in the database's thread
    commits: Histogram = msgspec.field(default_factory=lambda: Histogram(COMMIT_S))  # the same, one by one
    failed: int = 0  # changes refused for their own fault
    unavailable: int = 0  # groups that could not be written
    dropped: int = 0  # posted changes given up
    backlog: int = 0
    backlog_logs: int = 0


class Writer:
    """Takes changes, commits them in groups, and tells who waits. Everything but the hop runs on the loop."""

    def __init__(
        self,
        door: Door,
        path: Path,
        *,
        clock: Clock,
        reopen: Callable[[], Awaitable[Door]],
        publish: Callable[[Sequence[Any]], None],
        lines_written: Callable[[], None] = lambda: None,
        group_items: int = GROUP_ITEMS,
        backlog_items: int = BACKLOG_ITEMS,
        backlog_logs: int = BACKLOG_LOGS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.stats = Stats()
        self.degraded: str | None = None
        self.fatal: asyncio.Future[DatabaseError] = self._loop.create_future()
        self._door = door
        self._path = path
        self._clock = clock
        self._reopen = reopen
        self._publish = publish
        self._lines_written = lines_written
        self._group_items = group_items
        self._backlog_items = backlog_items
        self._lanes: dict[Lane, deque[Waiting]] = {Lane.STATES: deque(), Lane.LOGS: deque()}
        self._most = {Lane.STATES: 2 * backlog_items, Lane.LOGS: backlog_logs}
        self._states = self._lanes[Lane.STATES]
        self._logs = self._lanes[Lane.LOGS]
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._heal_after = HEAL_S[0]
        self._healer: asyncio.Task[None] | None = None
        self._complained: dict[str, float] = {}
        self._watch = FileWatch(path, clock)
        self._task = asyncio.create_task(self._run(), name="store writer")

    # -- handing in --------------------------------------------------------------------------------------------------

    async def write(self, op: Op[I, R], item: I, *, event: Any = None) -> R:
        """Return the op's result when the change is durable. Waits for room first where too much waits."""
        while len(self._states) >= self._backlog_items and op.lane is Lane.STATES and self._refusal() is None:
            self._room.clear()
            await self._room.wait()
        return await self.submit(op, item, event=event)

    def submit(self, op: Op[I, R], item: I, *, event: Any = None) -> asyncio.Future[R]:
        """As ``write``, without waiting; refused with StoreUnavailableError where twice too much waits."""
        future: asyncio.Future[R] = self._loop.create_future()
        lane = self._lanes[op.lane]
        refusal = self._refusal()
        if refusal is None and len(lane) >= self._most[op.lane]:
            refusal = StoreUnavailableError(f"{self._path}: {len(lane)} changes wait to be written; try again")
        if refusal is not None:
            future.set_exception(refusal)
            return future
        lane.append(Waiting(op, item, future, event, op.lane))
        self._wake.set()
        return future

    def post(self, op: Op[I, Any], item: I, *, event: Any = None) -> None:
        """Hand in a change that nobody waits for. Where too much waits it is dropped and counted."""
        lane = self._lanes[op.lane]
        refusal = self._refusal()
        if refusal is not None or len(lane) >= self._most[op.lane]:
            self._drop(op, refusal or "too much waits to be written")
            return
        lane.append(Waiting(op, item, None, event, op.lane))
        if self.degraded is None:  # while writing fails the healer tries: a flood of posts must not
            self._wake.set()

    async def flush(self) -> None:
        """Return when everything handed in before is durable. Raises StoreUnavailableError where it cannot be."""
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        barriers = []
        for name, lane in self._lanes.items():
            future: asyncio.Future[None] = self._loop.create_future()
            lane.append(Waiting(None, None, future, None, name))
            barriers.append(future)
        self._wake.set()
        for outcome in await asyncio.gather(*barriers, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def aclose(self, last: Callable[[sqlite3.Connection], None]) -> None:
        """Write what waits, run ``last`` and close the door. What cannot be written fails its waiters."""
        self._closing = True
        self._wake.set()
        self._room.set()
        await asyncio.wait({self._task})
        if self._healer is not None:
            self._healer.cancel()
            await asyncio.wait({self._healer})
        try:
            await self._door.call(last)
        except (sqlite3.Error, ValueError) as error:
            logger.warning("The database was not tidied up at its close: %s", error)
        finally:
            await self._door.aclose()

    def _refusal(self) -> TidemillError | None:
        if self.fatal.done():
            return DatabaseError(str(self.fatal.result()))
        if self._closing:
            return StoreUnavailableError(f"{self._path}: the store is closed")
        return None

    # -- the task ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._commit_groups()
        except Exception as error:
            logger.exception("The writer failed")
            self._give_up(DatabaseError(f"{self._path}: the writer failed: {error!r}; please report it"), error)
        finally:
            self._closing = True
            self._abandon(StoreUnavailableError(f"{self._path}: the store is closed"))

    async def _commit_groups(self) -> None:
        """Commit group after group, until closed and nothing waits.

        The next group is on its way before the waiters of the last one hear: they go on while it is written.
        """
        locked = 0
        group: Group | None = None
        while not self.fatal.done():
            if group is None:
                # While writing fails, what was posted waits for the healer, or for a change that somebody waits for.
                waits = bool(self._states or self._logs)
                if not self._closing and (self.degraded is not None or not waits):
                    await self._wake.wait()
                elif self._closing and not waits:
                    return
                self._wake.clear()
                group = self._gather()
                if not group.arrived and self.degraded is None:
                    group = None
                    continue
                hop = self._start(group)
            cancelled = await _see_through(hop)
            trouble = _outcome(hop)
            written, group = group, None
            if trouble is None and self.degraded is None and not cancelled and (self._states or self._logs):
                group = self._gather()
                hop = self._start(group)
            self._settle(written, trouble)
            if cancelled:
                raise asyncio.CancelledError
            if trouble is None:
                locked = 0
            elif trouble.fault is Fault.LOCKED and not (self._closing and locked >= CLOSING_TRIES):
                self._put_back(written.arrived)
                locked = min(locked + 1, CLOSING_TRIES)
                if locked >= LOCKED_TRIES:
                    self._degrade(self._explain(trouble))
                await self._clock.sleep(min(LOCKED_S[0] * 2**locked, LOCKED_S[1]))
                self._wake.set()
            else:
                await self._refuse(written, trouble)

    def _gather(self) -> Group:
        """Take a group. Of many that wait only half: the loop serves that half while the other is written."""
        states, logs = self._states, self._logs
        count = len(states) if len(states) <= SHARED_FROM else max(SHARED_FROM // 2, len(states) // 2)
        arrived = [states.popleft() for _ in range(min(count, self._group_items))]
        arrived.extend(logs.popleft() for _ in range(min(len(logs), GROUP_LOGS)))
        if len(states) < self._backlog_items:
            self._room.set()
        return Group(arrived)

    def _start(self, group: Group) -> asyncio.Future[UnwritableError | None]:
        return asyncio.ensure_future(self._door.call(lambda connection: self._transact(connection, group)))

    def _transact(self, connection: sqlite3.Connection, group: Group) -> UnwritableError | None:
        """Commit a group, in the database's thread."""
        started = self._clock.monotonic()
        trouble = group.commit(connection, self._watch.look)
        spent = self._clock.monotonic() - started
        self.stats.commit_s += spent
        self.stats.commits.observe(spent)
        return trouble

    # -- what became of a group --------------------------------------------------------------------------------------

    def _settle(self, group: Group, trouble: UnwritableError | None) -> None:
        """Publish what was written and tell its waiters; what was not written is left."""
        stats = self.stats
        stats.backlog, stats.backlog_logs = len(self._states), len(self._logs)
        if trouble is None:
            stats.groups += 1
            stats.items += len(group.changes)
            stats.largest_group = max(stats.largest_group, len(group.changes))
            if self.degraded is not None and has_room(self._path):
                self._healed()
        # In the order of the commit: hearers of events see what the database saw.
        events = [
            waiting.event
            for waiting in group.changes
            if waiting.event is not None and waiting.done and waiting.error is None and waiting.result is not False
        ]
        if events:
            self._publish(events)
        for waiting in group.arrived:
            if waiting.op is None:
                waiting.done = trouble is None
            if not waiting.done:
                continue
            future, error = waiting.future, waiting.error
            if error is not None:
                stats.failed += 1
                if future is None:
                    self._drop(waiting.op, error)
                elif not future.done():
                    future.set_exception(error)
            elif future is not None and not future.done():
                future.set_result(waiting.result)
        if trouble is None and group.arrived and group.arrived[-1].lane is Lane.LOGS:  # they come last in a group
            self._lines_written()

    def _put_back(self, waiting: Sequence[Waiting]) -> None:
        """Return what was not written to the front of its lane, in its order."""
        for each in reversed(waiting):
            if not each.done:
                self._lanes[each.lane].appendleft(each)

    async def _refuse(self, group: Group, trouble: UnwritableError) -> None:
        """Fail the waiters of a group that cannot be written; keep what was posted, but for lines of output."""
        text = self._explain(trouble)
        self.stats.unavailable += 1
        kept: list[Waiting] = []
        # Those that wait behind it, too: what was kept before could fill the next group, and the next.
        for waiting in (*group.arrived, *self._take_out_waiters()):
            if waiting.done:
                continue
            if waiting.future is not None:
                if not waiting.future.done():
                    waiting.future.set_exception(StoreUnavailableError(text))
            elif waiting.lane is Lane.LOGS or self._closing:
                self._drop(waiting.op, trouble.cause)
            else:
                kept.append(waiting)
        self._put_back(kept)
        if trouble.fault is Fault.FATAL:
            self._give_up(DatabaseError(text), trouble.cause)
            return
        self._degrade(text)
        if trouble.fault is Fault.IO:
            await self._replace_door(text)
        if self._healer is None and not self.fatal.done():
            self._healer = asyncio.create_task(self._heal(), name="store healer")

    def _take_out_waiters(self) -> list[Waiting]:
        """Return the changes in the lanes that somebody waits for, which are then no longer there."""
        found: list[Waiting] = []
        for lane in self._lanes.values():
            found.extend(waiting for waiting in lane if waiting.future is not None)
            posted = [waiting for waiting in lane if waiting.future is None]
            lane.clear()
            lane.extend(posted)
        return found

    async def _replace_door(self, text: str) -> None:
        """Open the database anew after the disk failed: what the old connection believes is on disk may not be."""
        try:
            door = await self._reopen()
        except (DatabaseError, sqlite3.Error, OSError) as error:
            if isinstance(error, DatabaseError) or classify(error) is Fault.FATAL:
                self._give_up(DatabaseError(f"{text}; and it cannot be opened again: {error}"), error)
            return  # else no better than before; tried again after the next failure
        old, self._door = self._door, door
        try:
            await old.aclose()
        except sqlite3.Error as error:
            logger.warning("The failed connection did not close: %s", error)

    # -- how it is ---------------------------------------------------------------------------------------------------

    def _explain(self, trouble: UnwritableError) -> str:
        return f"{self._path}: {explain(trouble.cause, trouble.fault)}"

    def _degrade(self, text: str) -> None:
        self.degraded = text
        self._complain("degraded", "The database cannot be written: %s", text)

    async def _heal(self) -> None:
        """Try to write now and then, until it works."""
        while self.degraded is not None and not self._closing and not self.fatal.done():
            await self._clock.sleep(self._heal_after)
            self._heal_after = min(self._heal_after * 2, HEAL_S[1])
            if has_room(self._path):
                self._wake.set()

    def _healed(self) -> None:
        self._complain("healed", "The database can be written again")  # once a minute at most, as that it cannot
        self.degraded = None
        self._heal_after = HEAL_S[0]
        if self._healer is not None:
            self._healer.cancel()
            self._healer = None

    def _give_up(self, error: DatabaseError, cause: BaseException) -> None:
        error.__cause__ = cause
        self.degraded = str(error)
        self._abandon(error)
        if not self.fatal.done():
            self.fatal.set_result(error)

    def _abandon(self, error: TidemillError) -> None:
        """Fail all that still waits, and let nobody wait for room."""
        for lane in self._lanes.values():
            for waiting in lane:
                if waiting.future is None:
                    self._drop(waiting.op, error)
                elif not waiting.future.done():
                    waiting.future.set_exception(type(error)(str(error)))
            lane.clear()
        self._room.set()

    def _drop(self, op: Op[Any, Any] | None, reason: object) -> None:
        self.stats.dropped += 1
        what = op.item if op is not None else "a wait for all before it"
        self._complain("dropped", "Not recorded, %d so far; the last one was %s: %s", self.stats.dropped, what, reason)

    def _complain(self, kind: str, text: str, *args: object) -> None:
        now = self._clock.monotonic()
        if now - self._complained.get(kind, now - COMPLAIN_S) >= COMPLAIN_S:
            self._complained[kind] = now
            logger.log(logging.WARNING if kind == "healed" else logging.ERROR, text, *args)


async def _see_through(hop: asyncio.Future[Any]) -> bool:
    """Wait for a commit under way, come what may: its waiters must hear how it ended. Return whether to end after."""
    cancelled = False
    while not hop.done():
        try:
            await asyncio.wait({hop})
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


def _outcome(hop: asyncio.Future[UnwritableError | None]) -> UnwritableError | None:
    error = hop.exception()
    # The transaction tells its own troubles; beyond them only the door can fail: its thread or connection is gone.
    return hop.result() if error is None else UnwritableError(Fault.FATAL, error)
