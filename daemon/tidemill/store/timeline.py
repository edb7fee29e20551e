"""What happened, by time: states, lines, events, skipped fires, the diary and artifacts, in pieces of bounded cost.

States are found by the ends of their runs. All else stands in tables that grow by number, about in the order of time;
a reader goes through them by number, so that nothing that was written late is passed over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from tidemill.clock import from_us
from tidemill.core.daemon_log import DaemonLine
from tidemill.core.runs import LogRow, SkippedFire
from tidemill.core.states import State
from tidemill.store import history
from tidemill.store.ops import rows, scalar
from tidemill.store.statements import load

_SQL = load("timeline")
BEGINNING, END = -(2**62), 2**62  # of time, and of numbers
T = TypeVar("T")

Key = tuple[int, int, int]  # of a state: when in microseconds, the run's row number, the state's number
_keys = msgspec.json.Decoder(list[Key])
_marks = msgspec.json.Decoder(list[tuple[int, int]])
_mark = msgspec.json.Decoder(tuple[int, int])
_numbers = msgspec.json.Decoder(list[int])


class Loudness(msgspec.Struct, frozen=True, kw_only=True):
    """Which states are told. A state whose name is ``named`` goes by that name, others by their type's number."""

    types: tuple[int, ...]
    named: tuple[str, ...]
    loud: tuple[str, ...]
    asked: bool  # the first state of a run that somebody asked for

    @property
    def any(self) -> bool:
        """Whether any state is told at all."""
        return bool(self.types or self.loud or self.asked)


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader wants. ``since`` is included, ``until`` is not; both in microseconds. None: all."""

    since: int = BEGINNING
    until: int = END
    level: int = 0
    loudness: Loudness
    deployments: tuple[str, ...] | None = None
    routes: tuple[int, ...] | None = None  # those of the deployments
    run: int | None = None
    run_id: str | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "since": self.since,
            "until": self.until,
            "level": self.level,
            "deployments": None if self.deployments is None else rows(self.deployments),
            "routes": None if self.routes is None else rows(self.routes),
            "run": self.run,
            "run_id": self.run_id,
        }


class Whose(msgspec.Struct, frozen=True):
    """A run by its names."""

    id: str
    name: str
    flow: str
    deployment: str | None


def routes(connection: sqlite3.Connection, deployments: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of the routes that runs of these deployments had."""
    return tuple(_numbers.decode(str(scalar(connection, _SQL["routes"], {"deployments": rows(deployments)}))))


# -- states ----------------------------------------------------------------------------------------------------------


def states(connection: sqlite3.Connection, scope: Scope, *, since: int, until: int) -> list[Key]:
    """Return the keys of the states within a time, in its order."""
    loudness = scope.loudness
    parameters = scope.parameters | {
        "since": since,
        "until": until,
        "types": sum(1 << number for number in loudness.types),
        "named": rows(loudness.named),
        "loud": rows(loudness.loud),
        "asked": loudness.asked,
    }
    name = "states_of_run" if scope.run is not None else "states" if scope.routes is None else "states_of_routes"
    return _keys.decode(str(scalar(connection, _SQL[name], parameters)))


def end_after(connection: sqlite3.Connection, when: int, *, count: int) -> int | None:
    """Return when the run ended that is ``count`` ends after an instant; None: there are not so many."""
    return _end(connection, "end_after", when, count)


def end_before(connection: sqlite3.Connection, when: int, *, count: int) -> int | None:
    """Return when the run ended that is ``count`` ends before an instant; None: there are not so many."""
    return _end(connection, "end_before", when, count)


def _end(connection: sqlite3.Connection, name: str, when: int, count: int) -> int | None:
    found: tuple[int] | None = connection.execute(_SQL[name], {"when": when, "count": count}).fetchone()
    return None if found is None else found[0]


_histories = msgspec.json.Decoder(list[tuple[int, int, str | None, int, str | None]])


def histories(connection: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, list[State]]:
    """Return all states of runs by row number, oldest first, without their data."""
    found: dict[int, list[State]] = {}
    text = scalar(connection, _SQL["histories"], {"seqs": rows(seqs)})
    for run, kind, name, at, message in _histories.decode(str(text)):
        found.setdefault(run, []).append(history.state(kind, name, at, message, None))
    return found


# -- what grows by number --------------------------------------------------------------------------------------------


class Row(msgspec.Struct, Generic[T], frozen=True):
    """A row: its number, when in microseconds, and what it says."""

    number: int
    at: int
    value: T


