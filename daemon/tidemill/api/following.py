"""The log of everything, read and followed: what ``tidemill logs`` shows.

History is read piece by piece, then the stream goes on with what is committed: states as events tell them, all else by
number as soon as it is stored. So nothing is told twice or lost where the one ends and the other begins. A ``cursor``
after every piece says where a reader that was cut off goes on.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from tidemill.api import lookup
from tidemill.api.bodies import BadRequestError, number
from tidemill.api.ports import Control
from tidemill.api.streams import HEARTBEAT_S, PACE_S, Ending, message
from tidemill.api.timeline import Line, States, Tail, Timeline, loudness, state_lines
from tidemill.clock import instant, to_us
from tidemill.core.deployments import Deployment
from tidemill.core.events import Event, RunChanged, RunDeleted
from tidemill.errors import NotFoundError
from tidemill.store import catalogue, runs, timeline
from tidemill.store.timeline import BEGINNING, END, Scope
from tidemill.telemetry.formats import rfc3339
from tidemill.telemetry.sentences import INFO

MOST_TAIL = 100_000
REMEMBERED = 2_000  # states told last, which are not told again
OVERLAP_US = 10_000_000  # states are looked for so much earlier where a reader goes on
LOST_US = 5_000_000  # and where events were lost, because more came than this reader took


class Cursor(msgspec.Struct, frozen=True):
    """Where a reader goes on: the time of the last line, and numbers by table."""

    at: int
    numbers: dict[str, int]


class Asked(msgspec.Struct, frozen=True):
    """What a reader asked for."""

    scope: Scope
    tail: int | None  # only so many of the last lines; None: all
    follow: bool
    cursor: Cursor | None


def asked(connection: sqlite3.Connection, query: Mapping[str, str]) -> Asked:
    """Return what a query means. Raises NotFoundError for a run or deployment there is not, BadRequestError."""
    level = number(query, "level", INFO)
    scope = Scope(
        since=_instant(query, "since", BEGINNING),
        until=_instant(query, "until", END),
        level=level,
        loudness=loudness(level),
    )
    if text := query.get("deployment"):
        names = tuple(_deployment(connection, name) for name in text.split(","))
        scope = replace(scope, deployments=names, routes=timeline.routes(connection, names))
    if text := query.get("flow_run_id"):
        run = lookup.flow_run(connection, text)
        if scope.deployments is not None and run.deployment not in scope.deployments:
            raise BadRequestError(f"flow run {run.name} is not of deployment {', '.join(scope.deployments)}")
        scope = replace(scope, run=run.seq, run_id=run.id, since=max(scope.since, to_us(run.created)))
    tail = number(query, "tail", 0) if query.get("tail") else None
    if tail is not None and tail > MOST_TAIL:
        raise BadRequestError(f"at most the last {MOST_TAIL} lines; leave tail out for all")
    try:
        cursor = msgspec.json.decode(query["cursor"], type=Cursor) if query.get("cursor") else None
    except msgspec.MsgspecError as error:
        raise BadRequestError(f"cursor: {error}") from error
    return Asked(scope, tail, query.get("follow") == "true", cursor)


def _instant(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if not text:
        return default
    try:
        return to_us(instant(text))
    except ValueError as error:
        raise BadRequestError(f"{name}: {error}") from error


def _deployment(connection: sqlite3.Connection, text: str) -> str:
    """Return the deployment's name, also of one that the configuration no longer has."""
    try:
        return lookup.deployment(connection, text).value.name
    except NotFoundError:
        gone = catalogue.exactly(connection, Deployment, text, gone=True)
        if gone is None:
            raise
        return gone.value.name


def document(line: Line) -> dict[str, Any]:
    """Return a line as it is sent. ``level`` is logging's number; ``id`` tells a state from all others."""
    entry = line.entry
    found: dict[str, Any] = {
        "kind": line.kind,
        "timestamp": rfc3339(entry.at),
        "level": entry.level,
        "subject": entry.subject,
        "message": entry.message,
        "fields": entry.fields,
    }
    if line.key is not None:
        found["id"] = f"{line.run_id}:{line.key[1]}"
    if entry.error is not None:
        found |= {"error": entry.error, "traceback": entry.traceback}
    return found


def begin(wanted: Asked) -> Timeline | Tail:
    """Return what to read first: the lines, or where the last ones begin."""
    cursor = wanted.cursor
    if cursor is not None:
        scope = replace(wanted.scope, since=max(wanted.scope.since, cursor.at - OVERLAP_US))
        return Timeline(scope, after=cursor.numbers, resumed=True)
    return Timeline(wanted.scope) if wanted.tail is None else Tail(wanted.scope, wanted.tail)


