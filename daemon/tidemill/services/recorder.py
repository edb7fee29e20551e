"""The recorder of runs inside the daemon: what flow code reports becomes rows, log lines, artifacts and events.

What is reported is checked and masked in the thread that reports it (services/records.py), so that the maker hears at
once of what cannot be kept, and taken over by the loop in order (services/intake.py). Questions go to
services/answers.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.deployments import SecretRef
from tidemill.core.events import ArtifactStored, ArtifactUpdated, Emitted, Event, TaskRunChanged
from tidemill.core.ports import Outcome
from tidemill.core.reports import (
    ArtifactReport,
    CacheReport,
    EventReport,
    LogReport,
    ProcessReport,
    Question,
    Report,
    SecretQuestion,
    SlotsReleased,
    SubflowEnded,
    TaskReport,
)
from tidemill.core.runs import Artifact, FlowRun, LogRow
from tidemill.core.states import State, StateType
from tidemill.errors import StoreUnavailableError, TidemillError
from tidemill.ids import Ids
from tidemill.services.intake import AGAIN_S, Intake, Task
from tidemill.services.records import Records, Update
from tidemill.store import Store, artifacts, emitted, processes, task_cache
from tidemill.store.artifacts import KEEP_VERSIONS
from tidemill.store.processes import RunProcess
from tidemill.telemetry.floods import FloodGate
from tidemill.telemetry.redaction import Redactor

# Lines that flow code may report at once; a burst beyond it is cut at the rate of ``[log] max_lines_per_second``.
BURST = 1_000


class Answering(Protocol):
    """Who answers an attempt's questions and hears of what it gives back."""

    async def answer(self, recorder: DaemonRecorder, question: Question) -> Any:
        """Return the answer; raises a TidemillError that says why not."""
        ...

    def release(self, recorder: DaemonRecorder, lease: str) -> None:
        """Take slots back."""
        ...

    def subflow_ended(self, recorder: DaemonRecorder, ended: SubflowEnded) -> None:
        """Take note of a subflow's end."""
        ...

    async def attempt_ends(self, recorder: DaemonRecorder, outcome: Outcome) -> None:
        """End what the attempt began and left open; its end is about to be recorded."""
        ...


