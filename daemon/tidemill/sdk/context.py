"""Which run the code that is running now belongs to."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from typing import Any

from tidemill.clock import Clock
from tidemill.core.deployments import SecretRef
from tidemill.core.ports import Job, Recorder
from tidemill.core.reports import LogReport, Question, SecretQuestion
from tidemill.errors import TidemillError
from tidemill.sdk.canonical import unicode_text
from tidemill.sdk.driver import Suspended, drive
from tidemill.sdk.exceptions import BlockingInLoopError, TerminationSignal
from tidemill.sdk.lines import LineSplitter

PRINT = "print"  # the logger name of what a run prints
STDERR = "stderr"  # and of what it writes to standard error
FLOW = "flow"  # and of what the house says about the run, into the run's log

# One lock for all runs: it is held for the splitting of one written piece, never while anything is reported.
_WRITING = threading.Lock()


class NoRunError(TidemillError, RuntimeError):
    """Something that belongs to a run was used outside one. Call it from code that a flow run executes."""


class Scope:
    """What runs inside an attempt just now: the ids that its log lines carry, and whether its prints are kept."""

    __slots__ = ("flow_run_id", "log_prints", "task_run_id")

    def __init__(self, flow_run_id: str | None, task_run_id: str | None, log_prints: bool) -> None:
        self.flow_run_id = flow_run_id  # None: the attempt's own run
        self.task_run_id = task_run_id
        self.log_prints = log_prints


class RunContext:
    """One attempt of a run as its own code sees it: what it was asked, and where it reports to.

    ``told_to_end`` becomes true when the run is cancelled or out of time. Code in a thread hears of it at its next task
    call; a long loop may look at it and return. ``in_thread`` says that such code is running now.

    ``loop`` is where the recorder's questions have to be asked; None: wherever the code runs. A recorder whose
    questions block says so by an attribute ``blocks``, and answers any thread. ``shared_loop`` says that the loop is
    not the run's own: nothing may block it.
    """

    __slots__ = (
        "_asked",
        "_ended",
        "_unfinished",
        "clock",
        "ending",
        "in_thread",
        "job",
        "loop",
        "memory",
        "on_end",
        "recorder",
        "shared_loop",
        "timeout_is_kept",
        "told_to_end",
    )

    def __init__(
        self, job: Job, recorder: Recorder, clock: Clock, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.job = job
        self.recorder = recorder
        self.clock = clock
        self.loop = loop
        self.shared_loop = loop is not None
        self.told_to_end = False
        self.ending: str | None = None  # "timeout", "cancel" or "crash", once it was told to end
        self.timeout_is_kept = False  # by the runner: the engine need not
        self.in_thread = False
        self.memory: dict[str, Any] = {}  # cached results that are no JSON, for this attempt alone
        self.on_end: Callable[[], None] | None = None  # called when it is told to end, in the thread that tells
        self._unfinished: dict[tuple[str, str | None], LineSplitter] | None = None  # made by the first print
        self._ended: threading.Event | None = None  # made by the first wait
        self._asked: set[Future[Any]] | None = None

    # --- log --------------------------------------------------------------------------------------------------------

    def log(self, message: str, level: int = logging.INFO, logger: str = FLOW) -> None:
        """Report one line into the run's log. Never waits; callable from any thread."""
        scope = current_scope.get()
        self.recorder.report(
            LogReport(
                at=self.clock.now(),
                level=level,
                logger=logger,
                message=unicode_text(message),
                task_run_id=scope.task_run_id if scope is not None else None,
                flow_run_id=scope.flow_run_id if scope is not None else None,
            )
        )

    @property
    def keeps_prints(self) -> bool:
        """Whether what the running code prints belongs into the log: ``log_prints``, or a plain function."""
        scope = current_scope.get()
        return scope is None or scope.log_prints

    def write(self, stream: str, text: str) -> None:
        """Take text written to ``stream`` ("print" or "stderr"); whole lines are reported, the rest waits for more."""
        scope = current_scope.get()
        key = (stream, scope.task_run_id if scope is not None else None)
        with _WRITING:
            if self._unfinished is None:
                self._unfinished = {}
            splitter = self._unfinished.get(key)
            if splitter is None:
                splitter = self._unfinished[key] = LineSplitter()
            lines = splitter.feed(text)
        for line in lines:
            self.log(line, _LEVELS[stream], stream)

    def close(self, task_run_id: str | None = None) -> None:
        """Report what was written without an end of line, by the run or by one of its tasks."""
        if self._unfinished is None:
            return
        with _WRITING:
            if task_run_id is None:
                unfinished, self._unfinished = self._unfinished or {}, None
            else:
                present = self._unfinished or {}
                unfinished = {key: present.pop(key) for key in list(present) if key[1] == task_run_id}
        for (stream, _), splitter in unfinished.items():
            for line in splitter.finish():
                self.log(line, _LEVELS[stream], stream)

    # --- the end ----------------------------------------------------------------------------------------------------

    def end(self, why: str) -> None:
        """Tell the code to end: "timeout", "cancel" or "crash". Wakes what waits in threads; callable from any."""
        self.ending = self.ending or why
        self.told_to_end = True
        with _WRITING:
            if self._ended is not None:
                self._ended.set()
            asked = list(self._asked or ())
        for future in asked:
            future.cancel()
        if self.on_end is not None:
            self.on_end()

    def check(self) -> None:
        """Raise ``TerminationSignal`` in a thread whose run was told to end."""
        if self.told_to_end:
            raise TerminationSignal(f"the run was told to end ({self.ending or 'cancel'})")

    # --- waiting and asking -----------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Wait in a thread; the run's end ends it, with ``TerminationSignal``.

        A clock that has ``pass_time`` is asked to let the time pass instead: a test's.
        """
        pass_time = getattr(self.clock, "pass_time", None)
        if pass_time is not None:
            pass_time(seconds)
            self.check()
            return
        with _WRITING:
            if self._ended is None:
                self._ended = threading.Event()
                if self.told_to_end:
                    self._ended.set()
            ended = self._ended
        self.refuse_to_block("a wait")
        ended.wait(seconds)
        self.check()

    async def ask(self, question: Question) -> Any:
        """Ask from async code, on whatever loop it runs."""
        return await self._elsewhere(self.recorder.ask(question))

    def ask_now(self, question: Question) -> Any:
        """Ask from sync code, and block until the answer is there."""
        return self._now(self.recorder.ask(question), question.__struct_config__.tag)

    async def flush(self) -> None:
        """Return when everything reported so far is durable; from async code."""
        await self._elsewhere(self.recorder.flush())

    def flush_now(self) -> None:
        """Return when everything reported so far is durable; from sync code."""
        self._now(self.recorder.flush(), "flush")

    async def _elsewhere(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await where the recorder wants to be asked."""
        if getattr(self.recorder, "blocks", False):
            # The other tasks of this loop must not wait with us.
            return await asyncio.to_thread(drive, coroutine)
        if self.loop is None or self.loop is asyncio.get_running_loop():
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def _now(self, coroutine: Coroutine[Any, Any, Any], what: Any) -> Any:
        if self.loop is None:
            return drive(coroutine)
        if _running_loop() is self.loop:
            try:
                return drive(coroutine)  # what is in memory is answered at once
            except Suspended:
                self.refuse_to_block(f'a question ("{what}")')
                raise
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        with _WRITING:
            if self._asked is None:
                self._asked = set()
            self._asked.add(future)
        if self.told_to_end:
            future.cancel()
        try:
            return future.result()
        except CancelledError:
            self.check()
            raise
        finally:
            self._asked.discard(future)

    def refuse_to_block(self, what: str) -> None:
        """Raise where blocking this thread would block a loop that is not the run's own."""
        if self.shared_loop and _running_loop() is self.loop:
            raise BlockingInLoopError(
                f"{what} from sync code would block the daemon's event loop, in which this async flow runs; "
                "await the call, make the sync task async, or run the flow in a process pool"
            )

    async def secret(self, value: str | SecretRef) -> str:
        """Return the text itself, or the secret that the reference names. Raises a TidemillError that says why not."""
        if isinstance(value, str):
            return value
        return str(await self.recorder.ask(SecretQuestion(ref=value)))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    return asyncio._get_running_loop()


_LEVELS = {PRINT: logging.INFO, STDERR: logging.WARNING}

# Set in the task or thread that carries a run, and inherited by what it starts.
current: ContextVar[RunContext | None] = ContextVar("tidemill_run", default=None)
current_scope: ContextVar[Scope | None] = ContextVar("tidemill_scope", default=None)


def run_context() -> RunContext:
    """Return the context of the run that this code belongs to; raises :class:`NoRunError` outside a run."""
    context = current.get()
    if context is None:
        raise NoRunError("this code does not run inside a flow run; call it from a flow")
    return context
