"""What a simulation came to: the runs as they would be, and what is worth knowing of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from tidemill.core.states import State, StateType

_ZERO = timedelta(0)
# Starting a run costs some milliseconds, and so does giving back a slot: shorter waits are none.
SHORTEST_WAIT = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)


class Span(msgspec.Struct):
    """One attempt. ``end`` None: it still runs when the simulation ends."""

    begin: datetime
    end: datetime | None = None


class SimulatedRun(msgspec.Struct, kw_only=True):
    """One run as it would be. Instants are aware UTC."""

    deployment: str
    pool: str
    due: datetime | None  # None: made by another run's end, not by a schedule
    expected_start: datetime  # with jitter
    state: State
    attempts: list[Span] = msgspec.field(default_factory=list)
    late: bool = False
    waited_for: str | None = None  # why it could not start at once, in words

    @property
    def begin(self) -> datetime | None:
        """When it first started."""
        return self.attempts[0].begin if self.attempts else None

    def wait(self, end: datetime) -> timedelta:
        """Return how long it waited for its first start; ``end`` is where the simulation ends."""
        if self.state.type is StateType.CANCELLED and not self.attempts:
            return _ZERO
        return max(_ZERO, (self.begin or end) - self.expected_start)


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """A whole simulation, from ``start`` (included) to ``end`` (not included); ``runs`` are in order of time."""

    start: datetime
    end: datetime
    seed: int
    runs: Sequence[SimulatedRun]
    cut_short: bool = False  # there were more runs than it takes: ``end`` is where it stopped


class Summary(msgspec.Struct, kw_only=True):
    """The runs of one deployment, counted. ``states`` are by the name of the state that each ended in."""

    deployment: str
    runs: int = 0
    states: Counter[str] = msgspec.field(default_factory=Counter)
    late: int = 0
    retried: int = 0  # attempts after the first
    overlaps: int = 0  # runs that started while an earlier one still ran
    longest_wait: timedelta = _ZERO
    busy: timedelta = _ZERO  # of all attempts
    first: datetime | None = None
    last: datetime | None = None


class Waiting(msgspec.Struct, kw_only=True):
    """What runs had to wait for."""

    reason: str
    runs: int = 0
    late: int = 0
    total: timedelta = _ZERO
    longest: timedelta = _ZERO
    worst: SimulatedRun | None = None  # the one that waited longest
    deployments: Counter[str] = msgspec.field(default_factory=Counter)


class Ended(msgspec.Struct, kw_only=True):
    """Runs of one deployment that ended in other ways than well, by what was said of them."""

    deployment: str
    state: str
    reason: str
    runs: int = 0
    first: datetime
    last: datetime


class Minute(msgspec.Struct, kw_only=True):
    """A minute in which runs start. ``deployments`` are in order of time."""

    begin: datetime
    starts: int
    deployments: tuple[str, ...]


class Crowd(msgspec.Struct, kw_only=True):
    """The most runs at a time in a pool, and when that was first so."""

    pool: str
    runs: int
    at: datetime


def summaries(simulated: Simulated, deployments: Iterable[str]) -> list[Summary]:
    """Return each deployment's summary, in the order given, also of those without runs."""
    found = {name: Summary(deployment=name) for name in deployments}
    running_until: dict[str, datetime] = {}
    for run in simulated.runs:
        summary = found.setdefault(run.deployment, Summary(deployment=run.deployment))
        summary.runs += 1
        summary.states[run.state.name] += 1
        summary.late += run.late
        summary.retried += max(0, len(run.attempts) - 1)
        summary.longest_wait = max(summary.longest_wait, run.wait(simulated.end))
        summary.first = summary.first or run.expected_start
        summary.last = run.expected_start
    overlapping: set[int] = set()
    for run, span in spans(simulated.runs):
        summary = found[run.deployment]
        end = span.end or simulated.end
        summary.busy += end - span.begin
        before = running_until.get(run.deployment)
        if before is not None and before > span.begin and id(run) not in overlapping:
            overlapping.add(id(run))
            summary.overlaps += 1
        running_until[run.deployment] = max(end, before or end)
    return list(found.values())


