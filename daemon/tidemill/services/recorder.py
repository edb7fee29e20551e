"""The recorder of runs inside the daemon: what flow code reports becomes log rows, log lines and artifacts."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tidemill.clock import Clock
from tidemill.core.deployments import SecretRef
from tidemill.core.events import ArtifactStored, Event
from tidemill.core.reports import ArtifactReport, LogReport, Question, Report
from tidemill.core.runs import Artifact, FlowRun, LogRow
from tidemill.errors import TidemillError
from tidemill.ids import Ids
from tidemill.sdk.canonical import canonical
from tidemill.store import Store, artifacts, logs
from tidemill.telemetry.floods import FloodGate
from tidemill.telemetry.redaction import Redactor

# Lines that flow code may report at once; a burst beyond it is cut at the rate of ``[log] max_lines_per_second``.
BURST = 1_000
LONGEST_LINE = 32 * 1024


class RunLogs:
    """Takes lines of all runs from any thread, in order, to the database's log lane and whoever listens.

    Lines of other threads are gathered and taken over by the loop in groups: a million printed lines are a few thousand
    wake-ups, not a million.
    """

    def __init__(
        self, *, store: Store, redactor: Redactor, tell: Callable[[Sequence[tuple[FlowRun, LogRow]]], None]
    ) -> None:
        self._store = store
        self._redactor = redactor
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._gathered: deque[tuple[FlowRun, LogRow]] = deque()
        self._called = False
        self._lock = threading.Lock()

    def take(self, run: FlowRun, report: LogReport) -> None:
        """Take one line; callable from any thread."""
        message = self._redactor.text(report.message)
        if len(message) > LONGEST_LINE:
            message = f"{message[:LONGEST_LINE]} … [{len(message) - LONGEST_LINE} characters cut]"
        row = LogRow(
            run=run.seq,
            run_id=run.id,
            at=report.at,
            level=report.level,
            logger=report.logger,
            message=message,
            task_run_id=report.task_run_id,
        )
        with self._lock:
            self._gathered.append((run, row))
            if self._called:
                return
            self._called = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self.drain)
        else:
            try:
                self._loop.call_soon_threadsafe(self.drain)
            except RuntimeError:
                return  # the loop is closed: an abandoned thread outlived the daemon's work

    def drain(self) -> None:
        """Hand over what was gathered."""
        with self._lock:
            lines = list(self._gathered)
            self._gathered.clear()
            self._called = False
        for _, row in lines:
            self._store.post(logs.LOGS, row)
        if lines:
            self._tell(lines)


class DaemonRecorder:
    """The recorder of one attempt."""

    __slots__ = ("_artifacts", "_closed", "_gate", "_house", "run")

    def __init__(self, house: RecorderHouse, run: FlowRun) -> None:
        self.run = run
        self._house = house
        self._gate: FloodGate | None = None
        self._artifacts: list[asyncio.Future[Artifact]] | None = None
        self._closed = False

    def report(self, report: Report) -> None:
        """Take a report; those of an attempt that has ended are refused without a word (it is fenced)."""
        if self._closed:
            return
        if isinstance(report, LogReport):
            self._line(report)
        else:
            self._artifact(report)

    async def flush(self) -> None:
        """Return when everything reported so far is durable."""
        self._house.logs.drain()
        await self._house.store.flush()

    async def ask(self, question: Question) -> Any:
        """Answer a question of the flow's code."""
        value = self._house.secret(question.ref)
        self._house.redactor.add(value)
        return value

    async def settle(self) -> str | None:
        """End the attempt's reports; return what could not be kept, in words."""
        self._closed = True
        if self._gate is not None:
            dropped = self._gate.close()
            if dropped:
                self._house.logs.take(self.run, self._house.dropped(dropped))
        problem = None
        for future in self._artifacts or ():
            try:
                await future
            except TidemillError as error:
                problem = f"an artifact could not be kept: {error}"
        return problem

    def _line(self, report: LogReport) -> None:
        gate = self._gate
        if gate is None:
            gate = self._gate = self._house.gate()
        admitted, dropped = gate.pass_one()
        if dropped:
            self._house.logs.take(self.run, self._house.dropped(dropped))
        if admitted:
            self._house.logs.take(self.run, report)

    def _artifact(self, report: ArtifactReport) -> None:
        house = self._house
        now = house.clock.now()
        artifact = Artifact(
            id=house.ids.new(now),
            key=report.key,
            version=0,
            type=report.type,
            text=canonical(house.redactor.value(report.data)),
            description=house.redactor.text(report.description) if report.description else report.description,
            run_id=self.run.id,
            task_run_id=report.task_run_id,
            deployment=self.run.deployment,
            created=now,
            keep_versions=report.keep_versions,
            new_version=report.new_version,
        )
        if threading.get_ident() == house.thread:
            self._submit(artifact)
        else:
            house.loop.call_soon_threadsafe(self._submit, artifact)

    def _submit(self, artifact: Artifact) -> None:
        if self._artifacts is None:
            self._artifacts = []
        future = self._house.store.submit(artifacts.ARTIFACTS, artifact)
        future.add_done_callback(lambda done: self._house.tell_artifact(artifact, done))
        self._artifacts.append(future)


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
    ) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.redactor = redactor
        self.secret = secret
        self.logs = RunLogs(store=store, redactor=redactor, tell=tell)
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._publish = publish
        self._lines_per_second = lines_per_second

    def recorder(self, run: FlowRun) -> DaemonRecorder:
        """Return the recorder of one attempt."""
        return DaemonRecorder(self, run)

    def tell_artifact(self, made: Artifact, stored: asyncio.Future[Artifact]) -> None:
        """Publish a new version; equal content made none."""
        if not stored.cancelled() and stored.exception() is None and stored.result().id == made.id:
            self._publish([ArtifactStored(stored.result())])

    def gate(self) -> FloodGate:
        """Return a new gate for one run's lines."""
        return FloodGate(rate=self._lines_per_second, burst=BURST, clock=self.clock)

    def dropped(self, count: int) -> LogReport:
        """Return the line that says how many lines were cut."""
        return LogReport(
            at=self.clock.now(), level=logging.WARNING, logger="tidemill", message=f"{count} lines dropped"
        )
