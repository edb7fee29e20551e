"""A simulation as a drawing: a row for each deployment, time from left to right. SVG, with nothing outside the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from tidemill.core import simulations, zones
from tidemill.core.clock_changes import ClockChange
from tidemill.core.simulations import Simulated, SimulatedRun
from tidemill.core.states import StateType

PLOT = 1080  # pixels from the first to the last instant
ROW = 17
BAR = 9
LETTER = 6.7  # pixels a letter of a name takes, at most
LONGEST_NAME = 34
LOAD = 48  # height of the strip that shows how many run at a time
TOP = 96 + LOAD
LEAST = 1.4  # pixels: a run of a second is seen in two weeks, too
MOST_ROWS = 500
TICK = 62  # pixels between two marks of time, at least

_DAY = timedelta(days=1)
_HOURS = (1, 2, 3, 6, 12)
_DAYS = (1, 2, 7, 14, 28, 91, 364)

STYLE = """
svg { background: #fff; font: 11px system-ui, sans-serif; }
text { fill: #333; } .soft { fill: #777; } .title { font-size: 15px; font-weight: 600; }
.grid { stroke: #e6e6e6; } .day { stroke: #c9c9c9; } .stripe { fill: #f6f7f8; }
.ok { stroke: #2b7a78; } .bad { stroke: #c0392b; } .wait { stroke: #e39a2d; } .skip { stroke: #8a8f98; }
.load { fill: #2b7a7855; } .clock { stroke: #7a4fb5; stroke-dasharray: 4 3; } .clocktext { fill: #7a4fb5; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181b; } text { fill: #ddd; } .soft { fill: #999; }
  .grid { stroke: #2a2d31; } .day { stroke: #454a50; } .stripe { fill: #1c1f23; }
  .ok { stroke: #4fb3a9; } .bad { stroke: #e8685a; } .wait { stroke: #f0b357; } .skip { stroke: #8d949e; }
  .load { fill: #4fb3a955; } .clock { stroke: #b48ee8; } .clocktext { fill: #b48ee8; }
}
"""


class _Scale:
    def __init__(self, simulated: Simulated, left: float) -> None:
        self.start, self.end, self.left = simulated.start, simulated.end, left
        self._whole = simulated.end - simulated.start

    def x(self, when: datetime) -> float:
        """Return where an instant lies, in pixels from the left."""
        inside = min(max(when, self.start), self.end)
        return self.left + PLOT * ((inside - self.start) / self._whole)


def draw(
    simulated: Simulated, changes: Sequence[ClockChange], deployments: Iterable[str], *, timezone: str, title: str
) -> str:
    """Return the drawing: what ran, waited, failed and was skipped; how many at a time; where the clocks change."""
    info = zones.zone(timezone)
    by_name: dict[str, list[SimulatedRun]] = {name: [] for name in deployments}
    for run in simulated.runs:
        by_name.setdefault(run.deployment, []).append(run)
    names = [name for name, runs in by_name.items() if runs]
    shown = names[:MOST_ROWS]
    left = 24 + LETTER * min(LONGEST_NAME, max((len(name) for name in shown), default=10))
    scale = _Scale(simulated, left)
    bottom = TOP + ROW * len(shown)
    width, height = round(left + PLOT + 24), bottom + 40 + (16 if len(names) > len(shown) else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}: {len(simulated.runs)} simulated runs</title>",
        f"<style>{STYLE}</style>",
        _heading(simulated, info, timezone, title),
        *(
            f'<rect class="stripe" x="0" y="{TOP + ROW * number}" width="{width}" height="{ROW}"/>'
            for number in range(0, len(shown), 2)
        ),
        *_ticks(scale, info, bottom),
        *_load(simulated, scale),
        *(_row(name, by_name[name], TOP + ROW * number, scale) for number, name in enumerate(shown)),
        *_clock_changes(changes, scale, bottom),
        _legend(left, bottom + 24),
    ]
    if len(names) > len(shown):
        parts.append(
            f'<text class="soft" x="12" y="{height - 8}">{len(names) - len(shown)} more have no room here</text>'
        )
    parts.append("</svg>\n")
    return "\n".join(part for part in parts if part)


def _heading(simulated: Simulated, info: ZoneInfo, timezone: str, title: str) -> str:
    begin, end = simulated.start.astimezone(info), simulated.end.astimezone(info)
    return (
        f'<text class="title" x="12" y="24">{escape(title)}</text>'
        f'<text class="soft" x="12" y="42">{begin:%a %Y-%m-%d %H:%M} to {end:%a %Y-%m-%d %H:%M}, '
        f"{escape(timezone)} · {len(simulated.runs):,} runs</text>"
    )


def _ticks(scale: _Scale, info: ZoneInfo, bottom: int) -> Iterator[str]:
    for when, label, is_day in marks(scale.start, scale.end, info):
        x = scale.x(when)
        yield f'<line class="{"day" if is_day else "grid"}" x1="{x:.1f}" y1="{TOP - 18}" x2="{x:.1f}" y2="{bottom}"/>'
        if x < scale.left + PLOT - 30:
            yield f'<text class="soft" x="{x + 3:.1f}" y="{TOP - 8}">{label}</text>'


def marks(start: datetime, end: datetime, info: ZoneInfo) -> Iterator[tuple[datetime, str, bool]]:
    """Give the instants to mark, each with its label and whether a local day begins there."""
    room = max(1, PLOT // TICK)
    whole = end - start
    hours = next((each for each in _HOURS if whole / timedelta(hours=each) <= room), None)
    days = 1 if hours else next((each for each in _DAYS if whole / timedelta(days=each) <= room), _DAYS[-1])
    midnight = start.astimezone(info).replace(tzinfo=None, fold=0, hour=0, minute=0, second=0, microsecond=0)
    while True:
        at = zones.read(midnight, info).instant
        if at >= end:
            return
        if at >= start:
            yield at, f"{midnight:%a %d %b}", True
        for hour in range(hours or 24, 24, hours or 24):
            wall = midnight + timedelta(hours=hour)
            at = zones.read(wall, info).instant
            if start <= at < end:
                yield at, f"{wall:%H:%M}", False
        midnight += days * _DAY


def _load(simulated: Simulated, scale: _Scale) -> Iterator[str]:
    steps = PLOT // 2
    values = list(simulations.load(simulated, steps))
    most = max(values, default=0.0)
    if most <= 0:
        return
    base = TOP - 24
    points = " ".join(
        f"{scale.left + 2 * n:.0f},{base - LOAD * value / most:.1f} {scale.left + 2 * n + 2:.0f},"
        f"{base - LOAD * value / most:.1f}"
        for n, value in enumerate(values)
    )
    yield f'<polygon class="load" points="{scale.left:.0f},{base} {points} {scale.left + PLOT:.0f},{base}"/>'
    crowd = max((each.runs for each in simulations.crowds(simulated)), default=0)
    yield f'<text class="soft" x="12" y="{base - LOAD / 2:.0f}">at a time:</text>'
    yield f'<text class="soft" x="12" y="{base - LOAD / 2 + 14:.0f}">{crowd} at most</text>'


def _row(name: str, runs: Sequence[SimulatedRun], top: int, scale: _Scale) -> str:
    middle = top + ROW / 2
    lines: dict[str, list[tuple[float, float]]] = {"wait": [], "ok": [], "bad": [], "skip": []}
    for run in runs:
        begin = run.begin
        if not run.attempts and run.state.type is StateType.CANCELLED:
            lines["skip"].append((scale.x(run.expected_start), scale.x(run.expected_start)))
        elif begin is None or begin - run.expected_start >= simulations.SHORTEST_WAIT:
            lines["wait"].append((scale.x(run.expected_start), scale.x(begin or scale.end)))
        last = len(run.attempts) - 1
        for number, span in enumerate(run.attempts):
            failed = number < last or run.state.type in (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
            lines["bad" if failed else "ok"].append((scale.x(span.begin), scale.x(span.end or scale.end)))
    shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    parts = [
        f"<g><title>{escape(_told(name, runs))}</title>",
        f'<text x="12" y="{middle + 4:.1f}">{escape(shown)}</text>',
    ]
    for kind, heights in (("wait", 3), ("ok", BAR), ("bad", BAR), ("skip", BAR)):
        path = "".join(f"M{x:.1f} {middle:.1f}h{length:.1f}" for x, length in merged(lines[kind]))
        if path:
            parts.append(f'<path class="{kind}" stroke-width="{heights}" d="{path}"/>')
    return "".join([*parts, "</g>"])


def merged(lines: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Give (begin, length) of stretches, those that touch as one: a hundred thousand runs make a few thousand."""
    begin = end = None
    for first, last in sorted(lines):
        until = max(last, first + LEAST)
        if begin is None or end is None:
            begin, end = first, until
        elif first <= end + 0.1:
            end = max(end, until)
        else:
            yield begin, end - begin
            begin, end = first, until
    if begin is not None and end is not None:
        yield begin, end - begin


def _told(name: str, runs: Sequence[SimulatedRun]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.state.name] = counts.get(run.state.name, 0) + 1
    late = sum(run.late for run in runs)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{name}: {told}" + (f"; {late} late" if late else "")


def _clock_changes(changes: Sequence[ClockChange], scale: _Scale, bottom: int) -> Iterator[str]:
    seen: set[datetime] = set()
    top = TOP - 24 - LOAD - 14
    for change in changes:
        at = change.at.astimezone(UTC)
        if at in seen:
            continue
        seen.add(at)
        x = scale.x(at)
        yield f'<line class="clock" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'
        yield (
            f'<text class="clocktext" x="{x + 3:.1f}" y="{top + 8}">{change.before:%H:%M} → {change.after:%H:%M} '
            f"{escape(change.zone)}</text>"
        )


def _legend(left: float, y: int) -> str:
    parts = []
    x = left
    kinds = (("ok", BAR, "runs"), ("wait", 3, "waits"), ("bad", BAR, "fails or is cancelled"), ("skip", BAR, "skipped"))
    for kind, thick, label in kinds:
        parts.append(f'<path class="{kind}" stroke-width="{thick}" d="M{x:.0f} {y}h18"/>')
        parts.append(f'<text class="soft" x="{x + 24:.0f}" y="{y + 4}">{label}</text>')
        x += 44 + LETTER * len(label)
    return "".join(parts)
