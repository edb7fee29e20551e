"""Local time: which instant a wall time means, and when a rule of wall times fires next in a zone.

A rule of wall times is a function ``step(wall) -> wall``: the next matching naive local time strictly later than the
one given, or None. It knows nothing of zones. Here the two readings of it are turned into instants, by Debian's rules
for cron (cron(8), "Daylight Saving Time and other time changes"):

* *fixed times* ("at 02:30"): once per wall time. A repeated wall time counts in its first pass; one that a gap of up
  to three hours skips counts at the first instant after the gap; a longer gap (a zone that skips a day) swallows it.
* *every matching minute* ("each quarter of an hour"): at every real instant whose wall time matches.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from tidemill.core.refusals import ScheduleError
from tidemill.durations import format_duration

Step = Callable[[datetime], datetime | None]

LONGEST_CAUGHT_GAP = timedelta(hours=3)
_ZERO = timedelta(0)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)


def zone(key: str) -> ZoneInfo:
    """Return the zone of that name in the IANA database; raises ``ScheduleError``, with near names."""
    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError):
        near = _near_zones(key)
        remedy = f"did you mean {near}?" if near else 'write it as in "Europe/Helsinki" or "UTC"'
        raise ScheduleError("timezone", f'"{key[:64]}" is not a time zone', remedy) from None


def _near_zones(key: str) -> str:
    import difflib
    import zoneinfo

    names = {name.lower(): name for name in zoneinfo.available_timezones()}
    wanted = key[:64].strip().lower().replace(" ", "_")
    if wanted in names:
        return f'"{names[wanted]}"'
    cities = sorted(name for low, name in names.items() if low.rpartition("/")[2] == wanted)
    found = cities or [names[low] for low in difflib.get_close_matches(wanted, names, n=2, cutoff=0.75)]
    return " or ".join(f'"{name}"' for name in found[:2])


class Reading(msgspec.Struct, frozen=True):
    """What a wall time means. ``gap`` is how long the gap is that skips it, ``repeat`` how long it is repeated for.

    ``instant`` is the first pass of a repeated time and the first instant after the gap for a skipped one.
    """

    instant: datetime
    gap: timedelta = _ZERO
    repeat: timedelta = _ZERO


def read(wall: datetime, info: ZoneInfo) -> Reading:
    """Say which instant the naive local time ``wall`` means in a zone."""
    aware = wall.replace(tzinfo=info, fold=0)
    before = aware.utcoffset() or _ZERO
    after = aware.replace(fold=1).utcoffset() or _ZERO
    instant = wall.replace(tzinfo=UTC, fold=0) - before
    if before == after:
        return Reading(instant)
    if before > after:
        return Reading(instant, repeat=before - after)
    return Reading(_change(instant - (after - before), instant, info), gap=after - before)


def _change(before: datetime, after: datetime, info: ZoneInfo) -> datetime:
    """Return the first instant of the new offset, given one instant on either side of a single change."""
    # Changes fall on whole seconds, so both sides stay on theirs.
    low, high = before.replace(microsecond=0), after.replace(microsecond=0)
    old = low.astimezone(info).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle -= timedelta(microseconds=middle.microsecond)
        if middle.astimezone(info).utcoffset() == old:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=4096)
def _changes_in(info: ZoneInfo, year: int) -> tuple[datetime, ...]:
    """Return the instants in a UTC year at which the zone's offset changes.

    Looked for a day at a time: no zone of the database has two changes within two days since standard time began.
    """
    found = []
    here = datetime(year, 1, 1, tzinfo=UTC)
    offset = here.astimezone(info).utcoffset()
    if year > 1 and (here - _SECOND).astimezone(info).utcoffset() != offset:
        found.append(here)
    while here.year == year:
        there = here + _DAY
        there_offset = there.astimezone(info).utcoffset()
        if there_offset != offset:
            at = _change(here, there, info)
            if at.year == year:
                found.append(at)
        here, offset = there, there_offset
    return tuple(found)


def next_change(after: datetime, until: datetime, info: ZoneInfo) -> datetime | None:
    """Return the first change of the zone's offset in ``(after, until]``, UTC; None where there is none."""
    if info.utcoffset(None) is not None:  # a zone of one offset
        return None
    for year in range(after.year, until.year + 1):
        for change in _changes_in(info, year):
            if change > after:
                return change if change <= until else None
    return None


