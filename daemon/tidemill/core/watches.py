"""Watches: what each automation has seen, and when that makes its condition true.

A watch hears what was committed and is asked when time has passed; it answers with causes. It may hear the same thing
twice, once from the database at a start and once from the bus: a cause has the same key then, and is acted on once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from tidemill.core.automations import (
    AllCompleted,
    ArtifactChanges,
    Automation,
    Cause,
    EntersState,
    InARow,
    IsLate,
    NoneWithin,
    Past,
    means,
    split,
)
from tidemill.core.causes import SUBFLOW, because, cause_of, mark, utc, whose
from tidemill.core.events import ArtifactStored, Event, RunChanged, RunDeleted
from tidemill.core.runs import FlowRun
from tidemill.core.silences import SilenceWatch
from tidemill.core.states import StateType
from tidemill.core.streaks import StreakWatch
from tidemill.durations import format_duration


class Watch(Protocol):
    """One automation's condition, and what it has seen so far. All on the loop, nothing waits."""

    def hear(self, event: Event) -> Iterable[Cause]:
        """Return what an event makes true."""
        ...

    def due(self, now: datetime) -> Iterable[Cause]:
        """Return what has come true by the passing of time."""
        ...

    def next_at(self) -> datetime | None:
        """Return when time alone may make something true; None: never, as things are."""
        ...

    def standing(self, now: datetime) -> list[str]:
        """Return how it stands, a line for each thing that a person would ask about."""
        ...


class _States:
    """A run enters a state, or stays in it."""

    def __init__(self, condition: EntersState) -> None:
        self._condition = condition
        self._meant = split(condition.states)
        self._since: dict[str, tuple[RunChanged, int]] = {}  # by run id: what it entered, and its number
        self._timers: list[tuple[datetime, str, int]] = []  # a heap; passed over where the run has left since

    def hear(self, event: Event) -> Iterable[Cause]:
        if isinstance(event, RunDeleted):
            self._since.pop(event.run_id, None)
        if not isinstance(event, RunChanged):
            return ()
        run, condition = event.run, self._condition
        if run.created_by == SUBFLOW or not condition.of.fits(run.deployment, run.tags):
            return ()
        if condition.stays is not None:
            self._stay(event, condition.stays)
            return ()
        first = run.state_number - len(event.states) + 1
        return [
            cause_of(run, f"{run.id}/{number}", f"{whose(run)} is {state.name}{because(state)}", state=state)
            for number, state in enumerate(event.states, start=first)
            if means(self._meant, state)
        ]

    def _stay(self, event: RunChanged, stays: timedelta) -> None:
        run = event.run
        if not means(self._meant, run.state):
            self._since.pop(run.id, None)
        elif run.id not in self._since:
            self._since[run.id] = event, run.state_number
            heapq.heappush(self._timers, (run.state.timestamp + stays, run.id, run.state_number))

    def due(self, now: datetime) -> Iterable[Cause]:
        found = []
        while self._timers and self._timers[0][0] <= now:
            at, run_id, number = heapq.heappop(self._timers)
            entered = self._since.get(run_id)
            if entered is None or entered[1] != number or self._condition.stays is None:
                continue
            run = entered[0].run
            reason = f"{whose(run)} is {run.state.name} for {format_duration(self._condition.stays)}"
            key = f"{run.id}/{number}/stays"
            found.append(cause_of(run, key, reason + because(run.state), state=run.state, at=at))
        return found

    def next_at(self) -> datetime | None:
        while self._timers and self._since.get(self._timers[0][1], (None, 0))[1] != self._timers[0][2]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def standing(self, now: datetime) -> list[str]:
        return [
            f"{whose(event.run)} is {event.run.state.name} since {utc(event.run.state.timestamp)}"
            for event, _ in self._since.values()
        ]


