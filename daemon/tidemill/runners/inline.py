"""The runner of inline pools: async flows in the daemon's own loop, sync ones in a thread.

It is for code that waits. Code that computes holds everything else up, and belongs into a process pool.

Code cannot be forced to end. An async flow is cancelled; a sync one can only be waited for. What has not ended when the
grace is over is left behind: its run gets its outcome, and the code is counted as abandoned until it ends after all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tidemill.clock import Clock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job, Outcome, Recorder, Threads
from tidemill.errors import EntrypointError
from tidemill.flows.builtins import BuiltinFlow
from tidemill.runners.lag import LagMonitor
from tidemill.runners.outcomes import completed, failed, stopped, timed_out, told_traceback
from tidemill.sdk.blocking import may_block
from tidemill.sdk.context import FLOW, RunContext, current
from tidemill.sdk.deadline import HEEDING_S, Interruptible
from tidemill.sdk.definitions import FlowDefinition
from tidemill.sdk.driver import drive
from tidemill.sdk.entrypoints import Generation
from tidemill.sdk.exceptions import TerminationSignal
from tidemill.sdk.flow_engine import run_attempt
from tidemill.sdk.flows import as_flow


class _Prepared(NamedTuple):
    """A flow whose code is loaded: how it is called, which gives its result or its outcome, and its own timeout."""

    call: Callable[[RunContext, Interruptible], Awaitable[Any]]
    timeout: timedelta | None = None


class InlineRunner:
    """Runs flows in the process of the daemon."""

    def __init__(
        self,
        *,
        pool: WorkPool,
        builtins: Mapping[str, BuiltinFlow],
        flows_dir: Path,
        threads: Threads,
        clock: Clock,
        grace: timedelta,
        lag: LagMonitor | None = None,
        generation: Generation | None = None,
    ) -> None:
        self.pool = pool
        self.lag = lag
        self._builtins = builtins
        self._flows_dir = flows_dir
        self._threads = threads
        self._clock = clock
        self._grace_s = grace.total_seconds()
        self._generation = generation  # None: made with the first flow
        self._prepared: dict[str, _Prepared] = {}  # by entrypoint
        self._left: dict[tuple[str, int], asyncio.Task[Outcome]] = {}

    @property
    def abandoned(self) -> int:
        return len(self._left)

    async def left(self, job: Job) -> None:
        task = self._left.get((job.run_id, job.attempt))
        if task is not None:
            await asyncio.wait([task])

    def warm(self, refs: Iterable[FlowRef]) -> None:
        """Import the code of ``refs`` now, not at their first run. Raises ``EntrypointError`` for the first bad one."""
        for ref in refs:
            self._prepared[ref.entrypoint] = self._prepare(ref)

    def reload(self) -> None:
        """Import the flows' code anew from now on; runs that have begun keep theirs."""
        self._prepared.clear()
        self._generation = None

    async def run(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        if cancellation.requested:
            return stopped(cancellation, abandoned=False)
        loop = asyncio.get_running_loop()
        attempt = _Attempt(self, RunContext(job, recorder, self._clock, loop=loop), cancellation, self._grace_s)
        return await attempt.carry(loop)

    async def aclose(self) -> None:
        """Forget the flows' code. The built-in flows belong to whoever made them."""
        self._prepared.clear()

    def left_behind(self, job: Job, task: asyncio.Task[Outcome]) -> None:
        """Count an attempt's code as abandoned until ``task`` ends."""
        attempt = (job.run_id, job.attempt)
        self._left[attempt] = task
        task.add_done_callback(partial(self._came_to_its_end, attempt))

    def _came_to_its_end(self, attempt: tuple[str, int], task: asyncio.Task[Outcome]) -> None:
        del self._left[attempt]
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains that it was not

    def prepared(self, ref: FlowRef) -> _Prepared | None:
        """Return the flow's code if it is loaded."""
        return self._prepared.get(ref.entrypoint)

    async def prepare(self, ref: FlowRef) -> _Prepared:
        """Import the flow's code, in a thread as it may take its time."""
        generation = self._generation
        prepared = await self._threads.run(partial(self._prepare, ref))
        if generation is self._generation or generation is None:
            self._prepared[ref.entrypoint] = prepared
        return prepared

    def _prepare(self, ref: FlowRef) -> _Prepared:
        if ref.kind is FlowKind.BUILTIN:
            builtin = self._builtins.get(ref.entrypoint)
            if builtin is None:
                known = ", ".join(sorted(self._builtins))
                raise EntrypointError(f'"{ref.entrypoint}": there is no such built-in flow; there are: {known}')
            return _Prepared(_of_builtin(builtin))
        if self._generation is None:
            self._generation = Generation(self._flows_dir)
        flow = as_flow(self._generation.load(ref))
        timeout = None if flow.timeout_seconds is None else timedelta(seconds=flow.timeout_seconds)
        if flow.isasync and not may_block(flow):
            return _Prepared(partial(_in_loop, flow), timeout)
        run = _blocking_in_thread if not flow.isasync else _awaiting_in_thread
        return _Prepared(partial(self._in_thread, flow, run), timeout)

    async def _in_thread(
        self,
        flow: FlowDefinition,
        run: Callable[[FlowDefinition, RunContext], Outcome],
        context: RunContext,
        interruptible: Interruptible,
    ) -> Outcome | None:
        result: Outcome | _Raised | None = await self._threads.run(
            partial(_contained, flow, run, context, interruptible)
        )
        if isinstance(result, _Raised):
            raise result.error
        return result


class _Attempt:
    """One attempt on its way: its task, what it was told, and who waits for it."""

    __slots__ = (
        "_cancellation",
        "_context",
        "_done",
        "_grace_s",
        "_runner",
        "_task",
        "_timeout",
        "_timers",
        "_why",
        "interruptible",
    )

    def __init__(self, runner: InlineRunner, context: RunContext, cancellation: Cancellation, grace_s: float) -> None:
        self._runner = runner
        self._context = context
        self._cancellation = cancellation
        self._grace_s = grace_s
        self._why: str | None = None  # "timeout" or "cancel", once it was told to end
        self._timers: list[asyncio.TimerHandle] = []
        self._timeout = context.job.timeout
        self.interruptible = Interruptible()

    async def carry(self, loop: asyncio.AbstractEventLoop) -> Outcome:
        self._done: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._carried())
        if self._runner.lag is not None:
            self._runner.lag.enter()
        self._task.add_done_callback(self._ended)
        if self._timeout is not None:
            self._limit(self._timeout)
        self._cancellation.on_request(self._hear)
        try:
            await self._done
        except asyncio.CancelledError:
            # The worker itself is being stopped: pass it on, and do not lose sight of what may not end.
            self._context.end("cancel")
            if not self._context.in_thread:
                self._task.cancel()
            self._runner.left_behind(self._context.job, self._task)
            raise
        finally:
            for timer in self._timers:
                timer.cancel()
        return self._outcome()

    def _ended(self, _task: asyncio.Task[Outcome]) -> None:
        if self._runner.lag is not None:
            self._runner.lag.leave()
        if not self._done.done():
            self._done.set_result(None)

    def _hear(self) -> None:
        self._tell("cancel")

    def _tell(self, why: str) -> None:
        """Ask the code to end, and give it the grace."""
        if self._why is not None or self._task.done():
            return
        self._why = why
        self._context.end("crash" if why == "cancel" and self._cancellation.crashed else why)
        if not self._context.in_thread:
            self._task.cancel()
        elif self._cancellation.crashed:
            # Nothing can be said to a thread, and the daemon has waited its own grace before it stops.
            self._grace_s = 0
        loop = asyncio.get_running_loop()
        if self._grace_s:
            self._timers.append(loop.call_later(min(HEEDING_S, self._grace_s / 2), self._interrupt))
        self._timers.append(loop.call_later(self._grace_s, self._abandon))

    def _interrupt(self) -> None:
        """Raise in the thread whose code has not heeded what it was told; a call that blocks in C hears it later."""
        if not self._done.done():
            self.interruptible.interrupt(TerminationSignal)

    def _abandon(self) -> None:
        if self._done.done():
            return
        self._runner.left_behind(self._context.job, self._task)
        told = "did not end" if self._context.in_thread else "did not heed its cancellation"
        self._context.log(f"the flow's code {told} and is left behind", logging.ERROR, FLOW)
        self._done.set_result(None)

    def _outcome(self) -> Outcome:
        abandoned = not self._task.done()
        if self._why == "timeout":
            assert self._timeout is not None
            return timed_out(self._timeout, abandoned=abandoned)
        if self._why == "cancel":
            return stopped(self._cancellation, abandoned=abandoned)
        if self._task.cancelled():
            # Nobody asked for it: the code cancelled itself, or let another task's cancellation through.
            return failed(asyncio.CancelledError("raised by the flow's own code; nobody asked for it"))
        error = self._task.exception()
        return self._task.result() if error is None else failed(error)

    def _limit(self, timeout: timedelta) -> None:
        """Tell the code to end when its time is over."""
        self._timeout = timeout
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(timeout.total_seconds(), self._tell, "timeout"))

    async def _carried(self) -> Outcome:
        """Run the code in its context. What it raises becomes an outcome here: SystemExit would end the loop."""
        context = self._context
        current.set(context)
        ref = context.job.flow
        try:
            # Loading the code is part of the run: it may take its time, and fail.
            prepared = self._runner.prepared(ref) or await self._runner.prepare(ref)
            if prepared.timeout is not None and self._timeout is None:
                self._limit(prepared.timeout)
            context.timeout_is_kept = True
            result = await prepared.call(context, self.interruptible)
            return result if type(result) is Outcome else completed(result)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            told = None if isinstance(error, TerminationSignal) else told_traceback(error)
            if told is not None:
                context.log(told, logging.ERROR, FLOW)
            return failed(error)
        finally:
            context.close()


