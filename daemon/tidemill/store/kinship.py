"""Runs that a cancelled run asked for and that have not ended."""

from __future__ import annotations

import sqlite3

import msgspec

from tidemill.core.runs import FlowRun
from tidemill.store import runs
from tidemill.store.ops import scalar
from tidemill.store.statements import load

_SQL = load("kinship")
PIECE = 1_000

_ids = msgspec.json.Decoder(list[str])


def left_of(connection: sqlite3.Connection, run_id: str) -> list[FlowRun]:
    """Return the unfinished runs that a run asked for, oldest first, at most 1,000; none while it is not cancelled."""
    return runs.documents(connection, str(scalar(connection, _SQL["left_of"], {"id": run_id, "limit": PIECE})))


def cancelled(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of cancelled runs some of whose runs may not have ended, oldest first."""
    return _ids.decode(str(scalar(connection, _SQL["cancelled"], {})))