class DaemonRecorder:
    """The recorder of one attempt. Once it is closed, reports are refused without a word: the attempt is fenced."""

    __slots__ = (
        "_closed",
        "_dropped_tasks",
        "_gate",
        "_house",
        "_kept",
        "_open_tasks",
        "_processes",
        "_told_tasks",
        "run",
        "sealed",
        "subflows",
        "trusted",
    )

    def __init__(self, house: RecorderHouse, run: FlowRun, *, trusted: bool = True) -> None:
        self.run = run
        self.trusted = trusted
        self.subflows: dict[str, FlowRun] = {}  # that this attempt began and that have not ended
        self.sealed = False
        self._house = house
        self._gate: FloodGate | None = None
        self._kept: list[asyncio.Future[Artifact]] | None = None
        self._open_tasks: dict[str, tuple[FlowRun, TaskReport]] = {}
        self._told_tasks = False
        self._processes = False
        self._dropped_tasks = 0
        self._closed = False

    # -- the port ----------------------------------------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Take a report, from any thread. Raises ``ValueError`` for what cannot be kept."""
        if self._closed:
            return
        if isinstance(report, LogReport):
            self._line(report)
            return
        run = self._run_of(report)
        if run is not None and (not isinstance(report, EventReport) or self._may_pass()):
            told: object = report
            if isinstance(report, TaskReport):
                self._house.records.check_task(report)
            elif isinstance(report, ArtifactReport):
                told = self._house.records.artifact(run, report)
            elif isinstance(report, CacheReport):
                told = self._house.records.cached(report)
            elif isinstance(report, EventReport):
                told = self._house.records.emitted(run, report)
            elif isinstance(report, ProcessReport) and not self.trusted:
                raise ValueError("a process that the daemon is to end is not named from outside")
            if told is not None:
                self._house.intake.put(self, run, told)

    async def flush(self) -> None:
        """Return when everything reported so far is durable."""
        self._house.intake.drain()
        self._house.intake.send_tasks()
        await self._house.store.flush()

    async def ask(self, question: Question) -> Any:
        """Answer a question of the flow's code; what it reported before is taken over first."""
        if isinstance(question, SecretQuestion):
            return self.reveal(question.ref)
        if self._closed:
            raise TidemillError(f"the attempt of flow run {self.run.name} that asks has ended")
        self._house.intake.drain()
        answering = self._house.answering
        if answering is None:
            raise TidemillError("nobody is there to answer")
        return await answering.answer(self, question)

    async def settle(self, outcome: Outcome) -> str | None:
        """End the attempt's reports and make them durable; return what could not be kept, in words."""
        house = self._house
        self._closed = True
        if self._gate is not None:
            dropped = self._gate.close()
            if dropped:
                house.intake.put(self, self.run, house.records.dropped(self.run, f"{dropped} lines dropped"))
        house.intake.drain()
        self.sealed = True
        if house.answering is not None:
            await house.answering.attempt_ends(self, outcome)
        if self._open_tasks:
            self._end_tasks(outcome)
        if self._dropped_tasks:
            text = f"{self._dropped_tasks} task runs were not kept: more than the database could take"
            house.intake.put(self, self.run, house.records.dropped(self.run, text))
            house.intake.drain()
        if self._told_tasks:
            await self._tasks_sent()
        problem = None
        for future in self._kept or ():
            try:
                await future
            except TidemillError as error:
                problem = f"an artifact could not be kept: {error}"
        if self._processes:
            house.store.post(processes.PROCESSES_ENDED, (self.run.seq, self.run.attempt))
        return problem

    # -- what the intake hands over ----------------------------------------------------------------------------------

    def take_over(self, run: FlowRun, told: object) -> bool:
        """Deal with what was reported, on the loop and in order; False: it is refused."""
        house = self._house
        match told:
            case TaskReport():
                self._told_tasks = True
                if told.state.is_terminal or told.state.name == "NotReady":  # will never begin, and says why
                    self._open_tasks.pop(told.id, None)
                else:
                    self._open_tasks[told.id] = (run, told)
            case Artifact():
                house.intake.send_tasks()
                self._keep(run, told)
            case Update():
                house.intake.send_tasks()
                house.store.post(artifacts.UPDATE_ARTIFACTS, told.artifact, event=ArtifactUpdated(told.artifact))
            case task_cache.Cached():
                house.publish_cached(told)
            case SlotsReleased() if house.answering is not None:
                house.answering.release(self, told.lease)
            case SubflowEnded() if house.answering is not None:
                house.answering.subflow_ended(self, told)
            case Emitted():
                row = emitted.EmittedRow(
                    run=run.seq, at=house.clock.now(), occurred=told.occurred, event=told.event, about=told.about
                )
                house.store.post(emitted.EMITTED, row)
                house.publish([told])
            case ProcessReport():
                self._processes = True
                process = RunProcess(self.run.seq, self.run.attempt, told.pid, told.birth, told.boot_id)
                house.store.post(processes.PROCESS_STARTED, process)
        return True

    def masked(self, value: Any) -> Any:
        """Return a JSON value with every secret masked."""
        return self._house.redactor.value(value)

    def reveal(self, ref: SecretRef) -> str:
        """Return a secret, which is masked everywhere from now on. Raises a TidemillError that says why not."""
        if not self.trusted:
            raise TidemillError("secrets are not given out here; a script reads its own")
        return self._house.reveal(ref)

    async def find_cached(self, key: str) -> Any:
        """Return ``{"value": …}`` of an earlier result of a task; None where there is none."""
        return await self._house.find_cached(key)

    def dropped_task(self, task: Task) -> None:
        """Count a task run that was not kept."""
        self._open_tasks.pop(task.id, None)
        self._dropped_tasks += 1

    # -- one kind at a time ------------------------------------------------------------------------------------------

    def _run_of(self, report: Report) -> FlowRun | None:
        """Return the run that a report is of; None: a subflow that has ended, or that this attempt never began."""
        own = getattr(report, "flow_run_id", None)
        if own is None or own == self.run.id or isinstance(report, SubflowEnded):
            return self.run
        return self.subflows.get(own)

    def _line(self, report: LogReport) -> None:
        run = self._run_of(report)
        if run is None:
            return
        if self._may_pass():
            self._house.intake.put(self, run, self._house.records.line(run, report))

    def _may_pass(self) -> bool:
        """Say whether a line or an event may pass: a flood of them is cut, and what was cut is said."""
        gate = self._gate
        if gate is None:
            gate = self._gate = self._house.gate()
        admitted, dropped = gate.pass_one()
        if dropped:
            self._house.intake.put(self, self.run, self._house.records.dropped(self.run, f"{dropped} lines dropped"))
        return admitted

    def _keep(self, run: FlowRun, artifact: Artifact) -> None:
        if self._kept is None:
            self._kept = []
        future = self._house.store.submit(artifacts.ARTIFACTS, artifact)
        future.add_done_callback(lambda done: self._house.tell_artifact(run, artifact, done))
        self._kept.append(future)

    def _end_tasks(self, outcome: Outcome) -> None:
        """A task run does not outlive its flow run, whatever its code goes on to do."""
        house = self._house
        kind = StateType.CANCELLED if outcome.type is StateType.CANCELLED else StateType.CRASHED
        now = house.clock.now()
        state = State(type=kind, name=kind.capitalize(), timestamp=now, message="its flow run ended before it did")
        for run, task in self._open_tasks.values():
            ended = replace(task, state=state, state_number=task.state_number + 1, end_time=now)
            house.intake.take_task(self, run, ended)
        self._open_tasks = {}

    async def _tasks_sent(self) -> None:
        """What the disk refuses for now is waited for, as the end of the run itself is."""
        while True:
            try:
                await self._house.intake.tasks_sent()
                return
            except StoreUnavailableError:
                await self._house.clock.sleep(AGAIN_S)


