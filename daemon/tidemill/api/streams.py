"""Server-sent events: what happens, as it happens. A stream ends when its reader goes or the daemon stops."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypeGuard

import msgspec
from starlette.types import Receive, Scope, Send

from tidemill.api import documents, run_progress
from tidemill.api.gate import SAFETY
from tidemill.api.ports import Control
from tidemill.core.events import (
    ArtifactStored,
    ArtifactUpdated,
    Emitted,
    Event,
    RunChanged,
    RunDeleted,
    TaskRunChanged,
)
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.store import logs, runs

# A comment line now and then: a reader that has gone is noticed, and proxies keep the connection.
HEARTBEAT_S = 15.0
PACE_S = 0.05  # between two looks of a follower, while there is much to tell
PAGE = 500


def message(event: str, document: Any) -> bytes:
    """Return one message of a stream."""
    return b"event: " + event.encode() + b"\ndata: " + msgspec.json.encode(document) + b"\n\n"


Ending = asyncio.Future[Any]
Stream = Callable[[Ending], AsyncGenerator[bytes, None]]


class EventStream:
    """An ASGI response that sends a stream until it ends, its reader goes, or the daemon stops."""

    def __init__(self, stream: Stream, stop: asyncio.Event) -> None:
        self.stream, self.stop = stream, stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stopping = asyncio.create_task(self.stop.wait())
        leaving = asyncio.create_task(_left(receive))
        ending = asyncio.create_task(asyncio.wait({stopping, leaving}, return_when=asyncio.FIRST_COMPLETED))
        messages = self.stream(ending)
        try:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), *SAFETY]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for chunk in messages:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await messages.aclose()
            for task in (ending, stopping, leaving):
                task.cancel()
            await asyncio.wait({ending, stopping, leaving})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Listener:
    """The next event, the stream's end, or nothing within a time: whichever comes first."""

    def __init__(self, control: Control, ending: Ending, *, task_runs: bool = False) -> None:
        self._subscription = control.events.subscribe(task_runs=task_runs)
        self._events = aiter(self._subscription)
        self._ending = ending
        self._next: asyncio.Task[Event | None] | None = None
        self._told_dropped = 0
        self.stopped = False

    async def get(self, timeout_s: float) -> Event | None:
        """Return the next event; None: nothing came in time, or ``stopped``."""
        if self._next is None:
            self._next = asyncio.ensure_future(_anext(self._events))
        await asyncio.wait({self._next, self._ending}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._ending.done():
            self.stopped = True
            return None
        if not self._next.done():
            return None
        event, self._next = self._next.result(), None
        self.stopped = event is None  # the bus has closed
        return event

    def dropped(self) -> int:
        """Return how many events were lost since the last call because this reader was too slow."""
        new = self._subscription.dropped - self._told_dropped
        self._told_dropped = self._subscription.dropped
        return new

    async def aclose(self) -> None:
        self._subscription.close()
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})


