"""Futures: task runs on their way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from tidemill.sdk.annotations import Annotation, quote
from tidemill.sdk.context import current
from tidemill.sdk.states import Pending, State, result_of

R = TypeVar("R")

# One lock for all futures: it is held for a few assignments, never while anything is called.
_CHANGING = threading.Lock()


class TaskFuture(Generic[R]):
    """A task run that was submitted; made by ``task.submit`` and ``task.map``.

    Async code may also await it (``result = await future``).
    """

    def __init__(self, task_run_id: str, name: str = "") -> None:
        self.task_run_id = task_run_id
        self.name = name
        self._state: State | None = None  # the last one, once there is one
        self._callbacks: list[Callable[[TaskFuture[R]], None]] | None = None

    @property
    def state(self) -> State:
        """The run's last state; Pending while it has not ended."""
        return self._state if self._state is not None else Pending()

    @property
    def done(self) -> bool:
        """Whether the run has come to its last state (NotReady is one)."""
        return self._state is not None

    def wait(self, timeout: float | None = None) -> None:
        """Return when the run has ended, or after ``timeout`` seconds, whichever is first."""
        if self._state is None:
            wait_for_all((self,), timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Return the run's result, waiting for it. Raises its exception, or ``TimeoutError`` after ``timeout`` s."""
        if self._state is None:
            wait_for_all((self,), timeout)
            if self._state is None:
                raise TimeoutError(f"task run {self.name or self.task_run_id} did not end within {timeout:g} s")
        return result_of(self._state, raise_on_failure)  # type: ignore[no-any-return]

    async def wait_async(self, timeout: float | None = None) -> None:
        """Return when the run has ended, letting others run meanwhile."""
        if self._state is not None:
            return
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def settle() -> None:
            if not ended.done():
                ended.set_result(None)

        def tell(_future: TaskFuture[R]) -> None:
            with contextlib.suppress(RuntimeError):  # who waited has left, and closed its loop
                loop.call_soon_threadsafe(settle)

        self.add_done_callback(tell)
        try:
            await asyncio.wait_for(ended, timeout)
        except TimeoutError:
            return

    async def result_async(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Return the run's result, letting others run meanwhile."""
        await self.wait_async(timeout)
        if self._state is None:
            raise TimeoutError(f"task run {self.name or self.task_run_id} did not end within {timeout:g} s")
        return result_of(self._state, raise_on_failure)  # type: ignore[no-any-return]

    aresult = result_async

    def __await__(self) -> Generator[Any, None, R]:
        return self.result_async().__await__()

    def add_done_callback(self, fn: Callable[[TaskFuture[R]], None]) -> None:
        """Call ``fn(future)`` when the run has ended, in the thread it ended in; at once where it has already."""
        with _CHANGING:
            if self._state is None:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(fn)
                return
        fn(self)

    def settle(self, state: State) -> None:
        """Give the future its last state. For who carries the run; the first state counts."""
        with _CHANGING:
            if self._state is not None:
                return
            self._state = state
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback(self)

    def __repr__(self) -> str:
        return f"TaskFuture({self.name or self.task_run_id}: {self.state})"


class FutureList(list[Any]):
    """The futures of one ``map``, in the order of its inputs."""

    def wait(self, timeout: float | None = None) -> None:
        """Return when all have ended, or after ``timeout`` seconds."""
        wait_for_all(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """Return all results in order; raises the first failure as soon as it is there, or ``TimeoutError``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if raise_on_failure:
            for future in as_completed(self, timeout):
                result_of(future.state)
        else:
            wait_for_all(self, timeout)
        if deadline is not None and any(not future.done for future in self):
            raise TimeoutError(f"not all futures ended within {timeout:g} s")
        return [result_of(future.state, raise_on_failure) for future in self]


class DoneAndNotDone(NamedTuple):
    """What :func:`wait` returns."""

    done: set[Any]
    not_done: set[Any]


def wait(futures: Iterable[Any], timeout: float | None = None) -> DoneAndNotDone:
    """Wait for futures, at most ``timeout`` seconds; return those that ended and those that did not."""
    _check_timeout(timeout)
    every = set(futures)
    wait_for_all(every, timeout)
    done = {future for future in every if future.done}
    return DoneAndNotDone(done, every - done)


def as_completed(futures: Iterable[Any], timeout: float | None = None) -> Generator[Any, None, None]:
    """Yield futures as they end; raises ``TimeoutError`` after ``timeout`` seconds, naming how many are left."""
    _check_timeout(timeout)
    pending = set(futures)
    total = len(pending)
    ended: list[Any] = []
    more = threading.Event()

    def tell(future: Any) -> None:
        ended.append(future)
        more.set()

    for future in list(pending):
        future.add_done_callback(tell)
    deadline = None if timeout is None else time.monotonic() + timeout
    while pending:
        more.clear()
        if not ended and not _block(more, deadline):
            raise TimeoutError(f"{len(pending)} (of {total}) futures unfinished")
        while ended:
            future = ended.pop(0)
            pending.discard(future)
            yield future


def wait_for_all(futures: Iterable[Any], timeout: float | None = None) -> None:
    """Block until all futures have ended, or ``timeout`` seconds are over."""
    waited = [future for future in futures if not future.done]
    if not waited:
        return
    left = len(waited)
    counting = threading.Lock()
    all_ended = threading.Event()

    def tell(_future: Any) -> None:
        nonlocal left
        with counting:
            left -= 1
            if left:
                return
        all_ended.set()

    for future in waited:
        future.add_done_callback(tell)
    _block(all_ended, None if timeout is None else time.monotonic() + timeout)


def _block(event: threading.Event, deadline: float | None) -> bool:
    """Wait for an event in a thread; a worker lends its place meanwhile, a run that is told to end stops waiting."""
    if event.is_set():
        return True
    context = current.get()
    if context is not None:
        context.refuse_to_block("waiting for a future")
    lender = lending.place
    if lender is not None:
        lender.lend()
    try:
        while True:
            # In slices, so that the run's end and an exception set from outside are heard.
            left = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
            if event.wait(max(0.0, left)):
                return True
            if context is not None:
                context.check()
            if deadline is not None and time.monotonic() >= deadline:
                return event.is_set()
    finally:
        if lender is not None:
            lender.take_back()


SLICE_S = 0.25


class _Lending(threading.local):
    """The pool that this thread works for, if any."""

    place: Any = None


lending = _Lending()


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError(f"a timeout is at least 0, not {timeout}")


def futures_in(value: Any) -> Sequence[TaskFuture[Any]]:
    """Return the futures that stand in a value or its collections."""
    found: list[TaskFuture[Any]] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[TaskFuture[Any]]) -> None:
    if isinstance(value, TaskFuture):
        found.append(value)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            _collect(each, found)
    elif isinstance(value, dict):
        for each in value.values():
            _collect(each, found)
    elif isinstance(value, Annotation) and not isinstance(value, quote):
        _collect(value.value, found)
