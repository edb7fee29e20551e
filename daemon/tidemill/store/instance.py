"""The instance: whose database this is, and when its daemon was last alive."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from tidemill.clock import from_us, to_us
from tidemill.store.ops import Op
from tidemill.store.statements import load

_SQL = load("instance")


def create(connection: sqlite3.Connection, instance_id: str, now: datetime) -> None:
    """Give a new database its instance id; one that has an id keeps it."""
    connection.execute(_SQL["create"], {"id": instance_id, "created": to_us(now)})


def id(connection: sqlite3.Connection) -> str:
    """Return the instance's UUID, made with the database. Ids of configured things derive from it."""
    text: str = connection.execute(_SQL["id"]).fetchone()[0]
    return text


def created(connection: sqlite3.Connection) -> datetime:
    """Return when the database was made."""
    return from_us(connection.execute(_SQL["created"]).fetchone()[0])


def last_alive(connection: sqlite3.Connection) -> datetime | None:
    """Return when a daemon last said that it lives; None: never."""
    us = connection.execute(_SQL["last_alive"]).fetchone()[0]
    return None if us is None else from_us(us)


def probe(connection: sqlite3.Connection) -> None:
    """Write without changing anything."""
    connection.execute(_SQL["probe"])


def _alive(connection: sqlite3.Connection, items: Sequence[datetime]) -> list[None]:
    connection.execute(_SQL["alive"], {"at": to_us(items[-1])})
    return [None] * len(items)


LAST_ALIVE: Op[datetime, None] = Op(name="last_alive", rank=60, apply=_alive, item="that the daemon is alive")
"""Record that the daemon lives. The last one said is kept, also where the clock was set back."""
