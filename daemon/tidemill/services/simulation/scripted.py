"""Runs that follow a script instead of code, and a house of them: what the tests and the simulation stand on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tidemill.clock import Clock
from tidemill.config import Loaded
from tidemill.config.settings import Settings
from tidemill.core.overrides import Override
from tidemill.core.ports import Cancellation, Job, Outcome, Recorder
from tidemill.core.reports import Question, Report
from tidemill.core.schedules import CompiledSchedule
from tidemill.core.states import StateType
from tidemill.errors import TidemillError
from tidemill.ids import Ids
from tidemill.services.catalogue import Catalogue
from tidemill.services.house import House
from tidemill.services.simulation.virtual import VIRTUAL_SLICE_S
from tidemill.services.telling.outside import Outside
from tidemill.store import DoorFactory, Store, catalogue, inline_doors, instance

# How long a run takes, and how it ends.
Script = Callable[[Job], tuple[timedelta, Outcome]]


class ScriptedRunner:
    """A runner that takes as long and ends as a script says, and heeds a cancellation at once."""

    def __init__(self, script: Script, clock: Clock) -> None:
        self._script = script
        self._clock = clock
        self.abandoned = 0
        self.began: list[tuple[datetime, Job]] = []

    async def run(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        self.began.append((self._clock.now(), job))
        lasts, outcome = self._script(job)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()
        timed_out = job.timeout is not None and job.timeout < lasts
        if timed_out:
            lasts = job.timeout or lasts
            outcome = Outcome(type=StateType.FAILED, name="TimedOut", message="timed out")
        timer = loop.call_later(lasts.total_seconds(), _settle, ended, outcome)

        def cancelled() -> None:
            type_ = StateType.CRASHED if cancellation.crashed else StateType.CANCELLED
            _settle(ended, Outcome(type=type_, name=type_.capitalize(), message=cancellation.reason))

        cancellation.on_request(cancelled)
        try:
            return await ended
        finally:
            timer.cancel()

    async def left(self, job: Job) -> None:
        return None

    async def aclose(self) -> None:
        return None


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


class SilentRecorder:
    """A recorder for runners that report nothing."""

    def report(self, report: Report) -> None:
        """Forget it."""

    async def flush(self) -> None:
        return None

    async def ask(self, question: Question) -> Any:
        raise TidemillError("a scripted run has nothing to ask")

    def masked(self, value: Any) -> Any:
        return value

    async def settle(self, outcome: Outcome) -> str | None:
        return None


async def open_house(
    loaded: Loaded,
    database: Path,
    *,
    clock: Clock,
    seed: int,
    script: Script,
    doors: DoorFactory = inline_doors,
    outside: Outside | None = None,
) -> House:
    """Return the daemon's services on a database, with scripted runs; close it with :func:`close_house`."""
    ids = Ids(random.Random(seed))  # noqa: S311 - a seed is the point
    store = await Store.open(database, clock=clock, ids=ids, doors=doors)
    return scripted_house(
        loaded.settings,
        loaded.compiled,
        store,
        clock=clock,
        ids=ids,
        script=script,
        overrides=await store.read(catalogue.overrides),
        last_alive=await store.read(instance.last_alive),
        outside=outside,
    )


def scripted_house(
    settings: Settings,
    compiled: Mapping[str, Sequence[CompiledSchedule]],
    store: Store,
    *,
    clock: Clock,
    ids: Ids,
    script: Script,
    overrides: Iterable[Override] = (),
    last_alive: datetime | None = None,
    outside: Outside | None = None,
) -> House:
    """Return the daemon's services on a store that is open, with scripted runs."""
    return House(
        store=store,
        catalogue=Catalogue(settings, instance=store.instance_id, overrides=overrides, compiled=compiled),
        clock=clock,
        ids=ids,
        runner=lambda pool: ScriptedRunner(script, clock),
        recorder=lambda run: SilentRecorder(),
        check_parameters=lambda deployment, parameters: None,
        last_alive=last_alive,
        slice_s=VIRTUAL_SLICE_S,
        outside=outside,
    )


async def close_house(house: House, *, grace: timedelta = timedelta(seconds=30)) -> int:
    """Stop the services as the daemon does and close the database; return how many runs were cut off."""
    cut = await house.stop(grace)
    await house.store.aclose()
    return cut
