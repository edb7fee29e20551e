"""How a deployment stands: what keeps it from running, what its last run came to, and when it runs next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tidemill.core.deployments import Deployment, Mode
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.schedules import CompiledSchedule
from tidemill.core.states import StateType
from tidemill.core.why import Finding, Live, Past, Words, brief, call, people, stamp
from tidemill.core.why_schedule import called, note_on
from tidemill.core.why_waiting import paused

SKIPPED = 3


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a deployment now."""

    deployment: Deployment
    compiled: Sequence[CompiledSchedule]
    now: datetime
    gone: datetime | None = None
    past: Past = Past()
    live: Live | None = None
    waiting: Sequence[FlowRun] = ()  # due, and not started
    running: Sequence[FlowRun] = ()
    last: FlowRun | None = None  # that has ended
    again: Sequence[FlowRun] = ()  # to be tried again
    coming: FlowRun | None = None  # the next that has not run before
    skipped: Sequence[SkippedFire] = ()  # newest first


def explain_standing(standing: Standing, words: Words) -> list[Finding]:
    """Return how a deployment stands, what matters most first; runs are named in ``facts["run"]``."""
    found = [*_kept_back(standing, words), *_runs(standing, words), *_skipped(standing, words)]
    nothing_wrong = not found or found[0].kind in ("last", "never", "running")
    halted = standing.gone is not None or any(each.facts.get("kind") == "deployment" for each in found)
    coming = [] if halted else _coming(standing, words)
    return [*coming, *found] if nothing_wrong and not standing.running else [*found, *coming]


def _kept_back(standing: Standing, words: Words) -> list[Finding]:
    name, live = standing.deployment.name, standing.live
    if standing.gone is not None:
        sentence = f"{name} is no longer in the configuration, since {words.at(standing.gone)}: it makes no runs."
        return [Finding(kind="gone", sentence=sentence, at=standing.gone)]
    found: list[Finding] = []
    if live is None:
        alive = standing.past.last_alive
        seen = f", last alive at {words.at(alive)} ({words.far(alive)})" if alive is not None else ""
        sentence = f"The daemon is down{seen}: nothing runs."
        found.append(Finding(kind="down", sentence=sentence, at=alive, remedy="tidemill start"))
    elif live.held is not None:
        found.append(Finding(kind="clock", sentence=f"Nothing becomes due: {live.held}."))
    if live is not None and live.stopping:
        sentence = "Its runs wait: the daemon stops, and nothing starts before it is started again."
        found.append(Finding(kind="stopping", sentence=sentence))
    if live is not None and live.drain is not None:
        since = words.at(live.drain.since)
        sentence = f"Its runs wait: the daemon drains since {since}{people(live.drain.by)}, and nothing new starts."
        found.append(Finding(kind="draining", sentence=sentence, at=live.drain.since, remedy="tidemill drain --undo"))
    pauses = [
        each
        for each in standing.past.pauses
        if (each.kind, each.name) == ("deployment", name) and each.covers(standing.now)
    ]
    for pause in pauses[:1]:
        told = paused(pause, words)
        sentence = f"Its schedules make no runs: {told.sentence}."
        found.append(Finding(kind="paused", sentence=sentence, at=told.at, facts=told.facts, remedy=told.remedy))
    if live is not None and name in live.unfit:
        sentence = f"It cannot run: {live.unfit[name]}."
        found.append(Finding(kind="unfit", sentence=sentence, remedy="tidemill check"))
    if standing.deployment.mode is Mode.SHADOW:
        sentence = 'It runs nothing: mode = "shadow" only records when it would have run.'
        found.append(Finding(kind="shadow", sentence=sentence))
    line = {("work_queue", standing.deployment.work_queue), ("work_pool", standing.deployment.work_pool)}
    for pause in standing.past.pauses:
        if (pause.kind, pause.name) in line and pause.covers(standing.now):
            told = paused(pause, words)
            sentence = f"Its runs wait: {told.sentence}."
            found.append(Finding(kind="paused", sentence=sentence, at=told.at, facts=told.facts, remedy=told.remedy))
    return found


