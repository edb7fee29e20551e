"""When a condition is true: what each watch makes of what it hears, and of time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tidemill.core.automations import (
    AllCompleted,
    ArtifactChanges,
    Automation,
    Cause,
    Condition,
    EntersState,
    InARow,
    IsLate,
    NoneWithin,
    Of,
    Past,
    Tell,
    types_of,
)
from tidemill.core.events import ArtifactStored, RunChanged, RunDeleted
from tidemill.core.runs import Artifact, FlowRun
from tidemill.core.states import State, StateType
from tidemill.core.streaks import Streak, StreakWatch
from tidemill.core.watches import Watch, watch

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NEVER: Mapping[str, datetime] = {}
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def changed(
    *names: str,
    run: str = "r1",
    of: str | None = "a",
    when: float = 0,
    number: int | None = None,
    tags: tuple[str, ...] = (),
    message: str | None = None,
    by: str = "schedule",
    expected: float = 0,
) -> RunChanged:
    """A run of a deployment that entered these states one after another."""
    states = tuple(
        State(type=next(iter(types_of([name]))), name=name, timestamp=at(when), message=message) for name in names
    )
    made = FlowRun(
        seq=1,
        id=run,
        name=f"name-{run}",
        flow="shell",
        deployment=of,
        tags=tags,
        expected_start=at(expected),
        state=states[-1],
        state_number=number or len(states),
        created=NOON,
        created_by=by,
    )
    return RunChanged(made, states, None)


def watching(
    condition: Condition,
    *,
    since: float = 0,
    last: Mapping[str, datetime] = NEVER,
    past: Mapping[str | None, Past] | None = None,
) -> Watch:
    made = Automation(name="x", when=condition, then=(Tell(channel="default"),))
    return watch(made, since=at(since), last=last, past=past or {})


def keys(causes: object) -> list[str]:
    assert isinstance(causes, list | tuple)
    return [each.key for each in causes]


# --- a run enters a state -------------------------------------------------------------------------------------------


def test_every_entry_into_the_state_is_a_cause_of_its_own() -> None:
    watch = watching(EntersState(states=("Running",)))
    first = keys(watch.hear(changed("Pending", "Running", number=3)))
    again = keys(watch.hear(changed("Pending", "Retrying", number=6)))
    assert first == ["r1/3"]
    assert again == ["r1/6"]


def test_what_is_heard_twice_has_the_same_key() -> None:
    watch = watching(EntersState(states=("Failed",)))
    assert keys(watch.hear(changed("Failed", number=4))) == keys(watch.hear(changed("Failed", number=4)))


def test_a_cause_tells_what_happened() -> None:
    watch = watching(EntersState(states=("Failed",)))
    (cause,) = watch.hear(changed("TimedOut", when=3, message="took 10m\nand more"))
    assert cause == Cause(
        key="r1/1",
        at=at(3),
        reason="a is TimedOut: took 10m",
        deployment="a",
        run="r1",
        run_name="name-r1",
        flow="shell",
        state="TimedOut",
        message="took 10m\nand more",
    )


# What is heard -> whether it is meant.
MEANT = {
    "the deployment's": (Of(deployments=("a",)), changed("Failed"), True),
    "another's": (Of(deployments=("b",)), changed("Failed"), False),
    "one without a deployment, where all are meant": (Of(), changed("Failed", of=None), True),
    "with the tag": (Of(tags=("t",)), changed("Failed", tags=("s", "t")), True),
    "without the tag": (Of(tags=("t",)), changed("Failed"), False),
    "a subflow, which is a part of its parent": (Of(), changed("Failed", by="parent"), False),
    "another state": (Of(), changed("Completed"), False),
}


@pytest.mark.parametrize(("of", "event", "meant"), MEANT.values(), ids=MEANT)
def test_only_runs_that_are_meant_count(of: Of, event: RunChanged, meant: bool) -> None:
    assert bool(watching(EntersState(states=("Failed",), of=of)).hear(event)) is meant


# --- and stays in it ------------------------------------------------------------------------------------------------

STUCK = EntersState(states=("Running",), stays=HOUR)


def test_a_run_that_stays_is_told_once_when_the_time_is_up() -> None:
    watch = watching(STUCK)
    assert not watch.hear(changed("Pending", "Running", when=5))
    assert watch.next_at() == at(65)
    assert not watch.due(at(64))
    assert keys(watch.due(at(65))) == ["r1/2/stays"]
    assert not watch.due(at(200))
    assert watch.next_at() is None


def test_a_run_that_leaves_in_time_is_not_told() -> None:
    watch = watching(STUCK)
    watch.hear(changed("Running", when=0))
    watch.hear(changed("Completed", when=30, number=2))
    assert watch.next_at() is None
    assert not watch.due(at(200))


def test_coming_back_begins_anew() -> None:
    watch = watching(STUCK)
    watch.hear(changed("Running", when=0))
    watch.hear(changed("AwaitingRetry", when=30, number=2))
    watch.hear(changed("Retrying", when=40, number=3))
    assert not watch.due(at(60))
    assert keys(watch.due(at(100))) == ["r1/3/stays"]


def test_one_such_state_after_another_is_staying() -> None:
    watch = watching(EntersState(states=("Late", "AwaitingRetry"), stays=HOUR))
    watch.hear(changed("Late", when=0))
    watch.hear(changed("AwaitingRetry", when=30, number=2))
    assert keys(watch.due(at(60))) == ["r1/1/stays"]


def test_a_run_that_was_deleted_stays_nowhere() -> None:
    watch = watching(EntersState(states=("Scheduled",), stays=HOUR))
    watch.hear(changed("Scheduled"))
    watch.hear(RunDeleted("r1", 1, "a"))
    assert not watch.due(at(100))


# --- late -----------------------------------------------------------------------------------------------------------


def test_lateness_counts_from_when_the_run_should_have_started() -> None:
    watch = watching(IsLate(by=10 * MINUTE))
    assert not watch.hear(changed("Late", when=1, expected=0, message="the queue is full"))
    assert watch.next_at() == at(10)
    (cause,) = watch.due(at(10))
    assert cause.reason == "a is late by 10m: the queue is full"


def test_who_is_called_late_later_than_that_is_told_then() -> None:
    watch = watching(IsLate(by=MINUTE))
    watch.hear(changed("Late", when=5, expected=0))
    assert watch.next_at() == at(5)


@pytest.mark.parametrize("name", ["Pending", "Cancelled"])
def test_a_late_run_that_starts_or_ends_is_late_no_more(name: str) -> None:
    watch = watching(IsLate(by=10 * MINUTE))
    watch.hear(changed("Late", when=1))
    watch.hear(changed(name, when=2, number=2))
    assert not watch.due(at(100))


def test_a_retry_that_is_late_again_is_another_lateness() -> None:
    watch = watching(IsLate(by=10 * MINUTE))
    watch.hear(changed("Late", when=1))
    first = keys(watch.due(at(10)))
    watch.hear(changed("AwaitingRetry", when=20, number=5, expected=30))
    watch.hear(changed("Late", when=31, number=6, expected=30))
    second = keys(watch.due(at(40)))
    assert len(first) == len(second) == 1
    assert first != second


# --- a dead man's switch --------------------------------------------------------------------------------------------


def silence(**more: timedelta) -> NoneWithin:
    return NoneWithin(states=("Completed",), deployments=("a",), within=HOUR, **more)


def test_silence_counts_from_the_last_success() -> None:
    watch = watching(silence(), last={"a": at(-30)})
    assert watch.next_at() == at(30)
    (cause,) = watch.due(at(30))
    assert cause.reason == "no Completed run of a for 1h: the last one was at 2026-06-01 11:30:00Z"
    assert not watch.due(at(1000))


def test_where_there_was_no_success_it_counts_from_when_the_automation_was_first_there() -> None:
    watch = watching(silence(), since=7)
    assert watch.next_at() == at(67)
    (cause,) = watch.due(at(67))
    assert "there was none so far" in cause.reason


def test_every_success_winds_it_up_and_no_failure_does() -> None:
    watch = watching(silence())
    watch.hear(changed("Failed", when=10))
    assert watch.next_at() == at(60)
    watch.hear(changed("Cached", when=20))
    assert watch.next_at() == at(80)
    watch.hear(changed("Completed", of="b", when=30))
    assert watch.next_at() == at(80)


def test_in_shadow_mode_nothing_is_missing() -> None:
    watch = watching(silence())
    made = changed("Cancelled", when=10)
    shadow = State(type=StateType.CANCELLED, name="Shadow", timestamp=at(10))
    watch.hear(RunChanged(msgspec.structs.replace(made.run, state=shadow), (shadow,), None))
    assert watch.next_at() == at(70)


def test_an_older_success_heard_late_does_not_turn_it_back() -> None:
    watch = watching(silence(), last={"a": at(20)})
    watch.hear(changed("Completed", when=10))
    assert watch.next_at() == at(80)


def test_the_end_of_a_silence_that_was_told_is_told() -> None:
    watch = watching(silence())
    assert not watch.hear(changed("Completed", when=10))
    watch.due(at(70))
    (cause,) = watch.hear(changed("Completed", when=80))
    assert (cause.over, cause.reason) == (True, "a has a Completed run again")
    assert keys(watch.due(at(140)))  # and the next one is another silence


def test_a_silence_is_told_again_where_that_is_wanted() -> None:
    watch = watching(silence(repeat=2 * HOUR))
    told = [keys(watch.due(at(minutes))) for minutes in (60, 100, 180, 299, 300)]
    assert [len(each) for each in told] == [1, 0, 1, 0, 1]
    assert len({key for each in told for key in each}) == 3


@pytest.mark.parametrize("last", [{"a": at(-60)}, NEVER], ids=["the success is known", "retention took it"])
def test_a_silence_that_was_told_is_not_told_again_after_a_restart(last: Mapping[str, datetime]) -> None:
    watch = watching(silence(), since=-500, last=last, past={"a": Past(at=at(0), occurred=at(0))})
    assert watch.next_at() is None
    assert not watch.due(at(500))


# When it fired, when it last said that all is over -> how often the end is told after a restart.
OVER = {
    "nobody was there to say so": (Past(at=at(0), occurred=at(0)), 1),
    "it was said": (Past(at=at(0), occurred=at(0), over=at(11)), 0),
    "an earlier end was said": (Past(at=at(0), occurred=at(0), over=at(-100)), 1),
}


@pytest.mark.parametrize(("past", "told"), OVER.values(), ids=OVER)
def test_an_end_that_a_crash_kept_from_being_told_is_told_after_it(past: Past, told: int) -> None:
    watch = watching(silence(), last={"a": at(10)}, past={"a": past})
    found = list(watch.due(at(20)))
    assert [cause.over for cause in found] == [True] * told
    assert watch.next_at() == at(70)


# --- failures in a row ----------------------------------------------------------------------------------------------


def in_a_row(count: int = 3) -> StreakWatch:
    made = StreakWatch(InARow(count=count))
    made.recall("a", Streak([], None))
    return made


def fails(watch: StreakWatch, run: str, name: str = "Failed") -> list[Cause]:
    return list(watch.hear(changed(name, run=run)))


def test_it_fires_at_the_last_of_so_many_and_then_not_until_it_was_well() -> None:
    watch = in_a_row()
    found = [len(fails(watch, run)) for run in ("r1", "r2", "r3", "r4", "r5", "r6", "r7")]
    assert found == [0, 0, 1, 0, 0, 0, 0]
    (over,) = fails(watch, "r8", "Completed")
    assert over.over
    assert [len(fails(watch, run)) for run in ("s1", "s2", "s3")] == [0, 0, 1]


def test_a_success_in_between_starts_the_count_anew_and_a_cancelled_run_counts_as_neither() -> None:
    watch = in_a_row(2)
    fails(watch, "r1")
    assert not fails(watch, "r2", "Completed")
    fails(watch, "r3", "Crashed")
    fails(watch, "r4", "Cancelled")
    assert fails(watch, "r5", "TimedOut")


def test_a_failure_heard_twice_counts_once() -> None:
    watch = in_a_row(2)
    fails(watch, "r1")
    assert not fails(watch, "r1")


def test_what_history_says_counts() -> None:
    watch = StreakWatch(InARow(count=3))
    event = changed("Failed", run="r3")
    assert watch.unknown(event) == "a"
    watch.recall("a", Streak([("r1", 1), ("r2", 1), ("r3", 1)], at(-5)))
    assert watch.unknown(event) is None
    assert len(list(watch.hear(event))) == 1


def test_a_streak_that_was_told_is_not_told_again_after_a_restart() -> None:
    watch = StreakWatch(InARow(count=2))
    watch.recall("a", Streak([("r1", 1), ("r2", 1)], None, fired=True))
    assert not fails(watch, "r3")


def test_nobody_is_looked_up_for_what_does_not_matter() -> None:
    watch = StreakWatch(InARow(count=2, of=Of(deployments=("b",))))
    for event in (changed("Failed"), changed("Completed", of="b"), changed("Failed", of="b", by="parent")):
        assert watch.unknown(event) is None


# --- artifacts ------------------------------------------------------------------------------------------------------


def stored(key: str, version: int = 1, by: str | None = "a") -> ArtifactStored:
    made = Artifact(
        id=f"{key}-{version}", key=key, version=version, type="json", text="{}", deployment=by, created=NOON
    )
    return ArtifactStored(made)


def test_every_version_of_the_key_is_a_cause() -> None:
    watch = watching(ArtifactChanges(keys=("k", "l")))
    assert not watch.hear(stored("m"))
    (cause,) = watch.hear(stored("k", 2))
    assert (cause.reason, cause.artifact, cause.version) == ('artifact "k" has version 2 by a', "k", 2)
    assert keys(watch.hear(stored("k", 3))) != keys(watch.hear(stored("l")))


def test_of_the_deployments_that_are_named() -> None:
    watch = watching(ArtifactChanges(keys=("k",), deployments=("b",)))
    assert not watch.hear(stored("k"))
    assert watch.hear(stored("k", by="b"))


# --- after several --------------------------------------------------------------------------------------------------

BOTH = AllCompleted(deployments=("a", "b"))


def completes(watch: Watch, of: str, run: str, when: float) -> int:
    return len(list(watch.hear(changed("Completed", of=of, run=run, when=when))))


def test_it_fires_when_the_last_of_them_completes_and_begins_anew() -> None:
    watch = watching(BOTH)
    ends = [("a", 1), ("a", 2), ("b", 3), ("b", 4), ("b", 5), ("a", 6), ("a", 7)]
    found = [completes(watch, of, f"{of}{when}", when) for of, when in ends]
    assert found == [0, 0, 1, 0, 0, 1, 0]


def test_only_what_completed_counts() -> None:
    watch = watching(BOTH)
    completes(watch, "a", "a1", 1)
    assert not watch.hear(changed("Failed", of="b", when=2))
    assert not watch.hear(changed("Completed", of="c", when=3))
    assert completes(watch, "b", "b1", 4)


def test_what_lies_too_far_apart_does_not_belong_together() -> None:
    watch = watching(AllCompleted(deployments=("a", "b"), within=10 * MINUTE))
    completes(watch, "a", "a1", 1)
    assert not completes(watch, "b", "b1", 12)
    assert completes(watch, "a", "a2", 22)


def test_what_was_dealt_with_before_a_restart_is_not_dealt_with_again() -> None:
    """The run that made it fire ended at the very instant up to which all is done."""
    watch = watching(BOTH, past={"b": Past(at=at(11), occurred=at(10))})
    assert not completes(watch, "a", "a1", 5)
    assert not completes(watch, "b", "b1", 10)
    assert not completes(watch, "a", "a2", 12)
    assert completes(watch, "b", "b2", 13)


def test_a_completion_heard_twice_counts_once() -> None:
    watch = watching(BOTH)
    completes(watch, "a", "a1", 1)
    assert completes(watch, "b", "b1", 2)
    assert not completes(watch, "b", "b1", 2)
    assert not completes(watch, "a", "a2", 3)


# --- how it stands --------------------------------------------------------------------------------------------------


def test_a_person_is_told_how_it_stands() -> None:
    stuck = watching(STUCK)
    stuck.hear(changed("Running", when=5))
    assert stuck.standing(at(6)) == ["a is Running since 2026-06-01 12:05:00Z"]
    late = watching(IsLate(by=HOUR))
    late.hear(changed("Late", when=5))
    assert late.standing(at(6)) == ["a is late since 2026-06-01 12:00:00Z"]
    quiet = watching(silence())
    assert quiet.standing(at(1)) == ["a: no Completed since 2026-06-01 12:00:00Z; due by 2026-06-01 13:00:00Z"]
    quiet.due(at(61))
    assert quiet.standing(at(62)) == [
        "a: no Completed since 2026-06-01 12:00:00Z; silent, told at 2026-06-01 13:01:00Z"
    ]
    row = in_a_row()
    fails(row, "r1")
    assert row.standing(at(1)) == ["a: 1 of 3 failures in a row"]
    after = watching(BOTH)
    completes(after, "a", "a1", 1)
    assert after.standing(at(2)) == ["a: completed at 2026-06-01 12:01:00Z", "b: is waited for"]
