"""The simulation: a configuration's scheduler, queues and policies on a virtual clock, with runs of given lengths.

It is the house itself that runs, and only the runs' code and the disk are left out: what is simulated is what a daemon
would do whose machine takes no time for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from tidemill.clock import MICROSECOND
from tidemill.config import Loaded
from tidemill.config.settings import Settings
from tidemill.core.deployments import Mode
from tidemill.core.events import Event, FiresSkipped, RunChanged
from tidemill.core.lengths import Lengths
from tidemill.core.ports import Job, Outcome
from tidemill.core.runs import FlowRun
from tidemill.core.simulations import Simulated, SimulatedRun, Span, crowds
from tidemill.core.states import State, StateType
from tidemill.ids import Ids
from tidemill.services.house import House
from tidemill.services.scripted import Script, scripted_house
from tidemill.services.shares import deal, side_by_side
from tidemill.services.virtual import VirtualClock, VirtualLoop, run_virtually
from tidemill.store import Door, Store, inline_doors
from tidemill.store.doors import Connect
from tidemill.store.memory import BeyondMemoryError, MemoryStore

# What starting and ending a run costs on a real machine. Without it a run of ten minutes would have ended at the very
# instant at which the next one of an every-ten-minutes job is due, and which of the two came first would be chance.
OVERHEAD = timedelta(milliseconds=5)
MOST_RUNS = 1_000_000
PARTS = 200  # of the simulated time, after each of which progress is told

Tell = Callable[[float], None]


class Simulation:
    """One configuration over one stretch of time. :meth:`run` may be called once."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        start: datetime,
        lasts: timedelta,
        lengths: Lengths,
        instance_id: str | None = None,
        most_runs: int = MOST_RUNS,
        processes: int = 1,
        tell: Tell = lambda part: None,
    ) -> None:
        """``instance_id``: the real daemon's, from which jitter is drawn. ``tell`` hears how far it is, from 0 to 1.

        ``processes``: deployments that never meet may be simulated in so many at a time. What comes of it is the same.
        """
        self._settings = in_seclusion(loaded.settings)
        self._compiled = loaded.compiled
        self._start = start
        self._lasts = lasts
        self._lengths = lengths
        self._instance_id = instance_id
        self._most_runs = most_runs
        self._processes = processes
        self._tell = tell
        self.in_memory = True  # False: it took a database, which is slower and comes to the same
        self.shares = 1  # simulated side by side

    def run(self) -> Simulated:
        """Simulate to the end and return what came of it."""
        with _in_silence():
            if (together := self._by_shares()) is not None:
                return together
            found = run_virtually(self._with_memory)
            if found is None:  # something is configured that wants to read what it wrote
                self.in_memory = False
                found = run_virtually(self._with_database)
        assert found is not None, "a database answers everything"
        return found

    def _by_shares(self) -> Simulated | None:
        """Simulate deployments that never meet side by side; None: there are none, or they met after all."""
        dealt = deal(self._settings, self._compiled, self._start, self._processes)
        if len(dealt) < 2:
            return None
        jobs = [partial(self._share, names) for names in dealt]
        parts = side_by_side(jobs, list[SimulatedRun])
        if parts is None:
            return None
        runs = sorted((run for part in parts for run in part), key=lambda run: run.expected_start)
        whole = Simulated(start=self._start, end=self._start + self._lasts, seed=self._lengths.seed, runs=runs)
        # A pool is the one thing that all of them share: where it was never full, it held nobody up.
        pools = self._settings.work_pools
        full = any(crowd.runs > pools[crowd.pool].concurrency_limit for crowd in crowds(whole) if crowd.pool in pools)
        if full or len(runs) > self._most_runs:
            return None
        self.shares = len(parts)
        return whole

    def _share(self, names: Sequence[str]) -> list[SimulatedRun]:
        """Return the runs of some deployments alone; raises BeyondMemoryError, and where there are too many."""
        settings = replace(self._settings, deployments={name: self._settings.deployments[name] for name in names})
        alone = copy.copy(self)
        alone._settings = settings
        found = run_virtually(alone._with_memory)
        if found is None or found.cut_short:
            raise BeyondMemoryError("more than a share may have")
        return list(found.runs)

    async def _with_memory(self, loop: VirtualLoop) -> Simulated | None:
        store = MemoryStore(instance_id=self._instance_id or self._ids().new(self._start), now=self._start)
        try:
            return await self._live(loop, store, lambda: store.beyond is not None)
        except Exception:
            if store.beyond is None:
                raise
            return None

    async def _with_database(self, loop: VirtualLoop) -> Simulated | None:
        doors: list[Door] = []

        async def kept(connect: Connect) -> Door:
            doors.append(await inline_doors(connect))
            return doors[-1]

        clock = VirtualClock(loop, self._start)
        with tempfile.TemporaryDirectory(prefix="tidemill-simulation-") as folder:
            store = await Store.open(Path(folder) / "db", clock=clock, ids=self._ids(), doors=kept)
            store.instance_id = self._instance_id or store.instance_id
            for door in doors:  # nothing of it is to survive anything
                await door.call(lambda connection: connection.execute("PRAGMA synchronous = OFF").fetchall())
            try:
                return await self._live(loop, store, lambda: False)
            finally:
                await store.aclose()

    def _ids(self) -> Ids:
        return Ids(random.Random(self._lengths.seed))  # noqa: S311 - a seed is the point

    async def _live(self, loop: VirtualLoop, store: Store, hopeless: Callable[[], bool]) -> Simulated | None:
        # A fire at the very start belongs to it, and schedules fire after the instant at which they are taken over.
        clock = VirtualClock(loop, self._start - MICROSECOND)
        house = scripted_house(
            self._settings, self._compiled, store, clock=clock, ids=self._ids(), script=self._script()
        )
        witness = Witness(house, self._start)
        await house.recover()
        house.start(housekeeping=False)
        failed = asyncio.create_task(house.failed())
        end, cut_short = self._start + self._lasts, False
        for part in range(1, PARTS + 1):
            until = self._start + self._lasts * part / PARTS
            passed = asyncio.create_task(clock.sleep((until - clock.now() - MICROSECOND).total_seconds()))
            await asyncio.wait({passed, failed}, return_when=asyncio.FIRST_COMPLETED)
            if hopeless():
                break
            if failed.done():
                raise failed.result()
            self._tell(part / PARTS)
            if len(witness.runs) > self._most_runs and part < PARTS:
                end, cut_short = until, True
                break
        await _end_all()
        if hopeless():
            return None
        return Simulated(
            start=self._start, end=end, seed=self._lengths.seed, runs=witness.before(end), cut_short=cut_short
        )

    def _script(self) -> Script:
        def script(job: Job) -> tuple[timedelta, Outcome]:
            lasted, ended = self._lengths.draw(job.deployment or "", job.due, job.attempt, timeout=job.timeout)
            return lasted + OVERHEAD, _OUTCOMES[ended]

        return script


