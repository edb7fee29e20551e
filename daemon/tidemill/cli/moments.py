"""Moments as people name them on the command line: ``1h`` ago, ``09:00``, ``yesterday``, ``2026-03-29 09:00``."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from tidemill.durations import parse_duration

FORMS = '"1h" or "90m" (ago), "09:00", "today", "yesterday", "2026-03-29", "2026-03-29 09:00" or RFC 3339'


def moment(text: str, now: datetime) -> datetime:
    """Return the aware instant that ``text`` names; what has no offset is the machine's local time.

    A duration is that long before ``now``. Raises ValueError with a sentence that says what would be right.
    """
    plain = text.strip()
    local = now.astimezone()
    if plain in ("now", "today", "yesterday"):
        if plain == "now":
            return now
        day = local.date() - timedelta(days=plain == "yesterday")
        return datetime.combine(day, time()).astimezone()
    if plain.endswith(" ago"):
        plain = plain.removesuffix(" ago").strip()
    if plain and plain[0].isdigit() and plain[-1].isalpha() and not plain.endswith("Z"):
        try:
            return now - parse_duration(plain)
        except ValueError as error:
            raise ValueError(f"{error}; a moment is {FORMS}") from None
    try:
        if ":" in plain and "-" not in plain:
            return datetime.combine(local.date(), time.fromisoformat(plain)).astimezone()
        return datetime.fromisoformat(plain).astimezone()
    except ValueError:
        raise ValueError(f'"{text}" is no moment; write {FORMS}') from None
