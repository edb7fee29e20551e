"""Debian's cron, walked minute by minute around changes of the clocks, against ours."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from debian_cron import MINUTE, Model

from tidemill.core import cron
from tidemill.core.schedules import Schedule, compile_schedule, fires

pytestmark = pytest.mark.thorough

# Every kind of change: whole hours both ways, half and quarter hours, two hours, at midnight, a lost day, Ramadan.
CHANGES = [
    ("America/New_York", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("Europe/Dublin", "2026-10-25T01:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("Asia/Pyongyang", "2015-08-14T15:00"),
    ("America/Caracas", "2016-05-01T07:00"),
    ("Antarctica/Troll", "2026-03-29T01:00"),
    ("Antarctica/Troll", "2026-10-25T01:00"),
    ("Antarctica/Casey", "2020-10-03T16:01"),
    ("Asia/Beirut", "2026-03-28T22:00"),
    ("America/Havana", "2026-11-01T05:00"),
    ("America/Sao_Paulo", "2018-11-04T03:00"),
    ("America/Sao_Paulo", "2019-02-17T02:00"),
    ("Africa/Casablanca", "2026-02-15T02:00"),
    ("Africa/Casablanca", "2026-03-22T02:00"),
    ("Pacific/Apia", "2011-12-30T10:00"),
    ("Pacific/Kwajalein", "1993-08-21T12:00"),
    ("Asia/Kathmandu", "2026-03-29T01:00"),  # no change at all
]


@cache
def _walls(key: str, change: str, hours: int) -> list[tuple[datetime, datetime]]:
    info, middle = ZoneInfo(key), datetime.fromisoformat(change).replace(tzinfo=UTC)
    instants = [middle + n * MINUTE for n in range(-hours * 60, hours * 60)]
    return [(instant, instant.astimezone(info).replace(tzinfo=None, fold=0)) for instant in instants]


def _field(source: random.Random, low: int, high: int, near: list[int]) -> str:
    def value() -> int:
        return source.choice(near) if source.random() < 0.8 else source.randint(low, high)

    kind = source.random()
    if kind < 0.2:
        return "*"
    if kind < 0.35:
        return f"*/{source.randint(1, max(2, (high - low) // 2))}"
    if kind < 0.55:
        begin, end = sorted((value(), value()))
        if begin == end:  # cronsim takes 5-5/2 for 5-59/2
            return str(begin)
        return f"{begin}-{end}" + (f"/{source.randint(1, 7)}" if source.random() < 0.5 else "")
    return ",".join(str(value()) for _ in range(source.randint(1, 3)))


def _expression(source: random.Random, wall: datetime) -> str:
    """Draw an expression whose times lie near ``wall``, so that the change matters."""
    hours = [(wall.hour + n) % 24 for n in (-3, -2, -1, 0, 1, 2, 3)]
    days = [wall.day, (wall - timedelta(days=1)).day, (wall + timedelta(days=1)).day]
    minute = _field(source, 0, 59, [0, 1, 15, 29, 30, 31, 45, 59])
    hour = _field(source, 0, 23, hours)
    day = _field(source, 1, 28, days) if source.random() < 0.35 else "*"
    month = _field(source, 1, 12, [wall.month]) if source.random() < 0.2 else "*"
    weekday = _field(source, 0, 7, [wall.isoweekday(), wall.isoweekday() % 7]) if source.random() < 0.35 else "*"
    return f"{minute} {hour} {day} {month} {weekday}"


@pytest.mark.parametrize(("key", "change"), CHANGES)
def test_around_a_change_of_the_clocks_cron_is_debians(key: str, change: str) -> None:
    """P6."""
    source = random.Random(f"{key} {change}")
    walls = _walls(key, change, 14)
    middle = walls[len(walls) // 2][1]
    compared = 0
    for _ in range(120):
        text = _expression(source, middle)
        expected = list(Model(text).walk(walls))
        compared += len(expected)
        try:
            compiled = compile_schedule(Schedule(cron=text, timezone=key))
        except ValueError as refused:
            assert "would never fire" in str(refused), text
            assert not expected, text
            continue
        # Asked from a random minute on, inside and outside of gaps and repeated hours, as a restart would.
        begin = source.choice(walls[:-1])[0]
        got = list(fires(compiled, walls[0][0], until=walls[-1][0], limit=5000))
        assert got == expected, text
        later = list(fires(compiled, begin, until=walls[-1][0], limit=5000))
        assert later == [fire for fire in expected if fire > begin], (text, begin)
    assert compared > 1000  # the draw has something to say


@pytest.mark.parametrize(
    ("key", "change"), [pair for pair in CHANGES if pair[0] in ("America/New_York", "Europe/Berlin", "Europe/Dublin")]
)
def test_at_changes_of_an_hour_cronsim_says_the_same(key: str, change: str) -> None:
    """A second oracle. It is known to stray at changes of 15 and 30 minutes, and to answer with past times."""
    source = random.Random(f"cronsim {key} {change}")
    walls = _walls(key, change, 14)
    begin, end, middle = walls[0][0], walls[-1][0], walls[len(walls) // 2][1]
    for _ in range(120):
        text = _expression(source, middle)
        try:
            compiled = compile_schedule(Schedule(cron=text, timezone=key))
        except ValueError:
            continue
        theirs: dict[datetime, None] = {}
        for fire in CronSim(text, begin.astimezone(ZoneInfo(key))):
            if fire.astimezone(UTC) > end:
                break
            theirs[fire.astimezone(UTC)] = None
        assert list(fires(compiled, begin, until=end, limit=5000)) == list(theirs), text


def test_the_calendar_is_that_of_debian_over_years() -> None:
    """Day of month, month and day of week, without any zone, against cronsim and the model."""
    source = random.Random("calendar")
    for _ in range(400):
        start = datetime(source.randint(1999, 2060), source.randint(1, 12), source.randint(1, 28), tzinfo=UTC)
        text = "0 0 " + " ".join(_field(source, low, high, [low, high]) for low, high in ((1, 31), (1, 12), (0, 7)))
        try:
            times = cron.parse(text)
        except ValueError as refused:
            assert "would never fire" in str(refused), text
            continue
        assert times is not None
        model, here = Model(text), start.replace(tzinfo=None)
        for expected in (moment for moment, _ in zip(CronSim(text, start), range(5), strict=False)):
            here = times.after(here) or here
            assert here == expected.replace(tzinfo=None), text
            assert model.on(here), text
