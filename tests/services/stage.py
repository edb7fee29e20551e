"""A daemon's services on a virtual clock, life after life on one database: ``from stage import World, play``."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from tidemill.config import Loaded, load
from tidemill.core.events import Event
from tidemill.core.ports import Job, Outcome
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.states import State, StateType
from tidemill.services.house import House
from tidemill.services.telling.outside import Outside
from tidemill.store import Door, Store, history, inline_doors
from tidemill.store import runs as stored_runs
from tidemill.store import schedules as stored_schedules
from tidemill.testing import ScriptedRunner, VirtualClock, VirtualLoop, close_house, open_house, run_virtually

T = TypeVar("T")
Script = Callable[[Job], tuple[timedelta, Outcome]]

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DONE = Outcome(type=StateType.COMPLETED, name="Completed")
FAILED = Outcome(type=StateType.FAILED, name="Failed", message="no luck")


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def takes(how_long: timedelta, outcome: Outcome = DONE) -> Script:
    """Every run takes so long and ends so."""
    return lambda job: (how_long, outcome)


def play(folder: Path, main: Callable[[World], Coroutine[Any, Any, T]], *, start: datetime = NOON) -> T:
    """Run ``main`` in a world of its own; it takes no time."""

    async def begin(loop: VirtualLoop) -> T:
        return await main(World(loop, folder, start))

    return run_virtually(begin)


class Disk:
    """Doors to the database that can fail as a disk does, and break off as a crash does."""

    def __init__(self) -> None:
        self.trouble: sqlite3.Error | None = None  # what writing answers
        self.crashed = False
        self.calls = 0  # of the writer
        self.crash_at: tuple[int, bool] | None = None  # the number of a call, and whether it is committed before
        self.on_crash: Callable[[], None] = lambda: None

    async def doors(self, connect: Callable[[], sqlite3.Connection]) -> Door:
        return _Door(self, await inline_doors(connect))

    def full(self) -> None:
        """From now on there is no room."""
        self.trouble = sqlite3.OperationalError("database or disk is full")

    def well(self) -> None:
        """There is room again."""
        self.trouble = None


class _Door:
    def __init__(self, disk: Disk, real: Door) -> None:
        self._disk, self._real = disk, real
        self._writes: bool | None = None

    async def call(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        disk = self._disk
        if disk.crashed:
            raise RuntimeError("the process is gone")
        if self._writes is None:
            self._writes = not await self._real.call(_query_only)
        if not self._writes:
            return await self._real.call(fn)
        disk.calls += 1
        crash = disk.crash_at is not None and disk.crash_at[0] == disk.calls
        if disk.trouble is not None:
            return await self._real.call(lambda connection: fn(_Failing(connection, disk)))  # type: ignore[arg-type]
        if not crash:
            return await self._real.call(fn)
        if disk.crash_at is not None and disk.crash_at[1]:
            await self._real.call(fn)
        disk.crashed = True
        disk.on_crash()
        raise RuntimeError("the process is gone")

    async def aclose(self) -> None:
        await self._real.aclose()


def _query_only(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA query_only").fetchone()[0])


class _Failing:
    """A connection to a full disk: it reads, and refuses every commit."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        self._connection, self._disk = connection, disk

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement == "COMMIT" and self._disk.trouble is not None:
            raise self._disk.trouble
        return self._connection.execute(statement, *parameters)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


