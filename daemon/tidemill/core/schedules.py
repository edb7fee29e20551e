"""Schedules: what they say, and when they fire next.

A :class:`Schedule` is a value; :func:`compile_schedule` reads it once, and the result answers ``next_after(t)``. A
schedule does not remember: what it fired last is the caller's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from tidemill.clock import to_us
from tidemill.core import cron, recurrences, zones
from tidemill.core.refusals import ScheduleError
from tidemill.durations import format_duration

__all__ = [
    "CompiledSchedule",
    "Fire",
    "Schedule",
    "ScheduleError",
    "compile_schedule",
    "fires",
    "identity",
    "jittered",
    "preview",
]

SHORTEST_INTERVAL = timedelta(seconds=1)
# Where intervals count from unless an anchor says otherwise: local midnight of a Monday, so that "1h" falls on full
# hours of the zone and "1w" on Mondays. A fixed day, because it must not move with the time of year or of asking.
INTERVAL_ORIGIN = datetime(2024, 1, 1)  # noqa: DTZ001 - local
_KINDS = ("cron", "interval", "rrule", "at")
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a deployment runs: exactly one of ``cron``, ``interval``, ``rrule`` and ``at`` is set.

    Instants without a zone (``at``, ``anchor``, ``start``, ``end``) are local times of ``timezone``. It fires from
    ``start`` (included) to ``end`` (not included), and not on the local dates of ``exclude``.
    """

    cron: str | None = None
    interval: timedelta | None = None
    rrule: str | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    anchor: datetime | None = None  # interval only: fires are anchor + n * interval
    start: datetime | None = None
    end: datetime | None = None
    jitter: timedelta = timedelta(0)
    exclude: tuple[date, ...] = ()
    name: str | None = None
    active: bool = True


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    """One coming fire: the instant, the same in the schedule's zone, and what people should know about it."""

    utc: datetime
    local: datetime
    note: str | None = None


class Rule(Protocol):
    """What a schedule says before start, end and excluded dates are looked at. All instants are aware, in UTC."""

    def next_after(self, after: datetime) -> datetime | None:
        """Return the first fire strictly later than ``after``."""
        ...

    def note(self, previous: datetime, fire: datetime) -> str | None:
        """Say what a change of the zone's offset did to this fire, or to others since the previous one."""
        ...


class WallTimes(msgspec.Struct, frozen=True):
    """Times on the wall of a zone: cron and rrule. ``until`` is included."""

    step: zones.Step
    info: ZoneInfo
    fixed: bool
    until: datetime | None = None

    def next_after(self, after: datetime) -> datetime | None:
        find = zones.next_fixed if self.fixed else zones.next_matching
        fire = find(self.step, after, self.info)
        return None if fire is None or (self.until is not None and fire > self.until) else fire

    def note(self, previous: datetime, fire: datetime) -> str | None:
        return zones.tell_gaps(self.step, previous, fire, self.info, fixed=self.fixed) or zones.tell_pass(
            fire, self.info
        )


