"""The scheduler: turns schedules into runs, ahead of time, each fire once.

A schedule's *cursor* is the due time of the last fire that was dealt with; it advances in the transaction that makes
the runs, so neither a crash nor a reload skips or doubles a fire (P1, P6). Fires stand in the queue before they are
due, so that people see them and so that a due run starts without anything being computed.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import msgspec

from tidemill.clock import SLICE_S, Clock
from tidemill.core.deployments import Deployment
from tidemill.core.events import FiresSkipped, RunChanged, RunDeleted
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.schedules import fires, identity, jittered
from tidemill.core.states import State, StateType
from tidemill.errors import StoreUnavailableError
from tidemill.ids import Ids
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.entries import Entry
from tidemill.services.orchestrator import HEAL_S
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.wake import Pulse, Wake
from tidemill.store import Store, instance, planning, schedules

# Every fire of the next minute stands in the queue, and ``[daemon] upcoming`` fires of each schedule at least.
AHEAD = timedelta(seconds=60)
MOST_AHEAD = 100
# A full minute's rush belongs to the runs that start in it: planning further waits this long after a fire.
REFILL_LAG = timedelta(seconds=1)
# Schedules planned in one transaction, between which due runs have their turn: a start waits for one slice at most.
SLICE = 25
ALIVE_S = 30.0

logger = logging.getLogger("tidemill.scheduler")


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of the configuration did to schedules and to runs that were still to come."""

    schedules: int
    taken_back: int
    planned: int


