"""What automations are made of: states by name, placeholders, circles, how often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tidemill.core.automation_words import action_text, condition_text
from tidemill.core.automations import (
    RETRY_S,
    STATE_NAMES,
    Action,
    AllCompleted,
    ArtifactChanges,
    Automation,
    Cancel,
    Cause,
    Condition,
    EntersState,
    InARow,
    IsLate,
    Kind,
    NoneWithin,
    Of,
    Pause,
    Resume,
    Run,
    Tell,
    circles,
    key_of,
    may_fire,
    means,
    retry_after,
    rounds,
    split,
    types_of,
)
from tidemill.core.automations import Fire as FireOf
from tidemill.core.placeholders import PLACEHOLDERS, fill, fill_all, holds, unknown_placeholders, values_of
from tidemill.core.states import NAMES, State, StateType

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CAUSE = Cause(key="k", at=NOON, reason="a broke", deployment="a", run="id", run_name="brisk-otter", state="Failed")


# --- states ---------------------------------------------------------------------------------------------------------

# What is written -> states that are meant, states that are not.
STATES = {
    "a plain name is every kind of it": (("Failed",), ("Failed", "TimedOut", "NotReady"), ("Crashed", "Completed")),
    "a special name is itself": (("TimedOut",), ("TimedOut",), ("Failed", "NotReady")),
    "several": (("Late", "Crashed"), ("Late", "Crashed"), ("Scheduled", "AwaitingRetry", "Failed")),
    "what was cached was completed": (("Completed",), ("Completed", "Cached"), ("Cancelled",)),
}


def state(name: str) -> State:
    return State(type=next(iter(types_of([name]))), name=name, timestamp=NOON)


@pytest.mark.parametrize(("written", "meant", "others"), STATES.values(), ids=STATES)
def test_a_state_is_meant_by_its_name(
    written: tuple[str, ...], meant: tuple[str, ...], others: tuple[str, ...]
) -> None:
    found = split(written)
    assert all(means(found, state(name)) for name in meant)
    assert not any(means(found, state(name)) for name in others)


def test_every_state_that_a_run_can_be_in_can_be_written() -> None:
    assert set(STATE_NAMES) == {name for names in NAMES.values() for name in names}
    for name in STATE_NAMES:
        assert means(split([name]), state(name))


def test_whose_runs_are_meant_goes_by_deployment_and_all_tags() -> None:
    assert Of().fits(None, ())
    assert Of(deployments=("a", "b")).fits("b", ())
    assert not Of(deployments=("a",)).fits(None, ())
    assert Of(tags=("x", "y")).fits("a", ("y", "z", "x"))
    assert not Of(tags=("x", "y")).fits("a", ("x",))


# --- placeholders ---------------------------------------------------------------------------------------------------


def test_every_placeholder_has_a_value() -> None:
    assert values_of("auto", CAUSE).keys() == PLACEHOLDERS.keys()


def test_placeholders_are_filled_and_double_braces_are_braces() -> None:
    values = values_of("auto", CAUSE)
    assert fill("{deployment}: {{{state}}} {artifact}. {at}", values) == "a: {Failed} . 2026-06-01T12:00:00Z"


def test_what_was_filled_in_is_not_filled_again() -> None:
    """A run's message is data: braces in it stand for nothing."""
    cause = msgspec.structs.replace(CAUSE, message="{run_id} {")
    assert fill("{message}", values_of("auto", cause)) == "{run_id} {"


def test_texts_anywhere_in_parameters_are_filled_and_nothing_else_is() -> None:
    given: dict[str, Any] = {"{run}": ["{run}", 1, None, {"deep": "x{state}"}], "n": 2.5, "b": True}
    assert fill_all(given, values_of("auto", CAUSE)) == {
        "{run}": ["brisk-otter", 1, None, {"deep": "xFailed"}],
        "n": 2.5,
        "b": True,
    }


@pytest.mark.parametrize(
    ("value", "found"),
    [("{run}", True), ("{{run}}", False), (["x", {"k": ["{at}"]}], True), ({"{run}": 1}, False), (None, False)],
)
def test_it_is_known_where_a_placeholder_stands(value: Any, found: bool) -> None:
    assert holds(value) is found


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("{deployment} {{x}} plain", []),
        ("{deploymnt}", ["deploymnt"]),
        ("{}", [""]),
        ("{ {run}", ["{"]),
        ("}", ["}"]),
        ("{{run}", ["}"]),
    ],
)
def test_what_is_no_placeholder_is_found(text: str, unknown: list[str]) -> None:
    assert unknown_placeholders(text) == unknown


# --- circles --------------------------------------------------------------------------------------------------------


def automation(name: str, when: Condition, *then: Action) -> Automation:
    return Automation(name=name, when=when, then=then or (Tell(channel="default"),))


def enters(*deployments: str, tags: tuple[str, ...] = ()) -> EntersState:
    return EntersState(states=("Completed",), of=Of(deployments=deployments or None, tags=tags))


