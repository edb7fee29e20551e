"""What a run's processes write to standard output and standard error, past Python: lines for the run's log.

Read in bounded pieces, one a turn of the loop, and no more lines a second than may be kept: the rest is counted without
being looked at. A process that floods its output is slowed, or its lines are dropped; the loop goes on.
"""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable

from tidemill.clock import Clock
from tidemill.sdk.lines import LineSplitter

BURST = 1_000  # lines
_PIECE = 64 * 1024
_TURN = 200  # lines at once
_PAUSE_S = 0.005  # after a piece that was dropped as a whole


class Output:
    """One of the two streams of a run."""

    def __init__(
        self,
        fd: int,
        *,
        rate: float,
        clock: Clock,
        line: Callable[[str], None],
        dropped: Callable[[int], None],
    ) -> None:
        """Take over the read end of a pipe. ``rate``: lines a second; 0: no limit."""
        os.set_blocking(fd, False)
        self._fd: int | None = fd
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._rate = rate
        self._clock = clock
        self._line = line
        self._dropped = dropped
        self._left = float(BURST)
        self._seen = clock.monotonic()
        self._lost = 0
        self._begin()
        self._lines: list[str] = []
        self._timer: asyncio.Handle | None = None
        self._loop.add_reader(fd, self._read)

    def _begin(self) -> None:
        self._splitter = LineSplitter()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def close(self) -> None:
        """Read no more. What was read is told."""
        self._stop()
        if not self.ended.done():
            self._finish()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _finish(self) -> None:
        self._lines += self._splitter.feed(self._decoder.decode(b"", final=True))
        for line in [*self._lines, *self._splitter.finish()]:
            self._line(line)
        self._lines = []
        if self._lost:
            self._dropped(self._lost)
        self.ended.set_result(None)

    def _read(self) -> None:
        assert self._fd is not None
        try:
            data = os.read(self._fd, _PIECE)
        except BlockingIOError:
            return
        if not data:
            self._stop()
            if not self.ended.done():
                self._finish()
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        coming = data.count(b"\n")
        allowed = self._allowed(coming)
        if coming > allowed:
            # Whole lines are dropped: what is kept ends with a line, and what follows begins with one.
            kept, rest = _first_lines(data, allowed), data[data.rfind(b"\n") + 1 :]
            self._lost += coming - allowed
            if allowed:
                self._tell(kept)
            else:
                self._begin()  # the line that had begun is dropped with its end
            self._tell(rest)
            if not allowed:
                self._rest(_PAUSE_S)
                return
        else:
            if self._lost and coming:
                self._dropped(self._lost)
                self._lost = 0
            self._tell(data)
        self._turn()

    def _tell(self, data: bytes) -> None:
        self._lines += self._splitter.feed(self._decoder.decode(data))

    def _turn(self) -> None:
        self._timer = None
        turn, self._lines = self._lines[:_TURN], self._lines[_TURN:]
        for line in turn:
            self._line(line)
        if self._lines:
            self._rest(0)
        elif self._fd is not None:
            self._loop.add_reader(self._fd, self._read)

    def _rest(self, seconds: float) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
        self._timer = self._loop.call_later(seconds, self._turn) if seconds else self._loop.call_soon(self._turn)

    def _allowed(self, wanted: int) -> int:
        """Take so many lines' leave; return how many may pass."""
        if self._rate <= 0:
            return wanted
        now = self._clock.monotonic()
        self._left = min(float(BURST), self._left + (now - self._seen) * self._rate)
        self._seen = now
        granted = min(wanted, int(self._left))
        self._left -= granted
        return granted


def _first_lines(data: bytes, count: int) -> bytes:
    at = 0
    for _ in range(count):
        at = data.index(b"\n", at) + 1
    return data[:at]
