"""What changes of the clocks (summer time) do to schedules in a stretch of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from tidemill.core import zones
from tidemill.core.schedules import CompiledSchedule, fires

# Every fire that a change moves, repeats or leaves out lies this near to it, or is the first one after it.
NEAR = timedelta(hours=3)
MOST = 20_000  # fires of one schedule that are looked at around one change: six hours of one each second fit


class Affected(msgspec.Struct, frozen=True, kw_only=True):
    """Fires of one deployment of which the same is to be said; ``first`` is the first one's local time."""

    deployment: str
    note: str
    fires: int
    first: datetime


class ClockChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a zone's offset; ``before`` and ``after`` are the same instant on the two walls."""

    at: datetime
    zone: str
    before: datetime
    after: datetime
    affected: tuple[Affected, ...]


def clock_changes(
    schedules: Mapping[str, Sequence[CompiledSchedule]], start: datetime, end: datetime
) -> list[ClockChange]:
    """Return every change of the clocks in ``(start, end]`` in a zone of these schedules, in order of time."""
    infos = {each.info.key: each.info for many in schedules.values() for each in many}
    found: list[ClockChange] = []
    for info in infos.values():
        at = zones.next_change(start, end, info)
        while at is not None:
            found.append(_change(at, info, schedules, start, end))
            at = zones.next_change(at, end, info)
    return sorted(found, key=lambda change: (change.at, change.zone))


def _change(
    at: datetime, info: ZoneInfo, schedules: Mapping[str, Sequence[CompiledSchedule]], start: datetime, end: datetime
) -> ClockChange:
    affected: list[Affected] = []
    for name, many in schedules.items():
        notes: dict[str, list[datetime]] = {}
        for compiled in many:
            if compiled.info.key == info.key and compiled.schedule.active:
                for note, fire in _notes(compiled, at, max(start, at - NEAR), min(end, at + NEAR), end):
                    notes.setdefault(note, []).append(fire)
        affected += [
            Affected(deployment=name, note=note, fires=len(found), first=min(found).astimezone(info))
            for note, found in notes.items()
        ]
    before = at.astimezone(info)
    moment = at - timedelta(seconds=1)
    wall = moment.astimezone(info) + timedelta(seconds=1)  # wall arithmetic: the time at which the clocks are changed
    return ClockChange(at=at, zone=info.key, before=wall, after=before, affected=tuple(affected))


def _notes(
    compiled: CompiledSchedule, at: datetime, begin: datetime, until: datetime, end: datetime
) -> list[tuple[str, datetime]]:
    """Return what is to be said of the fires around a change, and which fire each is said of."""
    found = []
    previous = begin
    for fire in fires(compiled, begin - timedelta(microseconds=1), limit=MOST):
        if fire >= end or (fire > until and previous >= at):
            break
        note = compiled.note(previous, fire)
        if note is not None:
            found.append((note, fire))
        previous = fire
    return found