async def _anext(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def events(
    control: Control, ending: Ending, wanted: Callable[[Event], bool], *, task_runs: bool = False
) -> AsyncGenerator[bytes, None]:
    """Yield what happens from now on, in Prefect's event shape; ``task_runs``: to them, too."""
    listener = Listener(control, ending, task_runs=task_runs)
    try:
        yield b": tidemill events\n\n"
        while not listener.stopped:
            event = await listener.get(HEARTBEAT_S)
            if lost := listener.dropped():
                yield message("dropped", {"count": lost})
            if event is None:
                if not listener.stopped:
                    yield b":\n\n"
            elif wanted(event):
                for document in documents.events(control.instance_id, event):
                    yield message("event", document)
    finally:
        await listener.aclose()


def matching(deployment: str | None, flow_run_id: str | None) -> Callable[[Event], bool]:
    """Return the filter of one deployment, one run, or everything."""

    def wanted(event: Event) -> bool:
        owner, run_id = _about(event)
        return (deployment is None or owner == deployment) and (flow_run_id is None or run_id == flow_run_id)

    return wanted


def _about(event: Event) -> tuple[str | None, str | None]:
    if isinstance(event, RunChanged | TaskRunChanged | Emitted):
        return event.run.deployment, event.run.id
    if isinstance(event, RunDeleted):
        return event.deployment, event.run_id
    if isinstance(event, ArtifactStored | ArtifactUpdated):
        return event.artifact.deployment, event.artifact.run_id
    return event.skipped.deployment, None


class RunLog:
    """One run followed to its end: its states and its log lines, then ``end`` with the run.

    ``progress``: also how far it is, whenever that changes: its task runs by state, and its progress artifacts.
    """

    def __init__(self, control: Control, run: FlowRun, *, level: int, tail: int | None, progress: bool = False) -> None:
        self.control, self.run, self.level, self.tail, self.progress = control, run, level, tail, progress
        self._after = 0
        self._told: documents.Document | None = None

    async def messages(self, ending: Ending) -> AsyncGenerator[bytes, None]:
        """Yield ``state``, ``log``, ``progress`` and at last ``end`` messages."""
        # From now on; what was before is read after.
        subscription = self.control.events.subscribe(task_runs=self.progress, lines=True)
        coming: asyncio.Task[list[Event] | None] | None = None
        dropped = 0
        try:
            run = await self._fresh()
            ended = run.state.is_terminal  # then its lines were before that state
            if not ended:
                yield self._state(run)
            if self.tail is not None:
                await self._skip_to_tail(run, self.tail)
            while not run.state.is_terminal:
                # The lines of code that began meanwhile come after the state in which it did.
                waits = run.state.type in (StateType.SCHEDULED, StateType.PENDING)
                async for chunk in self._lines(run, run.state.timestamp if waits else None):
                    yield chunk
                async for chunk in self._progress(run):
                    yield chunk
                # What comes by the thousand is told some at a time.
                await asyncio.wait({ending}, timeout=PACE_S)
                coming = coming or asyncio.ensure_future(subscription.batch())
                await asyncio.wait({coming, ending}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if ending.done():
                    return
                if not coming.done():
                    yield b":\n\n"
                    continue
                events, coming = coming.result(), None
                if events is None:
                    return
                for event in events:
                    if isinstance(event, RunDeleted) and event.run_id == run.id:
                        return
                    if _newer(event, run):
                        # What the run logged before this state is told before it, what it logged since after it. Its
                        # end comes after all that: where its code ran, the clock may be another one.
                        await self.control.store.flush()
                        entered = event.run.state
                        async for chunk in self._lines(run, None if entered.is_terminal else entered.timestamp):
                            yield chunk
                        run = event.run
                        yield self._state(run)
                if subscription.dropped > dropped:
                    dropped = subscription.dropped
                    found = await self._fresh()
                    if found.state_number > run.state_number:
                        run = found
                        yield self._state(run)
            await self.control.store.flush()
            async for chunk in self._lines(run):
                yield chunk
            if ended:
                yield self._state(run)
            async for chunk in self._progress(run):
                yield chunk
            yield message("end", self._document(run))
        finally:
            subscription.close()
            if coming is not None:
                coming.cancel()
                await asyncio.wait({coming})

    async def _fresh(self) -> FlowRun:
        found = await self.control.store.read(lambda connection: runs.get(connection, self.run.id))
        return found if found is not None else self.run

    async def _skip_to_tail(self, run: FlowRun, tail: int) -> None:
        last = await self.control.store.read(
            lambda connection: logs.tail_of_run(connection, run.seq, limit=tail, level=self.level)
        )
        if last:
            self._after = last[0].number - 1

    async def _lines(self, run: FlowRun, until: datetime | None = None) -> AsyncIterator[bytes]:
        """Yield the lines that were not told yet, up to the first that is later than ``until``."""
        while True:
            found = await self.control.store.read(
                lambda connection: logs.of_run(connection, run.seq, after=self._after, limit=PAGE, level=self.level)
            )
            page = list(itertools.takewhile(lambda line: until is None or line.row.at <= until, found))
            if page:
                self._after = page[-1].number
                yield b"".join(
                    message("log", documents.log(self.control.instance_id, line.number, line.row)) for line in page
                )
            if len(page) < PAGE:
                return

    async def _progress(self, run: FlowRun) -> AsyncIterator[bytes]:
        if self.progress:
            told = await self.control.store.read(lambda connection: run_progress.document(connection, run))
            if told != self._told:
                self._told = told
                yield message("progress", told)

    def _state(self, run: FlowRun) -> bytes:
        return message("state", documents.state(self.control.instance_id, run.id, run.state_number, run.state))

    def _document(self, run: FlowRun) -> documents.Document:
        return documents.flow_run(self.control.instance_id, run, self.control.clock.now())


def _newer(event: Event, run: FlowRun) -> TypeGuard[RunChanged]:
    return isinstance(event, RunChanged) and event.run.id == run.id and event.run.state_number > run.state_number
