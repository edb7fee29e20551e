"""What a schedule says of a stretch of time: which fires it has there, and where it has none, why."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from tidemill.core import cron, zones
from tidemill.core.schedules import CompiledSchedule, Schedule, compile_schedule, fires, identity
from tidemill.core.when import Asked
from tidemill.core.why import Finding, Words, stamp
from tidemill.durations import format_duration, span

MOST = 200  # fires looked at, of one stretch
_MICROSECOND = timedelta(microseconds=1)
_LOOKBACKS = (
    timedelta(minutes=2),
    timedelta(hours=2),
    timedelta(days=2),
    timedelta(days=40),
    timedelta(days=400),
    timedelta(days=3700),
)


def called(schedule: Schedule) -> str:
    """Return a schedule in a few words: ``mornings (0 9 * * mon-fri, Europe/Helsinki)``."""
    if schedule.cron is not None:
        rule = f"{' '.join(schedule.cron.split())}, {schedule.timezone}"
    elif schedule.interval is not None:
        rule = f"every {format_duration(schedule.interval)}"
    elif schedule.rrule is not None:
        rule = f"{schedule.rrule.splitlines()[-1].removeprefix('RRULE:')}, {schedule.timezone}"
    else:
        rule = f"once, at {schedule.at}"
    return f"{schedule.name} ({rule})" if schedule.name else f'"{rule}"'


def fires_in(compiled: CompiledSchedule, asked: Asked) -> list[datetime]:
    """Return the fires in a stretch, in both passes where it comes twice; a gap's fire is that at its end."""
    found = list(fires(compiled, asked.first - _MICROSECOND, until=asked.last, limit=MOST))
    if asked.second_pass is not None:
        first, last = asked.second_pass
        found += fires(compiled, first - _MICROSECOND, until=last, limit=MOST)
    return found


def note_on(compiled: CompiledSchedule, due: datetime) -> str | None:
    """Return what a change of the zone's offset did to a fire; None: nothing."""
    previous = last_before(compiled, due)
    return compiled.note(previous or due - timedelta(days=1), due)


def last_before(compiled: CompiledSchedule, when: datetime) -> datetime | None:
    """Return the last fire before an instant, within ten years; None: none, or they cannot be counted."""
    for lookback in _LOOKBACKS:
        try:
            since = when - lookback
        except OverflowError:
            return None
        found = list(fires(compiled, since, until=when - _MICROSECOND, limit=2 * MOST))
        if found:
            return found[-1] if len(found) < 2 * MOST else None
    return None


def why_none(compiled: CompiledSchedule, asked: Asked, words: Words) -> Finding:
    """Return why a schedule has no fire in a stretch."""
    schedule = compiled.schedule
    name = called(schedule)
    bound = _bound(compiled, asked, name, words)
    if bound is not None:
        return bound
    facts: dict[str, object] = {"schedule": identity(schedule)}
    if compiled.is_reboot:
        sentence = f"Schedule {name} fires when the daemon starts, at no time of its own."
        return Finding(kind="reboot", sentence=sentence, facts=facts)
    lost = _lost_in_a_gap(compiled, asked)
    if lost:
        sentence = f"Schedule {name}: {lost}."
        return Finding(kind="dst-gap", sentence=sentence, at=asked.first, facts=facts)
    repeated = _passed_already(compiled, asked, words)
    if repeated is not None:
        sentence = f"Schedule {name} fires once in a repeated hour, in its first pass: {repeated}."
        return Finding(kind="dst-repeat", sentence=sentence, at=asked.first, facts=facts)
    before, after = last_before(compiled, asked.first), compiled.next_after(asked.last)
    around = [f"before that it was due at {words.at(before)}"] if before is not None else []
    around.append(f"next at {words.at(after)}" if after is not None else "never again after that")
    facts |= {"before": stamp(before), "after": stamp(after)}
    misses = _misses(schedule, asked, compiled.info)
    because = f" ({'; '.join(misses)})" if misses else ""
    sentence = f"Schedule {name} does not fire then{because}: {', and '.join(around)}."
    return Finding(kind="not-due", sentence=sentence, facts=facts | {"misses": misses})