class Every(msgspec.Struct, frozen=True):
    """Instants an equal time apart, whatever the clocks on the wall do."""

    origin: datetime
    interval: timedelta
    info: ZoneInfo

    def next_after(self, after: datetime) -> datetime | None:
        return self.origin + ((after - self.origin) // self.interval + 1) * self.interval

    def note(self, previous: datetime, fire: datetime) -> str | None:
        return zones.tell_pass(fire, self.info)


class Once(msgspec.Struct, frozen=True):
    """One instant."""

    instant: datetime
    said: str | None = None

    def next_after(self, after: datetime) -> datetime | None:
        return self.instant if self.instant > after else None

    def note(self, previous: datetime, fire: datetime) -> str | None:
        return self.said


class Never(msgspec.Struct, frozen=True):
    """No instant at all: ``@reboot`` is not a matter of time."""

    def next_after(self, after: datetime) -> datetime | None:
        return None

    def note(self, previous: datetime, fire: datetime) -> str | None:
        return None


class CompiledSchedule:
    """A schedule that was read. ``remarks`` are sentences for ``check``: what is right but may surprise."""

    __slots__ = ("_end", "_rule", "_start", "info", "is_reboot", "remarks", "schedule")

    def __init__(
        self,
        schedule: Schedule,
        rule: Rule,
        info: ZoneInfo,
        *,
        start: datetime | None,
        end: datetime | None,
        remarks: tuple[str, ...],
    ) -> None:
        self.schedule = schedule
        self.info = info
        self.is_reboot = isinstance(rule, Never)
        self.remarks = remarks
        self._rule = rule
        self._start = start
        self._end = end

    def next_after(self, after: datetime) -> datetime | None:
        """Return the first fire strictly later than ``after``, aware, in UTC and without jitter; None: never again."""
        after = after.astimezone(UTC)
        if self._start is not None and after < self._start:
            after = self._start - _MICROSECOND
        exclude = self.schedule.exclude
        try:
            fire = self._rule.next_after(after)
            while exclude and fire is not None and fire.astimezone(self.info).date() in exclude:
                fire = self._rule.next_after(self._last_of_day(fire))
        except OverflowError:  # past the year 9999
            return None
        return None if fire is None or (self._end is not None and fire >= self._end) else fire

    def _last_of_day(self, fire: datetime) -> datetime:
        """Return the last microsecond of the fire's local day, or of its part before the clocks leave the day."""
        day = fire.astimezone(self.info).date()
        end = zones.read(datetime.combine(day + _DAY, datetime.min.time()), self.info).instant
        change = zones.next_change(fire, end, self.info)
        if change is not None and change.astimezone(self.info).date() != day:
            end = change
        # A day that comes back after its midnight is walked through fire by fire.
        return max(fire, end - _MICROSECOND)

    def note(self, previous: datetime, fire: datetime) -> str | None:
        """Say what people should know of a fire, the one before it being ``previous``."""
        return self._rule.note(previous, fire)


def compile_schedule(schedule: Schedule) -> CompiledSchedule:
    """Read a schedule; raises ``ScheduleError`` that names the field, the fact and the remedy."""
    kinds = [kind for kind in _KINDS if getattr(schedule, kind) is not None]
    if len(kinds) != 1:
        given = " and ".join(kinds) if kinds else "no time"
        field = kinds[1] if kinds else ""
        raise ScheduleError(field, f"a schedule has {given}", "give exactly one of cron, interval, rrule and at")
    info = zones.zone(schedule.timezone)
    start, end = _instant(schedule.start, info), _instant(schedule.end, info)
    if start is not None and end is not None and end <= start:
        raise ScheduleError("end", "end is not later than start", "no fire is between them")
    if schedule.jitter < timedelta(0):
        raise ScheduleError("jitter", f"jitter {format_duration(schedule.jitter)} is negative", "it only delays")
    if schedule.anchor is not None and schedule.interval is None:
        raise ScheduleError("anchor", f"anchor goes with interval, not with {kinds[0]}", "use start and end as bounds")
    rule, remarks = _rule(schedule, info)
    if isinstance(rule, Never):
        for bound in ("start", "end", "exclude"):
            if getattr(schedule, bound):
                raise ScheduleError(bound, f"@reboot takes no {bound}", "it fires once at each start of the daemon")
    return CompiledSchedule(schedule, rule, info, start=start, end=end, remarks=remarks)


def _rule(schedule: Schedule, info: ZoneInfo) -> tuple[Rule, tuple[str, ...]]:
    if schedule.cron is not None:
        times = cron.parse(schedule.cron)
        if times is None:
            return Never(), ()
        return WallTimes(times.after, info, times.fixed), (times.remark,) if times.remark else ()
    if schedule.rrule is not None:
        recurrence = recurrences.parse(schedule.rrule, info)
        return WallTimes(recurrence.after, info, recurrence.fixed, recurrence.until), ()
    if schedule.interval is not None:
        if schedule.interval < SHORTEST_INTERVAL:
            problem = f"interval {format_duration(schedule.interval)} is shorter than a second"
            raise ScheduleError("interval", problem, 'the shortest is "1s"')
        origin = _instant(schedule.anchor, info) or zones.read(INTERVAL_ORIGIN, info).instant
        return Every(origin, schedule.interval, info), ()
    at = schedule.at
    assert at is not None
    if at.tzinfo is not None:
        return Once(at.astimezone(UTC), zones.tell_pass(at.astimezone(UTC), info)), ()
    reading = zones.read(at, info)
    if reading.gap > zones.LONGEST_CAUGHT_GAP:
        problem = f"{at:%Y-%m-%d %H:%M} does not exist in {info.key}"
        raise ScheduleError("at", problem, f"the clocks go forward by {format_duration(reading.gap)} then")
    said = zones.missing_note([at]) if reading.gap else zones.tell_pass(reading.instant, info)
    return Once(reading.instant, said), ()


def _instant(when: datetime | None, info: ZoneInfo) -> datetime | None:
    if when is None:
        return None
    return when.astimezone(UTC) if when.tzinfo is not None else zones.read(when, info).instant


def identity(schedule: Schedule) -> str:
    """Return what a schedule is known by over reloads: its name, else a hash of its content, never its place.

    ``active`` is no part of the content: switching a schedule off and on again leaves it the same.
    """
    if schedule.name is not None:
        return schedule.name
    content = (
        " ".join(schedule.cron.split()) if schedule.cron is not None else None,
        _microseconds(schedule.interval),
        schedule.rrule,
        _stamp(schedule.at),
        schedule.timezone,
        _stamp(schedule.anchor),
        _stamp(schedule.start),
        _stamp(schedule.end),
        _microseconds(schedule.jitter),
        sorted(day.isoformat() for day in schedule.exclude),
    )
    return "s-" + hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:10]


def _microseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // _MICROSECOND


def _stamp(when: datetime | None) -> str | None:
    if when is None:
        return None
    return (when.astimezone(UTC) if when.tzinfo is not None else when).isoformat()


def jittered(due: datetime, schedule: Schedule, seed: str) -> datetime:
    """Return ``due`` plus an offset in ``[0, jitter)``, always the same for one seed, schedule and due time."""
    width = schedule.jitter // _MICROSECOND
    if width <= 0:
        return due
    text = f"{seed}\0{identity(schedule)}\0{to_us(due)}"
    drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return due + timedelta(microseconds=drawn * width >> 64)


def fires(
    compiled: CompiledSchedule, after: datetime, *, until: datetime | None = None, limit: int
) -> Iterator[datetime]:
    """Give the fires in ``(after, until]``, in order, at most ``limit`` of them; ``until`` None: without end."""
    for _ in range(limit):
        fire = compiled.next_after(after)
        if fire is None or (until is not None and fire > until):
            return
        yield fire
        after = fire


def preview(compiled: CompiledSchedule, after: datetime, count: int) -> list[Fire]:
    """Return the next ``count`` fires with their local times and notes."""
    found = []
    previous = after.astimezone(UTC)
    for fire in fires(compiled, after, limit=count):
        note = compiled.note(previous, fire)
        found.append(Fire(utc=fire, local=fire.astimezone(compiled.info), note=note))
        previous = fire
    return found
