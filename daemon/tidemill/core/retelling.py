"""A run as it was in each of its states, put together from its history: what the log said then can be said anew."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType


def retell(run: FlowRun, states: Sequence[State]) -> list[FlowRun]:
    """Return the run as it was in each of its states, oldest first; ``run`` is as it is now, in the last of them.

    Attempt, run time and end are those of then. When an earlier attempt was to start is not kept, but its states say in
    their messages how late it began.
    """
    attempt, run_time_s = 0, 0.0
    before: State | None = None
    told: list[FlowRun] = []
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
                end_time=state.timestamp if state.is_terminal else None,
            )
        )
        before = state
    if told:
        told[-1] = run  # the present is known: a crashed run's time leaves out the time in which there was no daemon
    return told
