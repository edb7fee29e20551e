"""Recurrence rules (RFC 5545's RRULE) on naive local time.

dateutil expands them, from a start moved close to the time asked about: its own way is to walk from DTSTART each time
(prefect issue 18861, a core eaten by forty deployments). What was expanded is kept until it is used up.
"""

# ruff: noqa: DTZ001, DTZ901, RUF001 - naive local times are the matter here, and ranges are written with dashes

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import msgspec

from tidemill.core import zones
from tidemill.core.refusals import ScheduleError

LONGEST = 500  # characters
MOST_COUNT = 10_000
MOST_INTERVAL = 100_000
MOST_IN_A_PERIOD = 12_000  # expanded at once, however few are wanted

# Rules without DTSTART count from here: a Monday, so that weeks begin as people's do.
DEFAULT_START = datetime(2024, 1, 1)

_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY")  # dateutil's numbers 0 to 5
_YEARLY, _MONTHLY, _WEEKLY, _DAILY, _HOURLY, _MINUTELY = range(6)
_DAYS_IN_PERIOD = (366, 31, 7, 1, 1, 1)
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_LISTS = {  # part: (dateutil's name, largest, whether 0 and whether negatives are allowed)
    "BYMONTH": ("bymonth", 12, False, False),
    "BYMONTHDAY": ("bymonthday", 31, False, True),
    "BYYEARDAY": ("byyearday", 366, False, True),
    "BYWEEKNO": ("byweekno", 53, False, True),
    "BYHOUR": ("byhour", 23, True, False),
    "BYMINUTE": ("byminute", 59, True, False),
    "BYSECOND": ("bysecond", 59, True, False),
    "BYSETPOS": ("bysetpos", 366, False, True),
}
_DAY_FILTERS = ("byweekno", "byyearday", "bymonthday", "byweekday")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WEEKDAY = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_STAMP = re.compile(r"([0-9]{8})(T[0-9]{6}(Z?))?")
_YEAR = timedelta(days=366)
_MICROSECOND = timedelta(microseconds=1)
_CYCLE_YEARS = 400  # the calendar repeats itself, weekdays and all


