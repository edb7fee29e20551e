"""Which state may follow which: the whole table, spelled out a second time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tidemill.core.states import ACTIVE, FOLLOWS, NAMES, TERMINAL, State, StateType, may_follow

# A row is the state before, a column the state after; "x" may follow. Made runs come from "(none)".
TABLE = """
             SCHEDULED PENDING RUNNING PAUSED CANCELLING COMPLETED FAILED CRASHED CANCELLED
(none)           x        x       .      .        .          .       .       .        x
SCHEDULED        x        x       .      .        .          .       .       .        x
PENDING          x        .       x      .        x          .       x       x        x
RUNNING          x        .       .      x        x          x       x       x        x
PAUSED           x        .       x      .        x          .       x       x        x
CANCELLING       .        .       .      .        .          .       .       x        x
COMPLETED        .        .       .      .        .          .       .       .        .
FAILED           .        .       .      .        .          .       .       .        .
CRASHED          .        .       .      .        .          .       .       .        .
CANCELLED        .        .       .      .        .          .       .       .        .
"""


def _pairs() -> list[tuple[StateType | None, StateType, bool]]:
    head, *rows = TABLE.strip().splitlines()
    columns = [StateType(name) for name in head.split()]
    pairs = []
    for row in rows:
        name, *marks = row.split()
        before = None if name == "(none)" else StateType(name)
        pairs += [(before, after, mark == "x") for after, mark in zip(columns, marks, strict=True)]
    return pairs


def test_the_table_has_every_pair() -> None:
    assert len({(before, after) for before, after, _ in _pairs()}) == (len(StateType) + 1) * len(StateType) == 90


@pytest.mark.parametrize(("before", "after", "allowed"), _pairs())
def test_a_state_follows_another_only_as_the_table_says(
    before: StateType | None, after: StateType, allowed: bool
) -> None:
    assert may_follow(before, after) is allowed


@pytest.mark.parametrize(("before", "after", "allowed"), _pairs())
def test_a_person_may_also_retry_what_has_finished_and_nothing_else(
    before: StateType | None, after: StateType, allowed: bool
) -> None:
    finished = before in (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
    retried = finished and after is StateType.SCHEDULED
    assert may_follow(before, after, by_person=True) is (allowed or retried)


def test_a_run_can_always_reach_an_end() -> None:
    for start in StateType:
        reached, found = {start}, {start}
        while found:
            found = {after for before in found for after in FOLLOWS[before]} - reached
            reached |= found
        assert reached & TERMINAL, start


def test_terminal_states_are_those_that_nothing_follows() -> None:
    assert {state for state in StateType if not FOLLOWS[state]} == TERMINAL


def test_a_run_that_holds_a_slot_has_not_finished() -> None:
    assert not ACTIVE & TERMINAL


def test_every_type_has_a_plain_name_and_no_name_belongs_to_two() -> None:
    assert set(NAMES) == set(StateType)
    for type_, names in NAMES.items():
        assert names[0] == type_.value.capitalize()
    every = [name for names in NAMES.values() for name in names]
    assert len(every) == len(set(every))


def test_a_state_knows_whether_it_is_an_end() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for type_ in StateType:
        assert State(type=type_, name=NAMES[type_][0], timestamp=at).is_terminal is (type_ in TERMINAL)
