"""The runner of process pools: one child a run, forked from a warm interpreter, contained as a whole.

What the code does to its process it does to nobody else: it may compute, crash, leak, fork or never return. A run that
is told to end is interrupted (SIGINT raises in its main thread; an async flow is cancelled), terminated after three
quarters of the grace (SIGTERM, to all it has started, too) and killed at its end; nothing is left behind. Reports come
over a pipe and are handed to the run's recorder as they are; questions are answered over it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidemill.clock import Clock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job, Outcome, Recorder
from tidemill.core.reports import LogReport, ProcessReport
from tidemill.core.states import StateType
from tidemill.durations import format_duration
from tidemill.errors import StoreUnavailableError, TidemillError
from tidemill.flows import process_table
from tidemill.runners import exits, limits, protocol
from tidemill.runners.cgroups import Cgroups
from tidemill.runners.nursery import Child, Ended, InterpreterError, NoChildError, Nursery
from tidemill.runners.outcomes import not_imported, stopped, timed_out
from tidemill.runners.output import Output
from tidemill.runners.protocol import (
    Ask,
    Cancel,
    Done,
    Flush,
    Flushed,
    Hello,
    Limit,
    Loaded,
    Packets,
    ProtocolError,
    Start,
)  # fmt: skip
from tidemill.runners.sender import Sender
from tidemill.sdk import interpreters
from tidemill.sdk.context import FLOW

STDOUT, STDERR = "stdout", "stderr"  # logger names of what is written past Python
PATIENCE = timedelta(seconds=60)  # for an interpreter to get warm: preloading may take its time
TERM_AT = 0.75  # of the grace
LINGER_S = 10.0  # a process may live on after its flow has ended: threads, exit handlers
HANGS_S = 5.0  # after SIGKILL, before a process is called abandoned: it hangs in the kernel
_TURN = 32 * 1024  # bytes read from a pipe in one turn of the loop, a packet counting for as many more
_PACKET_COST = 512
_MOST_ASKED = 1000  # questions of one run at a time; further ones wait in its pipe
_DRAIN_S = 2.0  # for what still stands in the pipes when nobody is there any more to write to them


class ProcessRunner:
    """Runs flows in processes of their own."""

    def __init__(
        self,
        *,
        pool: WorkPool,
        flows_dir: Path,
        clock: Clock,
        grace: timedelta,
        environ: Mapping[str, str],
        import_timeout: timedelta | None = None,
        lines_per_second: float = 1000,
        cgroups: Cgroups | None = None,
        patience: timedelta = PATIENCE,
    ) -> None:
        """``grace`` holds where the pool names none. ``environ`` is the daemon's, of which runs get next to nothing."""
        self.pool = pool
        self.flows_dir = flows_dir.absolute()
        self.clock = clock
        self.grace_s = (pool.grace if pool.grace is not None else grace).total_seconds()
        self.import_timeout = import_timeout
        self.lines_per_second = lines_per_second
        self.cgroups = cgroups
        self._environ = environ
        self._patience_s = patience.total_seconds()
        self._nurseries: dict[str | None, Nursery] = {}
        self._builtins = False
        self._left: dict[tuple[str, int], asyncio.Future[Ended]] = {}

    @property
    def abandoned(self) -> int:
        return len(self._left)

    async def left(self, job: Job) -> None:
        ended = self._left.get((job.run_id, job.attempt))
        if ended is not None:
            await asyncio.wait([ended])

    async def warm(self, refs: Iterable[tuple[FlowRef, str | None]]) -> None:
        """Have the interpreters of these flows ready, with their spares. Raises ``InterpreterError``."""
        refs = list(refs)
        self._builtins = any(ref.kind is FlowKind.BUILTIN for ref, _ in refs)
        wanted = {python or (None if ref.kind is FlowKind.BUILTIN else self.pool.python) for ref, python in refs}
        for python in wanted:
            await self._nursery(python).warm()

    async def run(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        if cancellation.requested:
            return stopped(cancellation, abandoned=False)
        python = job.python or (None if job.flow.kind is FlowKind.BUILTIN else self.pool.python)
        try:
            child = await self._nursery(python).take()
        except InterpreterError as error:
            return Outcome(type=StateType.FAILED, name="Failed", message=str(error), retriable=False)
        except NoChildError as error:
            return _crashed(str(error))
        if cancellation.reason is not None:  # said while we waited for the child
            child.kill()
            child.close()
            return stopped(cancellation, abandoned=False)
        return await _Attempt(self, job, recorder, cancellation, child).carry()

    async def aclose(self) -> None:
        """End the fork servers, and whatever they still look after."""
        nurseries, self._nurseries = self._nurseries, {}
        await asyncio.gather(*(nursery.aclose() for nursery in nurseries.values()))

    def left_behind(self, job: Job, ended: asyncio.Future[Ended]) -> None:
        """Count an attempt as abandoned until its processes have ended after all."""
        attempt = (job.run_id, job.attempt)
        self._left[attempt] = ended
        ended.add_done_callback(lambda _: self._left.pop(attempt, None))

    def _nursery(self, python: str | None) -> Nursery:
        nursery = self._nurseries.get(python)
        if nursery is None:
            preload = list(self.pool.preload if python == self.pool.python else ())
            if self._builtins and python is None:
                preload += ["tidemill.flows.builtins", "httpx"]
            nursery = self._nurseries[python] = Nursery(
                python=python,
                preload=preload,
                env=interpreters.environment(self._environ, python, self.pool.env),
                cwd=self.flows_dir,
                spares=min(self.pool.spares, self.pool.concurrency_limit),
                patience_s=self._patience_s,
                cgroups=self.cgroups,
            )
        return nursery


class _Attempt:
    """One attempt: its child, what it says, what ends it."""

    def __init__(
        self, runner: ProcessRunner, job: Job, recorder: Recorder, cancellation: Cancellation, child: Child
    ) -> None:
        self._runner = runner
        self._job = job
        self._recorder = recorder
        self._cancellation = cancellation
        self._child = child
        self._loop = asyncio.get_running_loop()
        self._packets = Packets()
        self._why: str | None = None  # "timeout", "import" or "cancel", once it was told to end
        self._fault: str | None = None  # what it did to the protocol
        self._done: Outcome | None = None
        self._timeout: timedelta | None = None
        self._hung: asyncio.Future[None] = self._loop.create_future()  # SIGKILL did not end it
        self._eof: asyncio.Future[None] = self._loop.create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self._importing: asyncio.TimerHandle | None = None  # when its flow's code has to be imported
        self._asked: set[asyncio.Task[None]] = set()
        self._sender = Sender(self._loop, child.pipe)
        self._reading = False

    async def carry(self) -> Outcome:
        child, job = self._child, self._job
        held: frozenset[str] = frozenset()
        if child.cgroup is not None and self._runner.cgroups is not None:
            held = self._runner.cgroups.controllers
            try:
                child.cgroup.limit(job.limits)
            except OSError as error:
                held = frozenset()
                self._log(f"its cgroup cannot be limited, so its processes are, one by one: {error}", logging.WARNING)
        child.run_id = job.run_id
        boot_id = process_table.boot_id()
        self._report(ProcessReport(pid=child.pid, birth=child.birth, boot_id=boot_id))
        out = self._output(child.out, STDOUT, logging.INFO)
        err = self._output(child.err, STDERR, logging.WARNING)
        child.out = child.err = -1
        self._read_on()
        self._sender.say(
            Start(
                job=job,
                flows_dir=str(self._runner.flows_dir),
                limits=limits.without(job.limits, held),
                lines_per_second=self._runner.lines_per_second,
            )
        )
        if job.timeout is not None:
            self._limit(job.timeout)
        if self._runner.import_timeout is not None and job.flow.kind is not FlowKind.BUILTIN:
            self._importing = self._after(self._runner.import_timeout.total_seconds(), self._tell, "import")
        self._cancellation.on_request(self._hear)
        try:
            either: set[asyncio.Future[Any]] = {child.ended, self._hung}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if child.ended.done():
                # What it said last may still stand in its pipes.
                said: set[asyncio.Future[None]] = {self._eof, out.ended, err.ended}
                await asyncio.wait(said, timeout=_DRAIN_S)
        except asyncio.CancelledError:
            # The worker itself is being stopped. Its code is not waited for, but it does not live on.
            child.kill()
            raise
        finally:
            for timer in self._timers:
                timer.cancel()
            for task in self._asked:
                task.cancel()
            self._read_no_more()
            out.close()
            err.close()
            self._sender.close()
            child.close()
        return self._outcome()

    # --- what the child says ----------------------------------------------------------------------------------------

    def _output(self, fd: int, name: str, level: int) -> Output:
        clock = self._runner.clock

        def line(text: str) -> None:
            self._report(LogReport(at=clock.now(), level=level, logger=name, message=text))

        def dropped(count: int) -> None:
            self._log(f"{count} lines dropped", logging.WARNING, "tidemill")

        return Output(fd, rate=self._runner.lines_per_second, clock=clock, line=line, dropped=dropped)

    def _read_on(self) -> None:
        if not self._reading and not self._eof.done():
            self._reading = True
            self._loop.add_reader(self._child.pipe, self._read)

    def _read_no_more(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._child.pipe)

    def _read(self) -> None:
        size = 0
        while self._reading and size < _TURN:
            try:
                packet = self._child.pipe.recv(protocol.PACKET)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it ended without having read all that we said; what it said itself comes next
            except OSError:
                packet = b""
            if not packet:
                self._read_no_more()
                self._eof.set_result(None)
                return
            size += len(packet) + _PACKET_COST
            try:
                for payload in self._packets.feed(packet):
                    self._take(protocol.from_child(payload))
            except ProtocolError as error:
                self._broken(str(error))

    def _take(self, said: Any) -> None:
        if self._done is not None:
            return  # fenced: what its threads say now is too late
        if isinstance(said, Done):
            self._done = said.outcome
            if self._why is None:
                self._after(LINGER_S, self._linger)
        elif isinstance(said, Ask | Flush):
            task = self._loop.create_task(self._answer(said))
            self._asked.add(task)
            task.add_done_callback(self._answered)
            if len(self._asked) >= _MOST_ASKED:
                self._read_no_more()
        elif isinstance(said, Loaded):
            if self._importing is not None:
                self._importing.cancel()
        elif isinstance(said, Limit):
            if self._timeout is None:
                self._limit(said.timeout)
        elif isinstance(said, Hello):
            if said.version != protocol.VERSION:
                self._broken(f"version {said.version} of it, not {protocol.VERSION}")
        else:
            self._report(said)

    def _report(self, report: Any) -> None:
        try:
            self._recorder.report(report)
        except ValueError as error:
            self._log(f"something that the flow reported could not be kept: {error}", logging.ERROR)

    def _log(self, message: str, level: int, name: str = FLOW) -> None:
        self._recorder.report(LogReport(at=self._runner.clock.now(), level=level, logger=name, message=message))

    def _broken(self, how: str) -> None:
        if self._fault is None:
            self._fault = how
            self._read_no_more()
            self._eof.set_result(None)
            self._child.kill()

    async def _answer(self, asked: Ask | Flush) -> None:
        answer: Any
        try:
            if isinstance(asked, Flush):
                await self._recorder.flush()
                answer = Flushed(id=asked.id)
            else:
                answer = protocol.Answer(id=asked.id, value=await self._recorder.ask(asked.question))
        except TidemillError as error:
            answer = protocol.answer_error(asked.id, error)
        except Exception as error:
            answer = protocol.answer_error(asked.id, StoreUnavailableError(f"{type(error).__name__}: {error}"))
        self._sender.say(answer)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asked.discard(task)
        if len(self._asked) < _MOST_ASKED and self._fault is None and not self._child.ended.done():
            self._read_on()

    # --- what ends it -----------------------------------------------------------------------------------------------

    def _after(self, seconds: float, call: Any, *arguments: Any) -> asyncio.TimerHandle:
        timer = self._loop.call_later(seconds, call, *arguments)
        self._timers.append(timer)
        return timer

    def _limit(self, timeout: timedelta) -> None:
        self._timeout = timeout
        self._after(timeout.total_seconds(), self._tell, "timeout")

    def _hear(self) -> None:
        self._tell("cancel")

    def _tell(self, why: str) -> None:
        """Ask the code to end, and see to it that it does."""
        if self._why is not None or self._child.ended.done():
            return
        self._why = why
        reason = self._cancellation.reason or "out of time"
        crashed = why == "cancel" and self._cancellation.crashed
        told = "crash" if crashed else "timeout" if why == "import" else why
        self._sender.say(Cancel(why=told, reason=reason))
        self._child.signal(signal.SIGINT)
        grace_s = self._runner.grace_s
        self._after(grace_s * TERM_AT, self._terminate)
        self._after(grace_s, self._kill)

    def _linger(self) -> None:
        self._log(f"its process lives on {LINGER_S:g} s after the flow has ended, and is ended", logging.WARNING)
        self._terminate()
        self._after(1.0, self._kill)

    def _terminate(self) -> None:
        self._child.signal(signal.SIGTERM, tree=True)

    def _kill(self) -> None:
        if self._why is not None:
            what = f"did not end within {format_duration(timedelta(seconds=self._runner.grace_s))} and was killed"
            self._log(f"the flow's code was told to end, {what}", logging.WARNING)
        self._child.kill()
        self._after(HANGS_S, self._give_up)

    def _give_up(self) -> None:
        if not self._child.ended.done() and not self._hung.done():
            self._runner.left_behind(self._job, self._child.ended)
            self._log("the flow's process cannot be killed and is left behind", logging.ERROR)
            self._hung.set_result(None)

    # --- how it ended -----------------------------------------------------------------------------------------------

    def _outcome(self) -> Outcome:
        abandoned = not self._child.ended.done()
        if self._why == "timeout":
            assert self._timeout is not None
            return timed_out(self._timeout, abandoned=abandoned)
        if self._why == "import":
            assert self._runner.import_timeout is not None
            return not_imported(self._job.flow.entrypoint, self._runner.import_timeout, abandoned=abandoned)
        if self._why == "cancel":
            return stopped(self._cancellation, abandoned=abandoned)
        ended = self._child.ended.result() if not abandoned else Ended(status=None, why="it cannot be killed")
        if ended.left_behind:
            what = "a process" if ended.left_behind == 1 else f"{ended.left_behind} processes"
            self._log(f"the flow left {what} behind, which had to be ended", logging.WARNING)
        if self._fault is not None:
            return _crashed(f"its process said what is not the pipe protocol: {self._fault}")
        if self._done is not None and not self._out_of_memory(self._done):
            return self._done
        return _crashed(self._how(ended))

    def _out_of_memory(self, outcome: Outcome) -> bool:
        wanted = outcome.type is StateType.FAILED and (outcome.message or "").startswith("MemoryError")
        return wanted and self._job.limits.memory is not None

    def _how(self, ended: Ended) -> str:
        bounds = self._job.limits
        cgroup = self._child.cgroup
        if self._done is not None or (cgroup is not None and bounds.memory is not None and cgroup.out_of_memory):
            return limits.out_of_memory(bounds)
        if ended.status is None:
            return ended.why
        if bounds.cpu is not None and exits.by_signal(ended.status, signal.SIGXCPU):
            return limits.out_of_cpu(bounds)
        return f"its process {exits.in_words(ended.status, ' before the flow had ended')}"


def _crashed(message: str) -> Outcome:
    return Outcome(type=StateType.CRASHED, name="Crashed", message=message)
