"""Watches: what each automation has seen, and when that makes its condition true.

A watch hears what was committed and is asked when time has passed; it answers with causes. It may hear the same thing
twice, once from the database at a start and once from the bus: a cause has the same key then, and is acted on once.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from tidemill.core.automations import (
    FAILURES,
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
from tidemill.core.events import ArtifactStored, Event, RunChanged
from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType
from tidemill.durations import format_duration

# Deployments whose failures in a row are kept in mind; of others the database is asked again.
MOST_STREAKS = 10_000
SUBFLOW = "parent"  # created_by of a run that is a part of another


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
            cause_of(run, f"{run.id}/{number}", f"{_whose(run)} is {state.name}{_because(state)}", state=state)
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
            reason = f"{_whose(run)} is {run.state.name} for {format_duration(self._condition.stays)}"
            key = f"{run.id}/{number}/stays"
            found.append(cause_of(run, key, reason + _because(run.state), state=run.state, at=at))
        return found

    def next_at(self) -> datetime | None:
        while self._timers and self._since.get(self._timers[0][1], (None, 0))[1] != self._timers[0][2]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def standing(self, now: datetime) -> list[str]:
        return [
            f"{_whose(event.run)} is {event.run.state.name} since {_utc(event.run.state.timestamp)}"
            for event, _ in self._since.values()
        ]


class _Late:
    """A run is overdue."""

    def __init__(self, condition: IsLate) -> None:
        self._condition = condition
        self._late: dict[str, FlowRun] = {}
        self._timers: list[tuple[datetime, str]] = []

    def hear(self, event: Event) -> Iterable[Cause]:
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
                reason = f"{_whose(run)} is late by {format_duration(self._condition.by)}{_because(run.state)}"
                key = f"{run.id}/late/{run.expected_start.isoformat()}"
                found.append(cause_of(run, key, reason, state=run.state, at=at))
        return found

    def next_at(self) -> datetime | None:
        while self._timers and self._timers[0][1] not in self._late:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def standing(self, now: datetime) -> list[str]:
        return [f"{_whose(run)} is late since {_utc(run.expected_start)}" for run in self._late.values()]


class _Silence(msgspec.Struct):
    """How long nothing good was seen of one deployment."""

    began: datetime
    ever: bool  # something was seen; else it counts from when the automation was first here
    told: datetime | None = None  # when this silence was acted on last


class _None:
    """Nothing good was seen for a while."""

    def __init__(
        self, condition: NoneWithin, since: datetime, last: Mapping[str, datetime], past: Mapping[str | None, Past]
    ) -> None:
        self._condition = condition
        self._meant = split(condition.states)
        self._silences: dict[str, _Silence] = {}
        for name in condition.deployments:
            seen, fired = last.get(name), past.get(name)
            # Retention may have taken the run that was seen; the silence has been told all the same.
            told = fired.at if fired is not None and (seen is None or fired.at > seen) else None
            self._silences[name] = _Silence(seen or since, seen is not None, told)

    def hear(self, event: Event) -> Iterable[Cause]:
        if isinstance(event, RunChanged) and event.run.deployment in self._silences:
            state, silence = event.run.state, self._silences[event.run.deployment]
            if means(self._meant, state) and (state.timestamp > silence.began or not silence.ever):
                self._silences[event.run.deployment] = _Silence(state.timestamp, True)
        return ()

    def _at(self, silence: _Silence) -> datetime | None:
        if silence.told is None:
            return silence.began + self._condition.within
        return None if self._condition.repeat is None else silence.told + self._condition.repeat

    def due(self, now: datetime) -> Iterable[Cause]:
        found = []
        for name, silence in self._silences.items():
            at = self._at(silence)
            if at is None or at > now:
                continue
            silence.told = now
            what = " or ".join(self._condition.states)
            last = f"the last one was at {_utc(silence.began)}" if silence.ever else "there was none so far"
            reason = f"no {what} run of {name} for {format_duration(self._condition.within)}: {last}"
            key = f"{name}/{silence.began.isoformat()}/{at.isoformat()}"
            found.append(Cause(key=key, at=at, reason=reason, deployment=name))
        return found

    def next_at(self) -> datetime | None:
        return min((at for each in self._silences.values() if (at := self._at(each)) is not None), default=None)

    def standing(self, now: datetime) -> list[str]:
        what, within = " or ".join(self._condition.states), self._condition.within
        lines = []
        for name, each in self._silences.items():
            seen = f"last {what} at {_utc(each.began)}" if each.ever else f"no {what} since {_utc(each.began)}"
            end = f"silent, told at {_utc(each.told)}" if each.told else f"due by {_utc(each.began + within)}"
            lines.append(f"{name}: {seen}; {end}")
        return lines


class Streak(msgspec.Struct):
    """Failures of one deployment since its last success. ``fired`` says that they were acted on."""

    failed: list[tuple[str, int]]  # run ids with the number of the state, oldest first; no more than are waited for
    since: datetime | None  # when the last success ended; None: none is known
    fired: bool = False


class InARowWatch:
    """Failures in a row. The streak of a deployment is read from history when its first failure is heard."""

    def __init__(self, condition: InARow) -> None:
        self.condition = condition
        self._streaks: OrderedDict[str, Streak] = OrderedDict()

    def unknown(self, event: Event) -> str | None:
        """Return the deployment whose history has to be looked up before this event can be judged."""
        if not isinstance(event, RunChanged) or event.run.state.type not in FAILURES or not self._fits(event.run):
            return None
        name = event.run.deployment
        return name if name is not None and name not in self._streaks else None

    def recall(self, deployment: str, streak: Streak) -> None:
        """Take over what history says of a deployment."""
        self._streaks[deployment] = streak
        if len(self._streaks) > MOST_STREAKS:
            self._streaks.popitem(last=False)

    def hear(self, event: Event) -> Iterable[Cause]:
        if not isinstance(event, RunChanged) or not self._fits(event.run):
            return ()
        run = event.run
        name = run.deployment or ""
        streak = self._streaks.get(name)
        if run.state.type is StateType.COMPLETED:
            if streak is not None:
                self._streaks[name] = Streak([], run.state.timestamp)
            return ()
        if run.state.type not in FAILURES or streak is None:
            return ()
        mark = _mark(run)
        if mark not in streak.failed and len(streak.failed) < self.condition.count:
            streak.failed.append(mark)
        if streak.fired or len(streak.failed) < self.condition.count:
            return ()
        streak.fired = True
        began = streak.since.isoformat() if streak.since else "ever"
        reason = f"{name} failed {self.condition.count} times in a row{_because(run.state)}"
        return [cause_of(run, f"{name}/{began}", reason, state=run.state)]

    def _fits(self, run: FlowRun) -> bool:
        named = run.deployment is not None and run.created_by != SUBFLOW
        return named and self.condition.of.fits(run.deployment, run.tags)

    def due(self, now: datetime) -> Iterable[Cause]:
        return ()

    def next_at(self) -> datetime | None:
        return None

    def standing(self, now: datetime) -> list[str]:
        return [
            f"{name}: {len(each.failed)} of {self.condition.count} failures in a row" + (", told" if each.fired else "")
            for name, each in self._streaks.items()
            if each.failed
        ]


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
        if run.deployment not in names or run.state.timestamp <= self._since or _mark(run) in self._dealt_with:
            return ()
        self._seen[run.deployment] = run
        if within is not None:
            recent = run.state.timestamp - within
            self._seen = {name: each for name, each in self._seen.items() if each.state.timestamp >= recent}
        if len(self._seen) < len(names):
            return ()
        runs, self._seen = [self._seen[name] for name in names], {}
        self._dealt_with = frozenset(_mark(each) for each in runs)
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]
        return [cause_of(run, "/".join(each.id for each in runs), f"{listed} completed", state=run.state)]

    def due(self, now: datetime) -> Iterable[Cause]:
        return ()

    def next_at(self) -> datetime | None:
        return None

    def standing(self, now: datetime) -> list[str]:
        return [
            f"{name}: " + (f"completed at {_utc(run.state.timestamp)}" if run is not None else "is waited for")
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
            return _None(condition, since, last, past)
        case InARow() as condition:
            return InARowWatch(condition)
        case ArtifactChanges() as condition:
            return _Artifacts(condition)
        case AllCompleted() as condition:
            dealt = max((each.occurred for each in past.values()), default=since)
            return _After(condition, max(since, dealt))


def cause_of(run: FlowRun, key: str, reason: str, *, state: State, at: datetime | None = None) -> Cause:
    """Return a cause that is about a run."""
    return Cause(
        key=key,
        at=at or state.timestamp,
        reason=reason,
        deployment=run.deployment,
        run=run.id,
        run_name=run.name,
        flow=run.flow,
        state=state.name,
        message=state.message,
    )


def _mark(run: FlowRun) -> tuple[str, int]:
    return run.id, run.state_number


def _whose(run: FlowRun) -> str:
    return run.deployment or run.flow


def _because(state: State) -> str:
    if not state.message:
        return ""
    line = state.message.strip().splitlines()[0] if state.message.strip() else ""
    return f": {line[:300]}" if line else ""


def _utc(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%SZ}"
