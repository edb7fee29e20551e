"""Backfills: runs for fires of a deployment's schedules that lie in the past, made by hand and a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidemill.clock import to_us
from tidemill.core.schedules import CompiledSchedule, identity

MOST = 10_000  # fires of one backfill
CREATED_BY = "backfill"


class Backfill(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked for: the fires due from ``first`` to ``last``, both included.

    ``cursor`` is the due time of the last fire that was dealt with; None: none was yet.
    """

    id: str
    deployment: str
    first: datetime
    last: datetime
    at_a_time: int = 1
    again: bool = False  # fires that have a completed run, too
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    total: int  # fires in all
    cursor: datetime | None = None
    passed_over: int = 0  # fires that had a run already
    made: int = 0
    created: datetime
    by: str = "api"
    ended: datetime | None = None
    outcome: str | None = None  # completed, cancelled, or why it could not go on

    @property
    def tag(self) -> str:
        """The tag that its runs carry."""
        return f"backfill:{self.id[-8:]}"


def key(deployment: str, schedule: str, due: datetime, number: int) -> str:
    """Return the idempotency key of a backfill's run: never that of a schedule's own run of the same fire."""
    return f"{prefix(deployment, schedule, due)}{number}"


def prefix(deployment: str, schedule: str, due: datetime) -> str:
    """Return how the keys of all runs begin that backfills made for one fire."""
    return f"{CREATED_BY}:{deployment}:{schedule}:{to_us(due)}:"


def next_fires(
    compiled: Sequence[CompiledSchedule], after: datetime, last: datetime
) -> tuple[datetime, list[str]] | None:
    """Return the first due time later than ``after`` up to ``last``, and the identities of what fires then."""
    found: dict[datetime, list[str]] = {}
    for each in compiled:
        if each.schedule.active and (due := each.next_after(after)) is not None and due <= last:
            found.setdefault(due, []).append(identity(each.schedule))
    if not found:
        return None
    due = min(found)
    return due, found[due]
