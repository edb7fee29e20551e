"""The timeline: what runs did, printed and emitted, fires that made no run, artifacts, and what the daemon said.

It is read piece by piece, each of bounded cost: by the stream of a daemon that lives, and by a command from the
database of one that is down.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from tidemill.clock import to_us
from tidemill.core.daemon_log import DaemonLine
from tidemill.core.events import RunChanged
from tidemill.core.retelling import retell
from tidemill.store import history as stored_history
from tidemill.store import runs, timeline
from tidemill.store.ops import rows
from tidemill.store.timeline import BEGINNING, END, Happened, Key, Loudness, Scope, Table
from tidemill.telemetry.entries import Entry
from tidemill.telemetry.sentences import (
    INFO,
    LEVEL_OF_NAME,
    LEVEL_OF_TYPE,
    entries_of,
    entry_of_artifact,
    entry_of_event,
    entry_of_output,
    entry_of_skipped,
)

PIECE = 500  # rows read at once
SPARSE = 65_536  # rows looked at, at once, where few are wanted
WINDOWS = (10_000, 250_000)  # ends of runs whose states are looked for at once: where many are told, and where few
DISORDER_US = 60_000_000  # lines may be written so much later than they were made; a few beyond it stand out of order
T = TypeVar("T")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline. ``kind``: state, output, skipped, artifact, event or daemon."""

    at: int  # microseconds
    kind: str
    entry: Entry
    key: tuple[int, int] | None = None  # of a state: the run's row number, the state's number
    run_id: str | None = None


def loudness(level: int) -> Loudness:
    """Return which states are as loud as ``level``."""
    return Loudness(
        types=tuple(stored_history.NUMBER_OF[kind] for kind, least in LEVEL_OF_TYPE.items() if least >= level),
        named=tuple(LEVEL_OF_NAME),
        loud=tuple(name for name, least in LEVEL_OF_NAME.items() if least >= level),
        asked=level <= INFO,
    )


def state_lines(event: RunChanged, level: int) -> Iterator[Line]:
    """Yield the lines of a change of state that are as loud as ``level``."""
    run, before = event.run, event.before
    first = run.state_number - len(event.states) + 1
    for number, state in enumerate(event.states, start=first):
        for entry in entries_of(RunChanged(run, (state,), before), level):
            yield Line(at=to_us(state.timestamp), kind="state", entry=entry, key=(run.seq, number), run_id=run.id)
        before = state


class Source(Protocol):
    """One kind of line, in the order of time. What is before ``covered`` is in the buffer, or was given already."""

    buffer: list[Line]
    covered: int

    def fill(self, connection: sqlite3.Connection) -> None:
        """Read one piece more."""
        ...


class States:
    """The states of runs."""

    def __init__(self, scope: Scope) -> None:
        self.buffer: list[Line] = []
        self.covered = scope.since
        self._scope = scope
        self._reached = scope.since if scope.loudness.any else scope.until
        self._window = WINDOWS[0]
        self._keys: list[Key] = []

    def fill(self, connection: sqlite3.Connection) -> None:
        scope = self._scope
        if not self._keys and self._reached < scope.until:
            begin, end, window = self._reached, scope.until, self._window
            if scope.run is None and (bound := timeline.end_after(connection, begin, count=window)) is not None:
                end = min(end, max(bound, begin + 1))
            self._keys = timeline.states(connection, scope, since=begin, until=end)
            self._reached = end
            self._window = min(window * 2, WINDOWS[1]) if len(self._keys) < window else WINDOWS[0]
        piece, self._keys = self._keys[:PIECE], self._keys[PIECE:]
        self.buffer += _told(connection, piece, scope.level)
        self.covered = self._keys[0][0] if self._keys else END if self._reached >= scope.until else self._reached


def _told(connection: sqlite3.Connection, keys: Sequence[Key], level: int) -> Iterator[Line]:
    """Yield the lines of states: told from the run as it was then."""
    seqs = list(dict.fromkeys(run for _, run, _ in keys))
    present = {run.seq: run for run in runs.documents(connection, rows(seqs), data=False)}
    states = timeline.histories(connection, list(present))
    then = {seq: retell(run, states[seq]) for seq, run in present.items()}
    for _, seq, number in keys:
        was = then.get(seq, ())
        if number <= len(was):  # else it was deleted meanwhile
            before = was[number - 2].state if number > 1 else None
            run = replace(was[number - 1], state_number=number)
            yield from state_lines(RunChanged(run, (run.state,), before), level)


