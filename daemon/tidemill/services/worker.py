"""The worker of one pool: takes due runs from its queues and carries them through the pool's runner.

A fixed number of tasks, one for each slot of the pool: a run costs no new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container
from datetime import datetime
from typing import Any, Protocol

import msgspec

from tidemill.clock import Clock
from tidemill.core.deployments import Deployment, FlowKind, FlowRef, Limits, WorkPool
from tidemill.core.ports import Cancellation, Detached, Job, Outcome, Recorder, RemoteRunner, Runner
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.services.catalogue import Catalogue
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.orchestrator import Orchestrator
from tidemill.services.wake import Pulse

logger = logging.getLogger("tidemill.worker")


class RunRecorder(Recorder, Protocol):
    """A recorder for one attempt, which ends with it."""

    def masked(self, value: Any) -> Any:
        """Return a JSON value with every secret masked."""
        ...

    async def settle(self, outcome: Outcome) -> str | None:
        """End the attempt's reports and make them durable; return what could not be kept, in words."""
        ...


class Live(msgspec.Struct, kw_only=True):
    """An attempt on its way."""

    run: FlowRun
    job: Job
    cancellation: Cancellation
    since: datetime


class Worker:
    """Carries the runs of one pool."""

    def __init__(
        self,
        *,
        pool: WorkPool,
        runner: Runner,
        dispatcher: Dispatcher,
        orchestrator: Orchestrator,
        catalogue: Catalogue,
        recorder: Callable[[FlowRun], RunRecorder],
        clock: Clock,
    ) -> None:
        self.pool = pool
        self.runner = runner
        self.live: dict[str, Live] = {}
        self._dispatcher = dispatcher
        self._orchestrator = orchestrator
        self._catalogue = catalogue
        self.concluded = Pulse()
        # Told (run id, number) of every attempt whose code has ended, also of what was left behind.
        self.attempt_ended: Callable[[str, int], None] = lambda run_id, attempt: None
        self._busy = 0  # attempts from being taken to being concluded
        self._recorder = recorder
        self._clock = clock
        self._staff: list[asyncio.Task[None]] = []
        self._at_work = False
        self._adopted: set[asyncio.Task[None]] = set()
        self._remote = runner if isinstance(runner, RemoteRunner) else None
        self._owner = owner_elsewhere(pool) if self._remote is not None else None

    async def run(self) -> None:
        """Carry runs until the dispatcher hands out nothing more and the last one has ended."""
        if self._remote is not None:
            self._reach_changed()
            self._remote.start(self._reach_changed)
        self._at_work = True
        self.staff()
        try:
            known = 0
            while known < len(self._staff):  # it may have grown meanwhile
                known = len(self._staff)
                await asyncio.gather(*self._staff)
            await asyncio.gather(*self._adopted)
        finally:
            self._at_work = False
            for task in (*self._staff, *self._adopted):
                task.cancel()

    def staff(self) -> None:
        """Have a task for each slot of the pool's limit in force; with fewer slots than tasks the rest are idle."""
        limit = self._catalogue.concurrency_limit("work_pool", self.pool.name) or self.pool.concurrency_limit
        for number in range(len(self._staff), limit if self._at_work else 0):
            name = f"worker {self.pool.name}/{number}"
            self._staff.append(asyncio.create_task(self._carry_on(), name=name))

    def _reach_changed(self) -> None:
        assert self._remote is not None
        self._dispatcher.hold_back(self.pool.name, self._remote.problem)

    async def _carry_on(self) -> None:
        while True:
            taken = await self._dispatcher.take(self.pool.name)
            if taken is None:
                return
            left: Job | None = None
            self._busy += 1
            try:
                left = await self.carry(taken)
            except Exception:
                # A fault of ours must cost one run, not the slot and every run after it.
                logger.exception("flow run %s (%s) could not be carried through", taken.name, taken.id)
            finally:
                self._busy -= 1
                self.concluded.tell()
            if left is not None:
                await self.runner.left(left)
            self.attempt_ended(taken.id, taken.attempt + 1)
            self._dispatcher.release(taken)

    async def drained(self) -> None:
        """Return when no attempt is on its way; code that was left behind is none."""
        while self._busy:
            await self.concluded.wait()

    async def carry(self, taken: FlowRun) -> Job | None:
        """Start, run and conclude one attempt; return its job where its code was left behind and still runs."""
        run = await self._orchestrator.begin(taken, owner=self._owner)
        if run is None:
            await self._dispatcher.put_back(taken)
            return None
        return await self._see_through(run, self._recorder(run))

    def adopt(self, run: FlowRun, recorder: RunRecorder) -> None:
        """Go on with an attempt that an earlier daemon began and that lives elsewhere; before :meth:`run`."""
        task = asyncio.create_task(self._adopt(run, recorder), name=f"worker {self.pool.name}/{run.name}")
        self._adopted.add(task)
        task.add_done_callback(self._adopted.discard)

    async def _adopt(self, run: FlowRun, recorder: RunRecorder) -> None:
        fields = {"run": run.id, "deployment": run.deployment}
        logger.info("%s: %s went on elsewhere", run.deployment or run.flow, run.name, extra={"fields": fields})
        taken = msgspec.structs.replace(run, attempt=run.attempt - 1)  # as it was when it was taken
        self._dispatcher.lineup.hold(taken)
        left: Job | None = None
        self._busy += 1
        try:
            left = await self._see_through(run, recorder, adopted=True)
        except Exception:
            logger.exception("flow run %s (%s) could not be followed", run.name, run.id)
        finally:
            self._busy -= 1
            self.concluded.tell()
        if left is not None:
            await self.runner.left(left)
        self.attempt_ended(run.id, run.attempt)
        self._dispatcher.release(taken)

    async def _see_through(self, run: FlowRun, recorder: RunRecorder, *, adopted: bool = False) -> Job | None:
        deployment = self._catalogue.deployments.get(run.deployment or "")
        job = job_of(run, deployment, self._catalogue)
        cancellation = Cancellation()
        if run.state.type is StateType.CANCELLING:
            cancellation.request(run.state.message or "cancelled")
        self.live[run.id] = Live(run=run, job=job, cancellation=cancellation, since=run.state.timestamp)
        try:
            if deployment is None and not adopted:
                outcome = _gone(run)
            else:
                if adopted:
                    assert self._remote is not None
                    outcome = await self._remote.adopt(job, recorder, cancellation)
                else:
                    outcome = await self.runner.run(job, recorder, cancellation)
                # A command's last line and an error's text become the state's message: secrets stay out of that, too.
                outcome = msgspec.structs.replace(
                    outcome, message=recorder.masked(outcome.message), data=recorder.masked(outcome.data)
                )
                problem = await recorder.settle(outcome)
                if problem is not None and outcome.type is StateType.COMPLETED:
                    outcome = Outcome(type=StateType.FAILED, name="Failed", message=problem)
            await self._conclude(run, outcome, deployment)
        except Detached as detached:
            if not detached.began:
                await self._orchestrator.change(
                    self.live[run.id].run, StateType.SCHEDULED, "Scheduled", "the daemon stopped before it could begin"
                )
            return None  # else it goes on without us
        finally:
            del self.live[run.id]
        return job if outcome.abandoned else None

    async def _conclude(self, run: FlowRun, outcome: Outcome, deployment: Deployment | None) -> None:
        try:
            await self._orchestrator.conclude(self.live[run.id].run, outcome, deployment)
        except Exception as error:
            # Code that ended must not leave a run behind that is running for ever.
            logger.exception("how flow run %s (%s) ended could not be kept", run.name, run.id)
            message = f"how it ended could not be kept: {type(error).__name__}"
            unkept = Outcome(type=StateType.FAILED, name="Failed", message=message, retriable=False)
            await self._orchestrator.conclude(self.live[run.id].run, unkept, deployment)

    def cancel(self, run: FlowRun, reason: str) -> bool:
        """Ask the attempt of ``run``, which is CANCELLING, to end; False: none of it is on its way here."""
        live = self.live.get(run.id)
        if live is None:
            return False
        live.run = run
        live.cancellation.request(reason)
        return True

    def detach(self) -> int:
        """Leave attempts that live elsewhere to themselves, because the daemon stops; return how many."""
        if self._remote is None:
            return 0
        count = len(self.live)
        self._remote.detach()
        return count

    def cancel_all(self, reason: str, *, only: Container[str] | None = None) -> int:
        """Cut off every attempt, or those of ``only`` these runs, because the daemon stops; return how many."""
        chosen = [live for live in self.live.values() if only is None or live.run.id in only]
        cut = sum(not live.cancellation.requested for live in chosen)
        for live in chosen:
            live.cancellation.request(reason, crashed=True)
        return cut


