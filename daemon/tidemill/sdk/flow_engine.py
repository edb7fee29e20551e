"""The one engine for flow runs: a deployment's attempt, a subflow, and a flow called in a script."""

from __future__ import annotations

import asyncio
import inspect
import logging
from datetime import timedelta
from functools import partial
from typing import Any

from msgspec.structs import replace

from tidemill.core.ports import Outcome
from tidemill.core.reports import SubflowEnded, SubflowQuestion
from tidemill.core.states import StateType
from tidemill.errors import EntrypointError
from tidemill.sdk.context import FLOW, RunContext, current_scope
from tidemill.sdk.definitions import FlowDefinition
from tidemill.sdk.documents import as_document
from tidemill.sdk.exceptions import (
    FlowRunTimeoutError,
    ParameterTypeError,
    TerminationSignal,
    UpstreamTaskError,
)
from tidemill.sdk.futures import futures_in
from tidemill.sdk.hooking import flow_hooks, run_hooks
from tidemill.sdk.identity import new_id, new_name
from tidemill.sdk.outcomes import error_text, failed, outcome_of, told_traceback
from tidemill.sdk.resolving import holds_futures, resolve, resolved, to_states
from tidemill.sdk.retrying import delay_before
from tidemill.sdk.runs import FlowRun, TaskRun, name_by
from tidemill.sdk.scopes import FlowRunContext, TaskRunContext, current_tags, reset_tags, set_tags
from tidemill.sdk.signatures import check_parameters
from tidemill.sdk.states import State, result_of, state_of_return
from tidemill.sdk.submissions import Submissions
from tidemill.sdk.task_engine import crashed_by, ended_by
from tidemill.sdk.ways import AWAITING, BLOCKING, Way, finished

_FAILED = StateType.FAILED
_NOTHING: Any = object()


async def run_attempt(flow: FlowDefinition, parameters: dict[str, Any], context: RunContext) -> Outcome:
    """Run one attempt of a deployment's flow and return how it ended. Retries of it are the daemon's.

    A sync flow never suspends: drive it in the thread that is to run it. Set ``context.current`` before. Once the run
    is told to end this raises ``asyncio.CancelledError`` or ``TerminationSignal``, after the flow's hooks.
    """
    found = check_parameters(flow.checked, parameters)
    if found:
        return failed(EntrypointError(f'"{context.job.flow.entrypoint}": {"; ".join(map(str, found))}'))
    signature = flow.signature
    if len(parameters) < len(signature.parameters) or signature.keywords is not None:
        parameters = signature.bind((), parameters)
    job = context.job
    run = FlowRun(
        id=job.run_id,
        name=job.run_name,
        flow_name=flow.name,
        flow_version=flow.version,
        parameters=parameters,
        tags=frozenset(job.tags),
        run_count=job.attempt,
        state=State(StateType.RUNNING, name="Retrying" if job.attempt > 1 else None, timestamp=context.clock.now()),
        expected_start_time=job.expected_start,
        deployment=job.deployment,
        deployment_id=job.deployment_id,
        parent_flow_run_id=job.parent_flow_run_id,
        work_pool_name=job.work_pool,
        work_queue_name=job.work_queue,
    )
    engine = FlowEngine(flow, run, context, BLOCKING if not flow.isasync else AWAITING, parent=None, subflow_id=None)
    engine.keeps_timeout = not context.timeout_is_kept
    await engine.attempt(parameters, last=True)
    outcome = engine.outcome()
    policy = flow.retry_policy
    return outcome if policy is None else replace(outcome, retry=policy)


async def run_flow(
    flow: FlowDefinition,
    parameters: dict[str, Any],
    context: RunContext,
    way: Way,
    *,
    run: FlowRun | None = None,
    wait_for: Any = None,
    return_state: bool = False,
) -> Any:
    """Run a flow with its retries and return its result, or its state with ``return_state``.

    ``run`` is a script's flow run, which its recorder has begun; without one the flow is a subflow of the run that
    ``context`` is of.
    """
    parent = FlowRunContext.get() if run is None else None
    call = _FlowCall(flow, parameters, context, way, parent, run)
    await call.carry(wait_for)
    return call.state if return_state else call.result()


