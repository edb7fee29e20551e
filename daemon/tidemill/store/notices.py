"""What people are still to be told, and what is known of deployments that fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.notices import Waiting
from tidemill.core.runs import FlowRun
from tidemill.store import runs
from tidemill.store.ops import Op, rows
from tidemill.store.statements import load

_SQL = load("notices")
_waiting = msgspec.json.Decoder(Waiting)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What one moment brought: notices that wait from now on, incidents as they are now (a JSON document by subject;
    None: it is over), and up to when the ends of runs have been heard.
    """

    waiting: tuple[Waiting, ...] = ()
    incidents: tuple[tuple[str, str | None], ...] = ()
    heard: datetime | None = None


def _record(connection: sqlite3.Connection, items: Sequence[Record]) -> list[None]:
    waiting = [
        (each.id, each.channel, to_us(each.at), msgspec.json.encode(each).decode())
        for item in items
        for each in item.waiting
    ]
    if waiting:
        connection.execute(_SQL["add"], {"rows": rows(waiting)})
    incidents = {subject: document for item in items for subject, document in item.incidents}  # the last word holds
    if incidents:
        connection.execute(_SQL["put_incidents"], {"rows": rows(list(incidents.items()))})
        over = [subject for subject, document in incidents.items() if document is None]
        connection.execute(_SQL["end_incidents"], {"rows": rows(over)})
    heard = max((item.heard for item in items if item.heard is not None), default=None)
    if heard is not None:
        connection.execute(_SQL["hear"], {"at": to_us(heard)})
    return [None] * len(items)


def _delivered(connection: sqlite3.Connection, items: Sequence[str]) -> list[None]:
    connection.execute(_SQL["remove"], {"rows": rows(items)})
    return [None] * len(items)


RECORD: Op[Record, None] = Op(name="record_notices", rank=12, apply=_record, item="what is to be told by [notify]")
"""Keep what is to be told together with what it came from: after a crash neither is there without the other."""

DELIVERED: Op[str, None] = Op(name="notices_delivered", rank=13, apply=_delivered, item="that a notice was delivered")
"""Forget a notice by its id: it was delivered, or given up."""


def waiting(connection: sqlite3.Connection) -> list[Waiting]:
    """Return what is still to be told, oldest first."""
    return [_waiting.decode(document) for (document,) in connection.execute(_SQL["waiting"])]


def incidents(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the JSON documents of open incidents by subject."""
    return dict(connection.execute(_SQL["incidents"]))


def heard(connection: sqlite3.Connection) -> datetime | None:
    """Return up to when the ends of runs have been heard; None: nobody ever listened."""
    found = connection.execute(_SQL["heard"]).fetchone()
    return None if found is None else from_us(found[0])


def last_success(connection: sqlite3.Connection, deployment: str) -> datetime | None:
    """Return when a run of a deployment last ended COMPLETED, as far as is kept."""
    (found,) = connection.execute(_SQL["last_success"], {"deployment": deployment}).fetchone()
    return None if found is None else from_us(found)


def ended_since(connection: sqlite3.Connection, since: datetime, limit: int = 500) -> list[FlowRun]:
    """Return runs that ended after ``since``, FAILED, CRASHED or COMPLETED, in the order they ended."""
    (seqs,) = connection.execute(_SQL["ended_since"], {"since": to_us(since), "limit": limit}).fetchone()
    return runs.documents(connection, seqs)
