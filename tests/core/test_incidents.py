"""When people are told of something that fails, and when not: core/incidents.py, as tables of what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tidemill.core import incidents
from tidemill.core.incidents import Failure, Incident
from tidemill.core.notices import NoticeKind

START = datetime(2026, 6, 1, 3, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def failure(at: datetime, reason: str = "no luck") -> Failure:
    return Failure(kind=NoticeKind.FAILED, at=at, reason=reason, state="Failed", run="r")


def told(every: timedelta, lasts: timedelta) -> list[timedelta]:
    """When people are told of something that fails again and again, counted from the first time."""
    incident: Incident | None = None
    found = []
    at = START
    while at - START <= lasts:
        incident, tell = incidents.failed(incident, "job", failure(at))
        if tell:
            found.append(at - START)
        at += every
    return found


# How often it fails -> when that is told within two days and two hours.
REMINDERS = {
    "every minute": (MINUTE, [0 * HOUR, HOUR, 5 * HOUR, 25 * HOUR, 45 * HOUR]),
    "every hour": (HOUR, [0 * HOUR, HOUR, 5 * HOUR, 25 * HOUR, 45 * HOUR]),
    "every day, each time": (DAY, [0 * HOUR, DAY, 2 * DAY]),
    "every week, each time": (7 * DAY, [0 * HOUR]),
}


@pytest.mark.parametrize(("every", "expected"), REMINDERS.values(), ids=REMINDERS.keys())
def test_what_goes_on_failing_is_told_at_growing_intervals(every: timedelta, expected: list[timedelta]) -> None:
    assert told(every, 2 * DAY + 2 * HOUR) == expected


def test_recovery_is_told_once_with_how_long_and_how_many() -> None:
    incident, _ = incidents.failed(None, "job", failure(START))
    for minute in range(1, 41):
        incident, _ = incidents.failed(incident, "job", failure(START + minute * MINUTE))
    over, tell = incidents.recovered(incident, START + 50 * MINUTE)
    assert tell
    notice = incidents.recovery_notice(over, START + 50 * MINUTE)
    assert notice.subject == "job is well again after 50 min and 41 failed runs"
    assert incidents.recovered(over, START + HOUR) == (over, False)


def test_the_first_failure_after_a_recovery_is_told_at_once() -> None:
    incident, _ = incidents.failed(None, "job", failure(START))
    incident, _ = incidents.recovered(incident, START + MINUTE)
    incident, tell = incidents.failed(incident, "job", failure(START + 2 * MINUTE))
    assert tell
    assert (incident.failures, incident.since) == (1, START + 2 * MINUTE)


def test_to_and_fro_is_said_once_and_then_left_in_peace() -> None:
    """A failure and a success in turn, a minute apart, for ten hours."""
    incident: Incident | None = None
    said = []
    at = START
    while at - START < 10 * HOUR:
        incident, tell = incidents.failed(incident, "job", failure(at))
        said += ["flaps" if incident.flapping else "fails"] * tell
        incident, tell = incidents.recovered(incident, at + MINUTE)
        said += ["well"] * tell
        assert incidents.calmed(incident, at + 2 * MINUTE) is None
        at += 2 * MINUTE
    assert said == ["fails", "well"] * 3 + ["flaps"] * 3  # at once, after one hour, after five


def test_what_flapped_is_well_when_it_was_calm_for_as_long() -> None:
    incident: Incident | None = None
    for number in range(4):
        incident, _ = incidents.failed(incident, "job", failure(START + number * HOUR))
        incident, _ = incidents.recovered(incident, START + number * HOUR + MINUTE)
    assert incident is not None
    assert incident.flapping
    last = START + 3 * HOUR
    assert incidents.calm_at(incident) == last + incidents.FLAP_WINDOW
    assert incidents.calmed(incident, last + incidents.FLAP_WINDOW - MINUTE) is None
    over = incidents.calmed(incident, last + incidents.FLAP_WINDOW)
    assert over is not None
    assert over.over == last + MINUTE  # since when it has been well


def test_a_failure_while_it_is_calm_begins_the_wait_anew() -> None:
    incident: Incident | None = None
    for number in range(4):
        incident, _ = incidents.failed(incident, "job", failure(START + number * HOUR))
        incident, _ = incidents.recovered(incident, START + number * HOUR + MINUTE)
    incident, _ = incidents.failed(incident, "job", failure(START + 5 * HOUR))
    assert incidents.calm_at(incident) is None
    incident, _ = incidents.recovered(incident, START + 5 * HOUR + MINUTE)
    assert incidents.calm_at(incident) == START + 5 * HOUR + incidents.FLAP_WINDOW


def test_three_times_in_a_day_is_no_flapping() -> None:
    incident: Incident | None = None
    for number in range(8):
        incident, tell = incidents.failed(incident, "job", failure(START + number * 3 * HOUR))
        assert tell
        assert not incident.flapping
        incident, tell = incidents.recovered(incident, START + number * 3 * HOUR + MINUTE)
        assert tell


def test_an_incident_is_forgotten_when_it_says_nothing_of_flapping_any_more() -> None:
    incident, _ = incidents.failed(None, "job", failure(START))
    assert not incidents.forgettable(incident, START + 365 * DAY)  # it still fails
    over, _ = incidents.recovered(incident, START + HOUR)
    assert not incidents.forgettable(over, START + HOUR + incidents.FLAP_WINDOW - MINUTE)
    assert incidents.forgettable(over, START + HOUR + incidents.FLAP_WINDOW)


def test_a_subject_line_has_the_reason_and_how_often() -> None:
    incident, _ = incidents.failed(None, "job", failure(START))
    assert incidents.failure_notice(incident, failure(START)).subject == "job failed: no luck"
    incident, _ = incidents.failed(incident, "job", failure(START + DAY))
    assert incidents.failure_notice(incident, failure(START + DAY)).subject == "job failed (2nd in a row): no luck"


@pytest.mark.parametrize(
    ("kind", "verb"),
    [(NoticeKind.FAILED, "failed"), (NoticeKind.TIMED_OUT, "timed out"), (NoticeKind.CRASHED, "crashed")],
)
def test_the_verb_is_the_kinds(kind: NoticeKind, verb: str) -> None:
    one = Failure(kind=kind, at=START)
    incident, _ = incidents.failed(None, "job", one)
    assert incidents.failure_notice(incident, one).subject == f"job {verb}"
