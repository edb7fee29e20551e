"""History: the states a run was in, and how a state is written down."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.states import NAMES, State, StateType
from tidemill.store.ops import scalar, whole
from tidemill.store.statements import load

_SQL = load("history")
MAX_STATES = 10_000  # of one run, in one answer; a run that is late for days collects some

# What stands in the database: never renumbered. The schema's CHECKs go by these.
NUMBER_OF: Mapping[StateType, int] = {
    StateType.SCHEDULED: 0,
    StateType.PENDING: 1,
    StateType.RUNNING: 2,
    StateType.PAUSED: 3,
    StateType.CANCELLING: 4,
    StateType.COMPLETED: 5,
    StateType.FAILED: 6,
    StateType.CRASHED: 7,
    StateType.CANCELLED: 8,
}
TYPE_OF: tuple[StateType, ...] = tuple(NUMBER_OF)
PLAIN_NAME_OF: Mapping[StateType, str] = {kind: names[0] for kind, names in NAMES.items()}


class StateRow(msgspec.Struct, array_like=True, gc=False):
    type: int
    name: str | None
    at: int
    message: str | None
    data: Any


_decoder = msgspec.json.Decoder(list[StateRow])


def stored_name(state: State) -> str | None:
    """Return the state's name as it is kept: NULL for the plain name of its type."""
    return None if state.name == PLAIN_NAME_OF[state.type] else state.name


def stored_json(value: object) -> str | None:
    """Return a JSON value as it is kept: NULL for null."""
    return None if value is None else msgspec.json.encode(value).decode()


def state(kind: int, name: str | None, at: int, message: str | None, data: object) -> State:
    """Return the state that a row stands for."""
    state_type = TYPE_OF[kind]
    return State(
        type=state_type, name=name or PLAIN_NAME_OF[state_type], timestamp=from_us(at), message=message, data=data
    )


def tail(entry: State) -> tuple[int, str | None, int, str | None, str | None]:
    """Return the columns type, name, at, message and data of a state."""
    return (
        NUMBER_OF[entry.type],
        stored_name(entry),
        to_us(entry.timestamp),
        None if entry.message is None else whole(entry.message),
        stored_json(entry.data),
    )


def of(connection: sqlite3.Connection, seq: int) -> list[State]:
    """Return the states a run was in, oldest first, at most 10,000."""
    text = scalar(connection, _SQL["of_run"], {"run": seq, "limit": MAX_STATES})
    return [state(row.type, row.name, row.at, row.message, row.data) for row in _decoder.decode(str(text))]
