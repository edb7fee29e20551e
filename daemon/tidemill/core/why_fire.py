"""Why there was, or was no, run of a deployment at a time: each fire of its schedules, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.schedules import CompiledSchedule, Schedule, identity, jittered
from tidemill.core.when import Asked
from tidemill.core.why import Finding, Form, Live, Past, Words, brief, call, people, stamp
from tidemill.core.why_schedule import called, fires_in, moved_by_jitter, note_on, why_none
from tidemill.durations import span

Compile = Mapping[str, Sequence[CompiledSchedule]]
SHOWN = 24  # fires told one by one


class FireEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a deployment around a stretch of time."""

    name: str
    asked: Asked
    now: datetime
    forms: Sequence[Form]  # what it was stated as, oldest first
    compiled: Sequence[CompiledSchedule]  # of the form in force then
    known_since: datetime | None = None  # since when it is in the configuration at all
    gone: datetime | None = None
    runs: Sequence[FlowRun] = ()  # of its schedules, by their due times in the stretch
    others: Sequence[FlowRun] = ()  # that were to start in the stretch, whoever made them
    made_up: Sequence[FlowRun] = ()  # that backfills made of its fires in the stretch
    skipped: Sequence[SkippedFire] = ()
    past: Past = Past()
    live: Live | None = None
    oldest: datetime | None = None  # the due time of its oldest run on record
    seed: str = ""  # of jitter


def explain_instant(evidence: FireEvidence, words: Words) -> list[Finding]:
    """Return what there is to say of a stretch of time, the answer first; runs are named in ``facts["run"]``."""
    absent = _not_stated(evidence, words)
    if absent is not None and (evidence.compiled or absent.kind == "gone"):
        # What would not have fired anyway says more than when it came into the configuration.
        idle = [each for each in evidence.compiled if not (each.schedule.active and fires_in(each, evidence.asked))]
        says = [why_none(each, evidence.asked, words) for each in idle if absent.kind == "not-there-yet"]
        own = [*says, absent] if len(says) == len(evidence.compiled) else [absent]
        return [*own, *_others(evidence, words, set())]
    if not evidence.compiled:
        sentence = f"{evidence.name} has no schedule: its runs are made by hand."
        return [*_others(evidence, words, set()), Finding(kind="no-schedule", sentence=sentence)]
    fired: list[Finding] = []
    silent: list[Finding] = []
    told: set[str] = set()
    for compiled in evidence.compiled:
        dues = fires_in(compiled, evidence.asked) if compiled.schedule.active else []
        for due in dues[:SHOWN]:
            run = _run_of(evidence, compiled.schedule, due)
            if run is not None:
                told.add(run.id)
            fired.append(_fire(evidence, compiled, due, run, words))
        if dues[SHOWN:]:
            sentence = f"Schedule {called(compiled.schedule)} has more than {SHOWN} fires then; ask for a shorter time."
            fired.append(Finding(kind="more", sentence=sentence))
        if not dues:
            silent += _jitter(evidence, compiled, words, told)
            silent.append(why_none(compiled, evidence.asked, words))
    fired.sort(key=lambda finding: finding.at or evidence.now)
    found = [*fired, *_others(evidence, words, told), *silent]
    return found + _changed(evidence, words)


def _fire(
    evidence: FireEvidence, compiled: CompiledSchedule, due: datetime, run: FlowRun | None, words: Words
) -> Finding:
    name, note = called(compiled.schedule), note_on(compiled, due)
    dst = f" ({note})" if note else ""
    if run is not None:
        facts = {"run": run.id, "due": stamp(due), "note": note}
        lead = (
            f"Schedule {name} was due at {words.at(due)}{dst}"
            if due <= evidence.now
            else (f"Schedule {name} is due at {words.at(due)}{dst}")
        )
        return Finding(kind="run", sentence=f"{lead}; run {call(run)} is {run.state.name}.", at=due, facts=facts)
    if due > evidence.now:
        return _to_come(evidence, compiled, due, dst, words)
    reason = absence(evidence, compiled.schedule, due, words)
    facts = reason.facts | {"due": stamp(due), "note": note, "schedule": identity(compiled.schedule)}
    none = "; " if reason.kind == "deleted" else " and made no run: "
    sentence = f"Schedule {name} was due at {words.at(due)}{dst}{none}{reason.sentence}."
    return Finding(kind=reason.kind, sentence=sentence, at=due, facts=facts, remedy=reason.remedy)


