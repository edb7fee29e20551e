"""Reads of backfills: how far they are, and what became of their runs."""

from __future__ import annotations

from tidemill.api import lookup
from tidemill.api.ask import Ask
from tidemill.api.documents import Document, instant
from tidemill.core.backfills import Backfill
from tidemill.core.filters import RunFilter
from tidemill.core.states import TERMINAL
from tidemill.errors import NotFoundError
from tidemill.store import backfills, listing


def list_backfills(ask: Ask) -> list[Document]:
    """List backfills: those under way, then those that ended, newest first."""
    text = ask.query.get("deployment")
    name = lookup.deployment(ask.connection, text).value.name if text is not None else None
    return [document(each, ask=ask) for each in backfills.backfills(ask.connection, deployment=name)]


def backfill(ask: Ask) -> Document:
    """Return one backfill by its id, the end of it, or the tag that its runs carry."""
    text = ask.path["id"]
    for each in backfills.backfills(ask.connection):
        if text in (each.id, each.id[-8:], each.tag):
            return document(each, ask=ask)
    raise NotFoundError(f'no backfill has the id "{text}"; `tidemill deployment backfill NAME` lists those of one')


def document(value: Backfill, *, ask: Ask | None = None, running: int = 0) -> Document:
    """Return a backfill, with what became of its runs where there is a database to look into."""
    ended: dict[str, int] = {}
    if ask is not None:
        counts = listing.count_by_state(ask.connection, RunFilter(tags=(value.tag,)))
        running = sum(count for (kind, _), count in counts.items() if kind not in TERMINAL)
        ended = {name: count for (kind, name), count in sorted(counts.items()) if kind in TERMINAL}
    return {
        "id": value.id,
        "deployment": value.deployment,
        "first": instant(value.first),
        "last": instant(value.last),
        "at_a_time": value.at_a_time,
        "again": value.again,
        "parameters": value.parameters,
        "tag": value.tag,
        "total": value.total,
        "made": value.made,
        "passed_over": value.passed_over,
        "left": max(0, value.total - value.made - value.passed_over) if value.outcome != "completed" else 0,
        "running": running,
        "ended_runs": ended,
        "cursor": instant(value.cursor),
        "created": instant(value.created),
        "by": value.by,
        "ended": instant(value.ended),
        "outcome": value.outcome,
    }
