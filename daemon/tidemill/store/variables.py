"""Variables: named JSON values that were set at runtime."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.store.history import stored_json
from tidemill.store.ops import Op, scalar
from tidemill.store.statements import load

_SQL = load("variables")


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A named JSON value. ``created`` is kept when it is set again."""

    name: str
    value: Any
    tags: tuple[str, ...] = ()
    created: datetime
    updated: datetime


_rows = msgspec.json.Decoder(list[tuple[str, Any, tuple[str, ...] | None, int, int]])


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


def _unset(connection: sqlite3.Connection, items: Sequence[str]) -> list[bool]:
    return [connection.execute(_SQL["unset"], {"name": name}).rowcount == 1 for name in items]


SET_VARIABLE: Op[Variable, None] = Op(name="set_variable", rank=8, apply=_set)
"""Set a variable, made or replaced at its ``updated``."""

UNSET_VARIABLE: Op[str, bool] = Op(name="unset_variable", rank=9, apply=_unset)
"""Remove a variable; False: there was none."""


def all_of(connection: sqlite3.Connection) -> dict[str, Variable]:
    """Return the variables by name."""
    found = _rows.decode(str(scalar(connection, _SQL["all"], {})))
    return {
        name: Variable(name=name, value=value, tags=tags or (), created=from_us(created), updated=from_us(updated))
        for name, value, tags, created, updated in found
    }
