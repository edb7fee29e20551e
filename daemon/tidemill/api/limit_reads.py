"""Reads of concurrency limits. What is taken of one only the daemon knows: while it is down, nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidemill.api import documents, lookup
from tidemill.api.ask import Ask
from tidemill.api.bodies import matches, query
from tidemill.api.documents import Document
from tidemill.errors import NotFoundError
from tidemill.store import catalogue

Live = Sequence[dict[str, Any]]  # Control.concurrency_limits()


def filter_limits(ask: Ask, live: Live = ()) -> list[Document]:
    """List concurrency limits by name."""
    asked = query(ask.body, "concurrency_limits", sorts=("NAME_ASC",))
    given = asked.concurrency_limits
    found = [each for each in _all(ask, live) if given is None or matches(given.name, each["name"])]
    return found[asked.offset : asked.offset + asked.most]


def limit(ask: Ask, live: Live = ()) -> Document:
    """Return one concurrency limit by its name or id."""
    text, found = ask.path["id"], _all(ask, live)
    for each in found:
        if text == each["id"] or lookup.alike(text) == lookup.alike(each["name"]):
            return each
    raise NotFoundError(lookup.not_found("concurrency limit", text, [each["name"] for each in found]))


def _all(ask: Ask, live: Live) -> list[Document]:
    now = {each["name"]: each for each in live}
    return [
        {
            "id": entry.id,
            "created": documents.instant(entry.created),
            "updated": documents.instant(entry.updated),
            "name": entry.value.name,
            "limit": entry.value.limit,
            "active": entry.value.active,
            "active_slots": now.get(entry.value.name, {}).get("active_slots", 0),
            "denied_slots": 0,
            "slot_decay_per_second": entry.value.slot_decay_per_second,
            "waiting": now.get(entry.value.name, {}).get("waiting", 0),
            "description": entry.value.description,
        }
        for entry in catalogue.concurrency_limits(ask.connection)
    ]
