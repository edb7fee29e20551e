"""Evidence for why: what the database holds of a run, a deployment, and of the daemon around them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from tidemill.core.admission import Limit
from tidemill.core.deployments import Deployment, WorkPool, WorkQueue
from tidemill.core.filters import RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.core.schedules import CompiledSchedule, ScheduleError, compile_schedule
from tidemill.core.states import ACTIVE, State, StateType
from tidemill.core.why import Deleted, Drain, Form, Jump, Life, Live, Past, Pause, Waiting
from tidemill.store import catalogue, daemon_log, instance, listing
from tidemill.store.catalogue import Entry

HOLDERS = 5
HOLDING = (*ACTIVE, StateType.PAUSED)
_EVENTS = (
    "daemon-started",
    "daemon-stopped",
    "paused",
    "resumed",
    "override-cleared",
    "clock-jumped",
    "draining",
    "drain-undone",
    "run-deleted",
)


def past_of(
    connection: sqlite3.Connection,
    things: Iterable[tuple[str, str]],
    *,
    live: Live | None,
    deployment: str | None = None,
) -> Past:
    """Return what is on record of the daemon's lives and clock, and of the pauses of ``things`` (kind, name)."""
    alive = instance.last_alive(connection)
    lines = [(each.line.at, each.line.event or "", each.line) for each in daemon_log.named(connection, _EVENTS)]
    drains: list[Drain] = []
    jumps: list[Jump] = []
    deleted: list[Deleted] = []
    for at, event, line in lines:
        fields = line.fields
        if event in ("drain-undone", "daemon-stopped", "daemon-started") and drains and drains[-1].until is None:
            drains[-1] = Drain(since=drains[-1].since, until=at, by=drains[-1].by)
        if event == "draining":
            drains.append(Drain(since=at, by=fields.get("by")))
        elif event == "clock-jumped" and (since := _instant(fields.get("since"))) is not None:
            jumps.append(Jump(since=since, until=_instant(fields.get("until")) or at))
        elif event == "run-deleted" and line.deployment == deployment:
            due = _instant(fields.get("due"))
            deleted.append(Deleted(due=due, name=str(fields.get("run")), at=at, by=fields.get("by")))
    pauses = [pause for kind, name in dict.fromkeys(things) for pause in _pauses(connection, lines, kind, name)]
    return Past(
        lives=_lives(lines, alive if live is None else None),
        pauses=pauses,
        jumps=jumps,
        drains=drains,
        deleted=deleted,
        last_alive=alive,
    )


def _lives(lines: Sequence[tuple[datetime, str, Any]], alive: datetime | None) -> list[Life]:
    """Return the daemon's lives; ``alive``: when it was last seen, where it is down."""
    found: list[Life] = []
    for at, event, line in lines:
        if event == "daemon-started":
            if found and found[-1].ended is None:
                ended = _instant(line.fields.get("last_alive")) or at
                found[-1] = Life(began=found[-1].began, ended=max(found[-1].began, min(ended, at)), clean=False)
            found.append(Life(began=at))
        elif event == "daemon-stopped" and found and found[-1].ended is None:
            found[-1] = Life(began=found[-1].began, ended=at)
    if found and found[-1].ended is None and alive is not None:
        found[-1] = Life(began=found[-1].began, ended=max(found[-1].began, alive), clean=False)
    return found


def _pauses(
    connection: sqlite3.Connection, lines: Sequence[tuple[datetime, str, Any]], kind: str, name: str
) -> list[Pause]:
    found: list[Pause] = []
    for at, event, line in lines:
        fields = line.fields
        if (fields.get("kind"), fields.get("name")) != (kind, name) or fields.get("key", "paused") != "paused":
            continue
        is_open = bool(found) and found[-1].until is None
        if event == "paused" and not is_open:
            found.append(Pause(kind=kind, name=name, since=at, by=fields.get("by") or "somebody"))
        elif event != "paused" and is_open:
            found[-1] = Pause(kind=kind, name=name, since=found[-1].since, until=at, by=found[-1].by)
    entry = _stated(connection, kind, name)
    held = next(
        (
            each
            for each in catalogue.overrides(connection)
            if (each.kind, each.name, each.key) == (kind, name, "paused")
            and (entry is None or each.file_value == entry.value.paused)
        ),
        None,
    )
    by_hand = held is not None and bool(held.value)
    if found and found[-1].until is None and not by_hand:
        found.pop()  # how it ended is not on record
    if held is not None and by_hand and not (found and found[-1].until is None):
        found.append(Pause(kind=kind, name=name, since=held.at, by=held.by))
    if entry is not None and entry.value.paused and held is None:
        found.append(Pause(kind=kind, name=name, since=entry.updated))
    if kind == "deployment":
        found += [
            Pause(kind=kind, name=name, since=past.since, until=past.until)
            for past in catalogue.past_of(connection, name)
            if past.value.paused
        ]
    return found


