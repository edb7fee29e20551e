"""Where log lines leave the daemon. Whoever reads them, or does not, never holds up who writes them."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol, TextIO

LIMIT_BYTES = 1 << 20
_LOOK_AGAIN_MS = 1000


class Sink(Protocol):
    """Takes whole lines, each group in one write. ``dropped``: how many lines were lost since the start."""

    dropped: int

    def write(self, text: str, lines: int) -> None:
        """Take ``lines`` lines, each with its line end. Never waits and never raises; callable from any thread."""
        ...

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until what was taken has left; False: it has not within the time."""
        ...

    def close(self, timeout_s: float = 2.0) -> None:
        """Flush and give back what the sink holds."""
        ...


class StreamSink:
    """Writes to a text stream at once: for commands, tests, and a daemon on a virtual clock."""

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: str, lines: int) -> None:
        with self._lock:
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # no reader, no space; closed
                self.dropped += lines

    def flush(self, timeout_s: float = 2.0) -> bool:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return False
        return True

    def close(self, timeout_s: float = 2.0) -> None:
        self.flush()


class DescriptorSink:
    """Writes to an open file through a thread of its own, so that a blocked pipe or a slow disk stops only that thread.

    Not a non-blocking descriptor: the flag would be shared with whoever else has the terminal open, pipes, sockets and
    files each need another way, and a regular file blocks all the same. What does not fit the bounded buffer is
    dropped, counted, and said in its place by ``notice(count)`` (a line with its end) when lines get through again. A
    write that fails (no reader, no space) counts its lines as dropped; later ones are tried again.
    """

    def __init__(self, descriptor: int, *, notice: Callable[[int], str], limit: int = LIMIT_BYTES) -> None:
        self._descriptor = descriptor
        self._notice = notice
        self._limit = limit
        self._changed = threading.Condition()
        self._chunks: deque[tuple[bytes, int, int]] = deque()  # bytes, their lines, and the lost lines they tell of
        self._size = 0  # of the chunks and of what is being written
        self._writing = False
        self._closed = False
        self._untold = 0
        self._thread: threading.Thread | None = None
        self.dropped = 0  # in all

    def write(self, text: str, lines: int) -> None:
        data = text.encode(errors="backslashreplace")
        with self._changed:
            if self._closed or (self._size and self._size + len(data) > self._limit):
                self._lose(lines, 0)
                return
            self._tell()
            self._append(data, lines, 0)
            if self._thread is None:
                # A daemon thread: a reader that never reads must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="tidemill-log", daemon=True)
                self._thread.start()
            elif not self._writing:
                self._changed.notify_all()

    def flush(self, timeout_s: float = 2.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        flushed = self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and flushed:
            self._thread.join(timeout_s)

    def _append(self, data: bytes, lines: int, told: int) -> None:
        self._chunks.append((data, lines, told))
        self._size += len(data)

    def _tell(self) -> None:
        if self._untold:
            told, self._untold = self._untold, 0
            self._append(self._notice(told).encode(), 0, told)

    def _lose(self, lines: int, told: int) -> None:
        self._untold += lines + told
        self.dropped += lines

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._chunks or self._closed)
                if not self._chunks:
                    return
                taken = list(self._chunks)
                self._chunks.clear()
                self._writing = True
            written = self._put(b"".join(data for data, _, _ in taken))
            with self._changed:
                self._writing = False
                self._size -= sum(len(data) for data, _, _ in taken)
                if not written:
                    self._lose(sum(lines for _, lines, _ in taken), sum(told for _, _, told in taken))
                elif not self._chunks:
                    self._tell()
                self._changed.notify_all()

    def _put(self, data: bytes) -> bool:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # whoever gave us the descriptor had made it non-blocking
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(_LOOK_AGAIN_MS)
            except OSError:
                return False
        return True
