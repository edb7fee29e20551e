"""Times as people say them: a day, a minute, an instant, in a zone that skips and repeats hours."""

# ruff: noqa: DTZ001 - naive local times are the matter here

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tidemill.core.cron import misses
from tidemill.core.when import read

HELSINKI = ZoneInfo("Europe/Helsinki")
NOW = datetime(2026, 6, 2, 9, 30, tzinfo=UTC)  # 12:30 in Helsinki


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-06-01", "2026-05-31T21:00:00", "2026-06-01T20:59:59.999999"),
        ("today", "2026-06-01T21:00:00", "2026-06-02T20:59:59.999999"),
        ("Yesterday", "2026-05-31T21:00:00", "2026-06-01T20:59:59.999999"),
        ("yesterday 09:00", "2026-06-01T06:00:00", "2026-06-01T06:00:59.999999"),
        ("09:00", "2026-06-02T06:00:00", "2026-06-02T06:00:59.999999"),
        ("13:00", "2026-06-01T10:00:00", "2026-06-01T10:00:59.999999"),  # the last one that has been
        ("09:00:15", "2026-06-02T06:00:15", "2026-06-02T06:00:15.999999"),
        ("2026-06-01 09:00", "2026-06-01T06:00:00", "2026-06-01T06:00:59.999999"),
        ("2026-06-01T09:00:30", "2026-06-01T06:00:30", "2026-06-01T06:00:30.999999"),
        ("2026-06-01T09:00Z", "2026-06-01T09:00:00", "2026-06-01T09:00:59.999999"),
        ("2026-06-01 09:00:05+02:00", "2026-06-01T07:00:05", "2026-06-01T07:00:05.999999"),
        ("2026-06-01T09:00+02:00", "2026-06-01T07:00:00", "2026-06-01T07:00:59.999999"),
        ("now", "2026-06-02T09:30:00", "2026-06-02T09:30:00"),
        ("2026-03-29", "2026-03-28T22:00:00", "2026-03-29T20:59:59.999999"),  # a day of 23 hours
        ("2026-10-25", "2026-10-24T21:00:00", "2026-10-25T21:59:59.999999"),  # and one of 25
    ],
)
def test_a_time_is_a_stretch_whose_both_ends_are_meant(text: str, first: str, last: str) -> None:
    found = read(text, HELSINKI, NOW)
    assert (found.first, found.last) == (at(first), at(last))


def test_a_local_time_that_the_clocks_skip_is_the_end_of_the_gap() -> None:
    found = read("2026-03-29 03:30", HELSINKI, NOW)
    assert found.gap == timedelta(hours=1)
    assert found.first == at("2026-03-29T01:00:00")


def test_a_local_time_that_comes_twice_is_meant_both_times() -> None:
    found = read("2026-10-25 03:30", HELSINKI, NOW)
    assert found.first == at("2026-10-25T00:30:00")
    assert found.second_pass == (at("2026-10-25T01:30:00"), at("2026-10-25T01:30:59.999999"))


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "2026-13-01", "2026-02-30", "9999-12-31", "2026-06-01 9", "09:60", "x" * 500]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)) as refused:
        read(text, HELSINKI, NOW)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("cron", "wall", "words"),
    [
        ("0 9 * * mon-fri", datetime(2026, 11, 21, 10, 0), ["hour 10 is not in 9", "Saturday is not in mon-fri"]),
        ("0 9 * * *", datetime(2026, 11, 21, 9, 5), ["minute 5 is not in 0"]),
        ("*/15 * * * *", datetime(2026, 11, 21, 9, 5), ["minute 5 is not in */15"]),
        ("0 9 1 * *", datetime(2026, 11, 21, 9, 0), ["day 21 is not in 1"]),
        ("0 9 * 1-3 *", datetime(2026, 11, 21, 9, 0), ["November is not in 1-3"]),
        ("@daily", datetime(2026, 11, 21, 9, 0), ["hour 9 is not in 0"]),
        # Both days restricted means either: one that matches is enough.
        ("0 9 21 * mon", datetime(2026, 11, 21, 9, 0), []),
        ("0 9 1 * mon", datetime(2026, 11, 21, 9, 0), ["day 21 is not in 1", "Saturday is not in mon"]),
        ("@reboot", datetime(2026, 11, 21, 9, 0), []),
        ("0 9 * * *", datetime(2026, 11, 21, 9, 0), []),
    ],
)  # fmt: skip
def test_a_cron_expression_says_which_field_a_time_misses(cron: str, wall: datetime, words: list[str]) -> None:
    assert misses(cron, wall) == words
