"""How far long work has come: one line on the terminal that is written over, and nothing in a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from tidemill.cli import text
from tidemill.clock import SystemClock

EVERY_S = 0.1
MONOTONIC = SystemClock().monotonic
_CLEAR = "\r\x1b[2K"


class Progress:
    """A line on stderr while work goes on; it is gone at the end, whatever the end was.

    >>> with Progress() as progress:
    ...     progress.share("copied", 20, 40)
    """

    def __init__(self, stream: TextIO | None = None, monotonic: Callable[[], float] = MONOTONIC) -> None:
        self._stream = stream or sys.stderr
        self._monotonic = monotonic
        self._told: float | None = None
        self._shows = self._stream.isatty()

    def share(self, what: str, done: int, whole: int, *, size: bool = False) -> None:
        """Tell that so much of so much is done; ``size``: they are bytes."""
        percent = 100 * done // whole if whole else 100
        shown = f"{size_text(done)} of {size_text(whole)}" if size else f"{done:,} of {whole:,}"
        self.say(f"{what}: {percent} %, {shown}", last=done >= whole)

    def say(self, line: str, *, last: bool = False) -> None:
        """Tell something; what comes too soon after the line before is left out, but for the ``last``."""
        now = self._monotonic()
        if not self._shows or (self._told is not None and now - self._told < EVERY_S and not last):
            return
        self._told = now
        self._stream.write(_CLEAR + text.clean(line))
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._told is not None:
            self._stream.write(_CLEAR)
            self._stream.flush()


def counted(count: int, plural: str) -> str:
    """Return a number with its noun: ``1 skipped fire``, ``1,200 lines of the daemon``."""
    noun = re.sub(r"s\b", "", plural, count=1) if count == 1 else plural
    return f"{count:,} {noun}"


def size_text(size: int) -> str:
    """Return bytes as people read them: ``812 B``, ``4.2 MiB``, ``446 MiB``."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}" if amount < 10 else f"{amount:,.0f} {unit}"