class Scheduler:
    """Plans the fires of every schedule of every deployment that is not paused."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        timekeeper: Timekeeper,
        bus: EventBus,
        clock: Clock,
        ids: Ids,
        slice_s: float = SLICE_S,
    ) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        # Deal with what was missed after the clock jumped or the disk was full; set by who builds the daemon.
        self.make_up: Callable[[datetime, datetime], Awaitable[int]] | None = None
        self.make_up_unplanned: Callable[[Entry, datetime], Awaitable[int]] | None = None
        self._store = store
        self._catalogue = catalogue
        self._timekeeper = timekeeper
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._slice_s = slice_s
        self._refill: list[tuple[datetime, str, str]] = []  # a heap: when, deployment, schedule
        self._closed = False
        self._signed_at: float | None = None
        self._at_start = True  # the schedules that fire at the start have yet to
        self._turn = asyncio.Lock()  # who plans, and who changes what there is to plan
        self._wake = Wake()
        self._came_round = Pulse()

    # --- taking over the configuration ------------------------------------------------------------------------------

    async def load(self, now: datetime) -> None:
        """Take over all schedules and what is planned of them already.

        Upcoming runs of deployments and schedules that have changed since they were planned are taken back; a schedule
        that is new starts now.
        """
        cursors = await self._store.read(schedules.cursors)
        planned_as = await self._store.read(planning.planned_as)
        ahead = await self._store.read(partial(planning.planned_ahead, now=now))
        self.entries.clear()
        self._refill.clear()
        for number, deployment in enumerate(self._catalogue.deployments.values()):
            if number % SLICE == SLICE - 1:
                await self._clock.sleep(0)  # ten thousand schedules must not hold the loop
            # A schedule with no digest was not in force when last looked at: it starts now, like a new one.
            self._enter(deployment, now, {key: cursors[key] for key in cursors.keys() & planned_as.keys()})
        changed = [
            key for key in cursors if key not in self.entries or planned_as.get(key) != self.entries[key].planned_as
        ]
        for name, key, due in ahead:
            entry = self.entries.get((name, key))
            if entry is not None:
                entry.ahead.append(due)
        await self._take_back(changed, now)
        for entry in self.entries.values():
            self._queue(entry, now)

    async def take_over(self, stated: Catalogue, on_taken: Callable[[], None]) -> Replaced:
        """Go by another configuration from now on: replace what was planned of schedules that changed, all or nothing.

        What was due before stays in its queue; of two rules only one has an instant. ``on_taken`` puts the
        configuration in force for everybody else; it is called once all is durable, and nothing is planned before it
        returns. Raises StoreUnavailableError: then all is as it was.
        """
        async with self._turn:
            now = self._timekeeper.look()
            while self._timekeeper.held is None and self._refill and self._refill[0][0] <= now:
                await self._plan_slice(now)  # by the old rules, what they should have planned by now
            upcoming = stated.settings.daemon.upcoming
            entries: dict[tuple[str, str], Entry] = {}
            changed: list[Entry] = []
            runs: list[FlowRun] = []
            for number, deployment in enumerate(stated.deployments.values()):
                if number % SLICE == SLICE - 1:
                    await self._clock.sleep(0)
                if stated.paused("deployment", deployment.name):
                    continue
                for compiled in stated.schedules(deployment):
                    if not compiled.schedule.active:
                        continue
                    key = (deployment.name, identity(compiled.schedule))
                    before = self.entries.get(key)
                    entry = entries[key] = Entry(deployment, compiled, key[1], now)
                    if before is not None and before.planned_as == entry.planned_as:
                        entry.cursor, entry.ahead = before.cursor, before.ahead
                        continue
                    changed.append(entry)
                    if not entry.compiled.is_reboot:
                        runs += [self.make(entry, due) for due in self._dues(entry, now, upcoming)]
            # As late as can be: until here the old rules had every instant.
            cut = max(now, self._clock.now())
            for entry in changed:
                entry.cursor = cut
            gone_keys = [key for key in self.entries if key not in entries]
            replan = planning.Replan(
                retired=(
                    *((entry.deployment.name, entry.key, True) for entry in changed),
                    *((*key, False) for key in gone_keys),
                ),
                plan=self._plan_of([run for run in runs if run.due is not None and run.due > cut], changed),
                at=cut,
            )
            gone: list[RunDeleted] = []
            made: tuple[int, ...] = ()
            if replan.retired:
                gone, made = await self._store.write(planning.REPLAN, replan)
            self.entries = entries
            on_taken()
            self._settle(replan.plan, changed)
            self._refill.clear()
            for entry in entries.values():
                self._queue(entry, cut)
            self._bus.publish(gone)
            self._tell_made(replan.plan.runs, set(made))
        self._wake.set()
        return Replaced(schedules=len(replan.retired), taken_back=len(gone), planned=len(made))

    async def plan_at_start(self, now: datetime) -> None:
        """Make the runs of ``@reboot`` schedules: one for each start of the daemon, once the clock is right."""
        if self._timekeeper.held is not None or not self._at_start:
            return
        entries = [entry for entry in self.entries.values() if entry.compiled.is_reboot]
        if entries:
            await self.plan([self.make(entry, now) for entry in entries], entries)
        self._at_start = False

    def in_force(self, name: str) -> Deployment | None:
        """Return the deployment of that name, where the configuration has it and its schedules are not paused."""
        deployment = self._catalogue.deployments.get(name)
        return None if deployment is None or self._catalogue.paused("deployment", name) else deployment

    def _enter(self, deployment: Deployment, now: datetime, cursors: Mapping[tuple[str, str], datetime]) -> None:
        if self._catalogue.paused("deployment", deployment.name):
            return
        for compiled in self._catalogue.schedules(deployment):
            if compiled.schedule.active:
                key = identity(compiled.schedule)
                cursor = cursors.get((deployment.name, key), now)
                self.entries[deployment.name, key] = Entry(deployment, compiled, key, cursor)

    async def _take_back(self, keys: Iterable[tuple[str, str]], now: datetime) -> int:
        """Delete never-started runs of these schedules that are still to come; those in force are planned anew."""
        keys = tuple(keys)
        if not keys:
            return 0
        gone = await self._store.write(planning.UNPLAN, ([(*key, key in self.entries) for key in keys], now))
        self._bus.publish(gone)
        for key in keys:
            entry = self.entries.get(key)
            if entry is not None:
                entry.cursor = min(entry.cursor, now)
                entry.ahead.clear()
        return len(gone)

    async def pause(self, name: str, now: datetime) -> int:
        """Stop planning a deployment and take back its upcoming runs; return how many those were."""
        async with self._turn:
            keys = [key for key in self.entries if key[0] == name]
            for key in keys:
                del self.entries[key]
            return await self._take_back(keys, now)

    async def resume(self, name: str, now: datetime) -> None:
        """Plan a deployment from now on: what fell into the pause is not made up for."""
        async with self._turn:
            deployment = self._catalogue.deployments.get(name)
            if deployment is None:
                return
            self._enter(deployment, now, {})
            for entry in self.entries.values():
                if entry.deployment.name == name:
                    self._queue(entry, now)
        self._wake.set()

    # --- one pass ---------------------------------------------------------------------------------------------------

    async def tick(self, now: datetime) -> int:
        """Plan what wants planning by now; return how many runs were made."""
        made = 0
        while self._refill and self._refill[0][0] <= now:
            async with self._turn:
                made += await self._plan_slice(now)
            await self._clock.sleep(0)
        return made

    async def _plan_slice(self, now: datetime) -> int:
        runs: list[FlowRun] = []
        entries: list[Entry] = []
        while self._refill and self._refill[0][0] <= now and len(entries) < SLICE and len(runs) < SLICE * 3:
            _, name, key = heapq.heappop(self._refill)
            entry = self.entries.get((name, key))
            if entry is None:
                continue
            if not await self._make_up_unplanned(entry, now):
                continue
            dues = self._dues(entry, now, self._catalogue.settings.daemon.upcoming)
            if dues:
                entries.append(entry)
                runs.extend(self.make(entry, due) for due in dues)
            elif len(entry.ahead) >= self._catalogue.settings.daemon.upcoming:
                self._queue(entry, now)  # else it never fires again: what stands ahead is all there is
        if not runs:
            return 0
        try:
            made = await self.plan(runs, entries)
        except StoreUnavailableError:
            self._try_again(entries, now)
            return 0
        for entry in entries:
            self._queue(entry, now)
        return made

    async def _make_up_unplanned(self, entry: Entry, now: datetime) -> bool:
        """Leave to the catch-up policy what should have run long since: the disk was full when it was to be planned.

        False: it still is, and the schedule is looked at again later.
        """
        until = now - AHEAD
        if entry.cursor < until and self.make_up_unplanned is not None:
            try:
                await self.make_up_unplanned(entry, until)
            except StoreUnavailableError:
                self._try_again([entry], now)
                return False
            entry.cursor = max(entry.cursor, until)
        return True

    def _try_again(self, entries: Iterable[Entry], now: datetime) -> None:
        # Not planned is not lost: the cursors stand where they stood.
        for entry in entries:
            heapq.heappush(self._refill, (now + timedelta(seconds=HEAL_S), entry.deployment.name, entry.key))

    def _dues(self, entry: Entry, now: datetime, upcoming: int) -> list[datetime]:
        """Return the fires to plan now: those of the next minute, and as many as are to be seen ahead."""
        horizon = now + AHEAD
        entry.drop_passed(now)
        dues: list[datetime] = []
        for due in fires(entry.compiled, entry.cursor, limit=MOST_AHEAD):
            if len(entry.ahead) + len(dues) >= upcoming and due > horizon:
                break
            dues.append(due)
        return dues

    def _queue(self, entry: Entry, now: datetime) -> None:
        """Note when the schedule wants planning again: as soon as fewer fires than wanted stand ahead."""
        upcoming = self._catalogue.settings.daemon.upcoming
        entry.drop_passed(now)
        when = entry.ahead[-upcoming] + REFILL_LAG if len(entry.ahead) >= upcoming else now
        if not entry.compiled.is_reboot:
            heapq.heappush(self._refill, (when, entry.deployment.name, entry.key))

    def make(self, entry: Entry, due: datetime) -> FlowRun:
        """Return the run of one fire, not stored yet."""
        now = self._clock.now()
        deployment = entry.deployment
        start = jittered(due, entry.compiled.schedule, f"{self._catalogue.instance}/{deployment.name}")
        return FlowRun(
            seq=self._store.next_seq(),
            id=self._ids.new(now),
            name=self._ids.name(),
            flow=deployment.flow.name,
            deployment=deployment.name,
            work_pool=deployment.work_pool,
            work_queue=deployment.work_queue,
            parameters=deployment.parameters,
            tags=deployment.tags,
            schedule=entry.key,
            due=due,
            expected_start=start,
            state=State(type=StateType.SCHEDULED, name="Scheduled", timestamp=now),
            created=now,
        )

    async def plan(
        self, runs: Sequence[FlowRun], entries: Sequence[Entry], *, skipped: Sequence[SkippedFire] = ()
    ) -> int:
        """Store runs and skipped fires and advance the cursors, in one transaction; return how many runs are new."""
        plan = self._plan_of(runs, entries, skipped)
        made = await self._store.write(schedules.PLAN, plan)
        self._settle(plan, entries)
        self._tell_made(runs, set(made))
        if skipped:
            self._bus.publish([FiresSkipped(fire) for fire in skipped])
        return len(made)

    def _plan_of(
        self, runs: Sequence[FlowRun], entries: Sequence[Entry], skipped: Sequence[SkippedFire] = ()
    ) -> schedules.Plan:
        """Return runs and skipped fires with the cursors as they are after them."""
        latest: dict[tuple[str | None, str | None], datetime] = {}
        for due, deployment, schedule in [
            *((run.due, run.deployment, run.schedule) for run in runs),
            *((fire.last, fire.deployment, fire.schedule) for fire in skipped),
        ]:
            key = (deployment, schedule)
            if due is not None:
                latest[key] = max(latest.get(key, due), due)
        cursors = []
        for entry in entries:
            last = latest.get((entry.deployment.name, entry.key), entry.cursor)
            cursors.append(
                schedules.Cursor(
                    deployment=entry.deployment.name,
                    schedule=entry.key,
                    last_due=max(last, entry.cursor),
                    planned_as=entry.planned_as,
                )
            )
        return schedules.Plan(runs=tuple(runs), cursors=tuple(cursors), skipped=tuple(skipped))

    def _settle(self, plan: schedules.Plan, entries: Sequence[Entry]) -> None:
        """Take note of a plan that is stored."""
        for entry, cursor in zip(entries, plan.cursors, strict=True):
            entry.cursor = cursor.last_due
        for run in plan.runs:
            if (
                run.due is not None
                and run.due > run.created
                and run.schedule is not None
                and run.deployment is not None
            ):
                entry_of = self.entries.get((run.deployment, run.schedule))
                if entry_of is not None:
                    entry_of.ahead.append(run.due)

    def _tell_made(self, runs: Sequence[FlowRun], stored: Container[int]) -> None:
        self._bus.publish([RunChanged(run, (run.state,), None) for run in runs if run.seq in stored])

    # --- running ----------------------------------------------------------------------------------------------------

    def next_time(self, now: datetime) -> float:
        """Return seconds until something wants planning, at most a slice."""
        if not self._refill:
            return self._slice_s
        return min(self._slice_s, max(0.0, (self._refill[0][0] - now).total_seconds()))

    async def run(self) -> None:
        """Tick whenever something wants planning, until closed."""
        while not self._closed:
            self._came_round.tell()
            now = self._timekeeper.look()
            try:
                async with self._turn:
                    since = self._timekeeper.missed_since
                    if since is not None and self.make_up is not None:
                        await self.make_up(since, self._timekeeper.missed_until)
                        self._timekeeper.caught_up()
                    await self.plan_at_start(now)
            except StoreUnavailableError:
                await self._wake.wait(HEAL_S)
                continue
            if self._timekeeper.held is None:
                await self.tick(now)
                self._sign_of_life(now)
            await self._wake.wait(self.next_time(self._clock.now()) if self._timekeeper.held is None else HEAL_S)

    async def beat(self) -> None:
        """Return when :meth:`run` has come round once more: not while it is stuck, and never when it has ended."""
        self._wake.set()
        await self._came_round.wait()

    def _sign_of_life(self, now: datetime) -> None:
        """Record that the daemon lives, at most every 30 s: what falls due while it does not counts as missed."""
        at = self._clock.monotonic()
        if self._signed_at is None or at - self._signed_at >= ALIVE_S:
            self._signed_at = at
            self._store.post(instance.LAST_ALIVE, now)

    def close(self) -> None:
        """Plan nothing more."""
        self._closed = True
        self._wake.set()
