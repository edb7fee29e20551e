"""Instants and spans as people read them: local time with its offset, rounded spans.

What is told of one deployment or of a run of it is told in the deployment's zone, as its schedules are written; all
else in the machine's.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from tidemill import durations
from tidemill.clock import instant


def parse(text: str) -> datetime:
    """Return the aware instant of RFC 3339 text. Raises ValueError where it is not that or has no offset."""
    return instant(text)


def zone(name: str | None) -> tzinfo | None:
    """Return the zone of that name; None, which stands for the machine's, for none or one that is not known here."""
    try:
        return None if name is None else ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return None


def local(text: str | None, zone: tzinfo | None = None, *, seconds: bool = True) -> str:
    """Return an instant in a zone (None: the machine's): ``2026-11-21 09:00:03 +0200``; "" for none."""
    if text is None:
        return ""
    return parse(text).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %z" if seconds else "%Y-%m-%d %H:%M %z")


def short(text: str | None, now: datetime) -> str:
    """Return an instant for a table: the time alone for one of today, else the date with it."""
    if text is None:
        return ""
    when = parse(text).astimezone()
    same_day = when.date() == now.astimezone().date()
    return when.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M")


def span(seconds: float | None) -> str:
    """Return a duration rounded for reading: ``3m05s``; "" for none."""
    return "" if seconds is None else durations.span(seconds)


def ago(text: str | None, now: datetime) -> str:
    """Return how far an instant is from now, in whole seconds or more: ``3m05s ago``, ``in 12s``, ``now``."""
    if text is None:
        return ""
    seconds = round((now - parse(text)).total_seconds())
    if seconds == 0:
        return "now"
    far = span(abs(seconds)) if abs(seconds) >= 10 else f"{abs(seconds)}s"
    return f"{far} ago" if seconds > 0 else f"in {far}"


def run_time(run: dict[str, Any]) -> str:
    """Return how long a run's attempts took, or have taken so far."""
    return span(run["estimated_run_time"]) if run["start_time"] else ""