def owner_elsewhere(pool: WorkPool) -> str:
    """Return the owner of runs whose code lives on without this daemon, in a pool's cluster."""
    return f"{pool.type}:{pool.name}"


def job_of(run: FlowRun, deployment: Deployment | None, catalogue: Catalogue) -> Job:
    """Return what a runner is told of an attempt."""
    flow = (
        deployment.flow
        if deployment is not None
        else FlowRef(kind=FlowKind.BUILTIN, entrypoint=run.flow, name=run.flow)
    )
    return Job(
        run_id=run.id,
        run_name=run.name,
        attempt=run.attempt,
        flow=flow,
        deployment=run.deployment,
        parameters=run.parameters,
        tags=run.tags,
        timeout=deployment.timeout if deployment is not None else None,
        due=run.due,
        expected_start=run.expected_start,
        work_pool=run.work_pool,
        work_queue=run.work_queue,
        python=deployment.python if deployment is not None else None,
        limits=deployment.limits if deployment is not None else Limits(),
        deployment_id=catalogue.id_of("deployment", run.deployment) if run.deployment is not None else None,
        parent_flow_run_id=run.parent_run_id,
    )


def _gone(run: FlowRun) -> Outcome:
    message = f"deployment {run.deployment} is no longer in the configuration, so its code is not known"
    return Outcome(type=StateType.FAILED, name="Failed", message=message, retriable=False)
