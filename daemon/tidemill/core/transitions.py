"""What a decided state change does to a run: the one place where states, attempts and times are put together."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from tidemill.core.deployments import OnCrash
from tidemill.core.ports import Outcome
from tidemill.core.retries import RetryPolicy, retry_delay
from tidemill.core.runs import FlowRun, Step, Transition
from tidemill.core.states import NAMES, TERMINAL, State, StateType, may_follow
from tidemill.durations import in_words
from tidemill.errors import TransitionError

# A run that takes the daemon down each time must not do so for ever.
CRASH_RETRIES = 3
_LATE_S = 1.0  # a start this long after its time is worth saying


def enter(run: FlowRun, state: State, *, by_person: bool = False, **changes: Any) -> Transition:
    """Return the transition of ``run`` into ``state``; ``changes`` are further fields of the run.

    Raises TransitionError where the table of states forbids it.
    """
    before = run.state
    step = Step.END if state.type in TERMINAL and not changes else Step.OTHER
    if not may_follow(before.type, state.type, by_person=by_person):
        raise TransitionError(
            f"flow run {run.name} ({run.id}) is {before.name} and cannot become {state.name}"
            + ("; retry it to run it again" if before.is_terminal else "")
        )
    if before.type is StateType.RUNNING or before.type is StateType.CANCELLING:
        changes["run_time_s"] = run.run_time_s + max(0.0, (state.timestamp - before.timestamp).total_seconds())
    if state.type in TERMINAL:
        changes["end_time"] = state.timestamp
    elif before.is_terminal:
        changes["end_time"] = None
    after = replace(run, state=state, state_number=run.state_number + 1, **changes)
    return Transition(run=after, expected_number=run.state_number, states=(state,), step=step)


def begin(run: FlowRun, now: datetime, owner: str) -> Transition:
    """Return the start of an attempt: PENDING and RUNNING together, two states in one commit."""
    if run.state.type is not StateType.SCHEDULED:
        raise TransitionError(f"flow run {run.name} ({run.id}) is {run.state.name} and cannot start")
    again = run.attempt > 0
    pending = State(type=StateType.PENDING, name="Pending", timestamp=now)
    late_s = (now - run.expected_start).total_seconds()
    late = f"{in_words(late_s)} late" if late_s >= _LATE_S else None
    running = State(type=StateType.RUNNING, name="Retrying" if again else "Running", timestamp=now, message=late)
    after = replace(
        run,
        state=running,
        state_number=run.state_number + 2,
        attempt=run.attempt + 1,
        owner=owner,
        start_time=run.start_time or now,
    )
    return Transition(run=after, expected_number=run.state_number, states=(pending, running), step=Step.BEGIN)


def conclude(
    run: FlowRun,
    outcome: Outcome,
    now: datetime,
    *,
    retry: RetryPolicy | None,
    on_crash: OnCrash = OnCrash.FAIL,
    source: random.Random,
) -> Transition:
    """Return what an attempt's end means for its run: a terminal state, or another attempt later on.

    ``retry`` is the deployment's policy; None: the flow's own holds, where its code states one.
    """
    if retry is None:
        retry = outcome.retry or RetryPolicy()
    if run.state.type is StateType.PAUSED and outcome.type is StateType.COMPLETED:
        return _resumed_and(run, outcome, now)
    if run.state.type is StateType.CANCELLING and outcome.type is not StateType.CRASHED:
        message = run.state.message if outcome.type is not StateType.CANCELLED else outcome.message or run.state.message
        return enter(run, State(type=StateType.CANCELLED, name="Cancelled", timestamp=now, message=message))
    delay = _another_attempt(run, outcome, retry, on_crash, source)
    if delay is not None and run.state.type is not StateType.CANCELLING:
        used = run.retries_used + 1
        limit = max(retry.retries, CRASH_RETRIES) if outcome.type is StateType.CRASHED else retry.retries
        when = f" in {in_words(delay.total_seconds())}" if delay else ""
        message = f"{outcome.message or outcome.name}; retry {used} of {limit}{when}"
        state = State(type=StateType.SCHEDULED, name="AwaitingRetry", timestamp=now, message=message, data=outcome.data)
        return enter(run, state, retries_used=used, expected_start=now + delay)
    name = outcome.name if outcome.name in NAMES[outcome.type] else NAMES[outcome.type][0]
    return enter(run, State(type=outcome.type, name=name, timestamp=now, message=outcome.message, data=outcome.data))


def _resumed_and(run: FlowRun, outcome: Outcome, now: datetime) -> Transition:
    """Code that ended well though its run was paused (it did not wait for the answer) ran to its end."""
    running = enter(run, State(type=StateType.RUNNING, name="Running", timestamp=now))
    done = conclude(running.run, outcome, now, retry=RetryPolicy(), source=random.Random(0))  # noqa: S311 - none is drawn
    return Transition(run=done.run, expected_number=run.state_number, states=(*running.states, *done.states))


def _another_attempt(
    run: FlowRun, outcome: Outcome, retry: RetryPolicy, on_crash: OnCrash, source: random.Random
) -> timedelta | None:
    if outcome.type is StateType.FAILED and outcome.retriable:
        return retry_delay(retry, run.retries_used, source, asked=outcome.retry_after)
    if outcome.type is StateType.CRASHED and on_crash is OnCrash.RETRY:
        policy = replace(retry, retries=max(retry.retries, CRASH_RETRIES))
        return retry_delay(policy, run.retries_used, source)
    return None
