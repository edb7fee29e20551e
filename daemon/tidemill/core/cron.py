"""Cron expressions, as Debian's cron reads them (crontab(5)), on naive local time.

The fields are read here, so that a fault is named and nothing is guessed; times of day are two bit sets; the calendar
(which days) is croniter's, asked only for jobs that do not run every day. Zones are the business of ``zones``.
"""

# ruff: noqa: DTZ001, RUF001 - naive local times are the matter here, and ranges are written with dashes

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from tidemill.core.refusals import ScheduleError

LONGEST = 200  # characters; a list of all sixty minutes has 169
LONGEST_WAIT_YEARS = 50  # 29 February on a given weekday can be 40 years away

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
REBOOT = "@reboot"

_SHORT_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SHORT_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = {name: n for n, name in enumerate(_SHORT_MONTHS, 1)}
_WEEKDAYS = {name: n for n, name in enumerate(_SHORT_WEEKDAYS)}
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ONE_DAY = timedelta(days=1)


class _Field(msgspec.Struct, frozen=True):
    name: str
    low: int
    high: int
    names: dict[str, int] = {}

    @property
    def size(self) -> int:
        return 7 if self.name == "day of week" else self.high - self.low + 1


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)
_EVERY_DAY = frozenset(range(1, 32)), frozenset(range(1, 13)), frozenset(range(7))

# What other programs know and Debian's cron does not, and what says the same here.
_FOREIGN = {
    "?": ('"?" is not cron\'s', 'write "*"'),
    "#": ('"#" (the nth weekday) is not cron\'s', 'use rrule = "FREQ=MONTHLY;BYDAY=2TU"'),
    "~": ('"~" (a random value) is not cron\'s', 'choose a value, and spread starts with jitter = "5m"'),
}
_FOREIGN_LETTERS = {
    "l": ('"L" (the last day) is not cron\'s', 'use rrule = "FREQ=MONTHLY;BYMONTHDAY=-1" or "FREQ=MONTHLY;BYDAY=-1FR"'),
    "w": ('"W" (the nearest weekday) is not cron\'s', 'use rrule = "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1"'),
    "h": ('"H" (a hashed value) is not cron\'s', 'choose a value, and spread starts with jitter = "5m"'),
    "r": ('"R" (a random value) is not cron\'s', 'choose a value, and spread starts with jitter = "5m"'),
}


class Calendar:
    """Days of the year by day of month, month and day of week; croniter steps from one to the next.

    ``either``: a day matches by day of month *or* day of week (Debian's rule where neither field begins with ``*``).
    croniter would decide that itself, but takes ``0-6`` for ``*``; here it is told.
    """

    __slots__ = ("_croniter", "_lock")

    def __init__(self, days: str, *, either: bool) -> None:
        from croniter import croniter

        self._croniter: Any = croniter(
            f"0 0 {days}", datetime(2000, 1, 1), day_or=either, max_years_between_matches=LONGEST_WAIT_YEARS
        )
        self._lock = threading.Lock()  # croniter keeps its place in itself

    def next_from(self, day: date) -> date | None:
        """Return the first matching day that is ``day`` or later; None beyond fifty years."""
        from croniter import CroniterBadDateError

        eve = datetime(day.year, day.month, day.day) - timedelta(minutes=1)
        with self._lock:
            try:
                found: datetime = self._croniter.get_next(datetime, start_time=eve, update_current=False)
            except CroniterBadDateError:
                return None
        return found.date()


@lru_cache(maxsize=512)
def _calendar(days: str, either: bool) -> Calendar:
    return Calendar(days, either=either)


@lru_cache(maxsize=8192)
def _day_from(days: str, either: bool, day: date) -> date | None:
    return _calendar(days, either).next_from(day)


class Cron:
    """A parsed expression.

    ``fixed`` says which zone rule it goes by: true where neither minute nor hour begins with ``*``. ``remark`` is for a
    person who may have meant something else.
    """

    __slots__ = ("_days", "_either", "_hours", "_minutes", "fixed", "remark")

    def __init__(
        self,
        *,
        minutes: frozenset[int],
        hours: frozenset[int],
        days: str | None,
        either: bool,
        fixed: bool,
        remark: str | None,
    ) -> None:
        self._minutes = sum(1 << n for n in minutes)
        self._hours = sum(1 << n for n in hours)
        self._days = days  # None: every day
        self._either = either
        self.fixed = fixed
        self.remark = remark

    def after(self, wall: datetime) -> datetime | None:
        """Return the first matching local time strictly later than ``wall``, both naive."""
        day = wall.date()
        if self._days is None or _day_from(self._days, self._either, day) == day:
            hours = self._hours >> wall.hour
            if hours & 1:
                minute = _lowest(self._minutes >> (wall.minute + 1) << (wall.minute + 1))
                if minute is not None:
                    return datetime(day.year, day.month, day.day, wall.hour, minute)
            hour = _lowest(hours >> 1 << (wall.hour + 1))
            if hour is not None:
                return datetime(day.year, day.month, day.day, hour, _first(self._minutes))
        day += _ONE_DAY
        found = day if self._days is None else _day_from(self._days, self._either, day)
        if found is None:
            return None
        return datetime(found.year, found.month, found.day, _first(self._hours), _first(self._minutes))