class Numbered(Generic[T]):
    """What stands in one table that grows by number."""

    def __init__(
        self, table: Table[T], kind: str, tell: Callable[[T], tuple[Entry, str | None]], scope: Scope, after: int
    ) -> None:
        self.buffer: list[Line] = []
        self.covered = scope.since
        self.after = after
        self.table = table
        self._kind = kind
        self._tell = tell
        self._scope = scope
        self._stride = PIECE

    def fill(self, connection: sqlite3.Connection) -> None:
        scope = self._scope
        bound = self.table.bound(connection, scope, self.after, count=self._stride)
        # What is written while this is read has a higher number, and is for the next piece.
        last = self.table.last(connection) if bound is None else bound[0]
        found = self.table.rows(connection, scope, self.after, last)
        self.after = max(last, self.after)
        if len(found) < PIECE // 10:
            self._stride = min(self._stride * 2, SPARSE)
        elif len(found) > PIECE:
            self._stride = PIECE
        self.buffer += (self._line(row.at, row.value) for row in found)
        done = bound is None or (scope.until < END and bound[1] >= scope.until + DISORDER_US)
        self.covered = END if bound is None or done else max(self.covered, bound[1])

    def newer(self, connection: sqlite3.Connection) -> list[Line]:
        """Return what was written since, a piece at the most, whenever it was made."""
        scope = replace(self._scope, since=BEGINNING)
        bound = self.table.bound(connection, scope, self.after, count=PIECE)
        last = self.table.last(connection) if bound is None else bound[0]
        if last <= self.after:
            return []
        found = self.table.rows(connection, scope, self.after, last)
        self.after = last
        return [self._line(row.at, row.value) for row in found]

    def _line(self, at: int, value: T) -> Line:
        entry, run_id = self._tell(value)
        return Line(at=at, kind=self._kind, entry=entry, run_id=run_id)


def _said(line: DaemonLine) -> tuple[Entry, None]:
    fields = dict(line.fields)
    error, traceback = fields.pop("error", None), fields.pop("traceback", None)
    named = {"event": line.event, "deployment": line.deployment}
    fields |= {key: value for key, value in named.items() if value is not None}
    subject = line.logger.removeprefix("tidemill.")
    return Entry(line.at, line.level, subject, line.message, fields, False, error, traceback), None


def _happened(found: Happened) -> tuple[Entry, str]:
    return entry_of_event(found.run, found.event, found.about, found.occurred), found.run.id


_TABLES: tuple[tuple[Table[Any], str, Callable[[Any], tuple[Entry, str | None]]], ...] = (
    (timeline.LINES, "output", lambda found: (entry_of_output(*found), found[0].id)),
    (timeline.SKIPPED, "skipped", lambda found: (entry_of_skipped(found), None)),
    (timeline.ARTIFACTS, "artifact", lambda found: (entry_of_artifact(found, found.length, found.run), found.run_id)),
    (timeline.EVENTS, "event", _happened),
    (timeline.DIARY, "daemon", _said),
)


def tables(scope: Scope) -> list[tuple[Table[Any], str, Callable[[Any], tuple[Entry, str | None]]]]:
    """Return the tables that hold something a reader wants."""
    of_runs = {"output", "artifact", "event"}
    wanted = of_runs if scope.run is not None else of_runs | {"skipped", "daemon"}
    if scope.level > INFO:
        wanted -= {"skipped", "artifact", "event"}
    return [each for each in _TABLES if each[1] in wanted]


