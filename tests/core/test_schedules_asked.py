"""Schedules asked again and again: fires, previews, and what holds for every kind at every moment."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidemill.core.schedules import CompiledSchedule, Schedule, compile_schedule, fires, preview

H, M, S, D = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(days=1)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text)


def compiled(**keys: Any) -> CompiledSchedule:
    return compile_schedule(Schedule(**keys))


# ---- fires and preview


def test_fires_are_later_than_after_up_to_until_and_at_most_limit() -> None:
    hourly = compiled(cron="0 * * * *")
    begin, end = utc("2026-01-01T00:00"), utc("2026-01-01T03:00")
    assert list(fires(hourly, begin, until=end, limit=9)) == [begin + n * H for n in (1, 2, 3)]
    assert list(fires(hourly, begin, until=end, limit=2)) == [begin + n * H for n in (1, 2)]
    assert list(fires(hourly, begin, limit=0)) == []


def test_the_asking_time_may_be_of_any_zone() -> None:
    asked = datetime(2026, 1, 1, 9, 0, tzinfo=ZoneInfo("Asia/Tokyo"))
    fire = compiled(cron="0 * * * *").next_after(asked)
    assert fire == utc("2026-01-01T01:00")
    assert fire.tzinfo is UTC


@pytest.mark.parametrize(
    ("keys", "after", "notes"),
    [
        (
            {"cron": "30 2 * * *"},
            "2026-03-27T12:00",
            [None, "02:30 does not exist that day: first instant after the gap", None],
        ),
        (
            {"cron": "0,30 2 * * *"},
            "2026-03-28T12:00",
            ["02:00, 02:30 do not exist that day: first instant after the gap"],
        ),
        (
            {"cron": "0-59 2 * * *"},
            "2026-03-28T12:00",
            ["60 times from 02:00 to 02:59 do not exist that day: first instant after the gap"],
        ),
        ({"cron": "30 2 * * *"}, "2026-10-24T12:00", ["repeated hour: first pass", None]),
        (
            {"cron": "30 * * * *"},
            "2026-10-25T00:00",
            ["repeated hour: first pass", "repeated hour: second pass", None],
        ),
        (
            {"cron": "30 * * * *"},
            "2026-03-29T00:00",
            [None, "2026-03-29 02:30 left out: the clocks skip it", None],
        ),
        (
            {"cron": "0 9 * * *", "timezone": "Pacific/Apia"},
            "2011-12-29T12:00",
            [None, "2011-12-30 09:00 left out: the clocks skip it", None],
        ),
        ({"interval": 30 * M}, "2026-10-25T00:45", ["repeated hour: second pass", "repeated hour: second pass", None]),
        ({"interval": 30 * M}, "2026-03-29T00:45", [None, None]),
        (
            {"cron": "45 1 * * *", "timezone": "Australia/Lord_Howe"},
            "2026-04-04T12:00",
            ["repeated 30m: first pass", None],
        ),
        ({"cron": "30 2 * * *", "timezone": "UTC"}, "2026-03-28T12:00", [None, None]),
    ],
)
def test_a_preview_says_what_the_clocks_do_to_a_fire(keys: dict[str, Any], after: str, notes: list[str | None]) -> None:
    found = preview(compiled(**({"timezone": BERLIN} | keys)), utc(after), len(notes))
    assert [fire.note for fire in found] == notes


def test_a_preview_shows_local_time_with_its_offset() -> None:
    (fire,) = preview(compiled(cron="30 2 * * *", timezone=BERLIN), utc("2026-03-28T12:00"), 1)
    assert fire.local.isoformat() == "2026-03-29T03:00:00+02:00"
    assert fire.utc == fire.local
    assert fire.utc.tzinfo is UTC


def test_two_day_fields_are_remarked_on() -> None:
    assert "either of them" in compiled(cron="0 9 13 * fri").remarks[0]
    assert compiled(cron="0 9 * * fri").remarks == ()


# ---- properties

ZONES = st.sampled_from(
    [BERLIN, NEW_YORK, "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "America/Sao_Paulo", "UTC"]
)
RULES = st.sampled_from(
    [
        {"cron": "30 2 * * *"},
        {"cron": "0,30 0-3 * * *"},
        {"cron": "*/7 * * * *"},
        {"cron": "*/20 1-3 * * sun"},
        {"cron": "0 0 1,15 * fri"},
        {"cron": "0 */5 29 2 *"},
        {"interval": timedelta(minutes=37)},
        {"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=15,45"},
        {"rrule": "FREQ=HOURLY;INTERVAL=3"},
        {"rrule": "FREQ=MONTHLY;BYDAY=-1SU;BYHOUR=1,2,3"},
    ]
)
MOMENTS = st.datetimes(naive("2005-01-01"), naive("2036-01-01"), timezones=st.just(UTC))
EDGES = st.sampled_from(
    [
        *("2026-03-08T07:00", "2026-11-01T06:00", "2026-03-29T01:00", "2026-10-25T01:00", "2026-10-03T15:30"),
        *("2026-04-04T15:00", "2011-12-30T10:00", "2026-02-15T02:00", "2026-03-22T02:00", "2019-02-17T02:00"),
    ]
)
NEAR_EDGES = st.tuples(EDGES, st.integers(-400, 400)).map(lambda pair: utc(pair[0]) + pair[1] * 30 * S)


@given(rule=RULES, zone=ZONES, after=MOMENTS | NEAR_EDGES)
def test_the_next_fire_is_strictly_later(rule: dict[str, Any], zone: str, after: datetime) -> None:
    schedule = compiled(timezone=zone, **rule)
    found = [after, *fires(schedule, after, limit=8)]
    assert all(one < other for one, other in itertools.pairwise(found))


@given(rule=RULES, zone=ZONES, after=MOMENTS | NEAR_EDGES, wait=st.floats(0, 1))
def test_between_now_and_the_next_fire_there_is_none(
    rule: dict[str, Any], zone: str, after: datetime, wait: float
) -> None:
    """A schedule does not remember: asked at any moment before a fire, it names that fire (P6: as after a restart)."""
    schedule = compiled(timezone=zone, **rule)
    fire = schedule.next_after(after)
    assume(fire is not None)
    assert fire is not None
    later = after + (fire - after) * wait
    assume(later < fire)
    assert schedule.next_after(later) == fire
    assert schedule.next_after(fire - timedelta(microseconds=1)) == fire


@given(zone=ZONES, after=MOMENTS | NEAR_EDGES)
def test_a_daily_job_fires_once_for_every_local_date_that_there_is(zone: str, after: datetime) -> None:
    """P6: over any two weeks, whatever the clocks do."""
    info = ZoneInfo(zone)
    found = list(fires(compiled(cron="30 2 * * *", timezone=zone), after, limit=14))
    dates = [fire.astimezone(info).date() for fire in found]
    assert dates == sorted(set(dates))
    missing = {dates[0] + n * D for n in range((dates[-1] - dates[0]).days + 1)} - set(dates)
    assert missing <= ({date(2011, 12, 30)} if zone == "Pacific/Apia" else set())


# ---- figures


def test_ten_thousand_schedules_are_read_and_asked_within_seconds() -> None:
    """A generous bound of processor time, ten times what it takes: it fails when each one costs a millisecond."""
    schedules = [
        Schedule(cron=f"{n % 60} {n // 60 % 24} {'*' if n % 3 else n % 28 + 1} * *", timezone=BERLIN)
        for n in range(10_000)
    ]
    begin = time.process_time()
    ready = [compile_schedule(schedule) for schedule in schedules]
    assert all(one.next_after(utc("2026-03-05T10:03")) is not None for one in ready)
    assert time.process_time() - begin < 8


def test_after_the_last_year_there_is_nothing() -> None:
    for keys in ({"cron": "0 9 * * *"}, {"interval": H}, {"cron": "*/5 * * * *", "timezone": BERLIN}):
        assert compiled(**keys).next_after(datetime.max.replace(tzinfo=UTC)) is None