class Table(Generic[T]):
    """One table that grows by number."""

    def __init__(self, name: str, row: Any, value: Callable[[Any], T]) -> None:
        self.name = name
        self._decoder = msgspec.json.Decoder(list[row])
        self._value = value

    def last(self, connection: sqlite3.Connection) -> int:
        """Return the last number given; 0 for none."""
        number: int = connection.execute(_SQL[f"{self.name}_last"]).fetchone()[0]
        return number

    def bound(self, connection: sqlite3.Connection, scope: Scope, after: int, *, count: int) -> tuple[int, int] | None:
        """Return number and time of the row that is ``count`` rows after a number; None: there are not so many."""
        name = f"{self._told(scope)}_bound"
        return _optional(connection, name, {"after": after, "count": count, "run": scope.run})

    def seek(self, connection: sqlite3.Connection, when: int) -> int:
        """Return a number behind which the rows from ``when`` on are, as far as rows are in the order of time."""
        low, high = 0, self.last(connection) + 1
        while low + 1 < high:
            middle = (low + high) // 2
            found = _optional(connection, f"{self.name}_at", {"number": middle})
            if found is None or found[1] >= when:
                high = middle
            else:
                low = found[0]
        return low

    def rows(self, connection: sqlite3.Connection, scope: Scope, after: int, last: int) -> list[Row[T]]:
        """Return the wanted rows of a range of numbers, in their order."""
        parameters = scope.parameters | {"after": after, "last": last}
        text = scalar(connection, _SQL[f"{self._told(scope)}_rows"], parameters)
        return [Row(row[0], row[1], self._value(row)) for row in self._decoder.decode(str(text))]

    def times(self, connection: sqlite3.Connection, scope: Scope, after: int, last: int) -> list[tuple[int, int]]:
        """Return numbers and times of the wanted rows of a range of numbers, newest first."""
        parameters = scope.parameters | {"after": after, "last": last}
        return _marks.decode(str(scalar(connection, _SQL[f"{self._told(scope)}_times"], parameters)))

    def _told(self, scope: Scope) -> str:
        return "run_log" if self.name == "log" and scope.run is not None else self.name


def _optional(connection: sqlite3.Connection, name: str, parameters: dict[str, Any]) -> tuple[int, int] | None:
    found: tuple[str] | None = connection.execute(_SQL[name], parameters).fetchone()
    return None if found is None else _mark.decode(found[0])


def _line(row: tuple[Any, ...]) -> tuple[Whose, LogRow]:
    _, at, level, logger, message, task_run_id, run, run_id, name, flow, deployment = row
    line = LogRow(
        run=run, run_id=run_id, at=from_us(at), level=level, logger=logger or "print", message=message,
        task_run_id=task_run_id,
    )  # fmt: skip
    return Whose(run_id, name, flow, deployment), line


def _skipped(row: tuple[Any, ...]) -> SkippedFire:
    _, at, deployment, schedule, first, last, count, exact, reason = row
    return SkippedFire(
        deployment=deployment, schedule=schedule, first=from_us(first), last=from_us(last), count=count,
        exact=bool(exact), reason=reason, at=from_us(at),
    )  # fmt: skip


def _said(row: tuple[Any, ...]) -> DaemonLine:
    _, at, level, logger, event, deployment, message, fields = row
    return DaemonLine(
        at=from_us(at), level=level, event=event, deployment=deployment, message=message, fields=fields or {},
        logger=logger or "tidemill",
    )  # fmt: skip


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact's version, without what it holds."""

    key: str | None
    version: int
    type: str
    length: int  # characters
    run: str | None  # its name, while it is there
    run_id: str | None
    deployment: str | None
    created: datetime


def _made(row: tuple[Any, ...]) -> Made:
    _, at, key, version, kind, length, run_id, deployment, run = row
    return Made(
        key=key,
        version=version,
        type=kind,
        length=length,
        run=run,
        run_id=run_id,
        deployment=deployment,
        created=from_us(at),
    )


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the code of a run emitted."""

    run: Whose
    event: str
    about: str | None  # the id of the resource
    occurred: datetime


def _happened(row: tuple[Any, ...]) -> Happened:
    _, _, occurred, event, about, run_id, name, flow, deployment = row
    return Happened(run=Whose(run_id, name, flow, deployment), event=event, about=about, occurred=from_us(occurred))


_S = str | None
LINES: Table[tuple[Whose, LogRow]] = Table(
    "log", tuple[int, int, int, _S, str, _S, int, str, str, str, _S], _line
)  # fmt: skip
SKIPPED: Table[SkippedFire] = Table("skipped", tuple[int, int, str, str, int, int, int, int, str], _skipped)
DIARY: Table[DaemonLine] = Table("daemon", tuple[int, int, int, _S, _S, _S, str, dict[str, Any] | None], _said)
ARTIFACTS: Table[Made] = Table("artifact", tuple[int, int, _S, int, str, int, _S, _S, _S], _made)
EVENTS: Table[Happened] = Table("emitted", tuple[int, int, int, str, _S, str, str, str, _S], _happened)
