"""An end to sync code that takes too long.

In a process's main thread a timer's signal interrupts even a call that blocks. In any other thread an exception is set
from outside, which the code meets at its next Python instruction: a sleep or a read ends first, as in Prefect.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import signal
import threading
import time
from types import FrameType
from typing import Any


class Deadline:
    """A context manager that raises ``error`` inside itself after so many seconds.

    >>> with Deadline(60, TimeoutError):
    ...     pass
    """

    __slots__ = (
        "_before",
        "_entry",
        "_error",
        "_expired",
        "_lock",
        "_seconds",
        "_set",
        "_started",
        "_thread",
        "_timer",
    )

    def __init__(self, seconds: float, error: type[BaseException]) -> None:
        self._seconds = seconds
        self._error = error
        self._expired = False

    def __enter__(self) -> Deadline:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._entry: list[Any] | None = None
        self._before: Any = None
        self._timer = (0.0, 0.0)
        self._started = time.monotonic()
        self._set = True
        if threading.current_thread() is threading.main_thread() and _alarm_is_free():
            self._timer = signal.getitimer(signal.ITIMER_REAL)
            if 0 < self._timer[0] <= self._seconds:
                self._set = False  # the deadline around this one comes first
                return self
            self._before = signal.signal(signal.SIGALRM, self._alarmed)
            try:
                signal.setitimer(signal.ITIMER_REAL, max(self._seconds, 1e-6))
            except self._error:  # over before it began; the deadline around this one still counts
                self._give_back()
                raise
        else:
            self._entry = _WATCH.after(self._seconds, self)
        return self

    def _alarmed(self, _number: int, _frame: FrameType | None) -> None:
        self._expired = True
        raise self._error(self._told())

    def expire(self) -> None:
        """Set the exception in the code's thread; called by the watching thread."""
        with self._lock:
            if self._entry is not None:
                self._expired = True
                _set_async(self._thread, self._error)

    def _told(self) -> str:
        return f"did not end within {self._seconds:g} s"

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, _trace: object) -> None:
        if not self._set:
            return
        if self._entry is None:
            self._give_back()
            return
        with self._lock:
            self._entry = None
        if self._expired and kind is None:
            # Set, and not met yet: it must not come up in code that is none of ours.
            with contextlib.suppress(self._error):
                _meet()
            raise self._error(self._told())
        if self._expired and kind is self._error and raised is not None and not raised.args:
            raised.args = (self._told(),)

    def _give_back(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        remaining, interval = self._timer
        if remaining:  # a deadline around this one goes on
            gone = time.monotonic() - self._started
            signal.setitimer(signal.ITIMER_REAL, max(remaining - gone, 1e-6), interval)


def _alarm_is_free() -> bool:
    """Whether nobody else's handler stands on SIGALRM."""
    handler = signal.getsignal(signal.SIGALRM)
    ours = getattr(handler, "__func__", None) is Deadline._alarmed
    return handler in (signal.SIG_DFL, signal.SIG_IGN, None) or ours


# Code in a thread that was told to end has so long to end by itself before an exception is raised in it.
HEEDING_S = 1.0


class Interruptible:
    """Code in a thread that another thread may end, at its next Python instruction.

    ``with`` it around the code, in its thread. What has left it hears nothing any more.
    """

    __slots__ = ("_error", "_lock", "_thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._error: type[BaseException] | None = None  # once it was set

    def __enter__(self) -> Interruptible:
        with self._lock:
            self._thread = threading.get_ident()
        return self

    def interrupt(self, error: type[BaseException]) -> bool:
        """Have ``error`` raised in the code; False: none is running."""
        with self._lock:
            if self._thread is None:
                return False
            self._error = error
            _set_async(self._thread, error)
            return True

    def __exit__(self, kind: type[BaseException] | None, *_raised: object) -> None:
        met = self._error is not None and kind is self._error
        try:
            with self._lock:
                self._thread = None  # from here on nothing is set any more
            if self._error is not None and not met:
                _meet()
        except BaseException as error:
            if self._error is None or not isinstance(error, self._error):
                raise
            self._thread = None


def _set_async(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _meet() -> None:
    """Let an exception that was set come up here, and not in the thread's next work.

    Taking it back (PyThreadState_SetAsyncExc with NULL) is no way: CPython 3.11 then believes for ever that one is set,
    which costs every call of every thread, and hangs code that is traced.
    """
    for _ in range(1000):  # it comes up at the next jump back
        pass


class _Watch:
    """One thread for all deadlines of other threads, begun by the first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[list[Any]] = []
        self._number = itertools.count()
        self._thread: threading.Thread | None = None

    def after(self, seconds: float, deadline: Deadline) -> list[Any]:
        entry = [time.monotonic() + seconds, next(self._number), deadline]
        with self._changed:
            heapq.heappush(self._due, entry)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="tidemill deadlines", daemon=True)
                self._thread.start()
            self._changed.notify()
        return entry

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due:
                    self._changed.wait()
                left = self._due[0][0] - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                deadline = heapq.heappop(self._due)[2]
            deadline.expire()


_WATCH = _Watch()
