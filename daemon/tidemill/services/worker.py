"""The worker of one pool: takes due runs from its queues and carries them through the pool's runner.

A fixed number of tasks, one for each slot of the pool: a run costs no new one. When the pool's settings change, runs
that begin from then on have another runner; those that have begun keep theirs, which is closed after the last of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container
from datetime import datetime
from typing import Any, Protocol

import msgspec

from tidemill.clock import Clock
from tidemill.core.deployments import Deployment, FlowKind, FlowRef, Limits, Mode, WorkPool
from tidemill.core.ports import Cancellation, Detached, Job, Outcome, Recorder, RemoteRunner, Runner
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.errors import NotFoundError, StoreUnavailableError, TransitionError
from tidemill.services.catalogue import Catalogue
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.orchestrator import HEAL_S, Orchestrator
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
    runner: Runner
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
        attempt_ended: Callable[[str, int], None],
        clock: Clock,
    ) -> None:
        self.pool = pool
        self.runner = runner
        self.live: dict[str, Live] = {}
        self.starting: dict[str, FlowRun] = {}  # taken, with slots, until their start is on record
        self._dispatcher = dispatcher
        self._orchestrator = orchestrator
        self._catalogue = catalogue
        self.concluded = Pulse()
        # Told (run id, number) of every attempt whose code has ended, also of what was left behind.
        self.attempt_ended = attempt_ended
        self._busy = 0  # attempts from being taken to being concluded
        self._recorder = recorder
        self._clock = clock
        self._staff: list[asyncio.Task[None]] = []
        self._at_work = False
        self._adopted: set[asyncio.Task[None]] = set()
        self.retiring = False  # the configuration no longer has the pool: what runs ends, nothing more is taken
        self._users: dict[Runner, int] = {}  # attempts, with those left behind, that a runner carries
        self._former: list[Runner] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._remote = runner if isinstance(runner, RemoteRunner) else None

    async def run(self) -> None:
        """Carry runs until the dispatcher hands out nothing more, or the pool is gone, and the last one has ended."""
        self._at_work = True
        self._reach()
        self.staff()
        try:
            while waiting := [task for task in (*self._staff, *self._adopted) if not task.done()]:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
        finally:
            self._at_work = False
            for task in (*self._staff, *self._adopted):
                task.cancel()

    def take_over(self, pool: WorkPool, runner: Runner | None) -> None:
        """Go by other settings of the pool from now on; ``runner`` is for runs that begin now, None: as before."""
        self.pool = pool
        if self.retiring:
            self.retiring = False
            self._staff = [task for task in self._staff if not task.done()]
        if runner is not None:
            before, self.runner = self.runner, runner
            self._former.append(before)
            self._close_unused(before)
            self._remote = runner if isinstance(runner, RemoteRunner) else None
            if self._at_work:
                self._reach()
        self.staff()

    def retire(self) -> None:
        """Take nothing more. :meth:`run` returns when what runs has ended, unless :meth:`take_over` comes before."""
        self.retiring = True
        self._dispatcher.dismiss(self.pool.name)

    @property
    def abandoned(self) -> int:
        """How many attempts' code did not end when told and still runs."""
        return sum(runner.abandoned for runner in (self.runner, *self._former))

    async def aclose(self) -> None:
        """Close the runners, also those of earlier settings."""
        await asyncio.gather(*self._closing)
        former, self._former = self._former, []
        for runner in (*former, self.runner):
            await runner.aclose()

    def _close_unused(self, runner: Runner) -> None:
        if runner is self.runner or runner in self._users or runner not in self._former:
            return
        self._former.remove(runner)
        task = asyncio.create_task(self._close(runner), name=f"runner of {self.pool.name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, runner: Runner) -> None:
        try:
            await runner.aclose()
        except Exception:
            logger.exception("a runner of work pool %s could not be closed", self.pool.name)

    def _use(self, runner: Runner) -> Runner:
        self._users[runner] = self._users.get(runner, 0) + 1
        return runner

    def _leave(self, runner: Runner) -> None:
        left = self._users.pop(runner) - 1
        if left:
            self._users[runner] = left
        else:
            self._close_unused(runner)

    def staff(self) -> None:
        """Have a task for each slot of the pool's limit in force; with fewer slots than tasks the rest are idle."""
        limit = self._catalogue.concurrency_limit("work_pool", self.pool.name) or self.pool.concurrency_limit
        for number in range(len(self._staff), limit if self._at_work and not self.retiring else 0):
            name = f"worker {self.pool.name}/{number}"
            self._staff.append(asyncio.create_task(self._carry_on(), name=name))

    def _reach(self) -> None:
        """Find out whether runs can be carried at all, now and whenever that changes."""
        self._reach_changed()
        if self._remote is not None:
            self._remote.start(self._reach_changed)

    def _reach_changed(self) -> None:
        self._dispatcher.hold_back(self.pool.name, None if self._remote is None else self._remote.problem)

    async def _carry_on(self) -> None:
        while not self.retiring:
            taken = await self._dispatcher.take(self.pool.name)
            if taken is None:
                return
            left: Job | None = None
            runner = self._use(self.runner)
            self._busy += 1
            try:
                left = await self.carry(taken, runner)
            except Exception:
                # A fault of ours must cost one run, not the slot and every run after it.
                logger.exception("flow run %s (%s) could not be carried through", taken.name, taken.id)
            finally:
                self._busy -= 1
                self.concluded.tell()
            if left is not None:
                await runner.left(left)
            self._leave(runner)
            self.attempt_ended(taken.id, taken.attempt + 1)
            self._dispatcher.release(taken)

    async def drained(self) -> None:
        """Return when no attempt is on its way; code that was left behind is none."""
        while self._busy:
            await self.concluded.wait()

    async def carry(self, taken: FlowRun, runner: Runner) -> Job | None:
        """Start, run and conclude one attempt; return its job where its code was left behind and still runs."""
        if await self._shadowed(taken):
            return None
        owner = owner_elsewhere(self.pool) if self._remote is not None else None
        self.starting[taken.id] = taken
        try:
            run = await self._orchestrator.begin(taken, owner=owner)
        finally:
            del self.starting[taken.id]
        if run is None:
            await self._dispatcher.put_back(taken)
            return None
        return await self._see_through(run, self._recorder(run), runner)

    async def _shadowed(self, taken: FlowRun) -> bool:
        """Record a run that would have started where its deployment is in shadow mode; say whether it is."""
        deployment = self._catalogue.deployments.get(taken.deployment or "")
        if deployment is None or deployment.mode is not Mode.SHADOW:
            return False
        message = f'would have started now, in work pool {taken.work_pool}; mode = "shadow": nothing runs'
        while True:
            try:
                await self._orchestrator.change(taken, StateType.CANCELLED, "Shadow", message)
            except StoreUnavailableError:
                if self._orchestrator.stopping:
                    return True
                await self._clock.sleep(HEAL_S)
                continue
            except (TransitionError, NotFoundError):
                pass  # somebody was faster: cancelled, or deleted
            return True

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
        runner = self._use(self.runner)
        self._busy += 1
        try:
            left = await self._see_through(run, recorder, runner, adopted=True)
        except Exception:
            logger.exception("flow run %s (%s) could not be followed", run.name, run.id)
        finally:
            self._busy -= 1
            self.concluded.tell()
        if left is not None:
            await runner.left(left)
        self._leave(runner)
        self.attempt_ended(run.id, run.attempt)
        self._dispatcher.release(taken)

    async def _see_through(
        self, run: FlowRun, recorder: RunRecorder, runner: Runner, *, adopted: bool = False
    ) -> Job | None:
        deployment = self._catalogue.deployments.get(run.deployment or "")
        job = job_of(run, deployment, self._catalogue)
        cancellation = Cancellation()
        if run.state.type is StateType.CANCELLING:
            cancellation.request(run.state.message or "cancelled")
        self.live[run.id] = Live(run=run, job=job, runner=runner, cancellation=cancellation, since=run.state.timestamp)
        try:
            if deployment is None and not adopted:
                outcome = _gone(run)
            else:
                if adopted:
                    assert isinstance(runner, RemoteRunner)
                    outcome = await runner.adopt(job, recorder, cancellation)
                else:
                    outcome = await runner.run(job, recorder, cancellation)
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
        away = [runner for runner in (self.runner, *self._former) if isinstance(runner, RemoteRunner)]
        for runner in away:
            runner.detach()
        return sum(live.runner in away for live in self.live.values())

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
    """Return how a run ends whose turn came after its deployment had been removed: nothing failed."""
    message = f"deployment {run.deployment} is no longer in the configuration, so its code is not known"
    return Outcome(type=StateType.CANCELLED, name="Cancelled", message=message)
