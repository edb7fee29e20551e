"""The submitted task runs of a flow: where they wait, who carries them, and how they end with their flow."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from tidemill.core.states import StateType
from tidemill.sdk.context import RunContext
from tidemill.sdk.definitions import TaskDefinition
from tidemill.sdk.driver import drive
from tidemill.sdk.futures import TaskFuture, futures_in, wait_for_all
from tidemill.sdk.runs import TaskRun
from tidemill.sdk.scopes import FlowRunContext
from tidemill.sdk.states import State
from tidemill.sdk.task_engine import crashed_by, new_task_run, run_task
from tidemill.sdk.task_runners import TaskRunner
from tidemill.sdk.ways import AWAITING, BLOCKING
from tidemill.sdk.workers import LoopWorkers, ThreadWorkers

DEFAULT_THREADS = 32
DEFAULT_ASYNC = 1_000


class _Submission:
    """One submitted task run, until it has ended."""

    __slots__ = ("begun", "future", "parameters", "run", "task", "wait_for")

    def __init__(
        self, task: TaskDefinition, parameters: dict[str, Any], wait_for: Any, run: TaskRun, future: TaskFuture[Any]
    ) -> None:
        self.task = task
        self.parameters = parameters
        self.wait_for = wait_for
        self.run = run
        self.future = future
        self.begun = False


class Submissions:
    """The submitted task runs of one flow run."""

    def __init__(self, runner: TaskRunner, context: RunContext) -> None:
        self._context = context
        self._limit = runner.max_workers
        self._lock = threading.Lock()
        self._open: dict[str, _Submission] = {}
        self.closed = False
        self._threads: ThreadWorkers | None = None
        self._loops: LoopWorkers | None = None

    def submit(
        self, task: TaskDefinition, parameters: dict[str, Any], wait_for: Any, flow: FlowRunContext
    ) -> TaskFuture[Any]:
        """Have a task run once what it is given has ended; return at once."""
        if self._context.told_to_end:
            self._context.check()
        run = new_task_run(task, self._context, flow)
        future: TaskFuture[Any] = TaskFuture(run.id, run.name)
        submission = _Submission(task, parameters, wait_for, run, future)
        with self._lock:
            if self.closed:
                raise RuntimeError(f"flow run {flow.flow_run.name} has ended; nothing more can be submitted to it")
            self._open[run.id] = submission
        inner = contextvars.copy_context()
        upstream = [each for each in (*futures_in(parameters), *futures_in(wait_for)) if not each.done]
        if not upstream:
            self._start(submission, inner)
            return future
        left = len(upstream)
        counting = threading.Lock()

        def tell(_future: TaskFuture[Any]) -> None:
            nonlocal left
            with counting:
                left -= 1
                if left:
                    return
            self._start(submission, inner)

        self._context.recorder.report(run.report())  # Pending: it may wait for long
        for each in upstream:
            each.add_done_callback(tell)
        return future

    def _start(self, submission: _Submission, inner: contextvars.Context) -> None:
        with self._lock:
            if submission.task.isasync and self._loops is None:
                shared = self._context.loop if self._context.shared_loop and not self._context.in_thread else None
                self._loops = LoopWorkers(self._limit or DEFAULT_ASYNC, self._context.job.run_name, shared)
            elif not submission.task.isasync and self._threads is None:
                self._threads = ThreadWorkers(self._limit or DEFAULT_THREADS, self._context.job.run_name)
            threads, loops = self._threads, self._loops
        if submission.task.isasync:
            assert loops is not None
            loops.submit(lambda: self._await(submission), inner)
        else:
            assert threads is not None
            threads.submit(lambda: inner.run(self._block, submission))

    def _block(self, submission: _Submission) -> None:
        """Carry a sync task run, in a thread."""
        if not self._begin(submission):
            return
        state: State | None = None
        try:
            state = drive(
                run_task(
                    submission.task,
                    submission.parameters,
                    self._context,
                    BLOCKING,
                    wait_for=submission.wait_for,
                    return_state=True,
                    run=submission.run,
                )
            )
        except BaseException as error:
            state = self._ended_by(submission, error)
        finally:
            self._end(submission, state or submission.run.state)

    async def _await(self, submission: _Submission) -> None:
        """Carry an async task run, on a loop."""
        if not self._begin(submission):
            return
        state: State | None = None
        try:
            state = await run_task(
                submission.task,
                submission.parameters,
                self._context,
                AWAITING,
                wait_for=submission.wait_for,
                return_state=True,
                run=submission.run,
            )
        except BaseException as error:
            state = self._ended_by(submission, error)
        finally:
            self._end(submission, state or submission.run.state)

    def _begin(self, submission: _Submission) -> bool:
        with self._lock:
            submission.begun = not submission.future.done
            return submission.begun

    def _ended_by(self, submission: _Submission, error: BaseException) -> State:
        """Return the state of a run that did not end by itself; what it raised goes no further than its future."""
        run = submission.run
        if not run.state.is_final():
            run.enter(crashed_by(error))
            self._context.recorder.report(run.report())
        return run.state

    def _end(self, submission: _Submission, state: State) -> None:
        with self._lock:
            self._open.pop(submission.run.id, None)
        submission.future.settle(state)

    # --- the flow's end ---------------------------------------------------------------------------------------------

    async def close(self, *, blocking: bool, failed: bool) -> None:
        """End with the flow: wait for what was submitted; what has not begun is cancelled if the flow ``failed``."""
        if failed:
            self._cancel_waiting()
        try:
            if not self._context.told_to_end:
                await self._wait(blocking)
        finally:
            with self._lock:
                self.closed = True
            self._cancel_waiting()
            if self._loops is not None:
                if self._context.told_to_end:
                    self._loops.cancel()
                self._loops.close()
            if self._threads is not None:
                self._threads.close()

    async def _wait(self, blocking: bool) -> None:
        while True:
            with self._lock:
                futures = [each.future for each in self._open.values()]
            if not futures:
                return
            if blocking:
                wait_for_all(futures)
            else:
                await asyncio.gather(*(future.wait_async() for future in futures))

    def _cancel_waiting(self) -> None:
        with self._lock:
            waiting = [each for each in self._open.values() if not each.begun]
            for each in waiting:
                del self._open[each.run.id]
        for each in waiting:
            each.run.enter(State(StateType.CANCELLED, message="The flow ended before the task run began."))
            self._context.recorder.report(each.run.report())
            each.future.settle(each.run.state)
