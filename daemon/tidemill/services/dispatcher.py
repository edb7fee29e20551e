"""The work queues: due runs stand in line here until a worker takes them.

Runs due within the window are held in memory and become due by a timer; later ones stay in the database. What is new
is heard from the event bus, so nothing polls; the window moves on when half of it has passed.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from tidemill.clock import SLICE_S, Clock
from tidemill.core.admission import Limit, Lineup
from tidemill.core.backfills import CREATED_BY as BACKFILL
from tidemill.core.deployments import CollisionStrategy
from tidemill.core.events import Event, RunChanged, RunDeleted
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.errors import StoreUnavailableError, TidemillError
from tidemill.services.catalogue import Catalogue
from tidemill.services.orchestrator import HEAL_S, Orchestrator
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.wake import Wake
from tidemill.store import runs as stored_runs

# Runs held in memory ahead of their start; more wait in the database until some of these have started.
MEMORY = 20_000
# Runs of one deployment that may wait at a time; schedules that run into it skip, with the reason.
MAX_WAITING = 1_000

logger = logging.getLogger("tidemill.queue")


class Dispatcher:
    """Moves runs from *later* to *due* to a worker's hands."""

    def __init__(
        self,
        *,
        orchestrator: Orchestrator,
        catalogue: Catalogue,
        timekeeper: Timekeeper,
        clock: Clock,
        slice_s: float = SLICE_S,
    ) -> None:
        self.lineup = Lineup(catalogue.limits())
        self.overdue: Callable[[FlowRun], None] = lambda run: None  # told of each run that is due and had to wait
        self.cancel_running: Callable[[str, str], None] = lambda run_id, reason: None
        self._orchestrator = orchestrator
        self._store = orchestrator.store
        self._catalogue = catalogue
        self._timekeeper = timekeeper
        self._clock = clock
        self._slice_s = slice_s
        self._window = timedelta(seconds=2 * slice_s)  # what is due within it is in memory
        self._soon: list[tuple[datetime, int, str]] = []  # a heap
        self._soon_runs: dict[str, FlowRun] = {}
        self._loaded_until: datetime | None = None
        self._more = False  # the database holds runs inside the window that did not fit into memory
        self._idle: dict[str, deque[asyncio.Future[FlowRun | None]]] = {}
        self._closed = False
        self._not_before = 0.0  # monotonic: when what the store refused is tried again
        self._wake = Wake()

    # --- hearing ----------------------------------------------------------------------------------------------------

    def hear(self, events: Sequence[Event]) -> None:
        """Take note of committed changes."""
        wake = False
        for event in events:
            if isinstance(event, RunChanged):
                run = event.run
                if run.state.type is StateType.SCHEDULED:
                    wake |= self._hear_scheduled(run)
                elif event.before is not None and event.before.type is StateType.SCHEDULED:
                    self._forget(run.id)
            elif isinstance(event, RunDeleted):
                self._forget(event.run_id)
        if wake:
            self._wake.set()

    def _hear_scheduled(self, run: FlowRun) -> bool:
        if run.id in self.lineup:
            if run.expected_start <= self._clock.now():
                self.lineup.offer(run)
                return False
            self.lineup.withdraw(run.id)
        if self.lineup.holds(run):
            return False  # a worker has it: begin decides
        if self._loaded_until is None or run.expected_start > self._loaded_until:
            return False
        if len(self._soon_runs) + len(self.lineup) >= MEMORY:
            self._more = True
            return False
        self._add(run)
        return True

    def _add(self, run: FlowRun) -> None:
        self._soon_runs[run.id] = run
        heapq.heappush(self._soon, (run.expected_start, run.seq, run.id))

    def _forget(self, run_id: str) -> None:
        self._soon_runs.pop(run_id, None)
        self.lineup.withdraw(run_id)

    # --- one pass ---------------------------------------------------------------------------------------------------

    async def tick(self, now: datetime) -> int:
        """Put what is due in line and hand it out; return how many became due."""
        if self._timekeeper.held is not None or self._closed:
            return 0
        await self._load(now)
        due: list[FlowRun] = []
        while self._soon and self._soon[0][0] <= now:
            when, _, run_id = heapq.heappop(self._soon)
            run = self._soon_runs.get(run_id)
            if run is not None and run.expected_start == when:
                del self._soon_runs[run_id]
                due.append(run)
        # Handed out in groups: a thousand runs due at once must not wait for each other's bookkeeping.
        for run in due:
            reason = self._collides(run)
            if reason is not None:
                await self._skip(run, reason)
            else:
                self.lineup.offer(run)
                if run.work_pool in self._idle:
                    self.hand_out(run.work_pool)
        for pool in self._idle:
            self.hand_out(pool)
        for run in due:
            if run.id in self.lineup:
                self.overdue(run)
        return len(due)

    async def _load(self, now: datetime) -> None:
        held = len(self._soon_runs) + len(self.lineup)
        moved = self._loaded_until is None or self._loaded_until - now < self._window / 2
        if not moved and not (self._more and held < MEMORY // 2):
            return
        until = now + self._window
        # Set before the read: what is committed while it runs is heard, and merging knows it already.
        self._loaded_until = until
        runs = await self._store.read(partial(stored_runs.due, until=until, limit=MEMORY))
        self._more = len(runs) >= MEMORY
        for run in runs:
            if run.id not in self._soon_runs and run.id not in self.lineup and not self.lineup.holds(run):
                self._add(run)

    def _collides(self, run: FlowRun) -> str | None:
        """Return why a run that becomes due is not to stand in line at all; None: it may."""
        name = run.deployment
        if name is None or run.attempt > 0 or run.created_by == BACKFILL:
            return None  # a backfill's run waits for its turn, whatever the strategy
        if run.schedule is not None and self.lineup.waiting_of(name) >= MAX_WAITING:
            return f"{MAX_WAITING} runs of {name} wait already"
        deployment = self._catalogue.deployments.get(name)
        if deployment is None or deployment.collision_strategy is CollisionStrategy.ENQUEUE:
            return None
        limit = self._catalogue.concurrency_limit("deployment", name)
        if limit is None:
            return None
        slot = Limit("deployment", name)
        busy = self.lineup.used(slot) + self.lineup.waiting_of(name)
        if busy < limit:
            return None
        if deployment.collision_strategy is CollisionStrategy.CANCEL_NEW:
            return f"concurrency limit {limit} of {name} is reached, and its collision_strategy is cancel_new"
        for holder in self.lineup.holders(slot)[: busy + 1 - limit]:
            self.cancel_running(holder, f"a newer run of {name} became due (collision_strategy cancel_running)")
        return None

    async def _skip(self, run: FlowRun, reason: str) -> None:
        try:
            await self._orchestrator.change(run, StateType.CANCELLED, "Skipped", reason)
        except StoreUnavailableError:
            self._add(run)  # decided again in a while
            self._not_before = self._clock.monotonic() + HEAL_S
        except TidemillError as error:
            logger.debug("%s", error)

    # --- workers ----------------------------------------------------------------------------------------------------

    async def take(self, pool: str) -> FlowRun | None:
        """Return the next run that may start in ``pool``, as soon as there is one; None: nothing more is handed out."""
        if self._closed:
            return None
        run = self.lineup.take(pool)
        if run is not None:
            return run
        hand: asyncio.Future[FlowRun | None] = asyncio.get_running_loop().create_future()
        self._idle.setdefault(pool, deque()).append(hand)
        return await hand

    def hand_out(self, pool: str) -> None:
        """Give waiting runs to idle workers of ``pool``."""
        idle = self._idle.get(pool)
        while idle and not self._closed:
            if idle[0].done():
                idle.popleft()  # its worker was cancelled
                continue
            run = self.lineup.take(pool)
            if run is None:
                return
            idle.popleft().set_result(run)

    def dismiss(self, pool: str) -> None:
        """Let the idle workers of ``pool`` go: each hears None."""
        for hand in self._idle.pop(pool, ()):
            if not hand.done():
                hand.set_result(None)

    def hold_back(self, pool: str, reason: str | None) -> None:
        """Hand nothing to the workers of ``pool``, which cannot start it for that reason; None: do so again."""
        self.lineup.hold_back(pool, reason)
        self.hand_out(pool)

    def drain(self, only: Callable[[FlowRun], bool] | None) -> None:
        """Hand out nothing but what ``only`` says; None: everything again."""
        self.lineup.drain(only)
        for pool in self._idle:
            self.hand_out(pool)

    def release(self, taken: FlowRun) -> None:
        """Give back the slots of a run as it was taken, and hand out what they were missing for."""
        self.lineup.release(taken)
        for pool in self._idle:
            self.hand_out(pool)
        if self._more:
            self._wake.set()

    async def put_back(self, taken: FlowRun) -> None:
        """A worker could not start ``taken``, because it changed: look at it anew. It still holds its slots."""
        try:
            run = await self._orchestrator.get(taken.id)
        except TidemillError:
            run = None
        if run is not None and run.state.type is StateType.SCHEDULED:
            self._add(run)
            self._wake.set()

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    def relimit(self) -> None:
        """Go by the catalogue's present limits (a reload, a pause, a resumed queue)."""
        self.lineup.set_limits(self._catalogue.limits())
        for pool in self._idle:
            self.hand_out(pool)

    def close(self) -> None:
        """Hand out nothing more; idle workers hear None."""
        self._closed = True
        for hands in self._idle.values():
            for hand in hands:
                if not hand.done():
                    hand.set_result(None)
        self._wake.set()

    # --- running ----------------------------------------------------------------------------------------------------

    def next_time(self, now: datetime) -> float:
        """Return seconds until the next run is due or the window moves, at most a slice."""
        wait = self._slice_s
        if self._soon:
            wait = min(wait, (self._soon[0][0] - now).total_seconds())
        return max(0.0, wait, self._not_before - self._clock.monotonic())

    async def run(self) -> None:
        """Tick whenever something is due or new, until closed."""
        while not self._closed:
            now = self._timekeeper.look()
            await self.tick(now)
            if self._timekeeper.held is not None:
                await self._wake.wait(self._slice_s)
            else:
                await self._wake.wait(self.next_time(self._clock.now()))
