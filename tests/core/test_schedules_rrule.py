"""Recurrence rules: what is read, what is refused, and that the moved start changes nothing."""

# ruff: noqa: RUF001 - ranges are written with dashes

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.schedules import CompiledSchedule, Schedule, ScheduleError, compile_schedule, fires

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def compiled(rule: str, zone: str = "UTC", **keys: Any) -> CompiledSchedule:
    return compile_schedule(Schedule(rrule=rule, timezone=zone, **keys))


def first(count: int, after: str, rule: str, zone: str = "UTC") -> list[str]:
    found = fires(compiled(rule, zone), utc(after), limit=count)
    return [fire.replace(tzinfo=None).isoformat(timespec="minutes") for fire in found]


@pytest.mark.parametrize(
    ("rule", "zone", "after", "expected"),
    [
        # without BYHOUR and DTSTART, midnight
        ("FREQ=DAILY", BERLIN, "2026-01-01T00:00", ["2026-01-01T23:00", "2026-01-02T23:00"]),
        # a rule may say RRULE: and be written small
        ("rrule:freq=daily;byhour=9", "UTC", "2026-01-01T00:00", ["2026-01-01T09:00"]),
        # the last day, and the last Friday, of the month
        ("FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=9", "UTC", "2026-01-31T12:00", ["2026-02-28T09:00", "2026-03-31T09:00"]),
        ("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9", "UTC", "2026-01-01T00:00", ["2026-01-30T09:00", "2026-02-27T09:00"]),
        # the first weekday of the month
        (
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1;BYHOUR=9",
            "UTC",
            "2026-01-15T00:00",
            ["2026-02-02T09:00", "2026-03-02T09:00", "2026-04-01T09:00"],
        ),
        # every other week counts from the DTSTART's week, on its weekday and time of day
        (
            "DTSTART:20260108T093000\nRRULE:FREQ=WEEKLY;INTERVAL=2",
            "UTC",
            "2026-01-09T00:00",
            ["2026-01-22T09:30", "2026-02-05T09:30"],
        ),
        # ... and a week begins where WKST says (RFC 5545's own example)
        (
            "DTSTART:19970805T090000 RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
            "UTC",
            "1997-01-01T00:00",
            ["1997-08-05T09:00", "1997-08-10T09:00", "1997-08-19T09:00", "1997-08-24T09:00"],
        ),
        (
            "DTSTART:19970805T090000 RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
            "UTC",
            "1997-01-01T00:00",
            ["1997-08-05T09:00", "1997-08-17T09:00", "1997-08-19T09:00", "1997-08-31T09:00"],
        ),
        # BYSETPOS counts within whole weeks, wherever in one it is asked
        (
            "DTSTART:20260101T090000 FREQ=WEEKLY;BYDAY=SU,TU;BYSETPOS=1;WKST=SU",
            "UTC",
            "2026-02-02T00:00",
            ["2026-02-08T09:00", "2026-02-15T09:00"],
        ),
        # week numbers, days of the year
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "UTC", "2026-01-01T00:00", ["2026-05-11T00:00", "2027-05-17T00:00"]),
        ("FREQ=YEARLY;BYYEARDAY=-1", "UTC", "2026-01-01T00:00", ["2026-12-31T00:00", "2027-12-31T00:00"]),
        # a DTSTART in UTC is local time in the zone
        ("DTSTART:20260601T070000Z FREQ=DAILY", BERLIN, "2026-01-01T00:00", ["2026-06-01T07:00", "2026-06-02T07:00"]),
        ("DTSTART;TZID=Europe/Berlin:20260601T090000 FREQ=DAILY", BERLIN, "2026-01-01T00:00", ["2026-06-01T07:00"]),
        # nothing before DTSTART
        ("DTSTART:20260610T090000 FREQ=MONTHLY;BYMONTHDAY=1,20", "UTC", "2026-01-01T00:00", ["2026-06-20T09:00"]),
        # COUNT counts from DTSTART, not from now
        ("DTSTART:20260101T090000 FREQ=DAILY;COUNT=3", "UTC", "2026-01-02T12:00", ["2026-01-03T09:00"]),
        ("DTSTART:20260101T090000 FREQ=DAILY;COUNT=1", "UTC", "2025-01-02T12:00", ["2026-01-01T09:00"]),
        ("DTSTART:20260101T090000 FREQ=DAILY;COUNT=3", "UTC", "2026-02-01T00:00", []),
        # UNTIL is included: to the second, in local time, or the whole day
        ("FREQ=DAILY;BYHOUR=9;UNTIL=20260102T090000Z", "UTC", "2026-01-01T12:00", ["2026-01-02T09:00"]),
        ("FREQ=DAILY;BYHOUR=9;UNTIL=20260102T085959Z", "UTC", "2026-01-01T12:00", []),
        ("FREQ=DAILY;BYHOUR=9;UNTIL=20260102T090000", BERLIN, "2026-01-01T12:00", ["2026-01-02T08:00"]),
        ("FREQ=DAILY;BYHOUR=9;UNTIL=20260102T080000Z", BERLIN, "2026-01-01T12:00", ["2026-01-02T08:00"]),
        ("FREQ=DAILY;BYHOUR=9;UNTIL=20260102", BERLIN, "2026-01-01T12:00", ["2026-01-02T08:00"]),
        # leap days, four years apart and eight around 2100
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "UTC", "2093-01-01T00:00", ["2096-02-29T00:00", "2104-02-29T00:00"]),
    ],
)
def test_a_rule_fires_when_it_says(rule: str, zone: str, after: str, expected: list[str]) -> None:
    assert first(max(1, len(expected)), after, rule, zone) == expected


