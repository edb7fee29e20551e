"""Why a run is late, skipped, retried or absent: the evidence, and the findings that are made of it.

What is known is gathered elsewhere and handed in as values; here it becomes sentences, each with the times, limits and
people it goes by. Pure, so that a table can hold every way against its sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from tidemill.core.admission import Limit
from tidemill.core.deployments import Deployment
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.states import State
from tidemill.durations import span

SHOWN = 5  # runs named in one sentence


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing found out. ``kind`` is for programs, ``sentence`` for people; ``facts`` are JSON values."""

    kind: str
    sentence: str
    at: datetime | None = None
    facts: dict[str, Any] = {}
    remedy: str | None = None  # a command


# -- evidence --------------------------------------------------------------------------------------------------------


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon's life. ``ended`` None: it lives, or nobody knows; ``clean``: it was told to stop."""

    began: datetime
    ended: datetime | None = None
    clean: bool = True


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment, work_queue or work_pool was paused from ``since`` (None: as long as is known) until ``until``."""

    kind: str
    name: str
    since: datetime | None
    until: datetime | None = None
    by: str | None = None  # None: by the configuration

    def covers(self, when: datetime) -> bool:
        return (self.since is None or self.since <= when) and (self.until is None or when < self.until)

    def overlaps(self, first: datetime, last: datetime) -> bool:
        return (self.since is None or self.since < last) and (self.until is None or first < self.until)


class Jump(msgspec.Struct, frozen=True, kw_only=True):
    """The clock went from one time to another."""

    since: datetime
    until: datetime


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody deleted a run."""

    due: datetime | None
    name: str
    at: datetime
    by: str | None = None


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon drained."""

    since: datetime
    until: datetime | None = None
    by: str | None = None


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment was stated as, from ``since`` until ``until`` (None: it still is)."""

    value: Deployment
    since: datetime
    until: datetime | None = None


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What only the daemon itself knows, at one moment."""

    timezone: str = "UTC"
    held: str | None = None  # why nothing may become due
    degraded: str | None = None  # why nothing can be written
    drain: Drain | None = None
    stopping: bool = False
    slots: Mapping[Limit, int] = {}
    used: Mapping[Limit, int] = {}
    unreachable: Mapping[str, str] = {}  # work pools, and why
    unfit: Mapping[str, str] = {}  # deployments whose code cannot be loaded, and why
    keep: timedelta | None = None  # how long finished runs are kept
    upcoming: int = 0  # fires planned ahead of each schedule


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What the database tells of the daemon: its lives, what was paused, what its clock did."""

    lives: Sequence[Life] = ()
    pauses: Sequence[Pause] = ()
    jumps: Sequence[Jump] = ()
    drains: Sequence[Drain] = ()
    deleted: Sequence[Deleted] = ()
    last_alive: datetime | None = None

    def down_at(self, when: datetime) -> tuple[datetime, datetime | None] | None:
        """Return the stretch without a daemon that an instant falls into; its end is None where it lasts."""
        for before, after in self._gaps():
            if before < when and (after is None or when < after):
                return before, after
        return None

    def down_between(self, first: datetime, last: datetime) -> tuple[datetime, datetime | None] | None:
        """Return the first stretch without a daemon that overlaps with ``first`` to ``last``."""
        for before, after in self._gaps():
            if before < last and (after is None or first < after):
                return before, after
        return None

    def _gaps(self) -> list[tuple[datetime, datetime | None]]:
        found: list[tuple[datetime, datetime | None]] = []
        ended: datetime | None = None
        for life in self.lives:
            if ended is not None:
                found.append((ended, life.began))
            ended = life.ended
        if ended is not None:
            found.append((ended, None))
        return found


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a run that waits meets: each limit it has to pass, with the runs that hold its slots."""

    limits: Sequence[Limit] = ()
    holders: Mapping[Limit, Sequence[FlowRun]] = {}


class RunEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one run."""

    run: FlowRun
    states: Sequence[State]
    now: datetime
    past: Past = Past()
    live: Live | None = None  # None: the daemon is down
    deployment: Deployment | None = None  # as it is configured now
    gone: datetime | None = None  # since when it no longer is
    waiting: Waiting = Waiting()
    alongside: Sequence[FlowRun] = ()  # what ran in the same line while it waited
    skipped: Sequence[SkippedFire] = ()


# -- words -----------------------------------------------------------------------------------------------------------


class Words:
    """Instants and spans as sentences have them, in one zone."""

    def __init__(self, info: ZoneInfo, now: datetime) -> None:
        self.info, self.now = info, now

    def at(self, when: datetime) -> str:
        """Return an instant: ``2026-06-01 15:00:00 +0300``."""
        return when.astimezone(self.info).strftime("%Y-%m-%d %H:%M:%S %z")

    def day(self, when: datetime) -> str:
        return when.astimezone(self.info).strftime("%A, %Y-%m-%d")

    def between(self, first: datetime | None, last: datetime | None) -> str:
        """Return a stretch: ``from … to …``, ``since …``, ``until …``."""
        if first is None:
            return f"until {self.at(last)}" if last is not None else "all the time that is on record"
        return f"from {self.at(first)} to {self.at(last)}" if last is not None else f"since {self.at(first)}"

    def far(self, when: datetime) -> str:
        """Return how far an instant is: ``in 3m05s``, ``12s ago``, ``now``."""
        seconds = (when - self.now).total_seconds()
        if abs(seconds) < 1:
            return "now"
        return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def call(run: FlowRun) -> str:
    """Return how a run is called: ``brisk-otter (1234abcd)``."""
    return f"{run.name} ({run.id[-8:]})"


def listed(runs: Sequence[FlowRun], words: Words) -> str:
    """Return runs with the time since when they run."""
    told = [
        f"{call(run)} of {run.deployment or run.flow}, since {words.at(run.start_time or run.state.timestamp)}"
        for run in runs[:SHOWN]
    ]
    return "; ".join(told) + (f"; and {len(runs) - SHOWN} more" if runs[SHOWN:] else "")


def people(by: str | None) -> str:
    return f" by {by}" if by else ""


def stamp(when: datetime | None) -> str | None:
    """Return an instant as facts have it."""
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def brief(run: FlowRun) -> dict[str, Any]:
    """Return a run as facts have it."""
    return {"id": run.id, "name": run.name, "deployment": run.deployment, "since": stamp(run.start_time)}