class Timeline:
    """Everything within a scope, from its beginning on, in the order of time.

    ``after`` gives for tables by name the numbers to begin behind; without one the table is searched for the time.
    ``resumed``: what stands behind those numbers is wanted whenever it was made.
    """

    def __init__(
        self, scope: Scope, *, after: Mapping[str, int] | None = None, skip: int = 0, resumed: bool = False
    ) -> None:
        self.scope = scope
        self.numbered: list[Numbered[Any]] = []
        self._after = after or {}
        self._resumed = resumed
        self._skip = skip  # lines at the beginning that are not wanted: as old as the first one that is
        self._sources: list[Source] = []
        self.done = False

    def page(self, connection: sqlite3.Connection) -> list[Line]:
        """Return the next lines, perhaps none; ``done`` says when there are no more."""
        if not self._sources:
            self._open(connection)
        horizon = min(source.covered for source in self._sources)
        for source in self._sources:
            if source.covered == horizon and horizon < END:
                source.fill(connection)
        horizon = min(source.covered for source in self._sources)
        found: list[Line] = []
        for source in self._sources:
            if horizon < END:
                found += (line for line in source.buffer if line.at < horizon)
                source.buffer = [line for line in source.buffer if line.at >= horizon]
            else:
                found += source.buffer
                source.buffer = []
        self.done = horizon == END
        found.sort(key=_at)
        skipped = min(self._skip, len(found))
        self._skip -= skipped
        return found[skipped:]

    def _open(self, connection: sqlite3.Connection) -> None:
        scope = self.scope
        for table, kind, tell in tables(scope):
            after = self._after.get(table.name)
            if after is None:
                after = 0 if scope.since == BEGINNING else table.seek(connection, scope.since - DISORDER_US)
            own = replace(scope, since=BEGINNING) if self._resumed else scope
            self.numbered.append(Numbered(table, kind, tell, own, after))
        self._sources = [States(scope), *self.numbered]


def _at(line: Line) -> int:
    return line.at


class Tail:
    """Finds where the last ``count`` lines of a scope begin, going back piece by piece."""

    def __init__(self, scope: Scope, count: int) -> None:
        self._scope = scope
        self._count = count
        self._states: list[int] = []
        self._found: dict[str, list[tuple[int, int]]] = {}
        self._last: dict[str, int] = {}  # where looking began, by table
        self._ways = itertools.chain(self._back_in_states(), *map(self._back_in_table, tables(scope)))

    def step(self, connection: sqlite3.Connection) -> bool:
        """Look one piece further back; return whether the beginning is found."""
        for look in self._ways:
            look(connection)
            return False
        return True

    def timeline(self) -> Timeline:
        """Return the lines from that beginning on."""
        times = [*self._states, *(at for found in self._found.values() for _, at in found)]
        times.sort(reverse=True)
        since = self._scope.since
        if len(times) >= self._count:
            since = times[self._count - 1] if self._count else END
        skip = max(0, sum(at >= since for at in times) - self._count)
        after = {}
        for name, last in self._last.items():
            after[name] = min((number for number, at in self._found[name] if at >= since), default=last + 1) - 1
        return Timeline(replace(self._scope, since=since), after=after, skip=skip)

    def _back_in_states(self) -> Iterator[Callable[[sqlite3.Connection], None]]:
        scope, reached, count = self._scope, self._scope.until, max(self._count, PIECE)
        if not scope.loudness.any:
            return

        def look(connection: sqlite3.Connection) -> None:
            nonlocal reached, count
            begin = timeline.end_before(connection, reached, count=count) if scope.run is None else None
            begin = scope.since if begin is None else max(scope.since, begin)
            if begin < reached:
                self._states += (at for at, _, _ in timeline.states(connection, scope, since=begin, until=reached))
            reached, count = begin, min(count * 2, WINDOWS[1])

        if self._count:
            yield look
            while reached > scope.since and len(self._states) < self._count:
                yield look

    def _back_in_table(self, of: tuple[Table[Any], str, Any]) -> Iterator[Callable[[sqlite3.Connection], None]]:
        table, scope = of[0], self._scope
        found = self._found[table.name] = []
        reached = -1
        stride = max(self._count, PIECE)

        def begin(connection: sqlite3.Connection) -> None:
            nonlocal reached
            reached = table.last(connection)
            if scope.until < END:
                reached = min(reached, table.seek(connection, scope.until + DISORDER_US) + 1)
            self._last[table.name] = reached

        def look(connection: sqlite3.Connection) -> None:
            nonlocal reached, stride
            low = max(0, reached - stride)
            found.extend(table.times(connection, scope, low, reached))
            oldest = table.bound(connection, replace(scope, run=None), low, count=0)
            past = oldest is not None and oldest[1] < scope.since - DISORDER_US
            reached, stride = (0 if past else low), min(stride * 2, SPARSE)

        yield begin
        while reached > 0 and len(found) < self._count:
            yield look
