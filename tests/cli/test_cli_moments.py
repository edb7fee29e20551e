"""Moments as people name them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tidemill.cli.moments import moment

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def helsinki() -> Iterator[None]:
    """The machine stands in Helsinki, two hours ahead in winter, three in summer."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Helsinki"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", NOW),
        ("1h", NOW - timedelta(hours=1)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2d ago", NOW - timedelta(days=2)),
        ("today", datetime(2026, 11, 20, 22, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 19, 22, tzinfo=UTC)),
        ("09:00", datetime(2026, 11, 21, 7, tzinfo=UTC)),  # of today, also where that is yet to come
        ("23:59:30", datetime(2026, 11, 21, 21, 59, 30, tzinfo=UTC)),
        ("2026-07-01", datetime(2026, 6, 30, 21, tzinfo=UTC)),  # in summer time
        ("2026-11-20 02:00", datetime(2026, 11, 20, 0, tzinfo=UTC)),
        ("2026-11-20T02:00:00Z", datetime(2026, 11, 20, 2, tzinfo=UTC)),
        ("2026-11-20T02:00:00+05:30", datetime(2026, 11, 19, 20, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_what_people_mean_by_it(text: str, meant: datetime) -> None:
    assert moment(text, NOW) == meant


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no moment"),
        ("soon", "is no moment"),
        ("25:00", "is no moment"),
        ("2026-13-01", "is no moment"),
        ("1y", "a year has no fixed length"),
        ("5M", "did you mean|minutes"),
    ],
)
def test_what_is_no_moment_is_told_with_what_would_be(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        moment(text, NOW)
    assert '"yesterday"' in str(caught.value)
