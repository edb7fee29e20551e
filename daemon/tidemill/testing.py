"""The daemon on a virtual clock: weeks in seconds, the same seed giving the same trace.

:class:`VirtualLoop` is an asyncio event loop that never waits: where a real one would block until the next timer, it
moves its clock there. Nothing may go through threads or sockets; the store's door and the threads port run inline.

For tests of flows there is :func:`tidemill_test_harness`, which needs none of this.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from tidemill.clock import Clock
from tidemill.config import Loaded
from tidemill.core.ports import Cancellation, Job, Outcome, Recorder
from tidemill.core.reports import Question, Report
from tidemill.core.states import StateType
from tidemill.errors import TidemillError
from tidemill.ids import Ids
from tidemill.sdk.harness import Harness, tidemill_test_harness
from tidemill.services.catalogue import Catalogue
from tidemill.services.house import House
from tidemill.store import DoorFactory, Store, catalogue, inline_doors, instance

__all__ = [
    "VIRTUAL_SLICE_S",
    "DeadlockError",
    "Harness",
    "InlineThreads",
    "ScriptedRunner",
    "SilentRecorder",
    "VirtualClock",
    "VirtualLoop",
    "close_house",
    "open_house",
    "run_virtually",
    "tidemill_test_harness",
]

# On a virtual clock nothing is ever suspended, so sleeps need not be cut short to notice it.
VIRTUAL_SLICE_S = 3600.0
T = TypeVar("T")


class DeadlockError(RuntimeError):
    """Everything waits, and no timer is set: on a real clock this would wait for ever."""


class _NoSelector(selectors.SelectSelector):
    """Tells the loop how long it would have waited, and reports no event."""

    def __init__(self) -> None:
        super().__init__()
        self.skip: Callable[[float | None], None] = lambda timeout: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.skip(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is moved by hand, and whose ready callbacks can come in a seeded order."""

    def __init__(self, *, seed: int | None = None) -> None:
        self._virtual_now = 0.0
        self.jumps: list[tuple[float, Callable[[], None]]] = []
        selector = _NoSelector()
        super().__init__(selector)
        selector.skip = self._skip
        self._shuffle = random.Random(seed) if seed is not None else None  # noqa: S311 - a seed is the point
        self.set_exception_handler(_raise)
        self.failure: BaseException | None = None

    def time(self) -> float:
        return self._virtual_now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:  # type: ignore[override]
        """Run ``func`` here and now: there are no threads on a virtual clock."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _skip(self, timeout: float | None) -> None:
        if timeout is None:
            raise DeadlockError("every task waits and no timer is set")
        if timeout > 0:
            self._virtual_now += timeout

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if self._shuffle is not None and len(ready) > 1:
            shuffled = list(ready)
            self._shuffle.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        super()._run_once()  # type: ignore[misc]


def _raise(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    assert isinstance(loop, VirtualLoop)
    loop.failure = loop.failure or error or RuntimeError(context["message"])


class VirtualClock:
    """Wall and monotonic time of a :class:`VirtualLoop`. The wall can be set; the loop's time only goes forward."""

    def __init__(self, loop: VirtualLoop, start: datetime) -> None:
        self._loop = loop
        self._start = start
        self._began = loop.time()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time() - self._began)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set(self, wall: datetime) -> None:
        """Set the wall clock, as a person or a time service would: the monotonic one does not notice."""
        self._start, self._began = wall, self._loop.time()


class InlineThreads:
    """The threads port without threads: a call blocks the loop, which on a virtual clock takes no time."""

    async def run(self, call: Callable[[], T], /) -> T:
        return call()


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run ``main(loop)`` on a new virtual loop to its end and return what it returns.

    Raises what an abandoned task raised, and :class:`DeadlockError` where nothing could ever happen again.
    """
    loop = VirtualLoop(seed=seed)
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(main(loop))
        if loop.failure is not None:
            raise loop.failure
        return result
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class ScriptedRunner:
    """A runner that takes as long and ends as a script says, and heeds a cancellation at once."""

    def __init__(self, script: Callable[[Job], tuple[timedelta, Outcome]], clock: Clock) -> None:
        self._script = script
        self._clock = clock
        self.abandoned = 0
        self.began: list[tuple[datetime, Job]] = []

    async def run(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        self.began.append((self._clock.now(), job))
        lasts, outcome = self._script(job)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()
        timed_out = job.timeout is not None and job.timeout < lasts
        if timed_out:
            lasts = job.timeout or lasts
            outcome = Outcome(type=StateType.FAILED, name="TimedOut", message="timed out")
        timer = loop.call_later(lasts.total_seconds(), _settle, ended, outcome)

        def cancelled() -> None:
            type_ = StateType.CRASHED if cancellation.crashed else StateType.CANCELLED
            _settle(ended, Outcome(type=type_, name=type_.capitalize(), message=cancellation.reason))

        cancellation.on_request(cancelled)
        try:
            return await ended
        finally:
            timer.cancel()

    async def left(self, job: Job) -> None:
        return None

    async def aclose(self) -> None:
        return None


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


class SilentRecorder:
    """A recorder for runners that report nothing."""

    def report(self, report: Report) -> None:
        """Forget it."""

    async def flush(self) -> None:
        return None

    async def ask(self, question: Question) -> Any:
        raise TidemillError("a scripted run has nothing to ask")

    def masked(self, value: Any) -> Any:
        return value

    async def settle(self, outcome: Outcome) -> str | None:
        return None


async def open_house(
    loaded: Loaded,
    database: Path,
    *,
    clock: Clock,
    seed: int,
    script: Callable[[Job], tuple[timedelta, Outcome]],
    doors: DoorFactory = inline_doors,
) -> House:
    """Return the daemon's services on a database, with scripted runs; close it with :func:`close_house`."""
    ids = Ids(random.Random(seed))  # noqa: S311 - a seed is the point
    store = await Store.open(database, clock=clock, ids=ids, doors=doors)
    known = Catalogue(
        loaded.settings,
        instance=store.instance_id,
        overrides=await store.read(catalogue.overrides),
        compiled=loaded.compiled,
    )
    return House(
        store=store,
        catalogue=known,
        clock=clock,
        ids=ids,
        runner=lambda pool: ScriptedRunner(script, clock),
        recorder=lambda run: SilentRecorder(),
        check_parameters=lambda deployment, parameters: None,
        last_alive=await store.read(instance.last_alive),
        slice_s=VIRTUAL_SLICE_S,
    )


async def close_house(house: House, *, grace: timedelta = timedelta(seconds=30)) -> int:
    """Stop the services as the daemon does and close the database; return how many runs were cut off."""
    cut = await house.stop(grace)
    await house.store.aclose()
    return cut
