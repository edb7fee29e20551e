"""What a decided state change does to a run."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tidemill.core import transitions
from tidemill.core.deployments import OnCrash
from tidemill.core.ports import Outcome
from tidemill.core.retries import RetryPolicy
from tidemill.core.runs import FlowRun
from tidemill.core.states import TERMINAL, State, StateType, may_follow
from tidemill.durations import in_words
from tidemill.errors import TransitionError

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90)
S = StateType
ONCE = RetryPolicy(retries=1, delays=(timedelta(minutes=1),))
NONE = RetryPolicy()


def run(type_: StateType, name: str | None = None, **fields: object) -> FlowRun:
    state = State(type=type_, name=name or type_.capitalize(), timestamp=NOON, message="asked for")
    return FlowRun(
        seq=1, id="r", name="brisk-otter", flow="shell", deployment="job",
        expected_start=NOON, state=state, state_number=3, attempt=1, created=NOON, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


CONCLUDED = [
    # state, outcome, policy, on_crash, retries used -> state, name
    (S.RUNNING, S.COMPLETED, ONCE, OnCrash.RETRY, 0, S.COMPLETED, "Completed"),
    (S.RUNNING, S.FAILED, NONE, OnCrash.RETRY, 0, S.FAILED, "Failed"),
    (S.RUNNING, S.FAILED, ONCE, OnCrash.FAIL, 0, S.SCHEDULED, "AwaitingRetry"),
    (S.RUNNING, S.FAILED, ONCE, OnCrash.FAIL, 1, S.FAILED, "Failed"),
    (S.RUNNING, S.CANCELLED, ONCE, OnCrash.RETRY, 0, S.CANCELLED, "Cancelled"),  # no retry for what was not wanted
    (S.RUNNING, S.CRASHED, ONCE, OnCrash.FAIL, 0, S.CRASHED, "Crashed"),  # retries are for failures
    (S.RUNNING, S.CRASHED, NONE, OnCrash.RETRY, 0, S.SCHEDULED, "AwaitingRetry"),
    (S.RUNNING, S.CRASHED, NONE, OnCrash.RETRY, 2, S.SCHEDULED, "AwaitingRetry"),
    (S.RUNNING, S.CRASHED, NONE, OnCrash.RETRY, 3, S.CRASHED, "Crashed"),  # not for ever
    (S.CANCELLING, S.COMPLETED, ONCE, OnCrash.RETRY, 0, S.CANCELLED, "Cancelled"),  # it had been told
    (S.CANCELLING, S.FAILED, ONCE, OnCrash.RETRY, 0, S.CANCELLED, "Cancelled"),
    (S.CANCELLING, S.CANCELLED, ONCE, OnCrash.RETRY, 0, S.CANCELLED, "Cancelled"),
    (S.CANCELLING, S.CRASHED, ONCE, OnCrash.RETRY, 0, S.CRASHED, "Crashed"),
]


@pytest.mark.parametrize(("state", "ended", "retry", "on_crash", "used", "type_", "name"), CONCLUDED)
def test_how_an_attempts_end_concludes_its_run(
    state: StateType, ended: StateType, retry: RetryPolicy, on_crash: OnCrash, used: int, type_: StateType, name: str
) -> None:
    before = run(state, retries_used=used)
    outcome = Outcome(type=ended, name=ended.capitalize(), message="so it was")
    found = transitions.conclude(before, outcome, LATER, retry=retry, on_crash=on_crash, source=random.Random(1))
    after = found.run
    assert (after.state.type, after.state.name) == (type_, name)
    assert (found.expected_number, after.state_number, found.states) == (3, 4, (after.state,))
    assert may_follow(before.state.type, after.state.type)
    assert after.run_time_s == 90.0
    assert after.end_time == (LATER if type_ in TERMINAL else None)
    assert after.state.message
    if name == "AwaitingRetry":
        assert after.retries_used == used + 1
        assert after.expected_start >= LATER
        delay_s = (after.expected_start - LATER).total_seconds()
        assert f"retry {used + 1} of " in str(after.state.message)
        assert str(after.state.message).endswith(f" in {in_words(delay_s)}") == (delay_s > 0)
    else:
        assert after.retries_used == used


def test_an_outcomes_name_is_kept_where_the_state_knows_it() -> None:
    for name, kept in (("TimedOut", "TimedOut"), ("Failed", "Failed"), ("NoSuchName", "Failed")):
        outcome = Outcome(type=S.FAILED, name=name, message="x", retriable=False)
        found = transitions.conclude(run(S.RUNNING), outcome, LATER, retry=ONCE, source=random.Random(1))
        assert found.run.state.name == kept


def test_a_result_is_kept_with_the_state() -> None:
    outcome = Outcome(type=S.COMPLETED, name="Completed", data={"rows": 3})
    found = transitions.conclude(run(S.RUNNING), outcome, LATER, retry=NONE, source=random.Random(1))
    assert found.run.state.data == {"rows": 3}


def test_the_first_start_is_running_and_later_ones_are_retrying() -> None:
    waiting = run(S.SCHEDULED)
    again = transitions.begin(waiting, LATER, "boot").run
    assert (again.state.name, again.attempt, again.owner, again.start_time) == ("Retrying", 2, "boot", LATER)
    first = transitions.begin(replace(waiting, attempt=0), LATER, "boot")
    assert [state.name for state in first.states] == ["Pending", "Running"]
    assert (first.run.attempt, first.run.state_number) == (1, 5)


@pytest.mark.parametrize(("seconds", "said"), [(0.9, None), (1.0, "1.0 s late"), (200, "3 min 20 s late")])
def test_a_start_long_after_its_time_says_so(seconds: float, said: str | None) -> None:
    waiting = run(S.SCHEDULED)
    now = waiting.expected_start + timedelta(seconds=seconds)
    assert transitions.begin(waiting, now, "boot").run.state.message == said


@pytest.mark.parametrize("state", [each for each in S if each is not S.SCHEDULED])
def test_only_a_scheduled_run_starts(state: StateType) -> None:
    with pytest.raises(TransitionError, match="cannot start"):
        transitions.begin(run(state), LATER, "boot")


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_terminal_state_is_left_only_by_a_persons_retry(state: StateType) -> None:
    before = run(state, end_time=NOON)
    again = State(type=S.SCHEDULED, name="AwaitingRetry", timestamp=LATER)
    with pytest.raises(TransitionError, match="retry it to run it again"):
        transitions.enter(before, again)
    assert transitions.enter(before, again, by_person=True).run.end_time is None


def test_a_clock_that_went_back_makes_no_negative_run_time() -> None:
    """P7."""
    found = transitions.enter(
        run(S.RUNNING), State(type=S.COMPLETED, name="Completed", timestamp=NOON - timedelta(hours=2))
    )
    assert found.run.run_time_s == 0.0
