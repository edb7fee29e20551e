"""What becomes of fires that were missed: all of them are accounted for (P5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.catchup import catch_up
from tidemill.core.deployments import CatchUp

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
H = timedelta(hours=1)
SKIP, LATEST, ALL = CatchUp.SKIP, CatchUp.LATEST, CatchUp.ALL


def ago(*hours: float) -> list[datetime]:
    return [NOW - hour * H for hour in hours]


@pytest.mark.parametrize(
    ("policy", "missed", "run", "skipped"),
    [
        (SKIP, ago(3, 2, 1), [], ago(3, 2, 1)),
        (LATEST, ago(3, 2, 1), ago(1), ago(3, 2)),
        (ALL, ago(3, 2, 1), ago(3, 2, 1), []),
        (ALL, ago(1, 3, 2), ago(3, 2, 1), []),  # in order of time, however they come
        (ALL, ago(1, 1), ago(1), []),  # one due time is one run (P1)
        (ALL, ago(25, 24, 23), ago(24, 23), ago(25)),  # the window's edge is inside
        (LATEST, ago(30, 23), ago(23), ago(30)),
        (LATEST, ago(30, 25), [], ago(30, 25)),  # even the latest is too old
        (LATEST, [], [], []),
        (LATEST, ago(1, 0), ago(0), ago(1)),  # due now is missed too: (last alive, now]
        (LATEST, ago(1, -2), [*ago(1), *ago(-2)], []),  # not due yet: not missed, and not "the latest"
        (SKIP, ago(1, -2), ago(-2), ago(1)),
    ],
)
def test_missed_fires_follow_the_policy(
    policy: CatchUp, missed: list[datetime], run: list[datetime], skipped: list[datetime]
) -> None:
    """P5."""
    to_run, left = catch_up(missed, policy, 24 * H, NOW)
    assert (to_run, [due for due, _ in left]) == (run, skipped)


@pytest.mark.parametrize(
    ("policy", "hours", "reason"),
    [
        (SKIP, (2, 1), 'catch_up = "skip"'),
        (LATEST, (2, 1), 'catch_up = "latest" runs only the last one'),
        (ALL, (30,), "catch_up_window = 1d"),
        (LATEST, (30, 1), "catch_up_window = 1d"),
    ],
)
def test_a_skipped_fire_names_the_setting_that_skipped_it(
    policy: CatchUp, hours: tuple[float, ...], reason: str
) -> None:
    _, skipped = catch_up(ago(*hours), policy, 24 * H, NOW)
    assert reason in skipped[0][1]


def test_a_window_of_zero_leaves_only_what_is_due_now() -> None:
    to_run, skipped = catch_up(ago(1, 0), ALL, timedelta(0), NOW)
    assert (to_run, [due for due, _ in skipped]) == (ago(0), ago(1))


@given(
    missed=st.lists(st.floats(-10, 100), max_size=30),
    policy=st.sampled_from(list(CatchUp)),
    window=st.floats(0, 100),
)
def test_every_fire_is_run_or_skipped_and_never_both(missed: list[float], policy: CatchUp, window: float) -> None:
    """P5."""
    dues = ago(*missed)
    to_run, left = catch_up(dues, policy, window * H, NOW)
    skipped = [due for due, reason in left if reason]
    assert sorted(to_run + skipped) == sorted(set(dues))
    assert to_run == sorted(to_run)
    assert skipped == sorted(skipped)
    assert all(due >= NOW - window * H for due in to_run)
    if policy is LATEST:
        assert len([due for due in to_run if due <= NOW]) <= 1