class _Raised:
    """An exception on its way out of a thread. Futures refuse some (StopIteration), and pools some others."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _contained(
    flow: FlowDefinition,
    run: Callable[[FlowDefinition, RunContext], Outcome],
    context: RunContext,
    interruptible: Interruptible,
) -> Any:
    """Run a flow in its thread.

    Either side says what it does before it looks at what the other did: the attempt sets ``told_to_end`` and looks at
    ``in_thread``, this one the other way round. So code that has begun is waited for, and other code never begins.
    """
    context.in_thread = True
    try:
        with interruptible:
            return None if context.told_to_end else run(flow, context)
    except asyncio.CancelledError as error:
        # Raised in a thread it is an exception like any other, and must not pass for a cancellation.
        return _Raised(RuntimeError(f"CancelledError {error} was raised in a sync flow"))
    except BaseException as error:
        return _Raised(error)
    finally:
        context.in_thread = False


async def _in_loop(flow: FlowDefinition, context: RunContext, _interruptible: Interruptible) -> Outcome:
    """Run an async flow on the daemon's loop."""
    return await run_attempt(flow, _fresh(context.job.parameters), context)


def _blocking_in_thread(flow: FlowDefinition, context: RunContext) -> Outcome:
    """Run a sync flow in this thread."""
    return drive(run_attempt(flow, _fresh(context.job.parameters), context))


def _awaiting_in_thread(flow: FlowDefinition, context: RunContext) -> Outcome:
    """Run an async flow that may block in this thread, on a loop of its own."""

    async def main() -> Outcome:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        context.on_end = partial(_cancel_there, loop, task)
        if context.told_to_end:
            task.cancel()
        try:
            return await run_attempt(flow, _fresh(context.job.parameters), context)
        finally:
            context.on_end = None

    return asyncio.run(main())


def _cancel_there(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    with suppress(RuntimeError):  # the loop has just been closed
        loop.call_soon_threadsafe(task.cancel)


def _of_builtin(builtin: BuiltinFlow) -> Callable[[RunContext, Interruptible], Awaitable[Any]]:
    async def call(context: RunContext, _interruptible: Interruptible) -> Any:
        return await builtin.run(context.job.parameters, context)

    return call


def _fresh(value: Any) -> Any:
    """Return a copy: a flow may change what it was given, and a second attempt must get what the first got."""
    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_fresh(item) for item in value]
    return value