class _Late:
    """A run is overdue."""

    def __init__(self, condition: IsLate) -> None:
        self._condition = condition
        self._late: dict[str, FlowRun] = {}
        self._timers: list[tuple[datetime, str]] = []

    def hear(self, event: Event) -> Iterable[Cause]:
        if isinstance(event, RunDeleted):
            self._late.pop(event.run_id, None)
        if not isinstance(event, RunChanged):
            return ()
        run, of = event.run, self._condition.of
        known = self._late.get(run.id)
        if run.state.type is not StateType.SCHEDULED or (known and known.expected_start != run.expected_start):
            self._late.pop(run.id, None)
        if run.state.name == "Late" and run.id not in self._late and of.fits(run.deployment, run.tags):
            self._late[run.id] = run
            heapq.heappush(self._timers, (max(self._at(run), run.state.timestamp), run.id))
        return ()

    def _at(self, run: FlowRun) -> datetime:
        return run.expected_start + self._condition.by

    def due(self, now: datetime) -> Iterable[Cause]:
        found = []
        while self._timers and self._timers[0][0] <= now:
            at, run_id = heapq.heappop(self._timers)
            run = self._late.get(run_id)
            if run is not None and self._at(run) <= at:
                reason = f"{whose(run)} is late by {format_duration(self._condition.by)}{because(run.state)}"
                key = f"{run.id}/late/{run.expected_start.isoformat()}"
                found.append(cause_of(run, key, reason, state=run.state, at=at))
        return found

    def next_at(self) -> datetime | None:
        while self._timers and self._timers[0][1] not in self._late:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def standing(self, now: datetime) -> list[str]:
        return [f"{whose(run)} is late since {utc(run.expected_start)}" for run in self._late.values()]


class _Artifacts:
    """An artifact has a new version."""

    def __init__(self, condition: ArtifactChanges) -> None:
        self._condition = condition

    def hear(self, event: Event) -> Iterable[Cause]:
        if not isinstance(event, ArtifactStored) or event.artifact.key not in self._condition.keys:
            return ()
        made, names = event.artifact, self._condition.deployments
        if names is not None and made.deployment not in names:
            return ()
        by = f" by {made.deployment}" if made.deployment is not None else ""
        return [
            Cause(
                key=f"artifact/{made.id}",
                at=made.created,
                reason=f'artifact "{made.key}" has version {made.version}{by}',
                deployment=made.deployment,
                run=made.run_id,
                artifact=made.key,
                version=made.version,
            )
        ]

    def due(self, now: datetime) -> Iterable[Cause]:
        return ()

    def next_at(self) -> datetime | None:
        return None

    def standing(self, now: datetime) -> list[str]:
        return []


class _After:
    """All of several deployments completed since the last time."""

    def __init__(self, condition: AllCompleted, since: datetime) -> None:
        self._condition = condition
        self._since = since  # what ended by then was dealt with by an earlier daemon
        self._seen: dict[str, FlowRun] = {}
        self._dealt_with: frozenset[tuple[str, int]] = frozenset()

    def hear(self, event: Event) -> Iterable[Cause]:
        if not isinstance(event, RunChanged) or event.run.state.type is not StateType.COMPLETED:
            return ()
        run, names, within = event.run, self._condition.deployments, self._condition.within
        if run.deployment not in names or run.state.timestamp <= self._since or mark(run) in self._dealt_with:
            return ()
        self._seen[run.deployment] = run
        if within is not None:
            recent = run.state.timestamp - within
            self._seen = {name: each for name, each in self._seen.items() if each.state.timestamp >= recent}
        if len(self._seen) < len(names):
            return ()
        runs, self._seen = [self._seen[name] for name in names], {}
        self._dealt_with = frozenset(mark(each) for each in runs)
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]
        return [cause_of(run, "/".join(each.id for each in runs), f"{listed} completed", state=run.state)]

    def due(self, now: datetime) -> Iterable[Cause]:
        return ()

    def next_at(self) -> datetime | None:
        return None

    def standing(self, now: datetime) -> list[str]:
        return [
            f"{name}: " + (f"completed at {utc(run.state.timestamp)}" if run is not None else "is waited for")
            for name in self._condition.deployments
            for run in (self._seen.get(name),)
        ]


def watch(
    automation: Automation, *, since: datetime, last: Mapping[str, datetime], past: Mapping[str | None, Past]
) -> Watch:
    """Return the watch of an automation that counts from ``since``.

    ``last``: for a dead man's switch, when each deployment was last seen well. ``past``: when the automation fired
    last, by deployment.
    """
    match automation.when:
        case EntersState() as condition:
            return _States(condition)
        case IsLate() as condition:
            return _Late(condition)
        case NoneWithin() as condition:
            return SilenceWatch(condition, since, last, past)
        case InARow() as condition:
            return StreakWatch(condition)
        case ArtifactChanges() as condition:
            return _Artifacts(condition)
        case AllCompleted() as condition:
            dealt = max((each.occurred for each in past.values()), default=since)
            return _After(condition, max(since, dealt))