class Recurrence:
    """A rule and the stretch of it that was expanded last. ``until`` is the last instant, included; None: for ever."""

    __slots__ = ("_by", "_frequency", "_interval", "_last", "_make", "_seen", "_start", "_week_start", "ever", "until")

    def __init__(
        self, *, frequency: int, interval: int, week_start: int, start: datetime, by: dict[str, Any], count: int | None
    ) -> None:
        from dateutil.rrule import rrule

        self._make: Callable[..., Any] = rrule
        self._frequency = frequency
        self._interval = interval
        self._week_start = week_start
        self._start = start
        self._by = by
        self._last: datetime | None = None
        self.until: datetime | None = None
        # (from, the matching times after it in order, whether the rule has none after those)
        self._seen: tuple[datetime, tuple[datetime, ...], bool] = (datetime.max, (), False)
        matches = self._expand(start - _MICROSECOND)
        first = next(matches, None)
        self.ever = first is not None  # whether there is any matching time
        if count is not None and first is not None and self.fixed:
            self._last = (first, *islice(matches, count - 1))[-1]

    @property
    def fixed(self) -> bool:
        """Whether it names times of day; hourly and minutely rules fire at every real matching time instead."""
        return self._frequency < _HOURLY

    def after(self, wall: datetime) -> datetime | None:
        """Return the first matching local time strictly later than ``wall``, both naive."""
        wall = max(wall, self._start - _MICROSECOND)
        low, times, ended = self._seen
        if not (low <= wall and (ended or (times and wall < times[-1]))):
            low, times, ended = self._seen = self._stretch(wall)
        place = bisect_right(times, wall)
        found = times[place] if place < len(times) else None
        return None if found is None or (self._last is not None and found > self._last) else found

    def _stretch(self, wall: datetime) -> tuple[datetime, tuple[datetime, ...], bool]:
        times: list[datetime] = []
        for time in self._expand(wall):
            times.append(time)
            # A year ahead is far enough: the walk to the next date of a rare rule is the expensive part.
            if len(times) >= 16 or time - wall > _YEAR:
                return wall, tuple(times), False
        return wall, tuple(times), True

    def _expand(self, wall: datetime) -> Iterator[datetime]:
        """Give the matching times later than ``wall`` (at or after the start), in order.

        dateutil stops at year 9999 only, also for a rule that never matches. Moved by whole cycles of the calendar, the
        walk begins a few hundred years before that and so is bounded.
        """
        period = self._period(wall)
        cycles = (9899 - period.year) // _CYCLE_YEARS * _CYCLE_YEARS
        rule = self._make(
            self._frequency,
            dtstart=period.replace(year=period.year + cycles),
            interval=self._interval,
            wkst=self._week_start,
            **self._by,
        )
        for time in rule:
            real = time.replace(year=time.year - cycles)
            if real > wall:
                yield real

    def _period(self, wall: datetime) -> datetime:
        """Return the beginning of the rule's last period (year, month, week, day, hour, minute) not after ``wall``."""
        start, interval = self._start, self._interval
        midnight = start.replace(hour=0, minute=0, second=0)
        if self._frequency == _YEARLY:
            return datetime(start.year + (wall.year - start.year) // interval * interval, 1, 1)
        if self._frequency == _MONTHLY:
            month = start.year * 12 + start.month - 1
            month += (wall.year * 12 + wall.month - 1 - month) // interval * interval
            return datetime(month // 12, month % 12 + 1, 1)
        if self._frequency == _WEEKLY:
            origin = midnight - timedelta(days=(start.weekday() - self._week_start) % 7)
            length = timedelta(weeks=interval)
        elif self._frequency == _DAILY:
            origin, length = midnight, timedelta(days=interval)
        elif self._frequency == _HOURLY:
            origin, length = start.replace(minute=0, second=0), timedelta(hours=interval)
        else:
            origin, length = start.replace(second=0), timedelta(minutes=interval)
        return origin + (wall - origin) // length * length


class _Parts(msgspec.Struct):
    frequency: int = -1
    interval: int = 1
    week_start: int = 0
    count: int | None = None
    until: str | None = None
    by: dict[str, Any] = msgspec.field(default_factory=dict)


def parse(text: str, info: ZoneInfo) -> Recurrence:
    """Return the rule; raises ``ScheduleError`` that names the part at fault.

    ``text`` is ``FREQ=…;…``, with or without ``RRULE:`` and a ``DTSTART:…`` line before it. DTSTART and UNTIL are local
    times of the zone unless they end in Z; both are included. Without DTSTART, periods and the time of day count from
    Monday, 1 January 2024, 00:00.
    """
    if len(text) > LONGEST:
        _refuse(text[:40] + "…", f"{len(text)} characters are more than {LONGEST}", "split it into several schedules")
    start, rule = _lines(text, info)
    parts = _parts(rule, text)
    if parts.count is not None and start is None:
        _refuse(text, "COUNT needs a DTSTART to count from", 'put "DTSTART:20260101T090000" on a line before it')
    if parts.count is not None and parts.until is not None:
        _refuse(text, "COUNT and UNTIL exclude each other", "keep one of them")
    begin = start or DEFAULT_START
    _complete(parts, begin)
    _check(parts, text)
    try:
        recurrence = Recurrence(
            frequency=parts.frequency,
            interval=parts.interval,
            week_start=parts.week_start,
            start=begin,
            by=parts.by,
            count=parts.count,
        )
    except ValueError:  # dateutil: INTERVAL and BYHOUR, or BYMINUTE, never meet
        recurrence = None
    if recurrence is None or not recurrence.ever:
        _refuse(text, "no date matches it", "it would never fire")
    if parts.until is not None:
        recurrence.until = _until(parts.until, info, text)
    elif parts.count is not None and not recurrence.fixed:
        recurrence.until = _last_of(recurrence, parts.count, zones.read(begin, info).instant, info)
    return recurrence


def _last_of(recurrence: Recurrence, count: int, start: datetime, info: ZoneInfo) -> datetime:
    """Return the instant of the last of ``count`` fires of an hourly or minutely rule.

    Its wall times can fire twice or not at all, so they are no measure.
    """
    fire = start - _MICROSECOND
    for _ in range(count):
        fire = zones.next_matching(recurrence.after, fire, info) or fire
    return fire


def _lines(text: str, info: ZoneInfo) -> tuple[datetime | None, str]:
    start: datetime | None = None
    rules: list[str] = []
    for line in text.split():
        name, colon, value = line.partition(":")
        name = name.upper() if colon else "RRULE"
        kind, _, zone = name.partition(";")
        if kind == "DTSTART":
            if start is not None:
                _refuse(text, "there are two DTSTART lines", "keep one of them")
            if zone and (not zone.startswith("TZID=") or zone[5:] != info.key.upper()):
                _refuse(text, f"DTSTART has {line.partition(':')[0][8:]}", "give the zone once, as timezone")
            start = _stamp("DTSTART", value, info, text)
        elif kind == "RRULE":
            rules.append(value if colon else line)
        elif kind in ("EXDATE", "EXRULE"):
            _refuse(text, f"{kind} is not read here", 'use exclude = ["2026-12-25"]')
        elif kind == "RDATE":
            _refuse(text, "RDATE is not read here", "add a schedule with at = … for each further date")
        else:
            _refuse(text, f"{kind[:20]} is not known", 'write it as "FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=9"')
    if not rules:
        _refuse(text, "there is no rule", 'write it as "FREQ=DAILY;BYHOUR=9"')
    if len(rules) != 1:
        _refuse(text, f"there are {len(rules)} rules instead of one", "make one schedule for each rule")
    return start, rules[0]


def _parts(rule: str, text: str) -> _Parts:
    parts = _Parts()
    given: set[str] = set()
    for part in rule.upper().strip(";").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            _refuse(text, f'"{part}" is not NAME=VALUE', 'write it as "FREQ=DAILY;BYHOUR=9"')
        if name in given:
            _refuse(text, f"{name} is given twice", "keep one of them")
        given.add(name)
        if name == "FREQ":
            parts.frequency = _frequency(value, text)
        elif name == "INTERVAL":
            parts.interval = _whole(name, value, MOST_INTERVAL, text)
        elif name == "COUNT":
            parts.count = _whole(name, value, MOST_COUNT, text)
        elif name == "UNTIL":
            parts.until = value
        elif name == "WKST":
            if value not in _WEEKDAYS:
                _refuse(text, f"WKST {value} is not a weekday", "weekdays are " + ", ".join(_WEEKDAYS))
            parts.week_start = _WEEKDAYS.index(value)
        elif name in ("BYDAY", "BYWEEKDAY"):
            parts.by["byweekday"] = _weekdays(value, text)
        elif name in _LISTS:
            parts.by[_LISTS[name][0]] = _numbers(name, value, text)
        elif name == "DTSTART":
            _refuse(text, "DTSTART is not a part of a rule", 'put "DTSTART:20260101T090000" on a line before it')
        else:
            _refuse(
                text,
                f"{name[:20]} is not a part of a rule",
                "parts are FREQ, INTERVAL, COUNT, UNTIL, WKST, BYDAY, " + ", ".join(_LISTS),
            )
    if parts.frequency < 0:
        _refuse(text, "FREQ is missing", "it is one of " + ", ".join(_FREQUENCIES))
    nth = any(n for _, n in parts.by.get("byweekday", ()))
    if nth and parts.frequency > _MONTHLY:
        _refuse(text, "a numbered weekday needs months or years", "use FREQ=MONTHLY or FREQ=YEARLY, or plain weekdays")
    if "byweekno" in parts.by and parts.frequency != _YEARLY:
        _refuse(text, "BYWEEKNO needs years", "use FREQ=YEARLY")
    return parts


def _frequency(value: str, text: str) -> int:
    if value == "SECONDLY":
        _refuse(text, "SECONDLY is finer than a rule can be", 'use interval = "1s"')
    if value not in _FREQUENCIES:
        _refuse(text, f"FREQ {value[:20]} is not known", "it is one of " + ", ".join(_FREQUENCIES))
    return _FREQUENCIES.index(value)


def _whole(name: str, value: str, most: int, text: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= most):
        _refuse(text, f"{name} {value[:20]} is not in 1–{most}")
    return int(value)


def _numbers(name: str, value: str, text: str) -> tuple[int, ...]:
    _, most, zero, negative = _LISTS[name]
    numbers = set()
    for word in value.split(","):
        if not re.fullmatch(r"[+-]?[0-9]{1,3}", word, re.ASCII):
            _refuse(text, f'{name} "{word[:20]}" is not a number')
        number = int(word)
        if abs(number) > most or (number == 0 and not zero) or (number < 0 and not negative):
            bounds = f"{0 if zero else 1}–{most}" + (f" or -{most}–-1" if negative else "")
            _refuse(text, f"{name} {number} is not in {bounds}")
        numbers.add(number)
    return tuple(sorted(numbers))


def _weekdays(value: str, text: str) -> tuple[tuple[int, int | None], ...]:
    days: dict[tuple[int, int | None], None] = {}
    for word in value.split(","):
        match = _WEEKDAY.fullmatch(word)
        if match is None or (match[1] and not 1 <= abs(int(match[1])) <= 53):
            _refuse(text, f'BYDAY "{word[:20]}" is not a weekday', "write it as MO, 2TU or -1FR")
        days[_WEEKDAYS.index(match[2]), int(match[1]) if match[1] else None] = None
    return tuple(days)


def _complete(parts: _Parts, start: datetime) -> None:
    """Fill in what RFC 5545 takes from DTSTART, so that the rule means the same from a later start."""
    by = parts.by
    if not any(name in by for name in _DAY_FILTERS):
        if parts.frequency == _YEARLY:
            by.setdefault("bymonth", (start.month,))
            by["bymonthday"] = (start.day,)
        elif parts.frequency == _MONTHLY:
            by["bymonthday"] = (start.day,)
        elif parts.frequency == _WEEKLY:
            by["byweekday"] = ((start.weekday(), None),)
    if parts.frequency < _HOURLY:
        by.setdefault("byhour", (start.hour,))
    if parts.frequency < _MINUTELY:
        by.setdefault("byminute", (start.minute,))
    by.setdefault("bysecond", (start.second,))


def _check(parts: _Parts, text: str) -> None:
    """Refuse what would be walked through for ever or all at once, then give weekdays dateutil's form."""
    from dateutil.rrule import DAILY, rrule, weekday

    by = parts.by
    times = 1
    for name, frequency in (("byhour", _HOURLY), ("byminute", _MINUTELY), ("bysecond", _MINUTELY + 1)):
        if parts.frequency < frequency:
            times *= len(by[name])
    most = times * _DAYS_IN_PERIOD[parts.frequency]
    if most > MOST_IN_A_PERIOD:
        name = _FREQUENCIES[parts.frequency]
        _refuse(
            text,
            f"{most} times in one period of FREQ={name} are too many",
            "use FREQ=DAILY or finer with the same BY parts",
        )
    if "bysetpos" in by and all(abs(place) > most for place in by["bysetpos"]):
        _refuse(text, f"BYSETPOS is beyond the {most} times of a period", "it would never fire")
    if "byweekday" in by:
        by["byweekday"] = tuple(weekday(day, n) for day, n in by["byweekday"])
    if parts.frequency >= _HOURLY and any(name in by for name in (*_DAY_FILTERS, "bymonth")):
        # Hour by hour through four hundred years of days that do not exist would take minutes.
        days = {name: by[name] for name in (*_DAY_FILTERS, "bymonth") if name in by}
        if (
            next(
                iter(rrule(DAILY, dtstart=DEFAULT_START.replace(year=DEFAULT_START.year + 19 * _CYCLE_YEARS), **days)),
                None,
            )
            is None
        ):
            _refuse(text, "no date matches it", "it would never fire")


def _until(value: str, info: ZoneInfo, text: str) -> datetime:
    if re.fullmatch(r"[0-9]{8}", value):  # a day: all of it
        last = _stamp("UNTIL", value, info, text) + timedelta(days=1) - _MICROSECOND
    else:
        last = _stamp("UNTIL", value, info, text)
        if value.endswith("Z"):
            return datetime.strptime(value, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return zones.read(last, info).instant


def _stamp(name: str, value: str, info: ZoneInfo, text: str) -> datetime:
    """Return the local time that ``20260101``, ``20260101T090000`` or ``20260101T080000Z`` is in the zone."""
    match = _STAMP.fullmatch(value.upper())
    try:
        if match is None:
            raise ValueError(value)
        when = datetime.strptime(match[1] + (match[2] or "T000000")[:7], "%Y%m%dT%H%M%S")  # noqa: DTZ007 - local time
        if match[3]:
            when = when.replace(tzinfo=UTC).astimezone(info).replace(tzinfo=None, fold=0)
    except (ValueError, OverflowError):
        _refuse(text, f'{name} "{value[:20]}" is not a time', 'write it as "20260101T090000"')
    if not 1900 <= when.year < 9000:
        _refuse(text, f"{name}: the year {when.year} is out of bounds", "it is in 1900–8999")
    return when


def _refuse(text: str, problem: str, remedy: str = "") -> NoReturn:
    raise ScheduleError("rrule", f'"{" ".join(text.split())}": {problem}', remedy)
