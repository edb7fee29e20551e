"""Runs that wait in front of a pool that is gone, and bringing them to another."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from tidemill.core.runs import FlowRun
from tidemill.store import references, runs
from tidemill.store.ops import Op, rows, scalar
from tidemill.store.statements import load

_SQL = load("stranded")
PIECE = 1_000


def elsewhere(connection: sqlite3.Connection, pools: Collection[str]) -> list[FlowRun]:
    """Return waiting runs in front of pools that are none of these, earliest first, at most 1,000."""
    seqs = scalar(connection, _SQL["elsewhere"], {"pools": rows(sorted(pools)), "limit": PIECE})
    return runs.documents(connection, str(seqs))


def _move(connection: sqlite3.Connection, items: Sequence[FlowRun]) -> list[None]:
    numbers = references.routes(connection, (references.route_of(run) for run in items))
    connection.execute(_SQL["move"], {"rows": rows([(run.seq, numbers[references.route_of(run)]) for run in items])})
    return [None] * len(items)


MOVE: Op[FlowRun, None] = Op(name="move", rank=12, apply=_move)
"""Let a run that waits wait in front of the pool and in the queue that it is given with."""