class FlowEngine:
    """One flow run on its way."""

    def __init__(
        self,
        flow: FlowDefinition,
        run: FlowRun,
        context: RunContext,
        way: Way,
        *,
        parent: FlowRunContext | None,
        subflow_id: str | None,
    ) -> None:
        self.flow = flow
        self.run = run
        self.context = context
        self.way = way
        self.parent = parent
        self.subflow_id = subflow_id
        self.keeps_timeout = True
        self.state = run.state
        self.raised: BaseException | None = None
        self.returned: Any = _NOTHING

    async def attempt(self, parameters: dict[str, Any], *, last: bool) -> None:
        """Run the flow's code once. ``last``: its failure is final, and its hooks are called."""
        flow, context, run = self.flow, self.context, self.run
        self.raised, self.returned = None, _NOTHING
        log_prints, persist = flow.log_prints, flow.persist_result
        parent = self.parent
        scope = FlowRunContext(
            attempt=context,
            flow=flow,
            flow_run=run,
            parameters=parameters,
            make_submissions=partial(Submissions, flow.task_runner, context),
            parent=parent,
            subflow_id=self.subflow_id,
            log_prints=flow.plain or ((parent is not None and parent.log_prints) if log_prints is None else log_prints),
            persist_result=(parent is not None and parent.persist_result) if persist is None else persist,
        )
        token = current_scope.set(scope)
        tags_token = set_tags(run.tags) if run.tags else None
        try:
            try:
                self.state = await self._called(scope)
            except (asyncio.CancelledError, TerminationSignal) as error:
                if context.told_to_end:
                    await self._ended(error)
                    raise
                self.state, self.raised = crashed_by(error), error
                if flow.plain:
                    raise
            except GeneratorExit:
                raise
            except BaseException as error:
                self.state, self.raised = crashed_by(error), error
                self._tell_traceback(error)
            if scope.submissions is not None:
                await scope.submissions.close(blocking=self.way.blocking, failed=not self.state.is_completed())
            self.state.state_details.flow_run_id = run.id
            run.state = self.state
            if last or self.state.type is not _FAILED:
                await self._hooks(self.state)
        finally:
            if scope.submissions is not None and not scope.submissions.closed:
                await scope.submissions.close(blocking=self.way.blocking, failed=True)
            if tags_token is not None:
                reset_tags(tags_token)
            current_scope.reset(token)

    async def _called(self, scope: FlowRunContext) -> State:
        """Validate, name, call; return the state that it came to."""
        flow, context, way = self.flow, self.context, self.way
        if flow.should_validate_parameters and scope.parameters:
            try:
                scope.parameters = self.run.parameters = flow.signature.coerced(scope.parameters)
            except ParameterTypeError as error:
                self.raised = error
                message = f"Validation of flow parameters failed with error: {error}"
                context.log(message, logging.ERROR, FLOW)
                return State(_FAILED, message=message, data=error)
        if flow.flow_run_name is not None:
            self.run.name = name_by(flow.flow_run_name, scope.parameters, "flow_run_name")
        self.run.start_time = self.run.start_time or context.clock.now()
        if flow.on_running_hooks:
            await self._hooks(self.run.state)
        timeout_s = flow.timeout_seconds if self.keeps_timeout else None
        try:
            value = await way.call(partial(flow.signature.call, scope.parameters), timeout_s, FlowRunTimeoutError)
            if way.blocking and inspect.iscoroutine(value):
                value = finished(value)  # a plain function may still hand out a coroutine
            if holds_futures(value):
                if not way.blocking:
                    await asyncio.gather(*(future.wait_async() for future in futures_in(value)))
                value = to_states(value)
        except TimeoutError as error:
            if flow.plain and not isinstance(error, FlowRunTimeoutError):
                return self._failure(error)
            self.raised = error
            own = isinstance(error, FlowRunTimeoutError)
            message = (
                f"Flow run exceeded timeout of {flow.timeout_seconds} second(s)"
                if own
                else f"Flow run failed due to timeout: {error!r}"
            )
            context.log(message, logging.ERROR, FLOW)
            return State(_FAILED, name="TimedOut", message=message, data=error)
        except Exception as error:
            return self._failure(error)
        self.returned = value
        return state_of_return(value)

    def _failure(self, error: Exception) -> State:
        self.raised = error
        self._tell_traceback(error)
        return State(_FAILED, message=f"Flow run encountered an exception: {error_text(error)}", data=error)

    def _tell_traceback(self, error: BaseException) -> None:
        told = told_traceback(error)
        if told is not None:
            self.context.log(told, logging.ERROR, FLOW)

    async def _hooks(self, state: State) -> None:
        hooks = flow_hooks(self.flow, state)
        if hooks:
            await run_hooks(hooks, self.flow, self.run, state, self.context, self.way)

    async def _ended(self, error: BaseException) -> None:
        """The run was told to end: call the hooks that this means."""
        ending = self.context.ending
        if ending == "timeout":
            state = State(_FAILED, name="TimedOut", message="Flow run exceeded its timeout", data=error)
        elif ending == "crash":
            state = State(StateType.CRASHED, message="The daemon stopped.", data=error)
        else:
            state = State(StateType.CANCELLING, message="Flow run was cancelled.")
        self.run.state = self.state = state
        self.raised = error
        hooks = flow_hooks(self.flow, state)
        if hooks:
            self.context.told_to_end = False  # the hooks may still ask and wait, within the grace
            try:
                await run_hooks(hooks, self.flow, self.run, state, self.context, self.way)
            finally:
                self.context.told_to_end = True

    def outcome(self) -> Outcome:
        """Return what the attempt amounts to."""
        if self.flow.plain and self.raised is not None:
            return failed(self.raised)
        outcome = outcome_of(self.state)
        if isinstance(self.raised, ParameterTypeError):
            outcome = replace(outcome, message=self.state.message, retriable=False)
        return outcome