_OUTCOMES = {
    StateType.COMPLETED: Outcome(type=StateType.COMPLETED, name="Completed"),
    StateType.FAILED: Outcome(type=StateType.FAILED, name="Failed", message="failed, as runs on record did"),
    StateType.CRASHED: Outcome(type=StateType.CRASHED, name="Crashed", message="crashed, as runs on record did"),
}


def in_seclusion(settings: Settings) -> Settings:
    """Return settings by which nobody outside is told of anything, and shadows run: here nothing does."""
    return replace(
        settings,
        notify={},
        daemon=replace(settings.daemon, ping=None),
        deployments={
            name: replace(each, notify=(), ping=None, mode=Mode.RUN) for name, each in settings.deployments.items()
        },
    )


class Witness:
    """Writes down what becomes of every run."""

    def __init__(self, house: House, start: datetime) -> None:
        self.runs: list[SimulatedRun] = []
        self._start = start
        self._open: dict[str, SimulatedRun] = {}
        self._lineup = house.dispatcher.lineup
        self._watch = house.dispatcher.overdue
        house.dispatcher.overdue = self._had_to_wait
        house.bus.listen(self._hear)

    def before(self, end: datetime) -> list[SimulatedRun]:
        """Return the runs that are due before ``end``, in the order in which they are to start."""
        return sorted((run for run in self.runs if run.expected_start < end), key=lambda run: run.expected_start)

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, RunChanged):
                self._changed(event.run, event.before)
            elif isinstance(event, FiresSkipped):
                self._skipped(event)

    def _changed(self, run: FlowRun, before: State | None) -> None:
        seen = self._open.get(run.id)
        if seen is None:
            seen = self._open[run.id] = SimulatedRun(
                deployment=run.deployment or run.flow,
                pool=run.work_pool,
                due=None if run.due is None else max(run.due, self._start),
                expected_start=max(run.expected_start, self._start),
                state=run.state,
            )
            self.runs.append(seen)
            return
        state = seen.state = run.state
        if state.type is StateType.RUNNING:
            seen.attempts.append(Span(begin=max(state.timestamp, self._start)))
            return
        if seen.attempts and seen.attempts[-1].end is None and state.type is not StateType.CANCELLING:
            seen.attempts[-1].end = state.timestamp
        if state.name == "Late":
            seen.late = True
        elif state.is_terminal:
            del self._open[run.id]

    def _skipped(self, event: FiresSkipped) -> None:
        fire = event.skipped
        state = State(type=StateType.CANCELLED, name="Skipped", timestamp=fire.at, message=fire.reason)
        self.runs.append(
            SimulatedRun(deployment=fire.deployment, pool="", due=fire.first, expected_start=fire.first, state=state)
        )

    def _had_to_wait(self, run: FlowRun) -> None:
        seen = self._open.get(run.id)
        if seen is not None and seen.waited_for is None and run.attempt == 0:
            # "is full: 2 of 2 slots held": how many they are is in the file.
            seen.waited_for = self._lineup.reason(run).partition(":")[0]
        self._watch(run)


async def _end_all() -> None:
    """Leave everything as it is, as a power cut does."""
    me = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not me]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """Let the services log nothing, and the cycle collector look only now and then."""
    logger = logging.getLogger("tidemill")
    level, thresholds = logger.level, gc.get_threshold()
    logger.setLevel(logging.CRITICAL + 1)
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        logger.setLevel(level)
        gc.set_threshold(*thresholds)
