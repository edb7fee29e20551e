"""Variables: named JSON values, stated by the configuration or set at runtime."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.store.history import stored_json
from tidemill.store.ops import Op, rows, scalar
from tidemill.store.statements import load

_SQL = load("variables")


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A named JSON value, never null. ``created`` is kept when it is set again.

    ``file_value`` is the configuration's, None where it states none; ``set_by_hand`` says that ``value`` was set at
    runtime. Such a value holds until the configuration's own changes.
    """

    name: str
    value: Any
    tags: tuple[str, ...] = ()
    created: datetime
    updated: datetime
    file_value: Any = None
    set_by_hand: bool = True


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """All variables that the configuration states, by name. What is not here it does not state."""

    values: Mapping[str, Any]
    at: datetime


_Row = tuple[str, Any, Any, tuple[str, ...] | None, int, int]
_row = msgspec.json.Decoder(_Row)
_rows = msgspec.json.Decoder(list[_Row])


def _set(connection: sqlite3.Connection, items: Sequence[Variable]) -> list[None]:
    for item in items:  # a person's doing: never many
        connection.execute(
            _SQL["set"],
            {
                "name": item.name,
                "value": msgspec.json.encode(item.value).decode(),
                "tags": stored_json(item.tags or None),
                "at": to_us(item.updated),
            },
        )
    return [None] * len(items)


def _unset(connection: sqlite3.Connection, items: Sequence[tuple[str, datetime]]) -> list[bool]:
    return [
        connection.execute(_SQL["remove"], {"name": name}).rowcount == 1
        or connection.execute(_SQL["unset"], {"name": name, "at": to_us(at)}).rowcount == 1
        for name, at in items
    ]


def _state(connection: sqlite3.Connection, items: Sequence[Stated]) -> list[None]:
    stated = items[-1]  # each states all: the last one holds
    found = [(name, msgspec.json.encode(value).decode()) for name, value in stated.values.items()]
    connection.execute(_SQL["remove_file"], {"rows": rows(found)})
    connection.execute(_SQL["put_file"], {"rows": rows(found), "at": to_us(stated.at)})
    return [None] * len(items)


SET_VARIABLE: Op[Variable, None] = Op(name="set_variable", rank=8, apply=_set)
"""Set a variable over the configuration's value, made or replaced at its ``updated``."""

UNSET_VARIABLE: Op[tuple[str, datetime], bool] = Op(name="unset_variable", rank=9, apply=_unset)
"""Take back what was set at runtime of (name, now); False: nothing was. The configuration's value holds again."""

STATE_VARIABLES: Op[Stated, None] = Op(name="state_variables", rank=5, apply=_state)
"""Take over what the configuration states; a value set at runtime goes where the configuration's has changed."""


def _variable(row: _Row) -> Variable:
    name, value, file_value, tags, created, updated = row
    return Variable(
        name=name,
        value=file_value if value is None else value,
        tags=tags or (),
        created=from_us(created),
        updated=from_us(updated),
        file_value=file_value,
        set_by_hand=value is not None,
    )


def all_of(connection: sqlite3.Connection) -> dict[str, Variable]:
    """Return the variables by name, with the values that hold."""
    return {row[0]: _variable(row) for row in _rows.decode(str(scalar(connection, _SQL["all"], {})))}


def get(connection: sqlite3.Connection, name: str) -> Variable | None:
    """Return the variable of that name, with the value that holds."""
    found = connection.execute(_SQL["one"], {"name": name}).fetchone()
    return None if found is None else _variable(_row.decode(found[0]))
