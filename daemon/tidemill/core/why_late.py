"""Why a run that has started did so late: what stood in its way then, as far as it is on record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.core.why import Finding, Jump, Pause, RunEvidence, Words, brief, listed, people, stamp
from tidemill.durations import span

# A start this long after its time is worth a reason. What is less is the machine's.
LATE = timedelta(seconds=1)


def started_late(evidence: RunEvidence, words: Words) -> list[Finding]:
    """Return why its first attempt began late; empty: it did not, or never began."""
    began = next((state.timestamp for state in evidence.states if state.type is StateType.RUNNING), None)
    expected = _first_expected(evidence)
    if began is None or began - expected <= LATE:
        return []
    reasons = _reasons(evidence, expected, began, words)
    why = "; ".join(reason for _, reason in reasons)
    facts = {
        "due": stamp(expected),
        "began": stamp(began),
        "late_s": (began - expected).total_seconds(),
        "causes": [kind for kind, _ in reasons],
        "holders": [brief(each) for each in evidence.alongside],
    }
    sentence = f"It began {span(began - expected)} late, at {words.at(began)} instead of {words.at(expected)}: {why}."
    return [Finding(kind="began-late", sentence=sentence, at=began, facts=facts)]


def _first_expected(evidence: RunEvidence) -> datetime:
    """Return when its first attempt was to start: a retry moves the run's own expected start."""
    run = evidence.run
    if run.attempt <= 1 and run.retries_used == 0:
        return run.expected_start
    if run.due is not None and run.created_by == "schedule":
        return run.due
    return run.created


def _reasons(evidence: RunEvidence, expected: datetime, began: datetime, words: Words) -> list[tuple[str, str]]:
    """Return kinds and clauses of everything that was in the way between two instants."""
    run, past = evidence.run, evidence.past
    found: list[tuple[str, str]] = []
    down = past.down_between(expected, began)
    if down is not None:
        found.append(("down", f"the daemon was down {words.between(*down)}"))
    found += [("clock", _jumped(jump, words)) for jump in past.jumps if jump.since < began and expected < jump.until]
    for drain in past.drains:
        if drain.since < began and (drain.until is None or expected < drain.until):
            stretch = words.between(drain.since, drain.until)
            found.append(("draining", f"the daemon drained {stretch}{people(drain.by)}"))
    found += [("paused", _paused(pause, words)) for pause in _pauses(evidence, expected, began)]
    if run.created - expected > LATE and run.created_by == "schedule":
        policy = evidence.deployment.catch_up.value if evidence.deployment is not None else None
        said = f' by catch_up = "{policy}"' if policy is not None else ""
        found.append(("catch-up", f"it was made up for at {words.at(run.created)}{said}"))
    late = [state for state in evidence.states if state.name == "Late" and expected <= state.timestamp <= began]
    held = _held(evidence.alongside, expected, began)
    message = (late[0].message or "") if late else ""
    if "full" in message:
        was = message.replace(" is full", " was full")
        by = " by " if len(held) == 1 else "; until then they were held in turn by "
        found.append(("full", was + (by + listed(held[::-1], words) if held else "")))
    elif message and not found:
        found.append(("waited", message))
    elif held and not found:
        found.append(("full", f"in its line ran {listed(held, words)}"))
    put_back = next((state for state in evidence.states[1:] if state.name == "Scheduled" and state.message), None)
    if put_back is not None and down is None:
        found.append(("put-back", put_back.message or ""))
    return found or [("unknown", "nothing that held it up is on record; the machine or the daemon was busy")]


def _jumped(jump: Jump, words: Words) -> str:
    way = "forward" if jump.until > jump.since else "back"
    return f"the clock went {way} from {words.at(jump.since)} to {words.at(jump.until)}"


def _pauses(evidence: RunEvidence, expected: datetime, began: datetime) -> Sequence[Pause]:
    run = evidence.run
    line = {("work_queue", run.work_queue), ("work_pool", run.work_pool)}
    return [
        pause
        for pause in evidence.past.pauses
        if (pause.kind, pause.name) in line and pause.until is not None and pause.overlaps(expected, began)
    ]


def _paused(pause: Pause, words: Words) -> str:
    thing = f"{pause.kind.replace('_', ' ')} {pause.name}"
    how = f"by hand{people(pause.by)}" if pause.by is not None else "by the configuration"
    return f"{thing} was paused {how} {words.between(pause.since, pause.until)}"


def _held(alongside: Sequence[FlowRun], expected: datetime, began: datetime) -> list[FlowRun]:
    return [
        each
        for each in alongside
        if each.start_time is not None
        and each.start_time < began
        and (each.end_time is None or expected < each.end_time)
    ]
