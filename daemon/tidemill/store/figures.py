"""Figures: what the metrics ask of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidemill.clock import from_us
from tidemill.core.states import NAMES, TERMINAL
from tidemill.store import history, retention
from tidemill.store.ops import rows
from tidemill.store.statements import load

_SQL = load("figures")
# Names that only runs which have not ended go by, with their type.
_NAMED = {name: kind for kind, names in NAMES.items() if kind not in TERMINAL for name in names[1:]}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, and runs that have not ended by the name of their state."""

    unfinished: dict[str, int]
    used_bytes: int
    file_bytes: int
    wal_bytes: int


def figures(connection: sqlite3.Connection, path: Path) -> Figures:
    """Return what changes from scrape to scrape."""
    plain = {history.TYPE_OF[kind]: count for kind, count in connection.execute(_SQL["unfinished"])}
    unfinished = {names[0]: 0 for kind, names in NAMES.items() if kind not in TERMINAL}
    named = dict(connection.execute(_SQL["named"], {"names": rows(list(_NAMED))}).fetchall())
    for kind, count in plain.items():
        unfinished[history.PLAIN_NAME_OF[kind]] = count
    for name, count in named.items():
        unfinished[history.PLAIN_NAME_OF[_NAMED[name]]] -= count
        unfinished[name] = count
    return Figures(
        unfinished=unfinished,
        used_bytes=retention.size(connection),
        file_bytes=_size(path),
        wal_bytes=_size(path.with_name(f"{path.name}-wal")),
    )


def last_success(connection: sqlite3.Connection) -> Mapping[str, float]:
    """Return when each deployment last succeeded, as seconds since 1970. Looks back over the failures since."""
    found = connection.execute(_SQL["last_success"]).fetchall()
    return {deployment: from_us(us).timestamp() for deployment, us in found if us is not None}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