def spans(runs: Iterable[SimulatedRun]) -> list[tuple[SimulatedRun, Span]]:
    """Return every attempt with its run, in the order in which they begin."""
    return sorted(((run, span) for run in runs for span in run.attempts), key=lambda pair: pair[1].begin)


def waitings(simulated: Simulated) -> list[Waiting]:
    """Return what runs waited for, the longest wait in all first."""
    found: dict[str, Waiting] = {}
    for run in simulated.runs:
        lasted = run.wait(simulated.end)
        if run.waited_for is None or lasted < SHORTEST_WAIT:
            continue
        waiting = found.setdefault(run.waited_for, Waiting(reason=run.waited_for))
        waiting.runs += 1
        waiting.late += run.late
        waiting.total += lasted
        waiting.deployments[run.deployment] += 1
        if waiting.worst is None or lasted > waiting.longest:
            waiting.longest, waiting.worst = lasted, run
    return sorted(found.values(), key=lambda waiting: -waiting.total)


def endings(simulated: Simulated) -> list[Ended]:
    """Return what did not end well, by deployment and reason, most runs first."""
    found: dict[tuple[str, str, str], Ended] = {}
    for run in simulated.runs:
        if not run.state.is_terminal or run.state.type is StateType.COMPLETED:
            continue
        at = run.expected_start
        key = run.deployment, run.state.name, run.state.message or ""
        ended = found.setdefault(
            key, Ended(deployment=run.deployment, state=run.state.name, reason=key[2], first=at, last=at)
        )
        ended.runs += 1
        ended.last = at
    return sorted(found.values(), key=lambda ended: -ended.runs)


def busiest_minutes(simulated: Simulated, count: int) -> list[Minute]:
    """Return up to ``count`` minutes in which most runs start, if more than one does; those of most runs first."""
    starts: dict[datetime, list[str]] = {}
    for run, span in spans(simulated.runs):
        minute = span.begin.replace(second=0, microsecond=0)
        starts.setdefault(minute, []).append(run.deployment)
    crowded = sorted(
        ((begin, names) for begin, names in starts.items() if len(names) > 1), key=lambda each: -len(each[1])
    )
    return [
        Minute(begin=begin, starts=len(names), deployments=tuple(dict.fromkeys(names)))
        for begin, names in crowded[:count]
    ]


def crowds(simulated: Simulated) -> list[Crowd]:
    """Return for each pool the most runs that run in it at a time."""
    found: dict[str, Crowd] = {}
    for pool, moments in _by_pool(simulated).items():
        most = now = 0
        for at, change in sorted(moments):  # at one instant, who ends goes before who begins
            now += change
            if now > most:
                most = now
                found[pool] = Crowd(pool=pool, runs=most, at=at)
    return [found[pool] for pool in sorted(found)]


def _by_pool(simulated: Simulated) -> Mapping[str, list[tuple[datetime, int]]]:
    moments: dict[str, list[tuple[datetime, int]]] = {}
    for run in simulated.runs:
        for span in run.attempts:
            moments.setdefault(run.pool, []).extend([(span.begin, 1), (span.end or simulated.end, -1)])
    return moments


def load(simulated: Simulated, steps: int) -> Iterator[float]:
    """Give how many runs run, on average, in each of so many equal parts of the time."""
    step = (simulated.end - simulated.start) / steps
    busy = [0.0] * steps
    for run in simulated.runs:
        for span in run.attempts:
            begin = (span.begin - simulated.start) / step
            end = ((span.end or simulated.end) - simulated.start) / step
            first, last = int(begin), min(int(end), steps - 1)
            for part in range(first, last + 1):
                busy[part] += max(0.0, min(end, part + 1) - max(begin, part))
    yield from busy