def _to_come(evidence: FireEvidence, compiled: CompiledSchedule, due: datetime, dst: str, words: Words) -> Finding:
    name, facts = called(compiled.schedule), {"due": stamp(due), "schedule": identity(compiled.schedule)}
    far = words.far(due)
    pause = next((each for each in evidence.past.pauses if each.name == evidence.name and each.covers(evidence.now)
                  and each.kind == "deployment"), None)  # fmt: skip
    if pause is not None:
        how = f"paused by hand{people(pause.by)}" if pause.by is not None else "paused by the configuration"
        sentence = (
            f"Schedule {name} is due at {words.at(due)}{dst}, {far}, but {evidence.name} is {how}: it makes no run."
        )
        remedy = f"tidemill deployment resume {evidence.name}"
        return Finding(kind="paused", sentence=sentence, at=due, facts=facts, remedy=remedy)
    ahead = evidence.live.upcoming if evidence.live is not None else 0
    plan = f"runs are planned {ahead} fires ahead" if ahead else "its run is not planned yet"
    start = jittered(due, compiled.schedule, evidence.seed)
    jitter = f" and starts {span(start - due)} later by its jitter" if start > due else ""
    sentence = f"Schedule {name} is due at {words.at(due)}{dst}, {far}{jitter}; {plan}."
    return Finding(kind="to-come", sentence=sentence, at=due, facts=facts)


def absence(evidence: FireEvidence, schedule: Schedule, due: datetime, words: Words) -> Finding:
    """Return why a fire in the past has no run, as a clause."""
    key, past = identity(schedule), evidence.past
    for fire in evidence.skipped:
        if fire.schedule == key and fire.first <= due <= fire.last:
            down = past.down_at(due)
            when = f", {words.between(*down)}" if down is not None and fire.reason.endswith("down") else ""
            facts = {
                "reason": fire.reason,
                "decided": stamp(fire.at),
                "first": stamp(fire.first),
                "last": stamp(fire.last),
            }
            among = f" (one of {fire.count}{'' if fire.exact else ' or more'} fires)" if fire.count > 1 else ""
            more = f"; the daemon was down {words.between(*down)}" if down is not None and not when else ""
            sentence = f"{fire.reason}{among}, as was decided at {words.at(fire.at)}{more}"
            return Finding(kind="missed", sentence=sentence, at=fire.at, facts=facts)
    for deleted in past.deleted:
        if deleted.due == due:
            sentence = f"its run {deleted.name} was deleted by hand at {words.at(deleted.at)}{people(deleted.by)}"
            return Finding(kind="deleted", sentence=sentence, at=deleted.at, facts={"deleted": stamp(deleted.at)})
    for pause in past.pauses:
        if pause.kind == "deployment" and pause.name == evidence.name and pause.covers(due):
            how = f"paused by hand {words.between(pause.since, pause.until)}{people(pause.by)}"
            if pause.by is None:
                how = "paused by the configuration"
            sentence = f"{evidence.name} was {how}, and what falls into a pause is not made up for"
            facts = {"since": stamp(pause.since), "until": stamp(pause.until), "by": pause.by}
            return Finding(kind="paused", sentence=sentence, at=pause.since, facts=facts)
    down = past.down_at(due)
    if down is not None:
        then = "the next start decides on it, by catch_up" if down[1] is None else "nothing on record says more"
        sentence = f"the daemon was down {words.between(*down)}; {then}"
        return Finding(kind="down", sentence=sentence, at=down[0], facts={"down": [stamp(each) for each in down]})
    for jump in past.jumps:
        if jump.since < due < jump.until:
            sentence = f"the clock went from {words.at(jump.since)} to {words.at(jump.until)}, past it"
            return Finding(kind="clock", sentence=sentence, at=jump.since)
    new = _newer_than(evidence, schedule, due)
    if new is not None:
        sentence = (
            f"the schedule is in the configuration only since {words.at(new)}; a new one begins when it is loaded"
        )
        return Finding(kind="newer", sentence=sentence, at=new, facts={"since": stamp(new)})
    held = evidence.live.held if evidence.live is not None else None
    if held is not None:
        return Finding(kind="clock", sentence=f"nothing becomes due: {held}")
    if evidence.oldest is None or due < evidence.oldest:
        keep = evidence.live.keep if evidence.live is not None else None
        rule = f" ([retention] keep = {span(keep)})" if keep is not None and due < evidence.now - keep else ""
        oldest = f", the oldest run of it is of {words.at(evidence.oldest)}" if evidence.oldest is not None else ""
        return Finding(kind="not-on-record", sentence=f"nothing that old is on record{rule}{oldest}")
    return Finding(kind="unknown", sentence="no reason is on record; if nobody deleted it, this is a fault of tidemill")


