"""Times as people say them: a day, a minute, an instant; and what a zone makes of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from tidemill.core import zones

_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(:([0-5]\d))?")
EXAMPLES = '"2026-03-29", "2026-03-29 02:30", "02:30", "yesterday" or "2026-03-29T00:30:00Z"'


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The stretch of time that somebody named; ``first`` and ``last`` are included, aware, in UTC.

    ``gap``: the local time that was named is skipped by the zone, for so long; ``first`` is the end of the gap then.
    ``second_pass``: the local time comes twice; the stretch as it comes the second time.
    """

    text: str
    first: datetime
    last: datetime
    wall: datetime | None = None  # naive, as it was named; None: with an offset
    is_day: bool = False
    gap: timedelta = timedelta(0)
    second_pass: tuple[datetime, datetime] | None = None


def read(text: str, info: ZoneInfo, now: datetime) -> Asked:
    """Return what a text means: a day, a minute, a second. Local times are those of ``info``.

    A time of day alone is its latest occurrence up to ``now``. Raises ValueError saying what would be right.
    """
    said = " ".join(text.split())
    today = now.astimezone(info).date()
    words = said.lower()
    if words == "now":
        return Asked(text=text, first=now, last=now)
    for word, day in (("today", today), ("yesterday", today - _DAY)):
        if words == word or words.startswith(f"{word} "):
            said = f"{day}{said[len(word) :]}"
    if _DATE.fullmatch(said):
        return _day(text, said, info)
    clock = _CLOCK.fullmatch(said)
    if clock:
        of_day = time(int(clock[1]), int(clock[2]), int(clock[4] or 0))
        wall = datetime.combine(today, of_day)
        if zones.read(wall, info).instant > now:
            wall -= _DAY
        return _local(text, wall, info, seconds=clock[3] is not None)
    try:
        when = datetime.fromisoformat(said.replace("z", "Z"))
    except ValueError:
        raise ValueError(f'"{text[:60]}" is no time; write for example {EXAMPLES}') from None
    seconds = said.count(":") - (1 if when.tzinfo is not None and re.search(r"[+-]\d\d:\d\d$", said) else 0) >= 2
    if when.tzinfo is None:
        return _local(text, when, info, seconds=seconds)
    first = when.astimezone(UTC)
    return Asked(text=text, first=first, last=_end(first, seconds=seconds))


def _day(text: str, said: str, info: ZoneInfo) -> Asked:
    try:
        wall = datetime.fromisoformat(said)
        first, after = zones.read(wall, info).instant, zones.read(wall + _DAY, info).instant
    except (ValueError, OverflowError):
        raise ValueError(f'"{said}" is not in the calendar') from None
    return Asked(text=text, first=first, last=after - _MICROSECOND, wall=wall, is_day=True)


def _local(text: str, wall: datetime, info: ZoneInfo, *, seconds: bool) -> Asked:
    reading = zones.read(wall, info)
    again = None
    if reading.repeat:
        second = reading.instant + reading.repeat
        again = second, _end(second, seconds=seconds)
    last = _end(reading.instant, seconds=seconds)
    return Asked(text=text, first=reading.instant, last=last, wall=wall, gap=reading.gap, second_pass=again)


def _end(first: datetime, *, seconds: bool) -> datetime:
    return first + timedelta(seconds=1 if seconds else 60) - _MICROSECOND
