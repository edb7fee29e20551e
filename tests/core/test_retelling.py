"""A run told again from its history: attempt, time and lateness as they were then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tidemill.core.retelling import retell
from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType

S = StateType
T0 = datetime(2026, 11, 21, 9, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def state(kind: StateType, seconds: float, name: str | None = None) -> State:
    return State(type=kind, name=name or kind.value.title(), timestamp=at(seconds))


def run(last: State, **fields: object) -> FlowRun:
    values: dict[str, object] = {
        "seq": 1, "id": "1", "name": "brisk-otter", "flow": "f", "created": T0, "expected_start": T0, "state": last
    }  # fmt: skip
    return FlowRun(**(values | fields))  # type: ignore[arg-type]


RETRIED = [
    state(S.SCHEDULED, -60),
    state(S.SCHEDULED, 15, "Late"),
    state(S.PENDING, 20),
    state(S.RUNNING, 20),
    state(S.SCHEDULED, 25, "AwaitingRetry"),
    state(S.PENDING, 35),
    state(S.RUNNING, 35, "Retrying"),
    state(S.COMPLETED, 38),
]


def test_attempts_and_run_time_grow_with_the_states() -> None:
    now = run(RETRIED[-1], attempt=2, run_time_s=8.0, expected_start=at(35), due=T0, state_number=8, end_time=at(38))
    told = retell(now, RETRIED)
    assert [each.attempt for each in told] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [each.run_time_s for each in told] == [0, 0, 0, 0, 5, 5, 5, 8]
    assert [each.state for each in told] == RETRIED
    assert [each.end_time for each in told] == [None] * 7 + [at(38)]
    assert told[-1] == now


def test_a_pause_is_no_attempt_and_takes_no_time() -> None:
    states = [state(S.PENDING, 0), state(S.RUNNING, 0), state(S.PAUSED, 2), state(S.RUNNING, 9), state(S.FAILED, 10)]
    now = run(states[-1], attempt=1, run_time_s=3.0)
    told = retell(now, states)
    assert [each.attempt for each in told] == [1, 1, 1, 1, 1]
    assert [each.run_time_s for each in told] == [0, 0, 2, 2, 3]


def test_the_present_is_as_it_is_kept() -> None:
    """A crashed run's time leaves out the time in which there was no daemon."""
    states = [state(S.PENDING, 0), state(S.RUNNING, 0), state(S.CRASHED, 5000)]
    assert retell(run(states[-1], attempt=1, run_time_s=4.0), states)[-1].run_time_s == 4.0


def test_a_run_without_a_history_is_told_in_no_state() -> None:
    assert retell(run(RETRIED[0]), []) == []