def _stated(
    connection: sqlite3.Connection, kind: str, name: str
) -> Entry[Deployment] | Entry[WorkQueue] | Entry[WorkPool] | None:
    if kind == "deployment":
        return catalogue.exactly(connection, Deployment, name)
    if kind == "work_queue":
        return catalogue.exactly(connection, WorkQueue, name)
    return catalogue.exactly(connection, WorkPool, name)


def _instant(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text is not None else None
    except ValueError:
        return None


def forms_of(connection: sqlite3.Connection, entry: Entry[Deployment]) -> list[Form]:
    """Return what a deployment was stated as, oldest first; the last one is the present one or its last."""
    forms = [
        Form(value=past.value, since=past.since, until=past.until)
        for past in catalogue.past_of(connection, entry.value.name)
    ]
    if entry.gone is None or not forms:
        forms.append(Form(value=entry.value, since=entry.updated, until=entry.gone))
    return forms


def form_at(forms: Sequence[Form], when: datetime) -> Form:
    """Return the form in force at an instant: the last one that began by then, else the first."""
    return next((form for form in reversed(forms) if form.since <= when), forms[0])


def compiled_of(deployment: Deployment) -> list[CompiledSchedule]:
    """Return a deployment's schedules, ready to be asked."""
    found = []
    for schedule in deployment.schedules:
        try:
            found.append(compile_schedule(schedule))
        except ScheduleError:  # an earlier version of the program understood it
            continue
    return found


def line_of(run: FlowRun) -> list[Limit]:
    """Return the limits that a run meets, the nearest first."""
    limits = [Limit("queue", run.work_queue), Limit("pool", run.work_pool)]
    if run.deployment is not None:
        limits.append(Limit("deployment", run.deployment))
    return [*limits, *(Limit("tag", tag) for tag in run.tags)]


def waiting_of(connection: sqlite3.Connection, run: FlowRun, live: Live) -> Waiting:
    """Return what a waiting run meets, with the runs that hold the slots of full limits."""
    limits = line_of(run)
    holders = {}
    for limit in limits:
        slots = live.slots.get(limit)
        if slots is not None and live.used.get(limit, 0) >= slots:
            wanted = _in(limit, state_types=HOLDING, sort=RunSort.START_TIME_ASC, limit=HOLDERS)
            holders[limit] = listing.select(connection, wanted)
    return Waiting(limits=limits, holders=holders)


def alongside(connection: sqlite3.Connection, run: FlowRun, states: Sequence[State]) -> list[FlowRun]:
    """Return the runs that held the slots which a run lacked, as far as its states say which."""
    limit, when = _lacked(run, states)
    if limit is None or when is None:
        return []
    since = min(run.due or run.expected_start, when) - timedelta(seconds=1)
    until = next((state.timestamp for state in states if state.type is StateType.RUNNING), when)
    window: dict[str, Any] = {"start_before": until, "sort": RunSort.START_TIME_DESC, "limit": HOLDERS + 1}
    ended = listing.select(connection, _in(limit, end_after=since, **window))
    open_ = listing.select(connection, _in(limit, state_types=HOLDING, **window))
    return [each for each in [*open_, *ended] if each.id != run.id][:HOLDERS]


def _lacked(run: FlowRun, states: Sequence[State]) -> tuple[Limit | None, datetime | None]:
    for state in states:
        message = state.message or ""
        if state.name == "Late" and "full" in message:
            return next((limit for limit in line_of(run) if message.startswith(str(limit))), None), state.timestamp
        if state.name == "Skipped" and message.startswith("concurrency limit") and run.deployment is not None:
            return Limit("deployment", run.deployment), state.timestamp
    return None, None


def _in(of: Limit, **conditions: Any) -> RunFilter:
    names = (of.name,)
    match of.kind:
        case "queue":
            return RunFilter(work_queues=names, **conditions)
        case "pool":
            return RunFilter(work_pools=names, **conditions)
        case "deployment":
            return RunFilter(deployments=names, **conditions)
        case _:
            return RunFilter(tags=names, **conditions)
