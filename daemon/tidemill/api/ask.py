"""What a read is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from tidemill.api import documents
from tidemill.api.bodies import NamedFilter, any_of, matches
from tidemill.store import catalogue, instance
from tidemill.store.catalogue import Entry


class Ask(msgspec.Struct, frozen=True):
    """What a read is given: a read-only connection, the time, and the parts of the request."""

    connection: sqlite3.Connection
    now: datetime
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any

    @property
    def instance(self) -> str:
        return instance.id(self.connection)


Read = Callable[[Ask], Any]


def names_of(asked: NamedFilter | None, entries: Callable[[], Iterable[Entry[Any]]]) -> set[str] | None:
    """Return the names that a filter lets through; None: no filter."""
    if asked is None or (any_of(asked.id) is None and asked.name is None):
        return None
    ids = any_of(asked.id)
    return {
        entry.value.name
        for entry in entries()
        if (ids is None or entry.id in ids) and matches(asked.name, entry.value.name)
    }


def flow_names(ask: Ask, asked: NamedFilter) -> set[str]:
    """Return the names of flows that a filter lets through."""
    ids, own = any_of(asked.id), ask.instance
    known = {entry.value.flow.name for entry in catalogue.deployments(ask.connection, gone=True)}
    return {
        name for name in known
        if (ids is None or documents.id_of(own, "flow", name) in ids) and matches(asked.name, name)
    }  # fmt: skip