def _lowest(bits: int) -> int | None:
    return (bits & -bits).bit_length() - 1 if bits else None


def _first(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


@lru_cache(maxsize=4096)
def parse(text: str) -> Cron | None:
    """Return the parsed expression; None for ``@reboot``. Raises ``ScheduleError`` naming the field at fault."""
    plain = " ".join(text.split())
    if len(plain) > LONGEST:
        _refuse(plain[:40] + "…", f"{len(plain)} characters are more than {LONGEST}", "split it into several schedules")
    if plain.startswith("@"):
        name = plain.lower()
        if name == REBOOT:
            return None
        plain = NICKNAMES.get(name) or _refuse_nickname(plain)
    return _parse_fields(plain)


def _refuse_nickname(text: str) -> NoReturn:
    if text.lower().startswith("@every"):
        _refuse(text, "cron has no @every", 'use interval = "5m"')
    names = [REBOOT, *NICKNAMES]
    near = _near(text, names)
    _refuse(
        text, "there is no such nickname", f'did you mean "{near[0]}"?' if near else "known are " + ", ".join(names)
    )


def _parse_fields(text: str) -> Cron:
    fields = text.split(" ")
    if len(fields) != 5:
        if not text:
            _refuse(text, "the expression is empty", 'write five fields, such as "0 9 * * mon-fri"')
        if len(fields) in (6, 7):
            remedy = 'cron has no seconds and no years: use interval = "10s", or start and end'
        else:
            remedy = "write minute, hour, day of month, month and day of week"
        _refuse(text, f"{len(fields)} field{'s' if len(fields) > 1 else ''} instead of five", remedy)
    minutes, hours, days, months, weekdays = (
        _values(part, field, text) for part, field in zip(fields, _FIELDS, strict=True)
    )
    weekdays = frozenset(day % 7 for day in weekdays)
    # Debian's cron goes by the first character: "*/2" counts as a star, "0-6" does not.
    starred = [part.startswith("*") for part in fields]
    either = not starred[2] and not starred[4]
    possible = any(day <= _MONTH_DAYS[month - 1] for day in days for month in months)
    if not possible and not either:
        _refuse_impossible(text, min(days), sorted(months))
    every_month = months == _EVERY_DAY[1]
    if either and (weekdays == _EVERY_DAY[2] or days == _EVERY_DAY[0]):
        days, weekdays = _EVERY_DAY[0], _EVERY_DAY[2]  # one of the two says every day, so the other says nothing
    daily = every_month and days == _EVERY_DAY[0] and weekdays == _EVERY_DAY[2]
    calendar = " ".join(
        "*" if values == all_values else ",".join(map(str, sorted(values)))
        for values, all_values in zip((days, months, weekdays), _EVERY_DAY, strict=True)
    )
    return Cron(
        minutes=minutes,
        hours=hours,
        days=None if daily else calendar,
        either=either,
        fixed=not starred[0] and not starred[1],
        remark=_remark(fields, either=either),
    )


def _remark(fields: list[str], *, either: bool) -> str | None:
    if either:
        return f'day of month "{fields[2]}" or day of week "{fields[4]}": it fires on days that match either of them'
    if fields[2] != "*" and fields[4] != "*":
        return (
            f'day of month "{fields[2]}" and day of week "{fields[4]}": one begins with "*", '
            "so it fires only on days that match both"
        )
    return None


def _values(part: str, field: _Field, text: str) -> frozenset[int]:
    values: set[int] = set()
    for item in part.split(","):
        values.update(_item(item, field, text))
    return frozenset(values)


def _item(item: str, field: _Field, text: str) -> range:
    if not item:
        _refuse(text, f"{field.name} has an empty item in its list", "take out the comma too many")
    for sign, (problem, remedy) in _FOREIGN.items():
        if sign in item:
            _refuse(text, f"{field.name} {item}: {problem}", remedy)
    spread, slash, step_text = item.partition("/")
    step = _step(step_text, field, text, item) if slash else 1
    if spread == "*":
        return range(field.low, field.high + 1, step)
    low_text, dash, high_text = spread.partition("-")
    low = _number(low_text, field, text, item)
    if not dash:
        if slash:
            _refuse(
                text,
                f"{field.name} {item}: a step needs a range",
                f'write "{low_text}-{field.high}/{step_text}" or "*/{step_text}"',
            )
        return range(low, low + 1)
    high = _number(high_text, field, text, item)
    if field.name == "day of week" and high == 0 and high_text.lower() == "sun":
        high = 7  # fri-sun: Sunday ends a week as well as it begins one
    if low > high:
        _refuse(
            text, f"{field.name} range {spread} is reversed", f'write "{low_text}-{field.high},{field.low}-{high_text}"'
        )
    return range(low, high + 1, step)


def _number(word: str, field: _Field, text: str, item: str) -> int:
    if word.isascii() and word.isdigit() and len(word) <= 4:
        value = int(word)
        if not field.low <= value <= field.high:
            _refuse(text, f"{field.name} {value} is not in {field.low}–{field.high}")
        return value
    value = field.names.get(word.lower(), -1)
    if value < 0:
        _refuse_word(word, field, text, item)
    return value


def _refuse_word(word: str, field: _Field, text: str, item: str) -> NoReturn:
    """Say what is wrong with a word that is neither a number nor one of the field's names."""
    low = word.lower()
    letters = [c for c in low if c.isalpha()]
    foreign = "l" if low[-1:] == "l" and low[:-1] in field.names else None
    if foreign is None and letters and all(c in _FOREIGN_LETTERS for c in letters):
        foreign = letters[0]
    if foreign is not None:
        problem, remedy = _FOREIGN_LETTERS[foreign]
        _refuse(text, f"{field.name} {item}: {problem}", remedy)
    if field.names and word.isalpha() and low[:3] in field.names:  # longer than cron's three letters: "monday", "sept"
        _refuse(text, f'{field.name} "{word}" is not a name cron knows', f'did you mean "{low[:3]}"?')
    if not word:
        _refuse(
            text, f'{field.name} "{item}" has a range with an end missing', f'write it as "{field.low}-{field.high}"'
        )
    if not field.names:
        _refuse(text, f'{field.name} "{word}" is not a number', f"it is in {field.low}–{field.high}")
    near = _near(low, list(field.names))
    remedy = f'did you mean "{near[0]}"?' if near else "names are " + ", ".join(field.names)
    _refuse(text, f'{field.name} "{word}" is neither a number nor a name', remedy)


def _step(word: str, field: _Field, text: str, item: str) -> int:
    if not (word.isascii() and word.isdigit()):
        _refuse(text, f'{field.name} {item}: step "{word}" is not a number', 'write it as "*/5"')
    step = int(word) if len(word) <= 6 else 10**6
    if step == 0:
        _refuse(text, f"{field.name} {item}: a step of 0 never moves on", 'write it as "*/5"')
    if step > field.size:
        unit = {"minute": "m", "hour": "h", "day of month": "d"}.get(field.name)
        remedy = (
            f'for every {step} {field.name.split()[0]}s use interval = "{step}{unit}"' if unit else "use a smaller step"
        )
        _refuse(text, f"{field.name} {item}: step {step} is longer than the field's {field.size} values", remedy)
    return step


def _near(word: str, names: list[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(word.lower(), names, n=1)


def _refuse_impossible(text: str, day: int, months: list[int]) -> NoReturn:
    where = " or ".join(_SHORT_MONTHS[month - 1].capitalize() for month in months)
    _refuse(text, f"there is no {day} {where}", "it would never fire")


def _refuse(text: str, problem: str, remedy: str = "") -> NoReturn:
    raise ScheduleError("cron", f'"{text}": {problem}', remedy)


def misses(text: str, wall: datetime, *, day_only: bool = False) -> list[str]:
    """Say which fields of an expression a local time does not match, in words; ``day_only``: of its day.

    >>> misses("0 9 * * mon-fri", datetime(2026, 11, 21, 10, 0))
    ['hour 10 is not in 9', 'Saturday is not in mon-fri']
    """
    plain = " ".join(text.split())
    plain = NICKNAMES.get(plain.lower(), plain)
    if plain.startswith("@"):
        return []
    minute, hour, day, month, weekday = plain.split(" ")
    midnight = datetime(wall.year, wall.month, wall.day)
    found = []
    if not day_only:
        found += [f"minute {wall.minute} is not in {minute}"] if not _matches(f"{minute} * * * *", wall) else []
        found += [f"hour {wall.hour} is not in {hour}"] if not _matches(f"{wall.minute} {hour} * * *", wall) else []
    if not _matches(f"0 0 * {month} *", midnight):
        found.append(f"{wall:%B} is not in {month}")
    day_misses = [f"day {wall.day} is not in {day}"] if not _matches(f"0 0 {day} * *", midnight) else []
    weekday_misses = [f"{wall:%A} is not in {weekday}"] if not _matches(f"0 0 * * {weekday}", midnight) else []
    either = not day.startswith("*") and not weekday.startswith("*")
    if not either or (day_misses and weekday_misses):
        found += [*day_misses, *weekday_misses]
    return found


def _matches(text: str, wall: datetime) -> bool:
    wall = wall.replace(second=0, microsecond=0)
    times = parse(text)
    return times is not None and times.after(wall - timedelta(minutes=1)) == wall