def _newer_than(evidence: FireEvidence, schedule: Schedule, due: datetime) -> datetime | None:
    """Return since when the schedule is stated, where a fire is older than that."""
    since: datetime | None = None
    key = identity(schedule)
    for form in reversed(evidence.forms):
        if not any(identity(each) == key for each in form.value.schedules):
            break
        since = form.since
    return since if since is not None and due <= since else None


def _not_stated(evidence: FireEvidence, words: Words) -> Finding | None:
    """Return that the deployment was not in the configuration then, where it was not."""
    asked, name = evidence.asked, evidence.name
    if evidence.known_since is not None and asked.last < evidence.known_since:
        since = words.at(evidence.known_since)
        sentence = f"{name} is in the configuration only since {since}: there was nothing to run before."
        facts = {"since": stamp(evidence.known_since)}
        return Finding(kind="not-there-yet", sentence=sentence, at=evidence.known_since, facts=facts)
    if evidence.gone is not None and asked.first >= evidence.gone:
        sentence = f"{name} is no longer in the configuration, since {words.at(evidence.gone)}: it makes no runs."
        return Finding(kind="gone", sentence=sentence, at=evidence.gone, facts={"since": stamp(evidence.gone)})
    for before, after in pairwise(evidence.forms):
        if before.until is not None and before.until <= asked.first and asked.last < after.since:
            stretch = words.between(before.until, after.since)
            sentence = f"{name} was not in the configuration {stretch}: it made no runs."
            return Finding(kind="gone", sentence=sentence, at=before.until, facts={"since": stamp(before.until)})
    return None


def _run_of(evidence: FireEvidence, schedule: Schedule, due: datetime) -> FlowRun | None:
    key = identity(schedule)
    return next((run for run in evidence.runs if run.schedule == key and run.due == due), None)


def _jitter(evidence: FireEvidence, compiled: CompiledSchedule, words: Words, told: set[str]) -> list[Finding]:
    """Return the fire before the stretch that its jitter moved into it, where there is one."""
    due = moved_by_jitter(compiled, evidence.asked)
    if due is None:
        return []
    start = jittered(due, compiled.schedule, evidence.seed)
    if not evidence.asked.first <= start <= evidence.asked.last:
        return []
    run = next((each for each in evidence.others if each.due == due), None)
    facts = {"due": stamp(due), "start": stamp(start)} | ({"run": run.id} if run is not None else {})
    if run is not None:
        told.add(run.id)
    sentence = (
        f"Schedule {called(compiled.schedule)} was due at {words.at(due)}, and its jitter of up to "
        f"{span(compiled.schedule.jitter)} put the start at {words.at(start)}."
    )
    return [Finding(kind="jitter", sentence=sentence, at=start, facts=facts)]


def _others(evidence: FireEvidence, words: Words, told: set[str]) -> list[Finding]:
    """Return the runs of the stretch that no fire in it made, and those that backfills made of its fires."""
    found = []
    for run in evidence.made_up:
        if run.due is None or run.id in told:
            continue
        told.add(run.id)
        made = f"A backfill made run {call(run)} at {words.at(run.created)} for the fire of {words.at(run.due)}"
        sentence = f"{made}; it is {run.state.name}."
        found.append(Finding(kind="backfilled", sentence=sentence, at=run.due, facts={"run": run.id} | brief(run)))
    for run in evidence.others:
        if run.id in told:
            continue
        start = words.at(run.expected_start)
        who = {"person": "somebody asked for it", "backfill": "a backfill made it", "flow": "a flow asked for it"}
        how = who.get(run.created_by, f"made by {run.created_by}")
        sentence = f"Run {call(run)} was to start at {start} ({how}) and is {run.state.name}."
        found.append(
            Finding(kind="other-run", sentence=sentence, at=run.expected_start, facts={"run": run.id} | brief(run))
        )
    return found


def _changed(evidence: FireEvidence, words: Words) -> list[Finding]:
    """Return that the configuration of the deployment has changed since, or changed meanwhile."""
    asked = evidence.asked
    for before, after in pairwise(evidence.forms):
        changed = {identity(each) for each in before.value.schedules} != {
            identity(each) for each in after.value.schedules
        }
        if not changed or after.since <= asked.first - timedelta(days=1):
            continue
        if before.since <= asked.first and asked.first < after.since:
            now = ", ".join(called(each) for each in after.value.schedules) or "none"
            sentence = f"Its schedules were changed at {words.at(after.since)}; since then: {now}."
            return [Finding(kind="changed", sentence=sentence, at=after.since, facts={"since": stamp(after.since)})]
    return []
