"""What the database tells an automation that was not there to hear it: because the daemon was down, or it is new."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from tidemill.core.automations import (
    FAILURES,
    AllCompleted,
    ArtifactChanges,
    Automation,
    EntersState,
    InARow,
    IsLate,
    NoneWithin,
    Past,
    split,
)
from tidemill.core.events import ArtifactStored, Event, RunChanged
from tidemill.core.filters import MAX_LIMIT, RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.core.silences import SHADOW
from tidemill.core.states import TERMINAL, StateType
from tidemill.core.streaks import Streak, StreakWatch
from tidemill.core.watches import Watch, watch
from tidemill.store import artifacts, automations, listing

MOST_RUNS = 10 * MAX_LIMIT  # looked back upon, by one automation


def pages(connection: sqlite3.Connection, wanted: RunFilter, most: int = MOST_RUNS) -> list[FlowRun]:
    """Return the runs that fit, more than one page of them."""
    found: list[FlowRun] = []
    while len(found) < most:
        page = listing.select(connection, replace(wanted, limit=min(MAX_LIMIT, most - len(found)), offset=len(found)))
        found += page
        if len(page) < MAX_LIMIT:
            break
    return found


def look_back(connection: sqlite3.Connection, automation: Automation, since: datetime) -> tuple[Watch, list[datetime]]:
    """Return the watch of an automation that counts from ``since``, and when it fired the last times, oldest first."""
    past = automations.past(connection, automation.name)
    last: dict[str, datetime] = {}
    if isinstance(automation.when, NoneWithin):
        for name in automation.when.deployments:
            seen = _last(connection, name, (*automation.when.states, SHADOW))
            if seen is not None:
                last[name] = seen.state.timestamp
    fired = automations.times(connection, automation.name, automation.max_fires)
    found = watch(automation, since=since, last=last, past=past)
    if isinstance(found, StreakWatch):
        for whose, each in past.items():  # where it fired before, somebody may have to be told of the end
            if whose is not None:
                found.recall(whose, streak(connection, whose, found.condition, each))
    return found, fired


def missed(connection: sqlite3.Connection, automation: Automation, since: datetime, heard: datetime) -> Sequence[Event]:
    """Return what a watch has to hear again: what ended after ``heard``, and what is as it should not stay.

    Nothing that was before ``since``, but states that last.
    """
    after = max(since, heard)
    match automation.when:
        case EntersState() as condition:
            return _told(_entered(connection, condition, after))
        case IsLate() as condition:
            late = RunFilter(deployments=condition.of.deployments, state_names=("Late",))
            return _told(pages(connection, late))
        case InARow() as condition:
            return _told(_ended(connection, condition.of.deployments, tuple(FAILURES), after))
        case AllCompleted() as condition:
            last = (_last(connection, name, ("Completed",)) for name in condition.deployments)
            return _told([run for run in last if run is not None])
        case ArtifactChanges() as condition:
            newest = (artifacts.latest(connection, key) for key in condition.keys)
            return [ArtifactStored(each) for each in newest if each is not None and each.created >= after]
        case NoneWithin():
            return ()


def streak(connection: sqlite3.Connection, deployment: str, condition: InARow, past: Past | None) -> Streak:
    """Return the failures of a deployment since its last success, as history has them."""
    good = _last(connection, deployment, ("Completed",))
    since = None if good is None else good.state.timestamp
    wanted = RunFilter(
        deployments=(deployment,),
        state_types=tuple(FAILURES),
        end_after=since,
        sort=RunSort.END_TIME_DESC,
        limit=min(condition.count, MAX_LIMIT),
    )
    failed = pages(connection, wanted, condition.count)
    fired = past is not None and (since is None or past.occurred > since)
    return Streak([(run.id, run.state_number) for run in reversed(failed)], since, fired)


def _entered(connection: sqlite3.Connection, condition: EntersState, after: datetime) -> list[FlowRun]:
    types, names = split(condition.states)
    lasting, ends = tuple(types - TERMINAL), tuple(types & TERMINAL)
    of = condition.of.deployments
    found: list[FlowRun] = []
    if ends:
        found += _ended(connection, of, ends, after)
    if lasting:
        found += pages(connection, RunFilter(deployments=of, state_types=lasting))
    if names:
        found += pages(connection, RunFilter(deployments=of, state_names=tuple(names)))
    if condition.stays is not None:
        return found
    return [run for run in found if run.state.timestamp >= after]


def _ended(
    connection: sqlite3.Connection, of: tuple[str, ...] | None, types: tuple[StateType, ...], after: datetime
) -> list[FlowRun]:
    wanted = RunFilter(deployments=of, state_types=types, end_after=after, sort=RunSort.END_TIME_DESC)
    return pages(connection, wanted)[::-1]


def _last(connection: sqlite3.Connection, deployment: str, states: Sequence[str]) -> FlowRun | None:
    types, names = split(states)
    found: list[FlowRun] = []
    base = RunFilter(deployments=(deployment,), sort=RunSort.END_TIME_DESC, limit=1)
    if types:
        found += listing.select(connection, replace(base, state_types=tuple(types)))
    if names:
        found += listing.select(connection, replace(base, state_names=tuple(names)))
    return max(found, key=lambda run: run.state.timestamp, default=None)


def _told(runs: Sequence[FlowRun]) -> list[RunChanged]:
    """Return what the bus would have told of runs in their present states."""
    return [RunChanged(run, (run.state,), None) for run in runs]