def read_all(connection: sqlite3.Connection, query: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yield ``line`` with each line there is, and at last ``cursor``: for a command, while the daemon is down."""
    wanted = asked(connection, query)
    reading = begin(wanted)
    if isinstance(reading, Tail):
        while not reading.step(connection):
            pass
        reading = reading.timeline()
    at = wanted.cursor.at if wanted.cursor else 0
    while not reading.done:
        for line in reading.page(connection):
            at = max(at, line.at)
            yield "line", document(line)
    yield "cursor", {"at": at, "numbers": {each.table.name: each.after for each in reading.numbered}}
    run_id = wanted.scope.run_id
    if wanted.follow and run_id is not None:
        run = runs.get(connection, run_id)
        if run is None or run.state.is_terminal:
            yield "end", {"flow_run_id": run_id}


class Following:
    """A log that is read by one reader: history, and what comes then."""

    def __init__(self, control: Control, wanted: Asked) -> None:
        self._control = control
        self._wanted = wanted
        self._scope = wanted.scope
        self._told: dict[tuple[int, int], None] = {}  # the states told last
        self._at = wanted.cursor.at if wanted.cursor else 0
        self._first: int | None = None  # when the first line was that was told: none before it is wanted
        self._reading: Timeline

    async def messages(self, ending: Ending) -> AsyncGenerator[bytes, None]:
        """Yield ``line`` and ``cursor`` messages; with a run that is followed, ``end`` after its last line."""
        subscription = self._control.events.subscribe(lines=True)
        next_batch: asyncio.Task[list[Event] | None] | None = None
        try:
            yield b": tidemill log\n\n"
            async for chunk in self._history():
                if ending.done():  # a reader that has seen enough; a million lines are not read for nobody
                    return
                yield chunk
            if not self._wanted.follow:
                return
            dropped, ended = 0, await self._run_ended()
            while not ended:
                next_batch = next_batch or asyncio.ensure_future(subscription.batch())
                await asyncio.wait({next_batch, ending}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if ending.done():
                    return
                if not next_batch.done():
                    yield b":\n\n"
                    continue
                events, next_batch = next_batch.result(), None
                if events is None:
                    return
                lost, dropped = subscription.dropped > dropped, subscription.dropped
                yield self._encoded(await self._fresh(events, lost=lost))
                if lost or any(_run_of(event) == self._scope.run for event in events):
                    ended = await self._run_ended()
                # Lines that come by the thousand are told some at a time.
                await asyncio.wait({ending}, timeout=PACE_S)
            await self._control.store.flush()
            yield self._encoded(await self._fresh([], lost=True))
            yield message("end", {"flow_run_id": self._scope.run_id})
        finally:
            subscription.close()
            if next_batch is not None:
                next_batch.cancel()
                await asyncio.wait({next_batch})

    async def _history(self) -> AsyncGenerator[bytes, None]:
        store = self._control.store
        if self._wanted.follow:
            await store.flush()  # what was said before is there to be read; what comes later is heard
        reading = begin(self._wanted)
        if isinstance(reading, Tail):
            while not await store.read(reading.step):
                yield b":\n\n"
            reading = reading.timeline()
        self._reading = reading
        while not reading.done:
            yield await store.read(self._page)
        if self._first is None:
            self._first = to_us(self._control.clock.now())

    def _page(self, connection: sqlite3.Connection) -> bytes:
        """Return the next page as it is sent: made in the reader's thread, as it would hold up the loop."""
        lines = self._reading.page(connection)
        if self._first is None and lines:
            self._first = lines[0].at
        self._remember(lines)
        return self._encoded(lines) if lines else b":\n\n"

    async def _run_ended(self) -> bool:
        """Say whether the one run that is followed has ended."""
        if self._scope.run_id is None:
            return False
        run_id = self._scope.run_id
        run = await self._control.store.read(lambda connection: runs.get(connection, run_id))
        return run is None or run.state.is_terminal

    async def _fresh(self, events: Sequence[Event], *, lost: bool) -> list[Line]:
        """Return what is new: the states of events, and what was stored in the tables that grow by number."""
        states = [line for event in events for line in self._states_of(event)]
        if lost:
            states += await self._control.store.read(self._states_lately)
        found = list({line.key: line for line in states if line.key not in self._told}.values())
        while page := await self._control.store.read(self._newer):
            found += page
        found.sort(key=lambda line: line.at)
        self._remember(found)
        return found

    def _states_of(self, event: Event) -> Iterator[Line]:
        scope = self._scope
        if not isinstance(event, RunChanged):
            return
        run = event.run
        if (scope.run is None or run.seq == scope.run) and (
            scope.deployments is None or run.deployment in scope.deployments
        ):
            yield from state_lines(event, scope.level)

    def _newer(self, connection: sqlite3.Connection) -> list[Line]:
        return [line for source in self._reading.numbered for line in source.newer(connection)]

    def _states_lately(self, connection: sqlite3.Connection) -> list[Line]:
        since = max(self._scope.since, self._at - LOST_US, self._first or BEGINNING)
        states = States(replace(self._scope, since=since, until=END))
        while states.covered < END:
            states.fill(connection)
        return states.buffer

    def _remember(self, lines: Sequence[Line]) -> None:
        told = self._told
        for line in lines:
            self._at = max(self._at, line.at)
            if line.key is not None:
                told[line.key] = None
        while len(told) > REMEMBERED:
            del told[next(iter(told))]

    def _encoded(self, lines: Sequence[Line]) -> bytes:
        numbers = {source.table.name: source.after for source in self._reading.numbered}
        chunks = [message("line", document(line)) for line in lines]
        chunks.append(message("cursor", Cursor(self._at, numbers)))
        return b"".join(chunks)


def _run_of(event: Event) -> int | None:
    """Return the row number of the run that an event changes or deletes."""
    if isinstance(event, RunChanged):
        return event.run.seq
    return event.seq if isinstance(event, RunDeleted) else None
