"""The runner of inline pools: async flows in the daemon's own loop, sync ones in a thread.

It is for code that waits. Code that computes holds everything else up, and belongs into a process pool.

Code cannot be forced to end. An async flow is cancelled; a sync one can only be waited for. What has not ended when the
grace is over is left behind: its run gets its outcome, and the code is counted as abandoned until it ends after all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tidemill.clock import Clock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job, Outcome, Recorder, Threads
from tidemill.errors import EntrypointError
from tidemill.flows.builtins import BuiltinFlow
from tidemill.runners.lag import LagMonitor
from tidemill.runners.outcomes import completed, failed, stopped, timed_out, told_traceback
from tidemill.sdk.context import FLOW, RunContext, current
from tidemill.sdk.entrypoints import load
from tidemill.sdk.signatures import check_parameters, is_async, signature_of

# Whatever a flow is, it is called with its context and gives its result.
_Call = Callable[[RunContext], Awaitable[Any]]


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
    ) -> None:
        self.pool = pool
        self.lag = lag
        self._builtins = builtins
        self._flows_dir = flows_dir
        self._threads = threads
        self._clock = clock
        self._grace_s = grace.total_seconds()
        self._calls: dict[str, _Call] = {}  # by entrypoint
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
            self._calls[ref.entrypoint] = self._prepare(ref)

    async def run(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        if cancellation.requested:
            return stopped(cancellation, abandoned=False)
        call = self._calls.get(job.flow.entrypoint, self._first)
        attempt = _Attempt(self, RunContext(job, recorder, self._clock), cancellation, self._grace_s)
        return await attempt.carry(call)

    async def aclose(self) -> None:
        """Forget the flows' code. The built-in flows belong to whoever made them."""
        self._calls.clear()

    def left_behind(self, job: Job, task: asyncio.Task[Outcome]) -> None:
        """Count an attempt's code as abandoned until ``task`` ends."""
        attempt = (job.run_id, job.attempt)
        self._left[attempt] = task
        task.add_done_callback(partial(self._came_to_its_end, attempt))

    def _came_to_its_end(self, attempt: tuple[str, int], task: asyncio.Task[Outcome]) -> None:
        del self._left[attempt]
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains that it was not

    async def _first(self, context: RunContext) -> Any:
        """Import the flow's code, in a thread as it may take its time, and run it. It is part of the run."""
        ref = context.job.flow
        call = self._calls[ref.entrypoint] = await self._threads.run(partial(self._prepare, ref))
        return await call(context)

    def _prepare(self, ref: FlowRef) -> _Call:
        if ref.kind is FlowKind.BUILTIN:
            builtin = self._builtins.get(ref.entrypoint)
            if builtin is None:
                known = ", ".join(sorted(self._builtins))
                raise EntrypointError(f'"{ref.entrypoint}": there is no such built-in flow; there are: {known}')
            return _of_builtin(builtin)
        function = load(ref, self._flows_dir)
        signature = signature_of(function)

        def fits(job: Job) -> dict[str, Any]:
            found = check_parameters(signature, job.parameters)
            if found:
                raise EntrypointError(f'"{ref.entrypoint}": {"; ".join(map(str, found))}')
            return {name: _fresh(value) for name, value in job.parameters.items()}

        if is_async(function):

            async def in_loop(context: RunContext) -> Any:
                return await function(**fits(context.job))

            return in_loop

        async def in_thread(context: RunContext) -> Any:
            result = await self._threads.run(partial(_contained, context, function, fits(context.job)))
            if isinstance(result, _Raised):
                raise result.error
            # A plain function may still hand out a coroutine: a decorated or partly applied async one.
            return await result if asyncio.iscoroutine(result) else result

        return in_thread


class _Attempt:
    """One attempt on its way: its task, what it was told, and who waits for it."""

    __slots__ = (
        "_cancellation",
        "_context",
        "_done",
        "_grace_s",
        "_runner",
        "_task",
        "_timers",
        "_why",
    )

    def __init__(self, runner: InlineRunner, context: RunContext, cancellation: Cancellation, grace_s: float) -> None:
        self._runner = runner
        self._context = context
        self._cancellation = cancellation
        self._grace_s = grace_s
        self._why: str | None = None  # "timeout" or "cancel", once it was told to end
        self._timers: list[asyncio.TimerHandle] = []

    async def carry(self, call: _Call) -> Outcome:
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(_carried(call, self._context))
        if self._runner.lag is not None:
            self._runner.lag.enter()
        self._task.add_done_callback(self._ended)
        timeout = self._context.job.timeout
        if timeout is not None:
            self._timers.append(loop.call_later(timeout.total_seconds(), self._tell, "timeout"))
        self._cancellation.on_request(self._hear)
        try:
            await self._done
        except asyncio.CancelledError:
            # The worker itself is being stopped: pass it on, and do not lose sight of what may not end.
            self._context.told_to_end = True
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
        self._context.told_to_end = True
        if not self._context.in_thread:
            self._task.cancel()
        elif self._cancellation.crashed:
            # Nothing can be said to a thread, and the daemon has waited its own grace before it stops.
            self._grace_s = 0
        self._timers.append(asyncio.get_running_loop().call_later(self._grace_s, self._abandon))

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
            timeout = self._context.job.timeout
            assert timeout is not None
            return timed_out(timeout, abandoned=abandoned)
        if self._why == "cancel":
            return stopped(self._cancellation, abandoned=abandoned)
        if self._task.cancelled():
            # Nobody asked for it: the code cancelled itself, or let another task's cancellation through.
            return failed(asyncio.CancelledError("raised by the flow's own code; nobody asked for it"))
        error = self._task.exception()
        return self._task.result() if error is None else failed(error)


async def _carried(call: _Call, context: RunContext) -> Outcome:
    """Run the code in its context. What it raises becomes an outcome here: SystemExit would end the loop."""
    current.set(context)
    try:
        return completed(await call(context))
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        told = told_traceback(error)
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


def _contained(context: RunContext, function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Call a sync flow, in its thread.

    Either side says what it does before it looks at what the other did: the attempt sets ``told_to_end`` and looks at
    ``in_thread``, this one the other way round. So code that has begun is waited for, and other code never begins.
    """
    context.in_thread = True
    try:
        return None if context.told_to_end else function(**parameters)
    except asyncio.CancelledError as error:
        # Raised in a thread it is an exception like any other, and must not pass for a cancellation.
        return _Raised(RuntimeError(f"CancelledError {error} was raised in a sync flow"))
    except StopIteration as error:
        return _Raised(RuntimeError(f"StopIteration {error.value!r} was raised by the flow"))
    except BaseException as error:
        return _Raised(error)
    finally:
        context.in_thread = False


def _of_builtin(builtin: BuiltinFlow) -> _Call:
    async def call(context: RunContext) -> Any:
        return await builtin.run(context.job.parameters, context)

    return call


def _fresh(value: Any) -> Any:
    """Return a copy: a flow may change what it was given, and a second attempt must get what the first got."""
    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_fresh(item) for item in value]
    return value