class World:
    """One machine: a clock, a database, and the daemons that live on it one after another."""

    def __init__(self, loop: VirtualLoop, folder: Path, start: datetime) -> None:
        self.loop, self.folder = loop, folder
        self.clock = VirtualClock(loop, start)
        self.database = folder / "db"
        self.events: list[Event] = []
        self.disk = Disk()
        self.outside: Outside | None = None  # who is told; None: nobody
        self._seed = 0

    # -- lives -------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def daemon(
        self,
        config: str,
        script: Script = takes(seconds(1)),  # noqa: B008 - a plain function
        *,
        grace: timedelta = seconds(30),  # noqa: B008
    ) -> AsyncIterator[House]:
        """A daemon that recovers, starts, and stops in good order at the end."""
        house = await self.opened(config, script)
        await self.started(house)
        try:
            yield house
        finally:
            if not self.disk.crashed:
                await close_house(house, grace=grace)

    async def opened(self, config: str, script: Script = takes(seconds(1))) -> House:  # noqa: B008
        """A daemon that has not looked at its database yet."""
        self._seed += 1
        if self.disk.crashed:
            self.disk = Disk()
        house = await open_house(
            self.loaded(config),
            self.database,
            clock=self.clock,
            seed=self._seed,
            script=script,
            doors=self.disk.doors,
            outside=self.outside,
        )
        house.bus.listen(self.events.extend)
        return house

    async def started(self, house: House) -> None:
        await house.recover()
        house.start()

    async def kill(self, house: House) -> None:
        """End a daemon as kill -9 does: nothing is written any more, nobody is told."""
        self.disk.crashed = True
        me = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not me]
        for task in others:
            task.cancel()
        # A service may have ended with the error of the dead disk before: nobody is to be told of it later.
        await asyncio.gather(*others, *house._tasks.values(), return_exceptions=True)
        with contextlib.suppress(Exception):
            await house.store.aclose()

    def loaded(self, config: str) -> Loaded:
        file = self.folder / "tidemill.toml"
        file.write_text(config)
        return load(file, environ={})

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.clock.now()

    async def wait(self, how_long: timedelta) -> None:
        await self.clock.sleep(how_long.total_seconds())

    async def until(self, when: datetime) -> None:
        await self.wait(when - self.now)

    # -- looking -----------------------------------------------------------------------------------------------------

    async def runs(self, house: House, deployment: str | None = None) -> list[FlowRun]:
        """All runs, of one deployment or of all, in the order they were made."""
        found = await house.store.read(every_run)
        return [run for run in found if deployment is None or run.deployment == deployment]

    async def run(self, house: House, run_id: str) -> FlowRun:
        found = await house.store.read(lambda connection: stored_runs.get(connection, run_id))
        assert found is not None
        return found

    async def story(self, house: House, run: FlowRun) -> list[str]:
        """The names of all states that a run was in."""
        return [state.name for state in await self.states(house, run)]

    async def states(self, house: House, run: FlowRun) -> list[State]:
        return list(await house.store.read(lambda connection: history.of(connection, run.seq)))

    async def skipped(self, house: House) -> list[SkippedFire]:
        """Fires that made no run, oldest first."""
        return list(await house.store.read(stored_schedules.skipped))[::-1]

    async def after_all(self, deployment: str | None = None) -> list[FlowRun]:
        """What the database holds when no daemon runs."""
        store = await Store.open(self.database, clock=self.clock, ids=_NO_IDS, doors=inline_doors)
        found = await store.read(every_run)
        await store.aclose()
        return [run for run in found if deployment is None or run.deployment == deployment]


class _NoIds:
    def new(self, now: datetime) -> str:
        return "0" * 36


_NO_IDS: Any = _NoIds()


def every_run(connection: sqlite3.Connection) -> list[FlowRun]:
    (seqs,) = connection.execute(
        "SELECT json_group_array(seq) FROM (SELECT seq FROM run ORDER BY expected_start, seq)"
    ).fetchone()
    return stored_runs.documents(connection, seqs)


def runner(house: House, pool: str = "default") -> ScriptedRunner:
    found = house.workers[pool].runner
    assert isinstance(found, ScriptedRunner)
    return found


def began(house: House, deployment: str | None = None) -> list[datetime]:
    """When attempts began, in order."""
    return [at for at, job in runner(house).began if deployment is None or job.deployment == deployment]


def names(runs: Sequence[FlowRun]) -> list[str]:
    return [run.state.name for run in runs]
