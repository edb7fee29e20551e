"""The one engine for task runs: every task, sync or async, called, submitted or mapped, comes through here."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial
from typing import Any

from tidemill.core.reports import SlotsQuestion, SlotsReleased
from tidemill.core.states import StateType
from tidemill.sdk.context import RunContext, current_scope
from tidemill.sdk.definitions import TaskDefinition
from tidemill.sdk.exceptions import TaskRunTimeoutError, TerminationSignal, UpstreamTaskError
from tidemill.sdk.hooking import run_hooks, task_hooks
from tidemill.sdk.identity import new_id
from tidemill.sdk.outcomes import error_text, traceback_text
from tidemill.sdk.resolving import resolve, resolved
from tidemill.sdk.retrying import delay_before
from tidemill.sdk.runs import TaskRun, name_by
from tidemill.sdk.scopes import FlowRunContext, TaskRunContext, current_tags
from tidemill.sdk.states import State, state_of_return
from tidemill.sdk.task_cache import MISS, key_of, look_up, publish
from tidemill.sdk.transactions import TaskTransaction, get_transaction
from tidemill.sdk.ways import Way

_RUNNING = StateType.RUNNING
_FAILED = StateType.FAILED


def new_task_run(task: TaskDefinition, context: RunContext, flow: FlowRunContext | None) -> TaskRun:
    """Return a new run of ``task``, Pending."""
    now = context.clock.now()
    id_ = new_id(now)
    if flow is None:
        dynamic_key, name, flow_run_id, subflow_id = id_, task.name, None, None
    else:
        number = flow.next_key(task.task_key)
        dynamic_key, name = str(number), f"{task.name}-{number}"
        flow_run_id, subflow_id = flow.flow_run.id, flow.flow_run_id
    tags = current_tags()
    return TaskRun(
        id=id_,
        name=name,
        task_key=task.task_key,
        dynamic_key=dynamic_key,
        created=now,
        state=State(StateType.PENDING, timestamp=now),
        flow_run_id=flow_run_id,
        subflow_id=subflow_id,
        tags=tags | task.tags if tags else task.tags,
    )


async def run_task(
    task: TaskDefinition,
    parameters: dict[str, Any],
    context: RunContext,
    way: Way,
    *,
    wait_for: Any = None,
    return_state: bool = False,
    run: TaskRun | None = None,
) -> Any:
    """Run a task to its end and return its result, or its state with ``return_state``.

    Raises what the task raised, unless ``return_state``. A run whose inputs failed is NotReady and returns None.
    """
    engine = _TaskEngine(task, parameters, context, way, FlowRunContext.get(), run)
    engine.unseen = run is not None or return_state
    if way.blocking and context.told_to_end:
        context.check()
    token = current_scope.set(engine.scope)
    try:
        await engine.carry(wait_for)
    finally:
        current_scope.reset(token)
        if context._unfinished is not None:
            context.close(engine.run.id)
    if return_state:
        return engine.run.state
    if engine.raised is not None:
        raise engine.raised
    return engine.returned


class _TaskEngine:
    """One task run on its way."""

    __slots__ = (
        "context",
        "flow",
        "key",
        "parameters",
        "raised",
        "returned",
        "run",
        "scope",
        "task",
        "unseen",
        "way",
    )

    def __init__(
        self,
        task: TaskDefinition,
        parameters: dict[str, Any],
        context: RunContext,
        way: Way,
        flow: FlowRunContext | None,
        run: TaskRun | None,
    ) -> None:
        self.unseen = False  # True: nobody sees its exception being raised
        self.task = task
        self.parameters = parameters
        self.context = context
        self.way = way
        self.flow = flow
        self.run = run if run is not None else new_task_run(task, context, flow)
        self.key: str | None = None
        self.raised: BaseException | None = None
        self.returned: Any = None
        persist = task.persist_result
        log_prints = task.log_prints
        self.scope = TaskRunContext(
            attempt=context,
            task=task,
            task_run=self.run,
            parameters=parameters,
            flow_run_context=flow,
            log_prints=(flow is not None and flow.log_prints) if log_prints is None else log_prints,
            persist_result=(flow is not None and flow.persist_result) if persist is None else persist,
        )

    async def carry(self, wait_for: Any) -> None:
        """Run it to its last state."""
        try:
            if not self._ready(wait_for):
                return
            lease = await self._slots() if self.run.tags else None
            try:
                await self._begin()
                await self._attempts()
            finally:
                if lease:
                    self.context.recorder.report(SlotsReleased(lease=lease))
        except Exception as error:
            if not self.run.state.is_final():  # a name that cannot be made, a limit that is not there
                self._fail(error, None, f"Task run could not begin: {error_text(error)}")
            raise
        except GeneratorExit:
            raise
        except BaseException as error:
            # Not the task's own failure: somebody ends the whole run, or the process.
            if not self.run.state.is_final():
                self._enter(ended_by(error, self.context))
            raise
        state = self.run.state
        if hooks := task_hooks(self.task, state):
            await run_hooks(hooks, self.task, self.run, state, self.context, self.way)

    def _enter(self, state: State) -> None:
        self.run.enter(state)
        self.context.recorder.report(self.run.report())

    def _ready(self, wait_for: Any) -> bool:
        """Resolve what the run is given; False: an upstream run did not complete."""
        try:
            if self.parameters:
                self.parameters = self.scope.parameters = resolved(self.parameters)
            if wait_for is not None:
                resolve(list(wait_for) if isinstance(wait_for, list | tuple | set) else [wait_for])
        except UpstreamTaskError as error:
            self._enter(State(StateType.PENDING, name="NotReady", message=str(error)))
            return False
        named = self.task.task_run_name
        if named is not None:
            self.run.name = name_by(named, self.parameters, "task_run_name", self.task.name_takes_parameters)
        return True

    async def _slots(self) -> Any:
        """Take a slot of the limit of each tag that has one; return what is to be given back."""
        tags = self.run.tags
        if self.flow is not None and tags in self.flow.free_tags:
            return None
        lease = await self.way.ask(self.context, SlotsQuestion(names=tuple(f"tag:{tag}" for tag in sorted(tags))))
        if not lease and self.flow is not None:
            self.flow.free_tags.add(tags)
        return lease

    async def _begin(self, name: str | None = None) -> None:
        state = State(_RUNNING, name, timestamp=self.context.clock.now())
        self._enter(state)
        if self.task.on_running_hooks:
            await run_hooks(self.task.on_running_hooks, self.task, self.run, state, self.context, self.way)

    # --- attempts ---------------------------------------------------------------------------------------------------

    async def _attempts(self) -> None:
        task, context, way = self.task, self.context, self.way
        if self.scope.persist_result:
            self.key = self.run.cache_key = key_of(self.scope)
            if self.key is not None and not task.refresh_cache:
                kept = await look_up(self.key, task, context, way)
                if kept is not MISS:
                    await self._complete(kept, cached=True)
                    return
        used = 0
        call = partial(task.signature.call, self.parameters)
        if task.isgenerator:
            call = partial(_listed, call)
        while True:
            try:
                result = await way.call(call, task.timeout_seconds, TaskRunTimeoutError)
            except TimeoutError as error:
                if await self._again(error, used):
                    used += 1
                    continue
                own = isinstance(error, TaskRunTimeoutError)
                self._fail(
                    error,
                    "TimedOut",
                    f"Task run exceeded timeout of {task.timeout_seconds} second(s)"
                    if own
                    else f"Task run failed due to timeout: {error!r}",
                )
                return
            except Exception as error:
                if await self._again(error, used):
                    used += 1
                    continue
                self._fail(error, None, f"Task run encountered an exception {error_text(error)}")
                return
            if isinstance(result, State) and result.type is _FAILED and await self._again(result, used):
                used += 1
                continue
            await self._complete(result)
            return

    async def _again(self, failure: Exception | State, used: int) -> bool:
        """Decide whether there is another attempt, and wait for its time."""
        task, context = self.task, self.context
        what = f"{'state' if isinstance(failure, State) else 'exception'}: {failure!r}"
        if used >= task.retries or not await self._wants_retry(failure):
            exhausted = " - Retries are exhausted" if used and used >= task.retries else ""
            told = f"\n{traceback_text(failure)}" if self.unseen and isinstance(failure, Exception) else ""
            context.log(f"Task run failed with {what}{exhausted}{told}", logging.ERROR)
            return False
        delay = delay_before(task, used)
        when = f"{delay:g} second(s) from now" if delay else "immediately"
        context.log(f"Task run failed with {what} - Retry {used + 1}/{task.retries} will start {when}", logging.INFO)
        if delay:
            now = context.clock.now()
            waiting = State(StateType.SCHEDULED, name="AwaitingRetry", message=what, timestamp=now)
            waiting.state_details.scheduled_time = now + timedelta(seconds=delay)
            self._enter(waiting)
            await self.way.sleep(context, delay)
        elif self.way.blocking:
            context.check()
        await self._begin("Retrying")
        return True

    async def _wants_retry(self, failure: Exception | State) -> bool:
        condition = self.task.retry_condition_fn
        if condition is None:
            return True
        kind = "state" if isinstance(failure, State) else "exception"
        state = State(_FAILED, message=f"Task run encountered unexpected {kind}: {failure!r}", data=failure)
        try:
            return bool(await self.way.finish(condition(self.task, self.run, state)))
        except Exception as error:
            told = traceback_text(error)
            self.context.log(f"retry_condition_fn of task {self.task.name} raised an error\n{told}", logging.ERROR)
            return False

    def _fail(self, error: Exception, name: str | None, message: str) -> None:
        self.raised = error
        self._enter(State(_FAILED, name=name, message=message, data=error, timestamp=self.context.clock.now()))

    async def _complete(self, result: Any, *, cached: bool = False) -> None:
        state = state_of_return(result)
        if cached:
            state.name = "Cached"
        if state is not result:
            state.timestamp = self.context.clock.now()
        self.returned = result
        task = self.task
        if state.is_completed():
            parent = get_transaction()
            if parent is not None or task.on_rollback_hooks or task.on_commit_hooks:
                self._enter(state)
                await TaskTransaction(self, state, parent, cached).settle(self.way.finish)
                return
            if not cached:
                self.publish(state.data)
        self._enter(state)

    def publish(self, value: Any) -> None:
        """Keep the result under the run's key, if it has one."""
        if self.key is None:
            return
        expiration = self.task.cache_expiration
        expires = None if expiration is None else self.context.clock.now() + expiration
        publish(self.key, value, self.task, self.context, expires)

    def rolled_back(self) -> None:
        """Tell that the run's transaction was rolled back."""
        message = "Task rolled back as part of transaction"
        self._enter(State(StateType.COMPLETED, name="RolledBack", message=message, data=self.run.state.data))


def _listed(call: Any) -> list[Any]:
    return list(call())


def ended_by(error: BaseException, context: RunContext) -> State:
    """Return the state of a task run or a subflow that ends because its flow run is told to, or its process."""
    if context.ending == "cancel" and isinstance(error, asyncio.CancelledError | TerminationSignal):
        return State(StateType.CANCELLED, message="its flow run was cancelled")
    return crashed_by(error)


def crashed_by(error: BaseException) -> State:
    """Return the state of a run that was ended from outside its own code."""
    if isinstance(error, asyncio.CancelledError):
        message = "Execution was cancelled by the runtime environment."
    elif isinstance(error, KeyboardInterrupt):
        message = "Execution was aborted by an interrupt signal."
    elif isinstance(error, TerminationSignal):
        message = "Execution was aborted by a termination signal."
    elif isinstance(error, SystemExit):
        message = "Execution was aborted by Python system exit call."
    else:
        message = f"Execution was interrupted by an unexpected exception: {error_text(error)}"
    return State(StateType.CRASHED, message=message, data=error)