class _FlowCall:
    """A flow that is called by code: a subflow, or a script's flow."""

    def __init__(
        self,
        flow: FlowDefinition,
        parameters: dict[str, Any],
        context: RunContext,
        way: Way,
        parent: FlowRunContext | None,
        run: FlowRun | None,
    ) -> None:
        self.flow = flow
        self.parameters = parameters
        self.context = context
        self.way = way
        self.parent = parent
        self.run = run
        self.state = State(StateType.PENDING)
        self.raised: BaseException | None = None
        self.returned: Any = _NOTHING

    async def carry(self, wait_for: Any) -> None:
        """Run it to its last state."""
        context, way = self.context, self.way
        if way.blocking and context.told_to_end:
            context.check()
        try:
            self.parameters = resolved(self.parameters)
            if wait_for is not None:
                resolve(list(wait_for) if isinstance(wait_for, list | tuple | set) else [wait_for])
        except UpstreamTaskError as error:
            self.state = State(StateType.PENDING, name="NotReady", message=str(error))
            return
        if self.run is not None:
            await self._attempts(self.run, None)
            return
        stand_in = self._stand_in()
        run = await self._begin(stand_in)
        try:
            await self._attempts(run, run.id)
        except BaseException as error:
            if not self.state.is_final():
                self.state = ended_by(error, context)
            raise
        finally:
            state = self.state
            document = as_document(state.data) if state.is_completed() else None
            context.recorder.report(SubflowEnded(flow_run_id=run.id, state=state.told(document)))
            stand_in.enter(State(state.type, name=state.name, message=state.message))
            context.recorder.report(stand_in.report())
            self.state.state_details.task_run_id = stand_in.id

    def _stand_in(self) -> TaskRun:
        """Return the task run that stands for the subflow in its parent."""
        now = self.context.clock.now()
        parent = self.parent
        number = parent.next_key(self.flow.name) if parent is not None else 0
        run = TaskRun(
            id=new_id(now),
            name=f"{self.flow.name}-{number}",
            task_key=self.flow.name,
            dynamic_key=str(number),
            created=now,
            state=State(StateType.PENDING, timestamp=now),
            flow_run_id=parent.flow_run.id if parent is not None else None,
            subflow_id=parent.flow_run_id if parent is not None else None,
            tags=current_tags(),
        )
        run.enter(State(StateType.RUNNING, timestamp=now))
        self.context.recorder.report(run.report())
        return run

    async def _begin(self, stand_in: TaskRun) -> FlowRun:
        """Begin the subflow's own flow run."""
        flow, context, parent = self.flow, self.context, self.parent
        tags = current_tags()
        task = TaskRunContext.get()
        name = self._early_name()
        id_ = await self.way.ask(
            context,
            SubflowQuestion(
                flow=flow.name,
                name=name,
                parameters={key: as_document(value) for key, value in self.parameters.items()},
                tags=tuple(sorted(tags)),
                parent_flow_run_id=parent.flow_run_id if parent is not None else None,
                parent_task_run_id=stand_in.id,
                timeout=None if flow.timeout_seconds is None else timedelta(seconds=flow.timeout_seconds),
            ),
        )
        now = context.clock.now()
        upper = parent.flow_run if parent is not None else None
        return FlowRun(
            id=str(id_),
            name=name,
            flow_name=flow.name,
            flow_version=flow.version,
            parameters=self.parameters,
            tags=tags,
            state=State(StateType.RUNNING, timestamp=now),
            expected_start_time=now,
            parent_flow_run_id=upper.id if upper is not None else context.job.run_id,
            parent_task_run_id=task.task_run.id if task is not None else stand_in.id,
            parent_deployment=upper.deployment or upper.parent_deployment if upper is not None else None,
            root_flow_run_id=upper.root_flow_run_id if upper is not None else context.job.run_id,
        )

    def _early_name(self) -> str:
        """Return the run's name, as it is begun under it."""
        named = self.flow.flow_run_name
        if isinstance(named, str):
            try:
                return name_by(named, self.parameters, "flow_run_name")
            except ValueError:
                return new_name()  # told when the flow is called
        return new_name()

    async def _attempts(self, run: FlowRun, subflow_id: str | None) -> None:
        flow, context = self.flow, self.context
        engine = FlowEngine(flow, run, context, self.way, parent=self.parent, subflow_id=subflow_id)
        used = 0
        while True:
            run.run_count += 1
            try:
                await engine.attempt(self.parameters, last=used >= flow.retries)
            finally:
                self.state, self.raised, self.returned = engine.state, engine.raised, engine.returned
            retriable = engine.state.type is _FAILED and not isinstance(engine.raised, ParameterTypeError)
            if not retriable or used >= flow.retries:
                break
            delay = delay_before(flow, used)
            used += 1
            when = f"{delay:g} second(s) from now" if delay else "immediately"
            context.log(f"Flow run {run.name} failed - Retry {used}/{flow.retries} will start {when}", logging.INFO)
            if delay:
                await self.way.sleep(context, delay)
            run.state = State(StateType.RUNNING, name="Retrying", timestamp=context.clock.now())
        if self.raised is not None and not isinstance(self.raised, Exception):
            raise self.raised  # the process is to end, or the surrounding code was cancelled

    def result(self) -> Any:
        """Return what the call gives, as Prefect has it: a returned state is asked for its result."""
        if self.returned is not _NOTHING and not isinstance(self.returned, State):
            return self.returned
        if self.raised is not None:
            raise self.raised
        return result_of(self.state)