class RecorderHouse:
    """What the recorders of all runs share."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        ids: Ids,
        redactor: Redactor,
        secret: Callable[[SecretRef], str],
        tell: Callable[[Sequence[tuple[FlowRun, LogRow]]], None],
        publish: Callable[[Sequence[Event]], None],
        lines_per_second: int,
        keep_versions: int = KEEP_VERSIONS,
        tell_tasks: Callable[[Sequence[TaskRunChanged]], None] | None = None,
        tasks_wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store = store
        self.clock = clock
        self.redactor = redactor
        self.records = Records(clock=clock, ids=ids, redactor=redactor, keep_versions=keep_versions)
        self.answering: Answering | None = None
        self.publish = publish
        self.intake = Intake(
            store=store,
            tell_lines=tell,
            task_run=self.records.task_run,
            tell_tasks=tell_tasks,
            tasks_wanted=tasks_wanted,
        )
        self._secret = secret
        self._lines_per_second = lines_per_second
        self._unstored: dict[str, task_cache.Cached] = {}  # published, and not durable yet

    def go_by(self, *, lines_per_second: int, keep_versions: int) -> None:
        """Go by other limits from now on; a run whose lines are counted already keeps its own."""
        self._lines_per_second = lines_per_second
        self.records.keep_versions = keep_versions

    def recorder(self, run: FlowRun) -> DaemonRecorder:
        """Return the recorder of one attempt."""
        return DaemonRecorder(self, run)

    def outside(self, run: FlowRun) -> DaemonRecorder:
        """Return the recorder of an attempt whose code is not the daemon's: told no secrets, naming no process."""
        return DaemonRecorder(self, run, trusted=False)

    def reveal(self, ref: SecretRef) -> str:
        """Return a secret, which is masked everywhere from now on. Raises a TidemillError that says why not."""
        value = self._secret(ref)
        self.redactor.add(value)
        return value

    def gate(self) -> FloodGate:
        """Return a new gate for one run's lines."""
        return FloodGate(rate=self._lines_per_second, burst=BURST, clock=self.clock)

    # -- on the loop -------------------------------------------------------------------------------------------------

    def publish_cached(self, cached: task_cache.Cached) -> None:
        """Keep a result: it is durable together with the task states that were reported before it, or after them."""
        self.intake.send_tasks()
        self._unstored[cached.key] = cached
        future = self.store.submit(task_cache.CACHE, cached)
        future.add_done_callback(lambda done: self._stored(cached, done))

    def _stored(self, cached: task_cache.Cached, done: asyncio.Future[None]) -> None:
        if self._unstored.get(cached.key) is cached:
            del self._unstored[cached.key]
        if not done.cancelled() and (error := done.exception()) is not None:
            logging.getLogger("tidemill.recorder").warning("a task's result could not be cached: %s", error)

    async def find_cached(self, key: str) -> Any:
        """Return ``{"value": …}`` of an earlier result; None where there is none."""
        now = self.clock.now()
        coming = self._unstored.get(key)
        if coming is not None and (coming.expires is None or coming.expires > now):
            text: str | None = coming.text
        else:
            text = await self.store.read(lambda connection: task_cache.get(connection, key, now))
        return None if text is None else {"value": msgspec.json.decode(text)}

    def tell_artifact(self, run: FlowRun, made: Artifact, stored: asyncio.Future[Artifact]) -> None:
        """Publish a new version; equal content made none."""
        if not stored.cancelled() and stored.exception() is None and stored.result().id == made.id:
            self.publish([ArtifactStored(stored.result(), run.name)])
