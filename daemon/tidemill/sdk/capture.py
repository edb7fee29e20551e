"""What flow code prints or logs finds its run.

Installed once by the process that runs flows. Output is told apart by a context variable, so any number of runs may
print at once; code outside a run writes where it always did. A thread that flow code starts by itself begins without
the run's context (as ``threading`` has it) and counts as outside.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

from tidemill.sdk.context import PRINT, STDERR, current
from tidemill.sdk.logging import RUN_LOGGER, OutsideRuns, RunLogHandler


class RunStream:
    """A text stream that gives what a run writes to that run, and passes on everything else."""

    def __init__(self, original: TextIO, stream: str) -> None:
        self.original = original
        self.stream = stream

    def write(self, text: str) -> int:
        context = current.get()
        if context is None or not context.keeps_prints:
            return self.original.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        context.write(self.stream, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if current.get() is None:
            self.original.flush()
            return
        with contextlib.suppress(OSError, ValueError):  # a closed one is not the run's concern
            self.original.flush()  # a run may have written bytes to its ``buffer``

    def isatty(self) -> bool:
        return current.get() is None and self.original.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def install(daemon_handlers: Iterable[logging.Handler] = ()) -> None:
    """Begin to tell runs' prints and log records apart. ``daemon_handlers`` no longer see what runs log.

    Doing it twice is doing it once.
    """
    if not isinstance(sys.stdout, RunStream):
        sys.stdout = cast(TextIO, RunStream(sys.stdout, PRINT))
    if not isinstance(sys.stderr, RunStream):
        sys.stderr = cast(TextIO, RunStream(sys.stderr, STDERR))
    for handler in daemon_handlers:
        if not any(isinstance(present, OutsideRuns) for present in handler.filters):
            handler.addFilter(OutsideRuns())
    runs = logging.getLogger(RUN_LOGGER)
    for handler in [handler for handler in runs.handlers if isinstance(handler, RunLogHandler)]:
        runs.removeHandler(handler)  # the root's sees its records too
    root = logging.getLogger()
    if not any(isinstance(handler, RunLogHandler) for handler in root.handlers):
        root.addHandler(RunLogHandler())


def install_for_scripts() -> None:
    """Begin to tell runs' prints apart in a script, and hand what ``get_run_logger`` gives to the run.

    What else the script logs stays its own business.
    """
    if not isinstance(sys.stdout, RunStream):
        sys.stdout = cast(TextIO, RunStream(sys.stdout, PRINT))
    if not isinstance(sys.stderr, RunStream):
        sys.stderr = cast(TextIO, RunStream(sys.stderr, STDERR))
    runs = logging.getLogger(RUN_LOGGER)
    root = logging.getLogger()
    if not any(isinstance(handler, RunLogHandler) for handler in (*runs.handlers, *root.handlers)):
        runs.addHandler(RunLogHandler())


def uninstall(daemon_handlers: Iterable[logging.Handler] = ()) -> None:
    """Undo :func:`install`."""
    if isinstance(sys.stdout, RunStream):
        sys.stdout = sys.stdout.original
    if isinstance(sys.stderr, RunStream):
        sys.stderr = sys.stderr.original
    for handler in daemon_handlers:
        for present in [present for present in handler.filters if isinstance(present, OutsideRuns)]:
            handler.removeFilter(present)
    for each in (logging.getLogger(), logging.getLogger(RUN_LOGGER)):
        for handler in [handler for handler in each.handlers if isinstance(handler, RunLogHandler)]:
            each.removeHandler(handler)
