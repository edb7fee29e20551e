"""Incidents: what fails is told at once, then at growing intervals, and once more when it is well again.

A deployment that keeps failing and recovering is said to flap and is then left in peace until it has been well for a
while. Nothing here waits or looks at a clock: ``at`` and ``now`` are arguments.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from tidemill.core.messages import lasted, one_line, ordinal
from tidemill.core.notices import Notice, NoticeKind
from tidemill.durations import format_duration

# How long a failure that was told so many times stays quiet; the last one repeats. A daily job's failure is told daily.
QUIET = (timedelta(hours=1), timedelta(hours=4), timedelta(hours=20))
# So many incidents of one deployment that begin within this time are flapping, which is over when it was calm as long.
FLAPS = 4
FLAP_WINDOW = timedelta(hours=6)
# So many incidents that begin within this time of each other are one storm.
STORM = 5
STORM_WINDOW = timedelta(seconds=60)
_REASON = 110  # characters of a subject line

VERBS = {
    NoticeKind.FAILED: "failed",
    NoticeKind.TIMED_OUT: "timed out",
    NoticeKind.CRASHED: "crashed",
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that went wrong. ``reason`` is in words; ``run`` is an id, where it was a run."""

    kind: NoticeKind
    at: datetime
    reason: str | None = None
    state: str | None = None
    run: str | None = None
    lines: tuple[str, ...] = ()


class Incident(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Failures of one thing in a row. ``over`` says since when it is well; it is kept a while to know flapping by."""

    subject: str  # a deployment's name, or what else it is
    since: datetime
    last: datetime  # failure
    failures: int = 1
    reason: str | None = None
    told: int = 0
    told_at: datetime | None = None
    began: tuple[datetime, ...] = ()  # this incident and those shortly before it
    flapping: bool = False
    well_since: datetime | None = None  # while flapping: it is well, and that is not told yet
    storm: str | None = None
    over: datetime | None = None


def failed(incident: Incident | None, subject: str, failure: Failure) -> tuple[Incident, bool]:
    """Return the incident that a failure begins or belongs to, and whether it is to be told now."""
    at = failure.at
    if incident is None or incident.over is not None:
        before = incident.began if incident is not None else ()
        began = (*(each for each in before if at - each < FLAP_WINDOW), at)
        found = Incident(subject=subject, since=at, last=at, began=began, flapping=len(began) >= FLAPS)
    else:
        found = replace(incident, failures=incident.failures + 1, last=at, well_since=None)
    found = replace(found, reason=failure.reason)
    if found.told_at is not None and at - found.told_at < quiet(found.told):
        return found, False
    return replace(found, told=found.told + 1, told_at=at), True


def recovered(incident: Incident, at: datetime) -> tuple[Incident, bool]:
    """Return the incident after a success, and whether that is to be told now."""
    if incident.over is not None:
        return incident, False
    if incident.flapping:
        return replace(incident, well_since=incident.well_since or at), False
    return replace(incident, over=at), incident.told > 0


def calmed(incident: Incident, now: datetime) -> Incident | None:
    """Return a flapping incident as over, where it has been calm for long enough; else None."""
    at = calm_at(incident)
    return replace(incident, over=incident.well_since) if at is not None and at <= now else None


def calm_at(incident: Incident) -> datetime | None:
    """Return from when a flapping incident is over if nothing fails until then; None: it does not come to it."""
    if not incident.flapping or incident.over is not None or incident.well_since is None:
        return None
    return incident.last + FLAP_WINDOW


def quiet(told: int) -> timedelta:
    """Return how long nothing is said after it was told so many times, at least once."""
    return QUIET[min(told, len(QUIET)) - 1]


def forgettable(incident: Incident, now: datetime) -> bool:
    """Say whether an incident is over for so long that it says nothing about flapping any more."""
    return incident.over is not None and now - incident.over >= FLAP_WINDOW


# --- in words -------------------------------------------------------------------------------------------------------


def failure_notice(incident: Incident, failure: Failure) -> Notice:
    """Return what is told of a deployment's failure."""
    name, verb = incident.subject, VERBS[failure.kind]
    row = f" ({ordinal(incident.failures)} in a row)" if incident.failures > 1 and not incident.flapping else ""
    if incident.flapping:
        verb = "keeps failing and recovering"
    reason = f": {one_line(failure.reason, _REASON)}" if failure.reason else ""
    wait = format_duration(quiet(incident.told))
    if incident.flapping:
        lines: tuple[str, ...] = (
            f"It failed, recovered and failed again {len(incident.began)} times within "
            f"{lasted(incident.began[0], failure.at)}.",
            f"You hear of it again in {wait} at the earliest, or when it has been well for "
            f"{format_duration(FLAP_WINDOW)}.",
        )
    else:
        lines = (f"While it goes on failing you hear of it again in {wait} at the earliest, and once when it is well.",)
    return Notice(
        kind=failure.kind,
        subject=f"{name} {verb}{row}{reason}",
        deployment=name,
        run=failure.run,
        lines=lines,
        at=failure.at,
        reason=failure.reason,
        state=failure.state,
        failures=incident.failures,
        since=incident.since,
        flapping=incident.flapping,
    )


def recovery_notice(incident: Incident, at: datetime, run: str | None = None) -> Notice:
    """Return what is told when a deployment is well again."""
    count = "one failed run" if incident.failures == 1 else f"{incident.failures} failed runs"
    before = f"It failed with: {one_line(incident.reason, 400)}" if incident.reason else ""
    return Notice(
        kind=NoticeKind.RECOVERED,
        subject=f"{incident.subject} is well again after {lasted(incident.since, at)} and {count}",
        deployment=incident.subject,
        run=run,
        lines=(before,) if before else (),
        at=at,
        reason=incident.reason,
        failures=incident.failures,
        since=incident.since,
        flapping=incident.flapping,
    )


def trouble_notice(incident: Incident, failure: Failure) -> Notice:
    """Return what is told of something wrong with the daemon itself."""
    wait = format_duration(quiet(incident.told))
    since = (f"So it is for {lasted(incident.since, failure.at)} now.",) if incident.told > 1 else ()
    return Notice(
        kind=failure.kind,
        subject=failure.reason or incident.subject,
        lines=(*failure.lines, "", *since, f"You hear of it again in {wait}, or when it is over."),
        at=failure.at,
        reason=failure.reason,
        since=incident.since,
    )


def trouble_over_notice(incident: Incident, at: datetime) -> Notice:
    """Return what is told when the daemon is well again."""
    return Notice(
        kind=NoticeKind.RECOVERED,
        subject=f"{incident.subject} is well again after {lasted(incident.since, at)}",
        lines=(f"It was: {one_line(incident.reason, 400)}",) if incident.reason else (),
        at=at,
        reason=incident.reason,
        since=incident.since,
    )
