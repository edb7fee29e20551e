"""Planning: the runs that schedules made ahead of time, and taking them back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.events import RunDeleted
from tidemill.core.runs import FlowRun
from tidemill.store import runs, schedules
from tidemill.store.ops import Op, rows, scalar
from tidemill.store.statements import load

_SQL = load("planning")
Key = tuple[str, str]  # deployment, schedule identity
Retired = tuple[str, str, bool]  # the same, and whether the schedule is still in force


class Replan(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration's schedules in place of another's, from ``at`` on."""

    retired: tuple[Retired, ...]  # those that changed, that are new, and that are gone
    plan: schedules.Plan  # their next runs, all due later than ``at``
    at: datetime


_planned = msgspec.json.Decoder(list[tuple[str, str, int]])
_digests = msgspec.json.Decoder(list[tuple[str, str, str]])
_upcoming = msgspec.json.Decoder(list[tuple[int, str, str]])
_had = msgspec.json.Decoder(list[tuple[str, int]])


def planned_as(connection: sqlite3.Connection) -> dict[Key, str]:
    """Return the digest of what each schedule's upcoming runs were planned as."""
    text = str(scalar(connection, _SQL["planned_as"], {}))
    return {(deployment, identity): digest for deployment, identity, digest in _digests.decode(text)}


def planned_ahead(connection: sqlite3.Connection, now: datetime) -> list[tuple[str, str, datetime]]:
    """Return (deployment, schedule, due) of never-started runs that schedules made for after ``now``, in order."""
    found = _planned.decode(str(scalar(connection, _SQL["planned_ahead"], {"now": to_us(now)})))
    return [(deployment, identity, from_us(due)) for deployment, identity, due in found]


def planned_between(connection: sqlite3.Connection, after: datetime, until: datetime) -> list[FlowRun]:
    """Return never-started runs that schedules made and that were to start in (after, until]."""
    seqs = scalar(connection, _SQL["planned_between"], {"after": to_us(after), "until": to_us(until)})
    return runs.documents(connection, str(seqs))


def _unplan(
    connection: sqlite3.Connection, items: Sequence[tuple[Sequence[Retired], datetime]]
) -> list[list[RunDeleted]]:
    return [_take_back(connection, {"keys": rows(keys), "now": to_us(now)}) for keys, now in items]


def _take_back(connection: sqlite3.Connection, parameters: dict[str, object]) -> list[RunDeleted]:
    found = _upcoming.decode(str(scalar(connection, _SQL["upcoming"], parameters)))
    runs.delete(connection, [seq for seq, _, _ in found])
    connection.execute(_SQL["rewind"], parameters)
    return [RunDeleted(run_id, seq, deployment) for seq, run_id, deployment in found]


def _replan(connection: sqlite3.Connection, items: Sequence[Replan]) -> list[tuple[list[RunDeleted], tuple[int, ...]]]:
    results = []
    for item in items:
        parameters: dict[str, object] = {"keys": rows(item.retired), "now": to_us(item.at)}
        gone = _take_back(connection, parameters)
        # A fire that came between the decision and now has begun, or a person has decided on it: what was its
        # schedule has had that instant, and what is its schedule now does not get it once more.
        had = {
            (deployment, from_us(due))
            for deployment, due in _had.decode(str(scalar(connection, _SQL["had"], parameters)))
        }
        wanted = tuple(run for run in item.plan.runs if (run.deployment, run.due) not in had) if had else item.plan.runs
        (made,) = schedules.PLAN.apply(connection, [msgspec.structs.replace(item.plan, runs=wanted)])
        results.append((gone, made))
    return results


UNPLAN: Op[tuple[Sequence[Retired], datetime], list[RunDeleted]] = Op(name="unplan", rank=9, apply=_unplan)
"""Take back what these schedules planned for after an instant, cursors too; returns the runs deleted, as events.

One that is no longer in force loses its digest, too: should it come back, it starts anew.
"""

REPLAN: Op[Replan, tuple[list[RunDeleted], tuple[int, ...]]] = Op(name="replan", rank=9, apply=_replan)
"""Take back what schedules planned and plan what is in force instead, in one transaction.

Returns the runs deleted, as events, and the row numbers of the runs really made.
"""
