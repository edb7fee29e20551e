"""The writer: one task that carries all changes to the database, many in one commit.

What waits is gathered into a group, and the group is one transaction and one hop to the database's thread. Where a
group fails, its halves are tried on their own until only the items at fault have failed. A waiter that is cancelled
does not take its item back.
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
from tidemill.errors import DatabaseError, StoreUnavailableError
from tidemill.store import instance
from tidemill.store.doors import Door
from tidemill.store.faults import Fault, MissingFileError, classify, explain
from tidemill.store.ops import Lane, Op

logger = logging.getLogger(__name__)
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

GROUP_ITEMS = 1000  # changes in one commit
GROUP_LOGS = 4000  # lines in one commit, beside the changes
BACKLOG_ITEMS = 20_000  # waiting in the lane of states; beyond it, writers wait
BACKLOG_LOGS = 50_000  # waiting lines; beyond it, lines are dropped
STAT_S = 1.0  # how often the file is looked for
COMPLAIN_S = 60.0  # how often one kind of trouble is logged
LOCKED_TRIES = 3  # tries before it is called trouble; each waits some itself
LOCKED_S = (0.02, 1.0)  # first and longest wait for another process's lock
HEAL_S = (0.2, 5.0)  # first and longest wait before an unasked try to write again
CLOSING_TRIES = 10  # for a locked database, when the store is being closed


class Stats(msgspec.Struct, kw_only=True):
    """Counts since the store was opened. ``backlog`` and ``backlog_logs`` are how many wait now."""

    groups: int = 0
    items: int = 0
    largest_group: int = 0
    commit_s: float = 0.0
    failed: int = 0  # items refused for their own fault
    unavailable: int = 0  # groups that could not be written
    dropped: int = 0  # posted items given up
    backlog: int = 0
    backlog_logs: int = 0


class _Waiting:
    """An item on its way. ``future`` None: posted, nobody waits."""

    __slots__ = ("done", "error", "event", "future", "item", "op", "result")

    def __init__(self, op: Op[Any, Any] | None, item: Any, future: asyncio.Future[Any] | None, event: Any) -> None:
        self.op = op  # None: a barrier
        self.item = item
        self.future = future
        self.event = event
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False


class UnwritableError(Exception):
    """A group could not be written though nothing is wrong with its items."""

    def __init__(self, fault: Fault, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.fault = fault
        self.cause = cause


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
        group_items: int = GROUP_ITEMS,
        backlog_items: int = BACKLOG_ITEMS,
    ) -> None:
        self.stats = Stats()
        self.degraded: str | None = None
        self.fatal: asyncio.Future[DatabaseError] = asyncio.get_running_loop().create_future()
        self._door = door
        self._path = path
        self._clock = clock
        self._reopen = reopen
        self._publish = publish
        self._group_items = group_items
        self._backlog_items = backlog_items
        self._states: deque[_Waiting] = deque()
        self._logs: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._heal_after = HEAL_S[0]
        self._healer: asyncio.Task[None] | None = None
        self._complained: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        file = path.stat()
        self._file = (file.st_dev, file.st_ino)
        self._looked = clock.monotonic()
        self._task = asyncio.create_task(self._run(), name="store writer")

    # -- handing in --------------------------------------------------------------------------------------------------

    async def write(self, op: Op[I, R], item: I, *, event: Any = None) -> R:
        """Return the op's result when the item is durable. Waits for room first where too much waits."""
        while len(self._states) >= self._backlog_items and op.lane is Lane.STATES and not self._closing:
            self._room.clear()
            await self._room.wait()
        return await self.submit(op, item, event=event)

    def submit(self, op: Op[I, R], item: I, *, event: Any = None) -> asyncio.Future[R]:
        """As ``write``, without waiting; refused with StoreUnavailableError where twice too much waits."""
        future: asyncio.Future[R] = self._loop.create_future()
        refusal = self._refusal()
        if refusal is None and len(self._states) >= 2 * self._backlog_items:
            refusal = StoreUnavailableError(f"{self._path}: {len(self._states)} changes wait already; try again")
        if refusal is not None:
            future.set_exception(refusal)
            return future
        (self._states if op.lane is Lane.STATES else self._logs).append(_Waiting(op, item, future, event))
        self._wake.set()
        return future

    def post(self, op: Op[I, Any], item: I, *, event: Any = None) -> None:
        """Hand in an item that nobody waits for. Where too much waits it is dropped and counted."""
        lane, most = (self._states, 2 * self._backlog_items) if op.lane is Lane.STATES else (self._logs, BACKLOG_LOGS)
        if len(lane) >= most or self._refusal() is not None:
            self._drop(1, f"{op.name}: too much waits to be written")
            return
        lane.append(_Waiting(op, item, None, event))
        if self.degraded is None:  # while it fails, the healer tries: a flood of posts must not
            self._wake.set()

    async def flush(self) -> None:
        """Return when everything handed in before is durable. Raises StoreUnavailableError where it cannot be."""
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        barriers = []
        for lane in (self._states, self._logs):
            future: asyncio.Future[None] = self._loop.create_future()
            lane.append(_Waiting(None, None, future, None))
            barriers.append(future)
        self._wake.set()
        failed = [result for result in await asyncio.gather(*barriers, return_exceptions=True) if result is not None]
        if failed:
            raise failed[0]

    async def aclose(self, last: Callable[[sqlite3.Connection], None]) -> None:
        """Write what waits, run ``last`` and close the door. What cannot be written fails its waiters."""
        self._closing = True
        self._wake.set()
        self._room.set()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._healer is not None:
            self._healer.cancel()
            await asyncio.gather(self._healer, return_exceptions=True)
        try:
            await self._door.call(last)
        except (sqlite3.Error, ValueError) as error:
            logger.warning("The database was not tidied up at its close: %s", error)
        finally:
            await self._door.aclose()

    def _refusal(self) -> BaseException | None:
        if self.fatal.done():
            return self.fatal.result()
        if self._closing:
            return StoreUnavailableError(f"{self._path}: the store is closed")
        return None

    # -- the task ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._loop_forever()
        except Exception as error:
            logger.exception("The writer failed")
            self._give_up(DatabaseError(f"{self._path}: the writer failed: {error!r}; please report this"), error)

    async def _loop_forever(self) -> None:
        locked = 0
        while not self.fatal.done():
            # While writing fails, what was posted waits for the healer or for the next that somebody waits for.
            if self.degraded is not None or not (self._states or self._logs):
                if self._closing and not (self._states or self._logs):
                    return
                if not self._closing:
                    await self._wake.wait()
            self._wake.clear()
            group = self._gather()
            trouble = await self._commit(group)
            if trouble is None:
                locked = 0
            elif trouble.fault is Fault.LOCKED and not (self._closing and locked >= CLOSING_TRIES):
                self._put_back(group)
                locked = min(locked + 1, CLOSING_TRIES)
                if locked >= LOCKED_TRIES:
                    self._degrade(self._explain(trouble))
                await self._clock.sleep(min(LOCKED_S[0] * 2**locked, LOCKED_S[1]))
                self._wake.set()
            else:
                await self._refuse(group, trouble)
                if self._closing:
                    return

    def _gather(self) -> list[_Waiting]:
        """Take a group: changes by their op's rank, then lines of output."""
        states, logs = self._states, self._logs
        group = [states.popleft() for _ in range(min(len(states), self._group_items))]
        group.extend(logs.popleft() for _ in range(min(len(logs), GROUP_LOGS)))
        if not self._room.is_set() and len(states) < self._backlog_items:
            self._room.set()
        return group

    async def _commit(self, group: list[_Waiting]) -> UnwritableError | None:
        """Write a group and settle what was written; return what kept the rest from it."""
        items = sorted((waiting for waiting in group if waiting.op is not None), key=_rank)
        hop = asyncio.ensure_future(self._door.call(lambda connection: self._transact(connection, items)))
        cancelled = False
        while not hop.done():  # a commit under way is seen through: its waiters must hear how it ended
            try:
                await asyncio.shield(hop)
            except asyncio.CancelledError:
                cancelled = True
            except Exception:
                break
        trouble = self._outcome(hop)
        self._settle(group, items, trouble)
        if cancelled:
            raise asyncio.CancelledError
        return trouble

    @staticmethod
    def _outcome(hop: asyncio.Future[UnwritableError | None]) -> UnwritableError | None:
        error = hop.exception()
        # Beyond what the transaction itself tells, only the door can fail: its thread or connection is gone.
        return hop.result() if error is None else UnwritableError(Fault.FATAL, error)

    def _settle(self, group: list[_Waiting], items: list[_Waiting], trouble: UnwritableError | None) -> None:
        stats = self.stats
        stats.backlog, stats.backlog_logs = len(self._states), len(self._logs)
        if trouble is None:
            stats.groups += 1
            stats.items += len(items)
            stats.largest_group = max(stats.largest_group, len(items))
            if self.degraded is not None:
                self._healed()
        # In the order of the commit: hearers of events see what the database saw.
        events = [
            waiting.event
            for waiting in items
            if waiting.done and waiting.event is not None and waiting.error is None and waiting.result is not False
        ]
        if events:
            self._publish(events)
        for waiting in group:
            if waiting.op is None:
                waiting.done = trouble is None
            if not waiting.done:
                continue
            future, error = waiting.future, waiting.error
            if error is not None:
                stats.failed += 1
            if future is None:
                if error is not None and waiting.op is not None:
                    self._drop(1, f"{waiting.op.name}: {error}")
            elif not future.done():
                if error is None:
                    future.set_result(waiting.result)
                else:
                    future.set_exception(error)

    def _put_back(self, group: list[_Waiting]) -> None:
        """Return what was not written to the front of its lane, in its order."""
        for waiting in reversed([waiting for waiting in group if not waiting.done]):
            lane = self._logs if waiting.op is not None and waiting.op.lane is Lane.LOGS else self._states
            lane.appendleft(waiting)

    async def _refuse(self, group: list[_Waiting], trouble: UnwritableError) -> None:
        """Fail the waiters of a group that cannot be written; keep what was posted, but for lines of output."""
        text = self._explain(trouble)
        self.stats.unavailable += 1
        kept: list[_Waiting] = []
        for waiting in group:
            if waiting.done:
                continue
            if waiting.future is not None:
                if not waiting.future.done():
                    waiting.future.set_exception(StoreUnavailableError(text))
            elif waiting.op is not None and waiting.op.lane is Lane.LOGS:
                self._drop(1, f"{waiting.op.name}: {trouble.cause}")
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

    def _explain(self, trouble: UnwritableError) -> str:
        return f"{self._path}: {explain(trouble.cause, trouble.fault)}"

    def _degrade(self, text: str) -> None:
        self.degraded = text
        self._complain("degraded", "The database cannot be written: %s", text)

    async def _replace_door(self, text: str) -> None:
        """Open the database anew after the disk failed: what the old connection believes is on disk may not be."""
        try:
            door = await self._reopen()
        except (DatabaseError, sqlite3.Error, OSError) as error:
            if classify(error) is not Fault.FATAL and not isinstance(error, DatabaseError):
                return  # no better than before; tried again after the next failure
            self._give_up(DatabaseError(f"{text}; and it cannot be opened again: {error}"), error)
            return
        old, self._door = self._door, door
        try:
            await old.aclose()
        except sqlite3.Error as error:
            logger.warning("The failed connection did not close: %s", error)

    async def _heal(self) -> None:
        """Try to write now and then, until it works."""
        while self.degraded is not None and not self._closing and not self.fatal.done():
            await self._clock.sleep(self._heal_after)
            self._heal_after = min(self._heal_after * 2, HEAL_S[1])
            self._wake.set()
        self._healer = None

    def _healed(self) -> None:
        logger.warning("The database can be written again.")
        self.degraded = None
        self._heal_after = HEAL_S[0]
        self._complained.pop("degraded", None)
        if self._healer is not None:
            self._healer.cancel()
            self._healer = None

    def _give_up(self, error: DatabaseError, cause: BaseException) -> None:
        error.__cause__ = cause
        self.degraded = str(error)
        for lane in (self._states, self._logs):
            for waiting in lane:
                if waiting.future is not None and not waiting.future.done():
                    waiting.future.set_exception(error)
            lane.clear()
        self._room.set()
        if not self.fatal.done():
            self.fatal.set_result(error)

    def _drop(self, count: int, reason: str) -> None:
        self.stats.dropped += count
        self._complain("dropped", "Given up and not written, %d so far; the last one: %s", self.stats.dropped, reason)

    def _complain(self, kind: str, text: str, *args: object) -> None:
        now = self._clock.monotonic()
        if now - self._complained.get(kind, now - COMPLAIN_S) >= COMPLAIN_S:
            self._complained[kind] = now
            logger.error(text, *args)

    # -- on the database's thread ------------------------------------------------------------------------------------

    def _transact(self, connection: sqlite3.Connection, items: list[_Waiting]) -> UnwritableError | None:
        started = self._clock.monotonic()
        try:
            self._look_for_file(started)
            self._apply(connection, items)
        except UnwritableError as trouble:
            return trouble
        except MissingFileError as error:
            return UnwritableError(Fault.FATAL, error)
        finally:
            self.stats.commit_s += self._clock.monotonic() - started
        return None

    def _apply(self, connection: sqlite3.Connection, items: list[_Waiting]) -> None:
        """Commit all items in one transaction, or find those at fault by halves. Raises UnwritableError."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = _results(connection, items)
            connection.execute("COMMIT")
        except Exception as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            fault = classify(error)
            if fault is not Fault.ITEM:
                raise UnwritableError(fault, error) from error
            if len(items) <= 1:
                for waiting in items:
                    waiting.error, waiting.done = error, True
                return
            middle = len(items) // 2
            self._apply(connection, items[:middle])
            self._apply(connection, items[middle:])
            return
        for waiting, result in zip(items, results, strict=True):
            waiting.result, waiting.done = result, True

    def _look_for_file(self, now: float) -> None:
        """Notice a database that was deleted or replaced: SQLite goes on writing into a file that nobody can find."""
        if now - self._looked < STAT_S:
            return
        self._looked = now
        try:
            file = self._path.stat()
        except FileNotFoundError:
            raise MissingFileError("the database file was deleted while in use") from None
        except OSError:
            return  # not known; a write will tell
        if (file.st_dev, file.st_ino) != self._file:
            raise MissingFileError("the database file was replaced while in use")


def _rank(waiting: _Waiting) -> int:
    return 0 if waiting.op is None else waiting.op.rank


def _results(connection: sqlite3.Connection, items: list[_Waiting]) -> list[Any]:
    """Apply items, sorted by rank: each op once, with all of its items. An empty group is a try to write."""
    if not items:
        instance.probe(connection)
        return []
    results: list[Any] = []
    start = 0
    while start < len(items):
        op = items[start].op
        end = start
        while end < len(items) and items[end].op is op:
            end += 1
        if op is not None:
            results.extend(op.apply(connection, [waiting.item for waiting in items[start:end]]))
        start = end
    return results
