"""The schema repeats the rules of core/states.py."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator

import pytest

from tidemill.core.states import TERMINAL, StateType, may_follow
from tidemill.store import schema
from tidemill.store.history import NUMBER_OF, TYPE_OF


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for script in schema.migrations():
        for statement in schema.statements(script):
            connection.execute(statement)
    yield connection
    connection.close()


@pytest.mark.parametrize(("before", "after"), list(itertools.product([None, *StateType], StateType)))
def test_the_database_takes_the_transitions_that_the_rules_allow_and_no_other(
    connection: sqlite3.Connection, before: StateType | None, after: StateType
) -> None:
    number = 1 if before is None else 2
    row = (number, None if before is None else NUMBER_OF[before], NUMBER_OF[after])
    connection.execute("BEGIN")
    try:
        connection.execute("INSERT INTO history (run, number, before, type, at) VALUES (1, ?, ?, ?, 0)", row)
        taken = True
    except sqlite3.IntegrityError as error:
        assert "follows" in str(error)
        taken = False
    finally:
        connection.execute("ROLLBACK")
    assert taken == may_follow(before, after, by_person=True)


def test_only_the_first_state_has_none_before_it(connection: sqlite3.Connection) -> None:
    for number, before in ((1, 0), (2, None)):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(
                "INSERT INTO history (run, number, before, type, at) VALUES (1, ?, ?, 0, 0)", (number, before)
            )


def test_every_type_has_its_number_and_terminal_ones_are_five_and_above() -> None:
    """The statements say `state_type >= 5` for finished, and NOT IN (1, 2, 4) for at rest."""
    assert set(NUMBER_OF) == set(StateType)
    assert {kind for kind, number in NUMBER_OF.items() if number >= 5} == TERMINAL
    assert [NUMBER_OF[kind] for kind in TYPE_OF] == list(range(9))
    assert {TYPE_OF[1], TYPE_OF[2], TYPE_OF[4]} == {StateType.PENDING, StateType.RUNNING, StateType.CANCELLING}
    assert TYPE_OF[0] is StateType.SCHEDULED


@pytest.mark.parametrize(
    ("column", "value"),
    [("state_type", 9), ("state_type", -1), ("state_name", ""), ("state_number", 0), ("attempt", -1), ("id", "short")],
)
def test_a_run_that_breaks_a_rule_is_not_taken(connection: sqlite3.Connection, column: str, value: object) -> None:
    columns = {"seq": 1, "id": "0" * 36, "name": "n", "route": 1, "expected_start": 0, "state_type": 0, "created": 0}
    columns |= {column: value}
    with pytest.raises(sqlite3.IntegrityError, match=column):
        connection.execute(
            f"INSERT INTO run ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", list(columns.values())
        )
