"""Schedules: what they say, and when they fire next. (Under construction: see the contract.)"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import msgspec


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a deployment runs: exactly one of ``cron``, ``interval``, ``rrule`` and ``at`` is set."""

    cron: str | None = None
    interval: timedelta | None = None
    rrule: str | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    anchor: datetime | None = None  # interval only: fires are anchor + n * interval
    start: datetime | None = None
    end: datetime | None = None
    jitter: timedelta = timedelta(0)
    exclude: tuple[date, ...] = ()
    name: str | None = None
    active: bool = True
