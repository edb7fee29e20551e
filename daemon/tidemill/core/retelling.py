"""A run as it was in each of its states, put together from its history: what the log said then can be said anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType


def retell(run: FlowRun, states: Sequence[State]) -> list[FlowRun]:
    """Return the run as it was in each of its states, oldest first; ``run`` is as it is now, in the last of them.

    Attempt, run time and end are those of then. When an earlier attempt was to start is not kept: it is taken to have
    started in time, unless a state Late says otherwise.
    """
    attempt, run_time_s = 0, 0.0
    before: State | None = None
    told: list[FlowRun] = []
    expected = _expected(run, states)
    for index, state in enumerate(states):
        if before is not None and before.type in (StateType.RUNNING, StateType.CANCELLING):
            run_time_s += max(0.0, (state.timestamp - before.timestamp).total_seconds())
        if state.type is StateType.PENDING or (
            state.type is StateType.RUNNING and (before is None or before.type is StateType.SCHEDULED)
        ):
            attempt += 1
        told.append(
            replace(
                run,
                state=state,
                state_number=index + 1,
                attempt=attempt,
                run_time_s=run_time_s,
                expected_start=expected[index],
                end_time=state.timestamp if state.is_terminal else None,
            )
        )
        before = state
    if told:
        told[-1] = run  # the present is known: a crashed run's time leaves out the time in which there was no daemon
    return told


def _expected(run: FlowRun, states: Sequence[State]) -> list[datetime]:
    """Return for each state when the run was to start then."""
    anew = [
        index
        for index in range(1, len(states))
        if states[index].type is StateType.SCHEDULED and states[index - 1].type is not StateType.SCHEDULED
    ]
    found: list[datetime] = []
    for begin, end in zip([0, *anew], [*anew, len(states)], strict=True):
        expected = run.expected_start  # nothing has put it off since
        if end < len(states):
            wait = states[begin:end]
            late = any(each.name == "Late" for each in wait)
            started = next((each.timestamp for each in wait if each.type is StateType.PENDING), wait[-1].timestamp)
            expected = run.due if begin == 0 and late and run.due is not None else started
        found += [expected] * (end - begin)
    return found