# Automations -> the way round of each that may set itself off.
CIRCLES: dict[str, tuple[list[Automation], dict[str, tuple[str, ...]]]] = {
    "one that runs another deployment goes round nowhere": ([automation("x", enters("a"), Run(deployment="b"))], {}),
    "one that runs what it hears of": ([automation("x", enters("a"), Run(deployment="a"))], {"x": ("a",)}),
    "one that hears of everything": ([automation("x", enters(), Run(deployment="b"))], {"x": ("b",)}),
    "two that set each other off": (
        [automation("x", enters("a"), Run(deployment="b")), automation("y", enters("b"), Run(deployment="a"))],
        {"x": ("b", "a"), "y": ("a", "b")},
    ),
    "one on the way to a circle is not in it": (
        [automation("x", enters("a"), Run(deployment="b")), automation("y", enters("b"), Run(deployment="b"))],
        {"y": ("b",)},
    ),
    "by an artifact that the deployment is known to make": (
        [automation("x", ArtifactChanges(keys=("prices",)), Run(deployment="b"))],
        {"x": ("b",)},
    ),
    "by both of two": (
        [automation("x", AllCompleted(deployments=("a", "b")), Run(deployment="a"))],
        {"x": ("a",)},
    ),
    "by a tag that the run is given": (
        [automation("x", enters(tags=("t",)), Run(deployment="a", tags=("t",)))],
        {"x": ("a",)},
    ),
    "silence is told once, and goes round nowhere": (
        [
            automation("x", NoneWithin(states=("Completed",), deployments=("a",), within=MINUTE), Run(deployment="a")),
            automation("y", InARow(count=2, of=Of(deployments=("a",))), Run(deployment="a")),
        ],
        {},
    ),
}


@pytest.mark.parametrize(("given", "found"), CIRCLES.values(), ids=CIRCLES)
def test_circles_are_found_before_they_turn(given: list[Automation], found: dict[str, tuple[str, ...]]) -> None:
    deployments: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
        "a": (frozenset(), ()),
        "b": (frozenset({"prices"}), ()),
    }
    assert circles(given, deployments) == found


def test_rounds_are_counted_by_the_keys_of_a_runs_forebears() -> None:
    fire = FireOf(number=7, automation="x", cause=CAUSE, at=NOON, steps=())
    keys = [key_of(fire, 0), None, "by-hand", key_of(msgspec.structs.replace(fire, number=3), 1), "automation/xy/1/0"]
    assert rounds(keys, "x") == 2
    assert rounds(keys, "xy") == 1
    assert rounds(keys, "y") == 0


# --- how often ------------------------------------------------------------------------------------------------------


def test_so_many_fires_in_any_stretch_of_time() -> None:
    limited = Automation(name="x", when=enters(), then=(Tell(channel="c"),), max_fires=2, per=MINUTE)
    assert may_fire([], NOON, limited)
    assert may_fire([NOON], NOON, limited)
    assert not may_fire([NOON - MINUTE / 2, NOON], NOON, limited)
    assert may_fire([NOON - MINUTE, NOON], NOON, limited)  # the first is just out of sight


def test_an_action_is_tried_again_ever_later_and_then_given_up() -> None:
    waits = [retry_after(tries) for tries in range(1, len(RETRY_S) + 1)]
    assert None not in waits
    assert waits == sorted(waits, key=lambda wait: wait or timedelta.max)
    assert retry_after(len(RETRY_S) + 1) is None


# --- words ----------------------------------------------------------------------------------------------------------

WORDS: list[tuple[Condition, str]] = [
    (EntersState(states=("Failed", "Crashed"), of=Of(deployments=("a",))), "a run of a is Failed or Crashed"),
    (EntersState(states=("Running",), of=Of(tags=("t",)), stays=2 * MINUTE), "a run tagged t is Running for 2m"),
    (IsLate(by=10 * MINUTE), "a run is late by 10m"),
    (
        NoneWithin(states=("Completed",), deployments=("a",), within=25 * MINUTE, repeat=MINUTE),
        "no Completed run of a for 25m, again every 1m",
    ),
    (InARow(count=3, of=Of(deployments=("a", "b"))), "a or b fails 3 times in a row"),
    (ArtifactChanges(keys=("k",), deployments=("a",)), "artifact k changes by a"),
    (AllCompleted(deployments=("a", "b", "c"), within=MINUTE), "a, b and c completed within 1m"),
]


@pytest.mark.parametrize(("condition", "words"), WORDS, ids=[words for _, words in WORDS])
def test_a_condition_is_told_in_words(condition: Condition, words: str) -> None:
    assert condition_text(condition) == words


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Tell(channel="pager"), "tell pager"),
        (Run(deployment="a"), "run a"),
        (Pause(kind=Kind.DEPLOYMENT, name="{deployment}"), "pause the deployment"),
        (Pause(kind=Kind.WORK_QUEUE, name="q"), "pause work queue q"),
        (Resume(kind=Kind.DEPLOYMENT, name="a"), "resume a"),
        (Cancel(what="{run}"), "cancel the run"),
        (Cancel(what="a"), "cancel the runs of a"),
    ],
)
def test_an_action_is_told_in_words(action: Action, words: str) -> None:
    assert action_text(action) == words


def test_an_automation_is_the_same_after_the_database() -> None:
    """Conditions and actions of every kind say what they are."""
    actions = (Tell(channel="c"), Run(deployment="a"), Pause(kind=Kind.WORK_POOL, name="p"), Cancel(what="a"))
    for condition, _ in WORDS:
        made = Automation(name="x", when=condition, then=actions, per=timedelta(hours=1))
        assert msgspec.json.decode(msgspec.json.encode(made), type=Automation) == made


def test_failures_are_failed_and_crashed_runs() -> None:
    assert types_of(["Failed", "TimedOut", "Crashed"]) == {StateType.FAILED, StateType.CRASHED}
