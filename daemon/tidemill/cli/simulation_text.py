"""What a simulation came to, for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from tidemill.cli import text, times
from tidemill.config.settings import Settings
from tidemill.core import simulations, zones
from tidemill.core.clock_changes import Affected, ClockChange
from tidemill.core.simulations import Simulated, SimulatedRun, Summary

FEW_RUNS = 40  # so many are listed without being asked for
MINUTES = 5  # the busiest that are shown
ROWS = 20  # of any other section
NAMES = 6  # of deployments in one line


# What differs between notes that say the same.
_TIMES = re.compile(r"\d[\d:, -]*")


class _Local:
    """Instants in the configuration's zone."""

    def __init__(self, timezone: str) -> None:
        self.name = timezone
        self._info = zones.zone(timezone)

    def minute(self, when: datetime | None) -> str:
        return "" if when is None else f"{when.astimezone(self._info):%a %Y-%m-%d %H:%M}"

    def second(self, when: datetime | None) -> str:
        return "" if when is None else f"{when.astimezone(self._info):%a %Y-%m-%d %H:%M:%S}"

    def offset(self, when: datetime) -> str:
        return f"{when.astimezone(self._info):%a %Y-%m-%d %H:%M %z}"


def report(
    simulated: Simulated,
    changes: Sequence[ClockChange],
    settings: Settings,
    notes: Sequence[str],
    source: str,
    *,
    every_run: bool,
) -> str:
    """Return the whole report."""
    local = _Local(settings.daemon.timezone)
    parts = [_head(simulated, source, local)]
    if every_run or 0 < len(simulated.runs) <= FEW_RUNS:
        parts.append(_runs(simulated, local))
    parts.append(_deployments(simulated, settings, local))
    parts += [
        _section("Waiting", _waits(simulated, local)),
        _section("Skipped, cancelled, failed", _endings(simulated, local)),
        _section("Overlaps: a run started while an earlier one of the same deployment still ran", _overlaps(simulated)),
        _section("The clocks change", _changes(changes, local)),
        _section("Busiest minutes", _busiest(simulated, local)),
        _section("Most runs at a time", _crowds(simulated, settings, local)),
        _section("Notes", [text.clean(note) for note in notes]),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(simulated: Simulated, source: str, local: _Local) -> str:
    counts: dict[str, int] = {}
    for run in simulated.runs:
        name = (
            run.state.name if run.state.is_terminal else "running at the end" if run.attempts else "waiting at the end"
        )
        counts[name] = counts.get(name, 0) + 1
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda each: -each[1]))
    return (
        f"{text.clean(source)}, simulated from {local.offset(simulated.start)} to "
        f"{local.offset(simulated.end)} ({local.name})\n"
        f"{len(simulated.runs):,} runs" + (f": {told}" if told else "")
    )


