"""The task cache: results of tasks, found again by a key that the task's code made."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tidemill.clock import to_us
from tidemill.store.ops import Op, microseconds, rows, scalar
from tidemill.store.statements import load

_SQL = load("task_cache")
_numbers = msgspec.json.Decoder(list[int])


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """A result under its key. ``text`` is its canonical JSON; ``expires`` None: never."""

    key: str
    text: str
    created: datetime
    expires: datetime | None = None


def _put(connection: sqlite3.Connection, items: Sequence[Cached]) -> list[None]:
    newest = {item.key: item for item in items}
    found = [(item.key, item.text, to_us(item.created), microseconds(item.expires)) for item in newest.values()]
    connection.execute(_SQL["put"], {"rows": rows(found)})
    return [None] * len(items)


CACHE: Op[Cached, None] = Op(name="cache", rank=35, apply=_put)
"""Keep a task's result; an earlier one of its key is replaced. After the task runs: it is theirs that are told."""


def get(connection: sqlite3.Connection, key: str, now: datetime) -> str | None:
    """Return the canonical JSON text kept under ``key``; None: nothing is, or it has expired by ``now``."""
    found = connection.execute(_SQL["get"], {"key": key, "now": to_us(now)}).fetchone()
    return None if found is None else str(found[0])


def obsolete(connection: sqlite3.Connection, *, now: datetime, before: datetime | None, limit: int) -> tuple[int, ...]:
    """Return the numbers of results that have expired by ``now`` or were made before ``before``; at most ``limit``."""
    parameters = {"now": to_us(now), "before": microseconds(before), "limit": limit}
    return tuple(_numbers.decode(str(scalar(connection, _SQL["obsolete"], parameters))))


def delete(connection: sqlite3.Connection, numbers: Sequence[int]) -> int:
    """Delete results; return how many there were."""
    return connection.execute(_SQL["delete"], {"numbers": rows(numbers)}).rowcount
