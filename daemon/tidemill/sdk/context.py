"""Which run the code that is running now belongs to."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar

from tidemill.clock import Clock
from tidemill.core.deployments import SecretRef
from tidemill.core.ports import Job, Recorder
from tidemill.core.reports import LogReport, SecretQuestion
from tidemill.errors import TidemillError
from tidemill.sdk.lines import LineSplitter

PRINT = "print"  # the logger name of what a run prints
STDERR = "stderr"  # and of what it writes to standard error
FLOW = "flow"  # and of what the house says about the run, into the run's log

# One lock for all runs: it is held for the splitting of one written piece, never while anything is reported.
_WRITING = threading.Lock()


class NoRunError(TidemillError):
    """Something that belongs to a run was used outside one. Call it from code that a flow run executes."""


class RunContext:
    """One attempt of a run as its own code sees it: what it was asked, and where it reports to.

    ``told_to_end`` becomes true when the run is cancelled or out of time. Code in a thread hears of it in no other way:
    a long loop may look at it and return. ``in_thread`` says that such code is running now.
    """

    __slots__ = ("_unfinished", "clock", "in_thread", "job", "recorder", "told_to_end")

    def __init__(self, job: Job, recorder: Recorder, clock: Clock) -> None:
        self.job = job
        self.recorder = recorder
        self.clock = clock
        self.told_to_end = False
        self.in_thread = False
        self._unfinished: dict[str, LineSplitter] | None = None  # made by the first print

    def log(self, message: str, level: int = logging.INFO, logger: str = FLOW) -> None:
        """Report one line into the run's log. Never waits; callable from any thread."""
        self.recorder.report(LogReport(at=self.clock.now(), level=level, logger=logger, message=message))

    def write(self, stream: str, text: str) -> None:
        """Take text written to ``stream`` ("print" or "stderr"); whole lines are reported, the rest waits for more."""
        with _WRITING:
            if self._unfinished is None:
                self._unfinished = {}
            splitter = self._unfinished.get(stream)
            if splitter is None:
                splitter = self._unfinished[stream] = LineSplitter()
            lines = splitter.feed(text)
        for line in lines:
            self.log(line, _LEVELS[stream], stream)

    def close(self) -> None:
        """Report what was written without an end of line."""
        if self._unfinished is None:
            return
        with _WRITING:
            unfinished, self._unfinished = self._unfinished, None
        for stream, splitter in unfinished.items():
            for line in splitter.finish():
                self.log(line, _LEVELS[stream], stream)

    async def secret(self, value: str | SecretRef) -> str:
        """Return the text itself, or the secret that the reference names. Raises a TidemillError that says why not."""
        if isinstance(value, str):
            return value
        return str(await self.recorder.ask(SecretQuestion(ref=value)))


_LEVELS = {PRINT: logging.INFO, STDERR: logging.WARNING}

# Set in the task or thread that carries a run, and inherited by what it starts.
current: ContextVar[RunContext | None] = ContextVar("tidemill_run", default=None)


def run_context() -> RunContext:
    """Return the context of the run that this code belongs to; raises :class:`NoRunError` outside a run."""
    context = current.get()
    if context is None:
        raise NoRunError("this code does not run inside a flow run; call it from a flow")
    return context