def _bound(compiled: CompiledSchedule, asked: Asked, name: str, words: Words) -> Finding | None:
    """Return what keeps fires back that the rule alone would have: start, end, an excluded date, ``active``."""
    schedule = compiled.schedule
    bare = compile_schedule(replace(schedule, start=None, end=None, exclude=()))
    due = next(iter(fires_in(bare, asked)), None)
    if due is None:
        return None
    facts = {"schedule": identity(schedule), "due": stamp(due)}
    start, end = _instant(schedule.start, compiled.info), _instant(schedule.end, compiled.info)
    if start is not None and due < start:
        sentence = f"Schedule {name} begins only at {words.at(start)} (start), so {words.at(due)} is before its time."
        return Finding(kind="before-start", sentence=sentence, at=due, facts=facts | {"start": stamp(start)})
    if end is not None and due >= end:
        sentence = f"Schedule {name} ended at {words.at(end)} (end), so {words.at(due)} is after its time."
        return Finding(kind="after-end", sentence=sentence, at=due, facts=facts | {"end": stamp(end)})
    day, silent = due.astimezone(compiled.info).date(), "did not fire" if due <= words.now else "does not fire"
    if day in schedule.exclude:
        sentence = f"Schedule {name} leaves out {day} (exclude), so it {silent} at {words.at(due)}."
        return Finding(kind="excluded", sentence=sentence, at=due, facts=facts | {"excluded": day.isoformat()})
    if not schedule.active:
        sentence = f"Schedule {name} is not active (active = false), so it {silent} at {words.at(due)}."
        return Finding(kind="inactive", sentence=sentence, at=due, facts=facts)
    return None


def _instant(when: datetime | None, info: ZoneInfo) -> datetime | None:
    if when is None or when.tzinfo is not None:
        return when
    return zones.read(when, info).instant


def _lost_in_a_gap(compiled: CompiledSchedule, asked: Asked) -> str | None:
    """Say that the zone skips the stretch, where it does and nothing was made of it."""
    if not asked.gap or asked.wall is None or _misses(compiled.schedule, asked, compiled.info):
        return None
    skips = f"the clocks go forward by {format_duration(asked.gap)} and skip {asked.wall:%H:%M} that day"
    return f"{skips}, and what fires every matching minute has no fire in a gap"


def _passed_already(compiled: CompiledSchedule, asked: Asked, words: Words) -> str | None:
    """Say when the first pass of a repeated hour was, where the stretch is the second one."""
    local = asked.first.astimezone(compiled.info)
    if not local.fold:
        return None
    reading = zones.read(local.replace(tzinfo=None, fold=0), compiled.info)
    again = replace(asked, first=reading.instant, last=reading.instant + (asked.last - asked.first), second_pass=None)
    found = fires_in(compiled, again)
    return words.at(found[0]) if found else None


def _misses(schedule: Schedule, asked: Asked, info: ZoneInfo) -> list[str]:
    """Say which fields of a cron expression do not match."""
    if schedule.cron is None:
        return []
    # In a gap: the time that was asked for, not the one after it.
    wall = asked.wall if asked.gap and asked.wall else asked.first.astimezone(info).replace(tzinfo=None, fold=0)
    return cron.misses(schedule.cron, wall, day_only=asked.is_day)


def moved_by_jitter(compiled: CompiledSchedule, asked: Asked) -> datetime | None:
    """Return the last fire before a stretch whose jitter may have put its start into it; None: there is none."""
    width = compiled.schedule.jitter
    if not width:
        return None
    before = last_before(compiled, asked.first)
    return before if before is not None and before + width > asked.first else None


def jitter_words(schedule: Schedule) -> str:
    return f"jitter of up to {span(schedule.jitter)}"
