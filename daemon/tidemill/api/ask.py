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
    ids, listed = (None, None) if asked is None else (any_of(asked.id), any_of(asked.name))
    like = asked.name.like_ if asked is not None and asked.name is not None else None
    if asked is None or (ids is None and listed is None and like is None):
        return None
    if ids is None and like is None:
        return set(listed or ())  # named: nothing has to be looked through
    return {
        entry.value.name
        for entry in entries()
        if (ids is None or entry.id in ids) and matches(asked.name, entry.value.name)
    }


def flow_names(ask: Ask, asked: NamedFilter) -> set[str]:
    """Return the names of flows that a filter lets through."""
    ids, own = any_of(asked.id), ask.instance
    if ids is None and asked.name is not None and asked.name.like_ is None and asked.name.any_ is not None:
        return set(asked.name.any_)
    known = {entry.value.flow.name for entry in catalogue.deployments(ask.connection, gone=True)}
    return {
        name for name in known
        if (ids is None or documents.id_of(own, "flow", name) in ids) and matches(asked.name, name)
    }  # fmt: skip
