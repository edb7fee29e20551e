"""Schedules: bounds, excluded dates, intervals, one-shots, identity, jitter, preview."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.schedules import (
    CompiledSchedule,
    Schedule,
    ScheduleError,
    compile_schedule,
    fires,
    identity,
    jittered,
    preview,
)

H, M, S, D = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(days=1)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text)


def compiled(**keys: Any) -> CompiledSchedule:
    return compile_schedule(Schedule(**keys))


def first(count: int, after: str, **keys: Any) -> list[str]:
    found = fires(compiled(**keys), utc(after), limit=count)
    return [fire.replace(tzinfo=None).isoformat(timespec="minutes") for fire in found]


# ---- intervals


@pytest.mark.parametrize(
    ("keys", "after", "expected"),
    [
        # an hour falls on the zone's full hours, also where they are not those of UTC
        ({"interval": H, "timezone": "Asia/Kolkata"}, "2026-01-01T00:00", ["2026-01-01T00:30", "2026-01-01T01:30"]),
        # counted from local midnight of Monday, 1 January 2024, so a week begins on Monday
        ({"interval": 7 * D, "timezone": BERLIN}, "2026-01-01T00:00", ["2026-01-04T23:00", "2026-01-11T23:00"]),
        # a day is 24 hours: local midnight in winter, one o'clock in summer
        ({"interval": D, "timezone": BERLIN}, "2026-03-28T00:00", ["2026-03-28T23:00", "2026-03-29T23:00"]),
        # nothing happens to an interval when the clocks change
        ({"interval": H, "timezone": BERLIN}, "2026-10-24T23:30", ["2026-10-25T00:00", "2026-10-25T01:00"]),
        # an anchor sets the phase, also for times before it
        ({"interval": 7 * H, "anchor": utc("2026-06-01T05:00")}, "2026-05-31T20:00", ["2026-05-31T22:00"]),
        ({"interval": 7 * H, "anchor": utc("2026-06-01T05:00")}, "2026-06-01T05:00", ["2026-06-01T12:00"]),
        # an anchor without a zone is local
        ({"interval": D, "anchor": naive("2026-01-01T09:00"), "timezone": BERLIN}, "2026-01-01", ["2026-01-01T08:00"]),
        # asked on the fire: strictly later
        ({"interval": S, "anchor": utc("2026-01-01")}, "2026-01-01T00:00", ["2026-01-01T00:00"]),
    ],
)
def test_an_interval_counts_from_its_anchor(keys: dict[str, Any], after: str, expected: list[str]) -> None:
    assert first(len(expected), after, **keys) == expected


@given(
    interval=st.timedeltas(min_value=S, max_value=400 * D),
    anchor=st.datetimes(naive("1980-01-01"), naive("2050-01-01"), timezones=st.just(UTC)),
    after=st.datetimes(naive("1980-01-01"), naive("2050-01-01"), timezones=st.just(UTC)),
)
def test_interval_fires_are_the_anchor_plus_whole_intervals(
    interval: timedelta, anchor: datetime, after: datetime
) -> None:
    fire = compiled(interval=interval, anchor=anchor).next_after(after)
    assert fire is not None
    assert after < fire <= after + interval
    assert (fire - anchor) % interval == timedelta(0)


# ---- one-shots


@pytest.mark.parametrize(
    ("at", "zone", "instant", "note"),
    [
        (utc("2026-06-01T12:00"), "UTC", "2026-06-01T12:00", None),
        (naive("2026-06-01T12:00"), BERLIN, "2026-06-01T10:00", None),  # without a zone it is local
        (datetime(2026, 6, 1, 12, tzinfo=timezone(2 * H)), NEW_YORK, "2026-06-01T10:00", None),
        (naive("2026-03-08T02:30"), NEW_YORK, "2026-03-08T07:00", "02:30 does not exist that day"),
        (naive("2026-11-01T01:30"), NEW_YORK, "2026-11-01T05:30", "repeated hour: first pass"),
        (utc("2026-11-01T06:30"), NEW_YORK, "2026-11-01T06:30", "repeated hour: second pass"),
    ],
)
def test_a_one_shot_fires_once(at: datetime, zone: str, instant: str, note: str | None) -> None:
    shot = compiled(at=at, timezone=zone)
    (fire,) = preview(shot, utc("2026-01-01"), 5)
    assert fire.utc == utc(instant)
    assert (fire.note or "").startswith(note or "")
    assert bool(fire.note) is bool(note)
    assert shot.next_after(utc(instant)) is None


# ---- bounds and excluded dates


def test_start_is_included_and_end_is_not() -> None:
    bounded = {"cron": "0 9 * * *", "start": utc("2026-05-02T09:00"), "end": utc("2026-05-04T09:00")}
    assert first(9, "2026-01-01", **bounded) == ["2026-05-02T09:00", "2026-05-03T09:00"]
    assert first(9, "2026-05-02T09:00", **bounded) == ["2026-05-03T09:00"]


def test_bounds_without_a_zone_are_local() -> None:
    bounded = {
        "cron": "0 9 * * *",
        "timezone": BERLIN,
        "start": naive("2026-05-02T09:00"),
        "end": naive("2026-05-03T09:01"),
    }
    assert first(9, "2026-01-01", **bounded) == ["2026-05-02T07:00", "2026-05-03T07:00"]


@pytest.mark.parametrize(
    "keys",
    [
        {"interval": 12 * H},
        {"rrule": "FREQ=DAILY;BYHOUR=0,12"},
        {"at": utc("2026-05-02T09:00")},
    ],
)
def test_bounds_hold_for_every_kind(keys: dict[str, Any]) -> None:
    keys |= {"start": utc("2026-05-01T12:00"), "end": utc("2026-05-03T00:00")}
    found = first(99, "2026-01-01", **keys)
    assert found
    assert found == [fire for fire in found if "2026-05-01T12:00" <= fire < "2026-05-03T00:00"]


@pytest.mark.parametrize(
    ("keys", "after", "expected"),
    [
        ({"cron": "0 9 * * *"}, "2026-12-23T12:00", ["2026-12-24T09:00", "2026-12-27T09:00"]),
        ({"interval": 12 * H}, "2026-12-24T18:00", ["2026-12-27T00:00", "2026-12-27T12:00"]),
        ({"rrule": "FREQ=DAILY;BYHOUR=9"}, "2026-12-24T12:00", ["2026-12-27T09:00"]),
        ({"interval": S}, "2026-12-24T23:59:59", ["2026-12-27T00:00"]),  # without walking through the seconds
        # dates are those of the wall: Christmas begins at 23:00Z in Berlin
        ({"interval": H, "timezone": BERLIN}, "2026-12-24T21:30", ["2026-12-24T22:00", "2026-12-26T23:00"]),
        ({"at": utc("2026-12-25T09:00")}, "2026-12-01", []),
    ],
)
def test_nothing_fires_on_an_excluded_date(keys: dict[str, Any], after: str, expected: list[str]) -> None:
    christmas = (date(2026, 12, 25), date(2026, 12, 26))
    assert first(max(1, len(expected)), after, exclude=christmas, **keys) == expected


def test_a_schedule_with_only_excluded_dates_ends() -> None:
    year = tuple(date(2026, 1, 1) + n * D for n in range(365))
    assert first(1, "2026-01-01", cron="0 9 * * *", end=utc("2027-01-01"), exclude=year) == []


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/Sao_Paulo", date(2019, 2, 16)),  # its last hour comes twice
        ("America/Sao_Paulo", date(2018, 11, 4)),  # it has no first hour
        ("Pacific/Apia", date(2011, 12, 29)),  # the next day does not exist
        ("Pacific/Apia", date(2011, 12, 30)),  # it does not exist itself
        ("America/St_Johns", date(2010, 11, 6)),  # it comes back after the next day's first minute
        ("America/St_Johns", date(2010, 11, 7)),
        (BERLIN, date(2026, 3, 29)),
    ],
)
def test_an_excluded_date_is_excluded_whole_and_nothing_else(zone: str, day: date) -> None:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - 2 * D
    every = list(fires(compiled(interval=15 * M, timezone=zone), begin, until=begin + 5 * D, limit=9999))
    left = list(fires(compiled(interval=15 * M, timezone=zone, exclude=(day,)), begin, until=begin + 5 * D, limit=9999))
    assert left == [fire for fire in every if fire.astimezone(ZoneInfo(zone)).date() != day]


# ---- @reboot


def test_reboot_never_fires_by_time() -> None:
    reboot = compiled(cron="@reboot")
    assert reboot.is_reboot
    assert reboot.next_after(utc("2026-01-01")) is None
    assert preview(reboot, utc("2026-01-01"), 3) == []
    assert not compiled(cron="@daily").is_reboot


# ---- what is refused


@pytest.mark.parametrize(
    ("keys", "field", "text"),
    [
        ({}, "", "a schedule has no time; give exactly one of cron, interval, rrule and at"),
        ({"cron": "0 9 * * *", "interval": H}, "interval", "a schedule has cron and interval"),
        ({"cron": "0 25 * * *"}, "cron", "hour 25 is not in"),
        ({"cron": "0 9 * * *", "timezone": "Berlin"}, "timezone", 'did you mean "Europe/Berlin"?'),
        ({"interval": timedelta(milliseconds=999)}, "interval", "interval 999ms is shorter than a second"),
        ({"interval": timedelta(0)}, "interval", "interval 0s is shorter than a second"),
        ({"interval": -H}, "interval", "interval -1h is shorter than a second"),
        ({"cron": "0 9 * * *", "anchor": utc("2026-01-01")}, "anchor", "anchor goes with interval, not with cron"),
        ({"cron": "0 9 * * *", "jitter": -S}, "jitter", "jitter -1s is negative"),
        ({"interval": H, "start": utc("2026-02-01"), "end": utc("2026-01-01")}, "end", "end is not later than start"),
        ({"interval": H, "start": utc("2026-02-01"), "end": utc("2026-02-01")}, "end", "end is not later than start"),
        ({"at": naive("2011-12-30T09:00"), "timezone": "Pacific/Apia"}, "at", "2011-12-30 09:00 does not exist"),
        ({"cron": "@reboot", "start": utc("2026-01-01")}, "start", "@reboot takes no start"),
        ({"cron": "@reboot", "end": utc("2026-01-01")}, "end", "@reboot takes no end"),
        ({"cron": "@reboot", "exclude": (date(2026, 1, 1),)}, "exclude", "@reboot takes no exclude"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(keys: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        compiled(**keys)
    assert refused.value.field == field
    assert text in str(refused.value)


# ---- identity


def test_a_named_schedule_is_known_by_its_name() -> None:
    assert identity(Schedule(name="mornings", cron="0 9 * * *")) == "mornings"
    assert identity(Schedule(name="mornings", cron="0 8 * * *")) == "mornings"


def test_an_unnamed_schedule_is_known_by_its_content() -> None:
    base: dict[str, Any] = {"interval": H}
    variants: list[dict[str, Any]] = [
        {},
        {"interval": 2 * H},
        {"timezone": BERLIN},
        {"anchor": utc("2026-01-01")},
        {"start": utc("2026-01-01")},
        {"end": utc("2026-01-01")},
        {"jitter": S},
        {"exclude": (date(2026, 1, 1),)},
        {"interval": None, "cron": "0 * * * *"},
        {"interval": None, "rrule": "FREQ=HOURLY"},
        {"interval": None, "at": utc("2026-01-01")},
    ]
    names = [identity(Schedule(**(base | variant))) for variant in variants]
    assert len(set(names)) == len(names)
    assert all(len(name) == 12 and name.startswith("s-") for name in names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"cron": "0 9 * * *"}, {"cron": "0 9 * * *", "active": False}),  # switched off, it stays the same
        ({"cron": "0 9 * * *"}, {"cron": " 0  9 * * * "}),
        ({"at": utc("2026-01-01T12:00")}, {"at": datetime(2026, 1, 1, 14, tzinfo=timezone(2 * H))}),
        (
            {"interval": H, "exclude": (date(2026, 1, 1), date(2026, 1, 2))},
            {"interval": H, "exclude": (date(2026, 1, 2), date(2026, 1, 1))},
        ),
    ],
)
def test_the_same_content_is_the_same_schedule(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert identity(Schedule(**one)) == identity(Schedule(**other))


def test_an_identity_is_kept_over_versions_of_the_program() -> None:
    """A change of this value makes every unnamed schedule a new one at the next upgrade."""
    assert identity(Schedule(cron="0 9 * * *", timezone=BERLIN)) == "s-0c21cc3846"


# ---- jitter


def test_jitter_is_drawn_from_seed_schedule_and_due_alone() -> None:
    schedule = Schedule(cron="0 * * * *", jitter=M)
    dues = [utc("2026-01-01") + n * H for n in range(200)]
    drawn = [jittered(due, schedule, "seed") - due for due in dues]
    assert drawn == [jittered(due, schedule, "seed") - due for due in dues]
    assert all(timedelta(0) <= offset < M for offset in drawn)
    assert len(set(drawn)) > 190
    assert max(drawn) > 50 * S > 10 * S > min(drawn)  # it uses the whole width
    assert drawn != [jittered(due, schedule, "other") - due for due in dues]
    assert drawn != [jittered(due, Schedule(cron="5 * * * *", jitter=M), "seed") - due for due in dues]


def test_jitter_does_not_depend_on_hash_randomisation() -> None:
    code = (
        "from datetime import *; from tidemill.core.schedules import *;"
        "s = Schedule(cron='0 9 * * *', jitter=timedelta(hours=1));"
        "print(jittered(datetime(2026, 1, 1, tzinfo=UTC), s, 'x'), identity(s))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_without_jitter_due_is_due() -> None:
    due = utc("2026-01-01")
    assert jittered(due, Schedule(cron="0 * * * *"), "seed") == due