@pytest.mark.parametrize(
    ("rule", "after", "expected"),
    [
        # days and rarer are fixed times: after the gap, first pass
        ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        ("FREQ=DAILY;BYHOUR=2;BYMINUTE=0,30", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:00"]),
        ("FREQ=WEEKLY;BYDAY=SU;BYHOUR=2", "2026-10-24T12:00", ["2026-10-25T00:00", "2026-11-01T01:00"]),
        # hours and minutes are interval-like: no hour of silence, none made up
        ("FREQ=HOURLY", "2026-10-24T23:30", ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"]),
        ("FREQ=HOURLY", "2026-03-28T23:30", ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"]),
        ("FREQ=MINUTELY;INTERVAL=30", "2026-10-25T00:45", ["2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00"]),
        ("FREQ=MINUTELY;BYSECOND=20", "2026-10-25T00:59:30", ["2026-10-25T01:00", "2026-10-25T01:01"]),
    ],
)
def test_a_rule_follows_the_zone_as_cron_does(rule: str, after: str, expected: list[str]) -> None:
    """P6."""
    assert first(len(expected), after, rule, BERLIN) == expected


@pytest.mark.parametrize(
    ("rule", "count", "last"),
    [
        ("DTSTART:20260327T023000 RRULE:FREQ=DAILY;COUNT=4", 4, "2026-03-30T00:30"),
        # both passes of 02:00 are fires and count
        ("DTSTART:20261025T010000 RRULE:FREQ=HOURLY;COUNT=3", 3, "2026-10-25T01:00"),
        ("DTSTART:20261025T020000 RRULE:FREQ=HOURLY;COUNT=1", 1, "2026-10-25T00:00"),
        # 02:00 is not there and does not count
        ("DTSTART:20260329T010000 RRULE:FREQ=HOURLY;COUNT=3", 3, "2026-03-29T02:00"),
    ],
)
def test_a_count_is_kept_over_a_change_of_the_clocks(rule: str, count: int, last: str) -> None:
    found = first(9, "2026-01-01T00:00", rule, BERLIN)
    assert (len(found), found[-1]) == (count, last)


@pytest.mark.parametrize(
    ("rule", "problem", "remedy"),
    [
        ("BYHOUR=9", "FREQ is missing", "YEARLY, MONTHLY"),
        ("FREQ=FORTNIGHTLY", "FREQ FORTNIGHTLY is not known", "WEEKLY"),
        ("FREQ=SECONDLY", "SECONDLY is finer than a rule can be", 'interval = "1s"'),
        ("", "there is no rule", "FREQ=DAILY"),
        ("DTSTART:20260101T090000", "there is no rule", "FREQ=DAILY"),
        ("FREQ", '"FREQ" is not NAME=VALUE', "FREQ=DAILY"),
        ("FREQ=", '"FREQ=" is not NAME=VALUE', "FREQ=DAILY"),
        ("FREQ=DAILY;;BYHOUR=9", '"" is not NAME=VALUE', ""),
        ("FREQ=DAILY;FREQ=WEEKLY", "FREQ is given twice", "keep one"),
        ("FREQ=DAILY;COLOUR=RED", "COLOUR is not a part of a rule", "BYMONTHDAY"),
        ("FREQ=DAILY;BYEASTER=0", "BYEASTER is not a part of a rule", ""),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR 24 is not in 0–23", ""),
        ("FREQ=DAILY;BYHOUR=-1", "BYHOUR -1 is not in 0–23", ""),
        ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE 60 is not in 0–59", ""),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY 32 is not in 1–31 or -31–-1", ""),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY 0 is not in", ""),
        ("FREQ=YEARLY;BYMONTH=jan", 'BYMONTH "JAN" is not a number', ""),
        ("FREQ=WEEKLY;BYDAY=MON", 'BYDAY "MON" is not a weekday', "MO, 2TU or -1FR"),
        ("FREQ=MONTHLY;BYDAY=0MO", 'BYDAY "0MO" is not a weekday', ""),
        ("FREQ=WEEKLY;BYDAY=2MO", "a numbered weekday needs months or years", "FREQ=MONTHLY"),
        ("FREQ=WEEKLY;WKST=MON", "WKST MON is not a weekday", "MO"),
        ("FREQ=MONTHLY;BYWEEKNO=20", "BYWEEKNO needs years", "FREQ=YEARLY"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL 0 is not in 1–100000", ""),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL -1 is not in", ""),
        ("FREQ=DAILY;COUNT=3", "COUNT needs a DTSTART", "DTSTART:"),
        ("DTSTART:20260101 FREQ=DAILY;COUNT=10001", "COUNT 10001 is not in 1–10000", ""),
        ("DTSTART:20260101 FREQ=DAILY;COUNT=3;UNTIL=20260201", "COUNT and UNTIL exclude each other", "keep one"),
        ("FREQ=DAILY;UNTIL=soon", 'UNTIL "SOON" is not a time', "20260101T090000"),
        ("FREQ=DAILY;UNTIL=20260230", 'UNTIL "20260230" is not a time', ""),
        ("DTSTART:20261301 FREQ=DAILY", 'DTSTART "20261301" is not a time', ""),
        ("DTSTART:00010101 FREQ=DAILY", "DTSTART: the year 1 is out of bounds", "1900"),
        ("DTSTART:20260101 DTSTART:20260102 FREQ=DAILY", "two DTSTART", "keep one"),
        ("DTSTART;TZID=Asia/Tokyo:20260101T090000 FREQ=DAILY", "DTSTART has TZID=Asia/Tokyo", "timezone"),
        ("RRULE:FREQ=DAILY RRULE:FREQ=WEEKLY", "there are 2 rules instead of one", "one schedule for each"),
        ("FREQ=DAILY EXDATE:20260101T000000", "EXDATE is not read here", "exclude"),
        ("FREQ=DAILY RDATE:20260101T000000", "RDATE is not read here", "at ="),
        ("EXRULE:FREQ=DAILY", "EXRULE is not read here", "exclude"),
        ("FOO:FREQ=DAILY", "FOO is not known", "FREQ=MONTHLY"),
        ("FREQ=DAILY;BYHOUR=" + ",".join(["9"] * 300), "characters are more than 500", "split"),
        # what would never fire, or walk for ever to find that out
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "no date matches it", "never fire"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "no date matches it", "never fire"),
        ("FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30;BYHOUR=3", "no date matches it", "never fire"),
        ("DTSTART:20230101 FREQ=YEARLY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29", "no date matches it", "never fire"),
        ("FREQ=HOURLY;INTERVAL=24;BYHOUR=5", "no date matches it", "never fire"),
        ("FREQ=HOURLY;INTERVAL=168;BYDAY=TU", "no date matches it", "never fire"),
        ("FREQ=MINUTELY;BYSETPOS=2", "BYSETPOS is beyond the 1 times of a period", "never fire"),
        ("FREQ=YEARLY;BYDAY=MO;BYHOUR=1,2,3;BYMINUTE=" + ",".join(map(str, range(60))), "are too many", "FREQ=DAILY"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_a_remedy(rule: str, problem: str, remedy: str) -> None:
    begin = time.process_time()
    with pytest.raises(ScheduleError) as refused:
        compiled(rule)
    assert refused.value.field == "rrule"
    assert problem in refused.value.problem
    assert remedy in refused.value.remedy
    assert time.process_time() - begin < 10  # bounded: dateutil alone walks to the year 9999, some for minutes


def test_a_rule_asked_from_far_away_costs_no_more_than_from_near() -> None:
    """prefect 18861: walking from DTSTART each time ate a core."""
    old = compiled("DTSTART:19700101T000000 RRULE:FREQ=MINUTELY;INTERVAL=7")
    begin = time.process_time()
    found = list(fires(old, utc("2026-03-05T10:03"), limit=2000))
    assert time.process_time() - begin < 4  # from 1970 on each step would be millions of minutes
    assert len(found) == 2000
    assert (found[0] - utc("1970-01-01")) % timedelta(minutes=7) == timedelta(0)
    assert found[-1] - found[0] == 1999 * timedelta(minutes=7)


def test_a_rule_can_be_asked_in_any_order() -> None:
    rule = compiled("FREQ=DAILY;BYHOUR=9")
    moments = [utc("2026-05-01T12:00"), utc("2024-05-01T12:00"), utc("2030-01-01T00:00"), utc("2026-05-01T12:00")]
    expected = [utc("2026-05-02T09:00"), utc("2024-05-02T09:00"), utc("2030-01-01T09:00"), utc("2026-05-02T09:00")]
    assert [rule.next_after(moment) for moment in moments] == expected


def _lists(low: int, high: int) -> st.SearchStrategy[str]:
    return st.lists(st.integers(low, high).filter(bool), min_size=1, max_size=3).map(lambda n: ",".join(map(str, n)))


PARTS = {
    "INTERVAL": st.integers(1, 9).map(str),
    "WKST": st.sampled_from(["MO", "SU", "WE"]),
    "BYMONTH": _lists(1, 12),
    "BYMONTHDAY": _lists(-31, 31),
    "BYDAY": st.lists(st.sampled_from(["MO", "TU", "FR", "SU"]), min_size=1, max_size=2).map(",".join),
    "BYHOUR": _lists(1, 23),
    "BYMINUTE": _lists(1, 59),
    "BYSETPOS": st.sampled_from(["1", "-1", "2"]),
}


@given(
    frequency=st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]),
    parts=st.dictionaries(st.sampled_from(sorted(PARTS)), st.none(), max_size=4),
    start=st.datetimes(datetime.fromisoformat("2019-01-01"), datetime.fromisoformat("2022-01-01")),
    days=st.integers(0, 900),
    data=st.data(),
)
def test_the_moved_start_changes_nothing(
    frequency: str, parts: dict[str, None], start: datetime, days: int, data: st.DataObject
) -> None:
    """Against dateutil, walking from DTSTART as the standard says."""
    start = start.replace(microsecond=0)
    rule = ";".join([f"FREQ={frequency}", *(f"{name}={data.draw(PARTS[name], name)}" for name in parts)])
    try:
        ours = compiled(f"DTSTART:{start:%Y%m%dT%H%M%S} RRULE:{rule}")
    except ScheduleError as refused:
        assert "never fire" in refused.remedy
        return
    if frequency == "WEEKLY" and "BYSETPOS" in parts:
        days += 7  # dateutil counts BYSETPOS in what DTSTART leaves of the first week, the standard in whole weeks
    after = start + timedelta(days=days if frequency not in ("HOURLY", "MINUTELY") else days / 30)
    horizon = after + timedelta(days=1500)
    theirs = rrulestr(rule, dtstart=start).xafter(after)
    expected = [fire.replace(tzinfo=UTC) for fire in islice(theirs, 20) if fire < horizon]
    got = list(fires(ours, after.replace(tzinfo=UTC), limit=20))
    assert got[: len(expected)] == expected
    assert all(fire >= horizon.replace(tzinfo=UTC) for fire in got[len(expected) :])
