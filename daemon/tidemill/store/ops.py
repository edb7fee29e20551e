"""Ops: the kinds of change that the writer takes.

An op handles all of its items in one group with a fixed number of SQL statements, each with one JSON parameter:
every step of a statement lets go of the interpreter lock, and with one busy thread getting it back costs up to the
switch interval, so a statement for each row would make a thousand due runs seconds late.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from tidemill.clock import from_us, to_us

I = TypeVar("I")  # noqa: E741 - the item
R = TypeVar("R")


class Lane(enum.StrEnum):
    """Lines of run output wait behind states."""

    STATES = "states"
    LOGS = "logs"


class Op(msgspec.Struct, Generic[I, R], frozen=True, kw_only=True):
    """One kind of change. Within a group, ops of a lower ``rank`` are applied first; items keep their order.

    ``apply`` runs inside the group's transaction and returns one result an item. A result of False means that the item
    changed nothing (stale, or there already); its event is not published.
    """

    name: str
    rank: int
    apply: Callable[[sqlite3.Connection, Sequence[I]], Sequence[R]]
    lane: Lane = Lane.STATES
    item: str = "a change"  # what one is, in people's words


def rows(values: Sequence[object]) -> str:
    """Return rows as the one JSON parameter of a statement: SQL's JSON functions take text, not bytes."""
    return msgspec.json.encode(values).decode()


def whole(text: str) -> str:
    """Return text that SQL's JSON functions keep to its end: they take a NUL for it, and lose the rest."""
    return text.replace("\0", "\\x00")


def scalar(connection: sqlite3.Connection, statement: str, parameters: Mapping[str, object]) -> object:
    """Return the one value of a statement that answers one row."""
    return connection.execute(statement, parameters).fetchone()[0]


def microseconds(when: datetime | None) -> int | None:
    """Return an instant as a column keeps it."""
    return None if when is None else to_us(when)


def instant(us: int | None) -> datetime | None:
    """Return the instant that a column keeps."""
    return None if us is None else from_us(us)