def next_fixed(step: Step, after: datetime, info: ZoneInfo) -> datetime | None:
    """Return the first fire of fixed times strictly later than ``after``."""
    wall = after.astimezone(info).replace(tzinfo=None, fold=0)
    while True:
        found = step(wall)
        if found is None:
            return None
        wall = found
        reading = read(wall, info)
        # In the second pass of a repeated hour the wall times still to come have fired in the first.
        if reading.instant > after and reading.gap <= LONGEST_CAUGHT_GAP:
            return reading.instant


def next_matching(step: Step, after: datetime, info: ZoneInfo) -> datetime | None:
    """Return the first instant strictly later than ``after`` whose wall time matches."""
    here = after
    aware = here.astimezone(info)
    offset = aware.utcoffset() or _ZERO
    wall = aware.replace(tzinfo=None, fold=0)
    found = step(wall)
    while found is not None:
        fire = found.replace(tzinfo=UTC) - offset
        change = next_change(here, fire, info)
        if change is None:
            return fire
        # The wall jumps before that: look on from there, unless what was found still lies ahead.
        here = change
        aware = here.astimezone(info)
        offset = aware.utcoffset() or _ZERO
        resumed = aware.replace(tzinfo=None, fold=0) - _MICROSECOND
        if resumed < wall or found <= resumed:
            found = step(resumed)
        wall = resumed
    return None


def tell_pass(fire: datetime, info: ZoneInfo) -> str | None:
    """Say which pass of a repeated wall time a fire falls into; None where its wall time is there once."""
    aware = fire.astimezone(info)
    repeat = read(aware.replace(tzinfo=None, fold=0), info).repeat
    if not repeat:
        return None
    what = "hour" if repeat == timedelta(hours=1) else format_duration(repeat)
    return f"repeated {what}: {'second' if aware.fold else 'first'} pass"


def tell_gaps(step: Step, previous: datetime, fire: datetime, info: ZoneInfo, *, fixed: bool) -> str | None:
    """Say which wall times in ``(previous, fire]`` a gap skipped, and what became of them; None where none was."""
    moved: list[datetime] = []
    lost: list[datetime] = []
    here = previous
    while (change := next_change(here, fire, info)) is not None:
        here = change
        end = change.astimezone(info).replace(tzinfo=None, fold=0)
        begin = (change - _SECOND).astimezone(info).replace(tzinfo=None, fold=0) + _SECOND
        skipped = []
        wall = step(begin - _MICROSECOND)
        while wall is not None and wall < end:
            skipped.append(wall)
            wall = step(wall)
        if fixed and end - begin <= LONGEST_CAUGHT_GAP:
            moved += skipped if change == fire else []
        else:
            lost += skipped
    if lost:
        return f"{_walls(lost)} left out: the clocks skip {'it' if len(lost) == 1 else 'them'}"
    return missing_note(moved) if moved else None


def missing_note(walls: list[datetime]) -> str:
    """Say that wall times do not exist and are run after the gap."""
    verb = "does" if len(walls) == 1 else "do"
    return f"{_walls(walls, dates=False)} {verb} not exist that day: first instant after the gap"


def _walls(walls: list[datetime], *, dates: bool = True) -> str:
    if len(walls) > 3:
        return f"{len(walls)} times from {_walls(walls[:1], dates=dates)} to {_walls(walls[-1:], dates=dates)}"
    return ", ".join(f"{wall:%Y-%m-%d %H:%M}" if dates else f"{wall:%H:%M}" for wall in walls)
