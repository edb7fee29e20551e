"""Local time: what a wall time means, and where a zone's offset changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core import zones
from tidemill.core.schedules import ScheduleError

H = timedelta(hours=1)
ZERO = timedelta(0)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "wall", "instant", "gap", "repeat"),
    [
        ("Europe/Berlin", "2026-03-29T01:59", "2026-03-29T00:59", ZERO, ZERO),
        ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T01:00", H, ZERO),  # the gap's first minute
        ("Europe/Berlin", "2026-03-29T02:00:00.5", "2026-03-29T01:00", H, ZERO),
        ("Europe/Berlin", "2026-03-29T02:59:59.5", "2026-03-29T01:00", H, ZERO),  # and its last
        ("Europe/Berlin", "2026-03-29T03:00", "2026-03-29T01:00", ZERO, ZERO),
        ("Europe/Berlin", "2026-10-25T02:00", "2026-10-25T00:00", ZERO, H),  # first pass
        ("Europe/Berlin", "2026-10-25T02:59", "2026-10-25T00:59", ZERO, H),
        ("Europe/Berlin", "2026-10-25T03:00", "2026-10-25T02:00", ZERO, ZERO),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", 24 * H, ZERO),
        ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45", ZERO, H / 2),
        ("Africa/Monrovia", "1972-01-07T00:10", "1972-01-07T00:44:30", timedelta(seconds=2670), ZERO),  # not in minutes
        ("UTC", "2026-03-29T02:30", "2026-03-29T02:30", ZERO, ZERO),
    ],
)
def test_a_wall_time_means_one_instant(key: str, wall: str, instant: str, gap: timedelta, repeat: timedelta) -> None:
    read = zones.read(datetime.fromisoformat(wall), ZoneInfo(key))  # naive: a wall time
    assert read == zones.Reading(_utc(instant), gap=gap, repeat=repeat)


@pytest.mark.parametrize("after", ["2026-03-29T00:59:59.999999", "2025-11-01T00:00", "2026-03-01T00:00"])
def test_the_next_change_is_found_from_near_and_far(after: str) -> None:
    info = ZoneInfo("Europe/Berlin")
    assert zones.next_change(_utc(after), _utc("2026-12-01T00:00"), info) == _utc("2026-03-29T01:00")


def test_the_span_of_a_change_excludes_its_beginning_and_includes_its_end() -> None:
    info, change = ZoneInfo("Europe/Berlin"), _utc("2026-03-29T01:00")
    assert zones.next_change(change - H, change, info) == change
    assert zones.next_change(change, change + 90 * 24 * H, info) is None
    assert zones.next_change(change - 2 * H, change - timedelta(microseconds=1), info) is None


@pytest.mark.slow
def test_no_change_of_any_zone_is_overlooked() -> None:
    """Asked every six hours through ten years, no offset is another than that since the last change found."""
    start, end, step = _utc("2018-01-01T00:00"), _utc("2028-01-01T00:00"), timedelta(hours=6)
    moments = [start + n * step for n in range((end - start) // step)]
    for key in sorted(available_timezones()):
        info = ZoneInfo(key)
        offset = start.astimezone(info).utcoffset()
        change = zones.next_change(start, end, info)
        for moment in moments:
            while change is not None and change <= moment:
                assert (change - timedelta(seconds=1)).astimezone(info).utcoffset() == offset, (key, change)
                assert change.astimezone(info).utcoffset() != offset, (key, change)
                offset = change.astimezone(info).utcoffset()
                change = zones.next_change(change, end, info)
            assert moment.astimezone(info).utcoffset() == offset, (key, moment)


walls = st.datetimes(datetime.fromisoformat("1975-01-01"), datetime.fromisoformat("2037-01-01"))
keys = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "America/Havana"]
)


@given(wall=walls, key=keys)
def test_a_wall_time_that_exists_is_on_the_wall_at_its_instant(wall: datetime, key: str) -> None:
    info = ZoneInfo(key)
    read = zones.read(wall, info)
    shown = read.instant.astimezone(info)
    if read.gap:
        assert shown.replace(tzinfo=None) > wall  # the wall jumped over it
        assert (read.instant - timedelta(seconds=1)).astimezone(info).replace(tzinfo=None) < wall
    else:
        assert shown.replace(tzinfo=None) == wall
        assert shown.fold == 0


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("europe/berlin", 'did you mean "Europe/Berlin"?'),
        ("Berlin", 'did you mean "Europe/Berlin"?'),
        ("new york", 'did you mean "America/New_York"?'),
        ("Europe/Helsinky", 'did you mean "Europe/Helsinki"'),
        ("Mars/Olympus", '"Europe/Helsinki"'),
        ("", '"Europe/Helsinki"'),
        ("../../etc/passwd", '"Europe/Helsinki"'),
        ("/etc/passwd", '"Europe/Helsinki"'),
        ("Europe", '"Europe/Helsinki"'),  # a folder
        ("a" * 5000, '"Europe/Helsinki"'),
        ("Europe/\0Berlin", '"Europe/'),
    ],
)
def test_an_unknown_zone_is_refused_with_near_names(key: str, remedy: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        zones.zone(key)
    assert refused.value.field == "timezone"
    assert remedy in refused.value.remedy
    assert len(str(refused.value)) < 200
