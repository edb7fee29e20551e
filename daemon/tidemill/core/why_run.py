"""Why a run is as it is: its present state first, then how it came to it, in order of time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tidemill.core.deployments import Deployment
from tidemill.core.runs import FlowRun
from tidemill.core.schedules import Schedule, identity
from tidemill.core.states import TERMINAL, State, StateType
from tidemill.core.transitions import CRASH_RETRIES
from tidemill.core.why import Finding, RunEvidence, Words, brief, call, stamp
from tidemill.core.why_late import started_late
from tidemill.core.why_schedule import called
from tidemill.core.why_waiting import next_in_line, obstacles
from tidemill.durations import format_duration, span

RETRIED_BY_HAND = "retried by hand"


def explain_run(evidence: RunEvidence, words: Words) -> list[Finding]:
    """Return what there is to say of a run: the answer first."""
    present = _present(evidence, words)
    before = _retries(evidence, words)
    if present[0].kind == "retry-to-come" and before and before[-1].kind == "retried":
        del before[-1]  # the answer has told of it
    return [*present, *started_late(evidence, words), *before, origin(evidence, words)]


def _present(evidence: RunEvidence, words: Words) -> list[Finding]:
    kind = evidence.run.state.type
    if kind is StateType.SCHEDULED:
        return _to_come(evidence, words) if evidence.run.expected_start > evidence.now else _waits(evidence, words)
    if kind in TERMINAL:
        return [_ended(evidence, words)]
    return [_on_its_way(evidence, words)]


# -- what waits ------------------------------------------------------------------------------------------------------


def _to_come(evidence: RunEvidence, words: Words) -> list[Finding]:
    run = evidence.run
    start = f"{words.at(run.expected_start)} ({words.far(run.expected_start)})"
    facts = {"expected_start": stamp(run.expected_start), "due": stamp(run.due)}
    if run.state.name == "AwaitingRetry":
        cause = _cause(run.state)
        failed = f"Attempt {run.attempt} did not succeed at {words.at(run.state.timestamp)} ({cause})"
        sentence = f"{failed}; the next one is to start at {start}."
        kind = "retry-to-come"
    elif run.due is not None and run.expected_start > run.due:
        late = span(run.expected_start - run.due)
        sentence = f"It is due at {words.at(run.due)}; its schedule's jitter puts its start {late} later, at {start}."
        kind = "jitter"
    elif run.due is not None:
        sentence, kind = f"It is not due yet: its schedule says {start}.", "to-come"
    else:
        sentence, kind = f"It is not due yet: it was asked for to start at {start}.", "to-come"
    found = [Finding(kind=kind, sentence=sentence, at=run.expected_start, facts=facts)]
    then = [each for each in obstacles(evidence, words) if each.kind != "full"]
    return found + [_as_sentence(each, "As things stand it will wait: ") for each in then]


def _waits(evidence: RunEvidence, words: Words) -> list[Finding]:
    run, found = evidence.run, obstacles(evidence, words)
    waited = span(evidence.now - run.expected_start)
    again = " its next attempt" if run.attempt else ""
    lead = f"It has waited {waited} for{again or ' its start'}, due at {words.at(run.expected_start)}: "
    if evidence.deployment is None and run.deployment is not None:
        since = f" since {words.at(evidence.gone)}" if evidence.gone is not None else ""
        gone = f"deployment {run.deployment} is no longer in the configuration{since}"
        sentence = f"{gone}, so it will be cancelled when its turn comes"
        found.append(Finding(kind="gone", sentence=sentence, at=evidence.gone))
    if not found:
        found = [next_in_line(evidence)]
    first, *rest = found
    return [_as_sentence(first, lead), *(_as_sentence(each, "Besides, ") for each in rest)]


def _as_sentence(finding: Finding, lead: str) -> Finding:
    return Finding(
        kind=finding.kind,
        sentence=f"{lead}{finding.sentence}.",
        at=finding.at,
        facts=finding.facts,
        remedy=finding.remedy,
    )


def _on_its_way(evidence: RunEvidence, words: Words) -> Finding:
    run, deployment = evidence.run, evidence.deployment
    state = run.state
    since = f"since {words.at(state.timestamp)} ({words.far(state.timestamp)})"
    short = run.id[-8:]
    facts = {"since": stamp(state.timestamp), "attempt": run.attempt}
    if state.type is StateType.PAUSED:
        sentence = f"Its code waits for a person {since}."
        remedy = f"tidemill flow-run resume {short}"
        return Finding(kind="paused-run", sentence=sentence, at=state.timestamp, facts=facts, remedy=remedy)
    if state.type is StateType.CANCELLING:
        sentence = f"It was told to end {since} ({state.message or 'no reason given'}), and its code has not ended yet."
        return Finding(kind="cancelling", sentence=sentence, at=state.timestamp, facts=facts)
    if state.type is StateType.PENDING:
        return Finding(kind="pending", sentence=f"It is about to run {since}.", at=state.timestamp, facts=facts)
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    end = ""
    if deployment is not None and deployment.timeout is not None:
        limit = state.timestamp + deployment.timeout
        end = f"; its timeout of {format_duration(deployment.timeout)} ends it at {words.at(limit)}"
        facts["timeout_at"] = stamp(limit)
    sentence = f"It runs {since}{attempt}{end}."
    if evidence.live is None:
        alive = evidence.past.last_alive
        seen = f", last alive at {words.at(alive)}" if alive is not None else ""
        sentence = f"The daemon is down{seen}, and it ran then: the next start says what became of it."
    return Finding(
        kind="running", sentence=sentence, at=state.timestamp, facts=facts, remedy=f"tidemill flow-run logs -f {short}"
    )


# -- what has ended --------------------------------------------------------------------------------------------------


def _ended(evidence: RunEvidence, words: Words) -> Finding:
    run, state = evidence.run, evidence.run.state
    when, message = words.at(state.timestamp), f": {state.message}" if state.message else ""
    look = f"tidemill flow-run logs {run.id[-8:]}"
    facts = {"state": state.name, "at": stamp(state.timestamp), "message": state.message, "attempts": run.attempt}
    attempts = f" on attempt {run.attempt}" if run.attempt > 1 else ""
    if state.type is StateType.COMPLETED:
        took = f" after {span(run.run_time_s)}" if run.attempt else ""
        sentence = f"It completed at {when}{took}{attempts}."
        return Finding(kind="completed", sentence=sentence, at=state.timestamp, facts=facts)
    if state.type is StateType.CANCELLED:
        return _not_carried_out(evidence, words)
    after = f" {_no_more_tries(evidence)}".rstrip()
    if state.type is StateType.CRASHED:
        sentence = f"It crashed at {when}{attempts}{message}.{after}"
        return Finding(kind="crashed", sentence=sentence, at=state.timestamp, facts=facts, remedy=look)
    if state.name == "TimedOut":
        deployment = evidence.deployment
        limit = deployment.timeout if deployment is not None else None
        by = f" by its timeout of {format_duration(limit)}" if limit is not None else " by a timeout"
        sentence = f"It was ended{by} at {when}{attempts}{message}.{after}"
        return Finding(kind="timed-out", sentence=sentence, at=state.timestamp, facts=facts, remedy=look)
    sentence = f"It failed at {when}{attempts}{message}.{after}"
    return Finding(kind="failed", sentence=sentence, at=state.timestamp, facts=facts, remedy=look)


def _not_carried_out(evidence: RunEvidence, words: Words) -> Finding:
    run, state = evidence.run, evidence.run.state
    when, reason = words.at(state.timestamp), state.message or "no reason was given"
    facts: dict[str, Any] = {"at": stamp(state.timestamp), "reason": state.message}
    if state.name == "Shadow":
        sentence = f"Nothing ran: {reason}. It only says that it would have run, at {when}."
        return Finding(kind="shadow", sentence=sentence, at=state.timestamp, facts=facts)
    if state.name == "Skipped":
        more = ""
        down = evidence.past.down_at(run.due or run.expected_start)
        if down is not None and "down" in reason:
            more = f" The daemon was down {words.between(*down)}."
            facts["down"] = [stamp(each) for each in down]
        held = [each for each in evidence.alongside if _ran_at(each, state.timestamp)]
        if held and "concurrency limit" in reason:
            more = f" At that time ran {', '.join(call(each) for each in held[:3])}."
            facts["holders"] = [brief(each) for each in held]
        sentence = f"It was skipped at {when} and never started: {reason}.{more}"
        return Finding(kind="skipped", sentence=sentence, at=state.timestamp, facts=facts)
    started = "" if run.attempt else " before it started"
    sentence = f"It was cancelled at {when}{started}: {reason}."
    return Finding(kind="cancelled", sentence=sentence, at=state.timestamp, facts=facts)


def _ran_at(run: FlowRun, when: datetime) -> bool:
    start, end = run.start_time, run.end_time
    return start is not None and start <= when and (end is None or when <= end)


def _no_more_tries(evidence: RunEvidence) -> str:
    run, deployment = evidence.run, evidence.deployment
    if run.deployment is None or deployment is None:
        return ""
    if run.state.type is StateType.CRASHED and deployment.on_crash != "retry":
        return f'It is not tried again: on_crash = "{deployment.on_crash}".'
    retries = deployment.retry.retries if deployment.retry is not None else None
    if run.state.type is StateType.CRASHED and run.retries_used >= max(retries or 0, CRASH_RETRIES):
        return _used_up(run.retries_used)
    if retries is None:
        return _used_up(run.retries_used, " of its flow") if run.retries_used else "Its deployment sets no retries."
    if run.retries_used >= retries:
        return _used_up(retries) if retries else "It is not tried again: retries = 0."
    return "It is not tried again: what went wrong would go wrong again."


def _used_up(retries: int, whose: str = "") -> str:
    return f"The one retry{whose} is used up." if retries == 1 else f"All {retries} retries{whose} are used up."


# -- how it came to it -----------------------------------------------------------------------------------------------


def _retries(evidence: RunEvidence, words: Words) -> list[Finding]:
    found: list[Finding] = []
    attempt = 0
    states = evidence.states
    for before, after in itertools.pairwise(states):
        attempt += after.type is StateType.RUNNING and before.type is StateType.PENDING
        if after.type is not StateType.SCHEDULED or after.name == "Late":
            continue
        facts = {"attempt": attempt, "at": stamp(after.timestamp)}
        when = words.at(after.timestamp)
        if before.type in TERMINAL:
            sentence = f"It was {before.name} and was {after.message or RETRIED_BY_HAND} at {when}."
            found.append(Finding(kind="retried-by-hand", sentence=sentence, at=after.timestamp, facts=facts))
        elif after.name == "AwaitingRetry":
            again = _next_start(states, after)
            then = f"; the next one began at {words.at(again)}" if again is not None else ""
            cause = _cause(after)
            sentence = f"Attempt {attempt} did not succeed at {when} ({cause}){then}."
            found.append(Finding(kind="retried", sentence=sentence, at=after.timestamp, facts=facts | {"cause": cause}))
        elif before.type in (StateType.PENDING, StateType.RUNNING):
            sentence = f"It was put back in line at {when}: {after.message or 'the daemon ended'}."
            found.append(Finding(kind="put-back", sentence=sentence, at=after.timestamp, facts=facts))
    return found


def _cause(state: State) -> str:
    return state.message or "no reason was given"


def _next_start(states: Sequence[State], after: State) -> datetime | None:
    later = itertools.dropwhile(lambda state: state is not after, states)
    return next((state.timestamp for state in later if state.type is StateType.RUNNING), None)


def origin(evidence: RunEvidence, words: Words) -> Finding:
    """Return who made a run, and for when."""
    run = evidence.run
    made = words.at(run.created)
    facts = {"created": stamp(run.created), "created_by": run.created_by, "due": stamp(run.due)}
    if run.created_by == "schedule" and run.due is not None:
        sentence = f"{_schedule(evidence.deployment, run.schedule)} made it for {words.at(run.due)}."
        jitter = _jittered(evidence)
        if jitter:
            sentence += f" Its jitter put the start {span(jitter)} later."
    elif run.created_by == "backfill" and run.due is not None:
        sentence = f"A backfill made it at {made} for the fire of {words.at(run.due)}."
    elif run.created_by == "person":
        sentence = f"Somebody asked for it at {made}."
    elif run.created_by == "flow" and run.parent_run_id is None:
        sentence = f"A flow asked for it at {made}, as a run of its own (as_subflow=False)."
    elif run.created_by in ("flow", "parent"):
        did = "began it as a subflow" if run.created_by == "parent" else "asked for it"
        sentence = f"Flow run {(run.parent_run_id or 'unknown')[-8:]} {did} at {made}."
    elif run.created_by == "script":
        sentence = f"A script outside the daemon began it at {made}."
    else:
        sentence = f"It was made by {run.created_by} at {made}."
    return Finding(kind="origin", sentence=sentence, at=run.created, facts=facts)


def _jittered(evidence: RunEvidence) -> timedelta | None:
    run = evidence.run
    if run.due is None or run.retries_used or run.attempt > 1 or run.expected_start <= run.due:
        return None
    schedule = _of(evidence.deployment, run.schedule)
    late = run.expected_start - run.due
    return late if schedule is not None and late <= schedule.jitter else None


def _of(deployment: Deployment | None, key: str | None) -> Schedule | None:
    if deployment is None:
        return None
    return next((each for each in deployment.schedules if identity(each) == key), None)


def _schedule(deployment: Deployment | None, key: str | None) -> str:
    schedule = _of(deployment, key)
    if schedule is not None:
        return f"Schedule {called(schedule)}"
    return "A schedule that is no longer in the configuration"
