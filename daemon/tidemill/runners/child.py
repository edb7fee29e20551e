"""The life of a child: waits as a spare, gets its job, runs the flow's code in its main thread, says how it ended.

Forked by the fork server (runners/forkserver.py) from an interpreter that has imported everything this needs.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import faulthandler
import io
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind
from tidemill.core.ports import Outcome
from tidemill.errors import EntrypointError
from tidemill.runners import containment, limits, protocol
from tidemill.runners.channel import Channel
from tidemill.runners.outcomes import completed, failed, told_traceback
from tidemill.runners.pipe_recorder import PipeRecorder
from tidemill.runners.protocol import Cancel, Done, Hello, Limit, Loaded, Start
from tidemill.sdk import capture
from tidemill.sdk.context import FLOW, RunContext, current
from tidemill.sdk.driver import drive
from tidemill.sdk.entrypoints import load
from tidemill.sdk.exceptions import TerminationSignal
from tidemill.sdk.flow_engine import run_attempt
from tidemill.sdk.flows import as_flow

EXIT_PROTOCOL = 70  # the child could not make sense of the daemon
# A SIGINT follows the Cancel that says why; one that nobody of ours sent is waited for in vain, and is Ctrl-C's.
_CANCEL_S = 0.2


def live(pipe: socket.socket) -> int:
    """Wait for a job on ``pipe`` and do it; return the exit status. The process is its own session's leader by now."""
    channel = Channel(pipe)
    os.register_at_fork(after_in_child=lambda: _become_a_copy(channel))
    channel.say(Hello(version=protocol.VERSION, pid=os.getpid()))
    try:
        start = channel.receive()
    except protocol.ProtocolError as error:
        sys.stderr.write(f"not the pipe protocol: {error}\n")
        return EXIT_PROTOCOL
    if start is None:
        return 0  # a spare that nobody needed
    if not isinstance(start, Start):
        sys.stderr.write(f"a {type(start).__name__} came before the job\n")
        return EXIT_PROTOCOL
    _prepare(start)
    clock = SystemClock()
    recorder = PipeRecorder(channel, clock, start.lines_per_second)
    context = RunContext(start.job, recorder, clock)
    capture.install()
    outcome = _Attempt(start, context, channel).carry()
    context.close()
    recorder.close()
    channel.say(Done(outcome=outcome))
    channel.settle()
    return _leave()


def _prepare(start: Start) -> None:
    """Make the process the job's."""
    job = start.job
    faulthandler.enable()  # a crash in C code leaves the stack in the run's log
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # preloaded; unlike Python's own, its numbers would be the same in every child
        numpy.random.seed()
    os.environ["TIDEMILL_RUN_ID"] = job.run_id
    os.environ["TIDEMILL_RUN_NAME"] = job.run_name
    os.environ["TIDEMILL_DEPLOYMENT"] = job.deployment or ""
    if Path(start.flows_dir).is_dir():
        os.chdir(start.flows_dir)
    tasks = containment.tasks_of_user() if start.limits.processes is not None else 0
    limits.apply(start.limits, tasks)


class _Attempt:
    """The flow's code on its way, and what ends it."""

    def __init__(self, start: Start, context: RunContext, channel: Channel) -> None:
        self._start = start
        self._context = context
        self._channel = channel
        self._loop: asyncio.AbstractEventLoop | None = None  # of the run's own, while it runs

    def carry(self) -> Outcome:
        self._channel.on_cancel = self._cancelled
        signal.signal(signal.SIGINT, self._interrupted)
        try:
            return self._carried()
        except BaseException as error:  # an interruption on the last step out of the flow's code
            return failed(error)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _carried(self) -> Outcome:
        current.set(self._context)
        try:
            return self._run()
        except BaseException as error:
            if isinstance(error, MemoryError) and self._start.limits.memory is not None:
                limits.use_reserve()
            told = None if isinstance(error, TerminationSignal) else told_traceback(error)
            if told is not None:
                self._context.log(told, logging.ERROR, FLOW)
            return failed(error)

    def _run(self) -> Outcome:
        context, job = self._context, self._context.job
        if job.flow.kind is FlowKind.BUILTIN:
            return self._in_loop(self._builtin)
        flow = as_flow(load(job.flow, Path(self._start.flows_dir)))
        self._channel.say(Loaded())
        if job.timeout is None and flow.timeout_seconds is not None:
            self._channel.say(Limit(timeout=timedelta(seconds=flow.timeout_seconds)))
        context.timeout_is_kept = True
        if flow.isasync:
            return self._in_loop(lambda: run_attempt(flow, job.parameters, context))
        context.in_thread = True
        try:
            return drive(run_attempt(flow, job.parameters, context))
        except asyncio.CancelledError as error:
            # Raised in sync code it is an exception like any other, and must not pass for a cancellation.
            raise RuntimeError(f"CancelledError {error} was raised in a sync flow") from error
        finally:
            context.in_thread = False

    async def _builtin(self) -> Outcome:
        # Only tidemill's own interpreter is asked for one, and only that has what they need.
        from tidemill.flows.builtins import builtins

        job = self._context.job
        flows = builtins(environ=os.environ)
        flow = flows.get(job.flow.entrypoint)
        if flow is None:
            known = ", ".join(sorted(flows))
            raise EntrypointError(f'"{job.flow.entrypoint}": there is no such built-in flow; there are: {known}')
        try:
            return completed(await flow.run(job.parameters, self._context))
        finally:
            await flow.aclose()

    def _in_loop(self, run: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
        context = self._context

        async def main() -> Outcome:
            task = asyncio.current_task()
            assert task is not None
            loop = self._loop = asyncio.get_running_loop()
            context.on_end = partial(_cancel_there, loop, task)
            if context.told_to_end:
                task.cancel()
            try:
                return await run()
            except asyncio.CancelledError as error:
                if context.told_to_end:
                    raise TerminationSignal("the run was told to end") from error
                # Nobody asked for it: the code cancelled itself, or let another task's cancellation through.
                return failed(asyncio.CancelledError("raised by the flow's own code; nobody asked for it"))
            finally:
                context.on_end = None
                self._loop = None

        return asyncio.run(main())

    # --- the end ----------------------------------------------------------------------------------------------------

    def _interrupted(self, _number: int, _frame: Any) -> None:
        """SIGINT. In the main thread, wherever that is: takes no lock that the interrupted code may hold."""
        self._channel.listen()
        if not self._channel.told.wait(_CANCEL_S):
            raise KeyboardInterrupt
        if self._loop is None or asyncio._get_running_loop() is not self._loop:
            raise TerminationSignal(f"the run was told to end ({self._context.ending})")
        # An async flow has heard of it by its loop.

    def _cancelled(self, cancel: Cancel) -> None:
        """A Cancel came, in the thread that reads."""
        self._context.end(cancel.why)


def _cancel_there(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has just been closed
        loop.call_soon_threadsafe(task.cancel)


def _become_a_copy(channel: Channel) -> None:
    """In a process that flow code forked: what it prints is output, and the pipe is not its own."""
    channel.forsake()
    current.set(None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, capture.RunStream):
            with contextlib.suppress(Exception):
                stream.original.flush()


def _leave() -> int:
    """End as a script does: wait for threads, run what was to be run at exit, flush."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException as error:
        with contextlib.suppress(Exception):
            print(f"{type(error).__name__} at exit: {error}", file=sys.__stderr__)
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):
            if stream is not None:
                stream.flush()
    return 0


def end(status: int) -> NoReturn:
    """End the process without a way back into the fork server's code."""
    os._exit(status)