def _runs(standing: Standing, words: Words) -> list[Finding]:
    found = [
        Finding(
            kind="late" if run.state.name == "Late" else "waiting",
            sentence=f"Run {call(run)} waits since {words.at(run.expected_start)} ({words.far(run.expected_start)}).",
            at=run.expected_start,
            facts={"run": run.id} | brief(run),
        )
        for run in standing.waiting
    ]
    found += [
        Finding(
            kind="running",
            sentence=f"Run {call(run)} runs since {words.at(_began(run))}.",
            at=_began(run),
            facts={"run": run.id} | brief(run),
        )
        for run in standing.running
    ]
    found += [
        Finding(
            kind="retry",
            sentence=f"Run {call(run)} is tried again at {_when(run, words)}.",
            at=run.expected_start,
            facts={"run": run.id} | brief(run),
        )
        for run in (standing.again if standing.gone is None else ())
    ]
    last = standing.last
    if last is not None:
        when = words.at(last.state.timestamp)
        bad = last.state.type is not StateType.COMPLETED
        sentence = f"Its last run, {call(last)}, is {last.state.name} since {when}."
        finding = Finding(
            kind="last-failed" if bad else "last", sentence=sentence, at=last.state.timestamp, facts={"run": last.id}
        )
        found.append(finding)
    elif not found:
        found.append(Finding(kind="never", sentence="It has not run yet, as far as is on record."))
    return found


def _began(run: FlowRun) -> datetime:
    """Return since when this attempt runs."""
    retried = run.attempt > 1 and run.state.type is StateType.RUNNING
    return run.state.timestamp if retried or run.start_time is None else run.start_time


def _when(run: FlowRun, words: Words) -> str:
    return f"{words.at(run.expected_start)}, {words.far(run.expected_start)}"


def _skipped(standing: Standing, words: Words) -> list[Finding]:
    found = []
    for fire in standing.skipped[:SKIPPED]:
        many = f"{fire.count}{'' if fire.exact else ' or more'} fires {words.between(fire.first, fire.last)}"
        what = many if fire.count > 1 else f"The fire of {words.at(fire.first)}"
        facts = {"first": stamp(fire.first), "last": stamp(fire.last), "count": fire.count, "reason": fire.reason}
        sentence = f"{what} made no run: {fire.reason}."
        found.append(Finding(kind="missed", sentence=sentence, at=fire.last, facts=facts))
    return found


def _coming(standing: Standing, words: Words) -> list[Finding]:
    run = standing.coming
    if run is not None:
        due = run.due
        jitter = f" (due at {words.at(due)}, and jitter)" if due is not None and due < run.expected_start else ""
        sentence = f"It runs next at {_when(run, words)}{jitter}: {call(run)} is planned."
        facts = {"run": run.id, "expected_start": stamp(run.expected_start)}
        return [Finding(kind="next", sentence=sentence, at=run.expected_start, facts=facts)]
    if standing.gone is not None:
        return []
    active = [each for each in standing.compiled if each.schedule.active]
    if not active:
        why = "its schedules are not active" if standing.compiled else "it has no schedule"
        name = standing.deployment.name
        sentence = f"Nothing comes by itself: {why}."
        return [Finding(kind="by-hand", sentence=sentence, remedy=f"tidemill deployment run {name}")]
    fires = sorted(
        ((due, each) for each in active if (due := each.next_after(standing.now)) is not None), key=lambda pair: pair[0]
    )
    if not fires:
        if all(each.is_reboot for each in active):
            return [Finding(kind="reboot", sentence="It runs once at each start of the daemon.")]
        names = ", ".join(called(each.schedule) for each in active)
        return [Finding(kind="over", sentence=f"It never fires again: {names}.")]
    due, compiled = fires[0]
    note = note_on(compiled, due)
    dst = f" ({note})" if note else ""
    sentence = f"Schedule {called(compiled.schedule)} is due next at {words.at(due)}{dst}, {words.far(due)}."
    return [Finding(kind="next", sentence=sentence, at=due, facts={"due": stamp(due)})]
