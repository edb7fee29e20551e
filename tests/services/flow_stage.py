"""A daemon's services on a virtual clock, whose runs are coroutines with the real recorder."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from stage import NOON, Disk, World

from tidemill.config import Loaded, load
from tidemill.core.deployments import SecretRef
from tidemill.core.events import TaskRunChanged
from tidemill.core.ports import Cancellation, Job, Outcome
from tidemill.core.reports import Report, TaskReport
from tidemill.core.runs import FlowRun, LogRow, TaskRun
from tidemill.core.states import State, StateType
from tidemill.ids import Ids
from tidemill.services.catalogue import Catalogue
from tidemill.services.house import House
from tidemill.services.recorder import DaemonRecorder, RecorderHouse
from tidemill.store import Store, catalogue, instance, task_runs
from tidemill.telemetry.redaction import Redactor
from tidemill.testing import VIRTUAL_SLICE_S, VirtualLoop, close_house, run_virtually

DONE = Outcome(type=StateType.COMPLETED, name="Completed")
FLOW = '[deployments.job]\ncommand = "true"\n'
Flow = Callable[[DaemonRecorder, Job], Awaitable[Any]]


class FlowRunner:
    """A runner of coroutines: cancelled by cancelling, and left behind where they say so by ``deaf``."""

    def __init__(self, flows: Mapping[str, Flow], deaf: set[str]) -> None:
        self.flows, self.deaf = flows, deaf
        self.abandoned = 0
        self._left: dict[str, asyncio.Task[Any]] = {}

    async def run(self, job: Job, recorder: Any, cancellation: Cancellation) -> Outcome:
        task = asyncio.ensure_future(self._outcome(job, recorder))
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancellation.on_request(lambda: told.done() or told.set_result(None))
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        kind = StateType.CRASHED if cancellation.crashed else StateType.CANCELLED
        outcome = Outcome(type=kind, name=kind.capitalize(), message=cancellation.reason)
        if job.deployment in self.deaf:
            self._left[job.run_id] = task
            return Outcome(type=kind, name=kind.capitalize(), message=cancellation.reason, abandoned=True)
        task.cancel()
        await asyncio.wait({task})
        return outcome

    async def _outcome(self, job: Job, recorder: Any) -> Outcome:
        try:
            found = await self.flows[job.deployment or ""](recorder, job)
        except Exception as error:
            return Outcome(type=StateType.FAILED, name="Failed", message=str(error))
        return found if isinstance(found, Outcome) else Outcome(type=StateType.COMPLETED, name="Completed", data=found)

    async def left(self, job: Job) -> None:
        await asyncio.wait({self._left.pop(job.run_id)})

    async def aclose(self) -> None:
        return None


class FlowWorld(World):
    """A world whose daemons have real recorders."""

    def __init__(self, loop: VirtualLoop, folder: Path, start: datetime) -> None:
        super().__init__(loop, folder, start)
        self.lines: list[tuple[str, str]] = []  # run name, message
        self.tasks: list[TaskRunChanged] = []
        self.secrets = {"TOKEN": "c4n4ry-v4lue"}
        self.redactor = Redactor()
        self.recorders: RecorderHouse

    @contextlib.asynccontextmanager
    async def carries(
        self, flows: Mapping[str, Flow] | Flow, config: str = FLOW, *, deaf: tuple[str, ...] = ()
    ) -> AsyncIterator[House]:
        """A daemon with these flows, by deployment; one alone is that of ``job``."""
        house = await self.with_flows(flows if isinstance(flows, Mapping) else {"job": flows}, config, deaf=deaf)
        await self.started(house)
        try:
            yield house
        finally:
            if not self.disk.crashed:
                await close_house(house)

    async def with_flows(self, flows: Mapping[str, Flow], config: str, *, deaf: tuple[str, ...] = ()) -> House:
        self._seed += 1
        if self.disk.crashed:
            self.disk = Disk()
        loaded = self._load(config)
        ids = Ids(random.Random(self._seed))
        store = await Store.open(self.database, clock=self.clock, ids=ids, doors=self.disk.doors)
        recorders = self.recorders = RecorderHouse(
            store=store,
            clock=self.clock,
            ids=ids,
            redactor=self.redactor,
            secret=self._secret,
            tell=lambda lines: self.lines.extend(_told(*line) for line in lines),
            publish=lambda events: house.bus.publish(events),  # noqa: PLW0108 - there is no house yet
            lines_per_second=1000,
            keep_versions=loaded.settings.retention.keep_artifact_versions,
            tell_tasks=lambda events: house.bus.publish_task_runs(events),  # noqa: PLW0108
            tasks_wanted=lambda: house.bus.task_runs_wanted,
        )
        house = House(
            store=store,
            catalogue=Catalogue(
                loaded.settings,
                instance=store.instance_id,
                overrides=await store.read(catalogue.overrides),
                compiled=loaded.compiled,
            ),
            clock=self.clock,
            ids=ids,
            runner=lambda pool: FlowRunner(flows, set(deaf)),
            recorder=recorders.recorder,
            check_parameters=lambda deployment, parameters: None,
            last_alive=await store.read(instance.last_alive),
            slice_s=VIRTUAL_SLICE_S,
            script_recorder=recorders.outside,
        )
        recorders.answering = house.answers
        house.bus.listen(self.events.extend)
        house.bus.listen_to_task_runs(self.tasks.extend)
        return house

    def _load(self, config: str) -> Loaded:
        file = self.folder / "tidemill.toml"
        file.write_text(config)
        return load(file, environ=self.secrets)

    def _secret(self, ref: SecretRef) -> str:
        return self.secrets[ref.env or ""]

    async def finished(self, house: House, *deployments: str) -> list[FlowRun]:
        """Make a run of each deployment, wait until all have ended, and return them."""
        made = [await house.control.create_run(each) for each in deployments or ("job",)]
        return [await self.ended(house, run) for run in made]

    async def ended(self, house: House, run: FlowRun) -> FlowRun:
        return await house.waits.ended(run.id, None)

    async def task_runs(self, house: House, run: FlowRun) -> list[TaskRun]:
        return list(await house.store.read(lambda connection: task_runs.of_run(connection, run.seq)))


def _told(run: FlowRun, row: LogRow) -> tuple[str, str]:
    return run.name, row.message


def flows(folder: Path, main: Callable[[FlowWorld], Awaitable[Any]]) -> Any:
    """Run ``main`` in a world of flows; it takes no time."""

    async def begin(loop: VirtualLoop) -> Any:
        return await main(FlowWorld(loop, folder, NOON))

    return run_virtually(begin)


class Tasks:
    """Makes the reports of task runs, as the engine does."""

    def __init__(self, recorder: DaemonRecorder, clock: Any) -> None:
        self.recorder, self.clock, self._ids = recorder, clock, Ids(random.Random(99))

    def begin(self, name: str, *, flow_run_id: str | None = None) -> TaskReport:
        """Report a task run as RUNNING."""
        now = self.clock.now()
        report = TaskReport(
            id=self._ids.new(now),
            name=name,
            task_key=name,
            dynamic_key="0",
            state=State(type=StateType.RUNNING, name="Running", timestamp=now),
            created=now,
            start_time=now,
            flow_run_id=flow_run_id,
        )
        self.recorder.report(report)
        return report

    def end(self, begun: TaskReport, kind: StateType = StateType.COMPLETED, data: Any = None) -> None:
        """Report its end."""
        now = self.clock.now()
        state = State(type=kind, name=kind.capitalize(), timestamp=now, data=data)
        ended: Report = msgspec.structs.replace(begun, state=state, state_number=begun.state_number + 1, end_time=now)
        self.recorder.report(ended)