def _section(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    more = [f"  … and {len(lines) - ROWS} more; --output json has all"] if len(lines) > ROWS else []
    return "\n".join([title, *(f"  {line}" for line in lines[:ROWS]), *more])


def _runs(simulated: Simulated, local: _Local) -> str:
    columns = [
        text.Column("DUE"),
        text.Column("DEPLOYMENT", below=True),
        text.Column("STATE"),
        text.Column("WAITED", right=True),
        text.Column("STARTED"),
        text.Column("TOOK", right=True),
        text.Column("ATTEMPTS", right=True, optional=True),
    ]
    rows = [
        (
            local.second(run.due or run.expected_start),
            run.deployment,
            run.state.name,
            _span(run.wait(simulated.end)),
            local.second(run.begin),
            times.span(_took(run, simulated.end)) if run.attempts else "",
            len(run.attempts) if len(run.attempts) > 1 else "",
        )
        for run in simulated.runs
    ]
    return text.table(columns, rows, states=[run.state.type for run in simulated.runs])


def _took(run: SimulatedRun, end: datetime) -> float:
    return sum(((span.end or end) - span.begin for span in run.attempts), timedelta(0)).total_seconds()


def _span(lasted: timedelta) -> str:
    return times.span(lasted.total_seconds()) if lasted >= simulations.SHORTEST_WAIT else ""


def _deployments(simulated: Simulated, settings: Settings, local: _Local) -> str:
    columns = [
        text.Column("DEPLOYMENT", below=True),
        text.Column("RUNS", right=True),
        text.Column("FAILED", right=True),
        text.Column("LATE", right=True),
        text.Column("SKIPPED", right=True),
        text.Column("LONGEST WAIT", right=True),
        text.Column("BUSY", right=True, optional=True),
        text.Column("FIRST", optional=True),
        text.Column("LAST", optional=True),
    ]
    whole = simulated.end - simulated.start
    rows = [
        (
            each.deployment,
            each.runs or "none",
            _failed(each) or "",
            each.late or "",
            sum(each.states[name] for name in ("Skipped", "Cancelled", "Cancelling")) or "",
            _span(each.longest_wait),
            f"{100 * (each.busy / whole):.1f} %" if each.busy else "",
            local.minute(each.first),
            local.minute(each.last),
        )
        for each in simulations.summaries(simulated, settings.deployments)
    ]
    return text.table(columns, rows)


def _failed(each: Summary) -> int:
    return sum(each.states[name] for name in ("Failed", "TimedOut", "Crashed"))


def _waits(simulated: Simulated, local: _Local) -> list[str]:
    lines = []
    for waiting in simulations.waitings(simulated):
        late = f", {waiting.late} of them late" if waiting.late else ""
        lines.append(
            f"{waiting.reason}: {waiting.runs} {'run' if waiting.runs == 1 else 'runs'} waited{late}, "
            f"{times.span(waiting.total.total_seconds())} in all"
        )
        if waiting.worst is not None:
            lines.append(
                f"  longest {times.span(waiting.longest.total_seconds())}: {waiting.worst.deployment} of "
                f"{local.minute(waiting.worst.expected_start)}" + _others(list(waiting.deployments))
            )
    return lines


def _others(names: list[str]) -> str:
    if len(names) == 1:
        return ""
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"; of {', '.join(names[:NAMES])}{more}"


def _endings(simulated: Simulated, local: _Local) -> list[str]:
    lines = []
    for ended in simulations.endings(simulated):
        when = local.minute(ended.first)
        if ended.runs > 1:
            when += f" to {local.minute(ended.last)}"
        lines.append(f"{ended.deployment}: {ended.runs} {ended.state}, {when}")
        if ended.reason:
            lines.append(f"  {text.clean(ended.reason)}")
    return lines


def _overlaps(simulated: Simulated) -> list[str]:
    return [
        f"{each.deployment}: {each.overlaps} times; concurrency_limit = 1 lets them wait, "
        'with collision_strategy = "cancel_new" they are skipped'
        for each in simulations.summaries(simulated, ())
        if each.overlaps
    ]


def _changes(changes: Sequence[ClockChange], local: _Local) -> list[str]:
    lines = []
    for change in changes:
        forward = change.after.replace(tzinfo=None) > change.before.replace(tzinfo=None)
        lines.append(
            f"{change.zone}, {change.before:%a %Y-%m-%d}: {change.before:%H:%M} becomes {change.after:%H:%M}, "
            + ("the wall times between are left out" if forward else "the wall times between come twice")
        )
        if not change.affected:
            lines.append("  no schedule is affected")
        alike: dict[str, list[Affected]] = {}
        for each in change.affected:
            alike.setdefault(_TIMES.sub("", each.note), []).append(each)
        for group in alike.values():
            first = group[0]
            fires = f"{first.fires} fires from {first.first:%H:%M}" if first.fires > 1 else f"{first.first:%a %H:%M}"
            lines.append(f"  {first.deployment}: {fires}: {text.clean(first.note)}")
            if len(group) > 1:
                names = [each.deployment for each in group[1:]]
                more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
                lines.append(f"    likewise {', '.join(names[:NAMES])}{more}")
    return lines


def _busiest(simulated: Simulated, local: _Local) -> list[str]:
    lines = []
    for minute in simulations.busiest_minutes(simulated, MINUTES):
        names = list(minute.deployments)
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        lines.append(f"{local.minute(minute.begin)}  {minute.starts} starts: {', '.join(names[:NAMES])}{more}")
    return lines


def _crowds(simulated: Simulated, settings: Settings, local: _Local) -> list[str]:
    lines = []
    for crowd in simulations.crowds(simulated):
        pool = settings.work_pools.get(crowd.pool)
        limit = f" of {pool.concurrency_limit}" if pool is not None else ""
        lines.append(f"work pool {crowd.pool}: {crowd.runs}{limit}, {local.second(crowd.at)}")
    return lines
