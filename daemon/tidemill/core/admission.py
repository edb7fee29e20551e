"""Who may start next: lines of waiting runs in front of slots.

Runs that meet the same limits stand in one *line*, oldest first. A line whose head may start is *ready*; one whose
head lacks a slot is *parked* under the limit that is full and costs nothing until a slot there is given back. Taking
the next run and giving back a slot are logarithmic in the number of lines, whatever the number of waiting runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from tidemill.core.runs import FlowRun


class Limit(NamedTuple):
    """One thing with slots. ``kind`` is pool, queue, deployment or tag."""

    kind: str
    name: str

    def __str__(self) -> str:
        return {"pool": "work pool", "queue": "work queue"}.get(self.kind, self.kind) + f" {self.name}"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Slots by limit (absent: unbounded), which pools and queues are paused, and queues' priorities (1 goes first)."""

    slots: Mapping[Limit, int] = msgspec.field(default_factory=dict)
    paused: frozenset[Limit] = frozenset()
    priorities: Mapping[str, int] = msgspec.field(default_factory=dict)


class _Line:
    __slots__ = ("held", "limits", "parked", "pool", "queue", "runs", "token")

    def __init__(self, pool: str, queue: str, limits: tuple[Limit, ...]) -> None:
        self.pool = pool
        self.queue = queue
        self.limits = limits
        self.held = (Limit("pool", pool), *limits)  # by each run that was taken from it
        self.runs: list[tuple[datetime, int, str]] = []  # a heap
        self.token = 0  # entries of other tokens in the heaps are stale
        self.parked: Limit | None = None


_Entry = tuple[int, datetime, int, int, int]  # priority, head's time, head's row number, line number, token


class Lineup:
    """The waiting runs of all pools, and the slots that running ones hold."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: dict[str, FlowRun] = {}
        self._waiting_of: dict[str, int] = {}
        self._holding: dict[tuple[str, int], tuple[Limit, ...]] = {}
        self._used: dict[Limit, int] = {}
        self._lines: list[_Line] = []
        self._by_key: dict[tuple[str, str, str | None, tuple[str, ...]], int] = {}
        self._ready: dict[str, list[_Entry]] = {}
        self._parked: dict[Limit, list[_Entry]] = {}
        self._held_back: dict[str, str] = {}  # why nothing can start, by pool
        self._only: Callable[[FlowRun], bool] | None = None  # while it drains: what may start all the same

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._waiting

    def __iter__(self) -> Iterator[FlowRun]:
        return iter(self._waiting.values())

    def get(self, run_id: str) -> FlowRun | None:
        """Return the waiting run of that id."""
        return self._waiting.get(run_id)

    def used(self, limit: Limit) -> int:
        """Return how many slots of ``limit`` are held."""
        return self._used.get(limit, 0)

    def holders(self, limit: Limit) -> list[str]:
        """Return the ids of the runs that hold a slot of ``limit``, longest first."""
        return [run_id for (run_id, _), limits in self._holding.items() if limit in limits]

    def holds(self, run: FlowRun) -> bool:
        """Say whether this very attempt holds its slots (it was taken and not given back)."""
        return (run.id, run.attempt) in self._holding

    def waiting_of(self, deployment: str) -> int:
        """Return how many runs of a deployment wait."""
        return self._waiting_of.get(deployment, 0)

    def offer(self, run: FlowRun) -> None:
        """Put a due run in line, or put its new form in place of the old one."""
        present = self._waiting.get(run.id)
        if present is not None:
            if (present.work_pool, present.work_queue, present.expected_start) == (
                run.work_pool,
                run.work_queue,
                run.expected_start,
            ):
                self._waiting[run.id] = run
                return
            self.withdraw(run.id)
        number = self._line_of(run)
        line = self._lines[number]
        self._waiting[run.id] = run
        if run.deployment is not None:
            self._waiting_of[run.deployment] = self._waiting_of.get(run.deployment, 0) + 1
        heapq.heappush(line.runs, (run.expected_start, run.seq, run.id))
        if line.runs[0][2] == run.id:
            self._queue_up(number)

    def withdraw(self, run_id: str) -> bool:
        """Take a run out of its line (cancelled, deleted, moved); say whether it stood there."""
        # Its entry in the line's heap goes when it comes to the head.
        run = self._waiting.pop(run_id, None)
        if run is None:
            return False
        self._count_out(run)
        return True

    def take(self, pool: str) -> FlowRun | None:
        """Return the run that may start next in ``pool`` and hold its slots for it; None: none may."""
        if pool in self._held_back:
            return None
        own = Limit("pool", pool)
        if own in self._limits.paused or not self._room(own):
            return None
        if self._only is not None:
            return self._take_among(pool, self._only)
        ready = self._ready.get(pool)
        while ready:
            _, _, seq, number, token = heapq.heappop(ready)
            line = self._lines[number]
            run = self._head(line)
            if token != line.token or run is None or run.seq != seq:
                # The head it stood there for was withdrawn. The room that it was woken for may be another line's now.
                if token == line.token and run is not None:
                    self._queue_up(number)
                self._wake_others(line)
                continue
            full = self._full(line)
            if full is not None:
                self._park(number, full)
                self._wake_others(line)
                continue
            heapq.heappop(line.runs)
            del self._waiting[run.id]
            self._count_out(run)
            self._hold(run, line.held)
            if self._head(line) is not None:
                self._queue_up(number)
            self._wake_others(line)
            return run
        return None

    def _take_among(self, pool: str, wanted: Callable[[FlowRun], bool]) -> FlowRun | None:
        # Looks at all that waits, which is only done while the daemon drains.
        for run in self._waiting.values():
            if run.work_pool == pool and wanted(run):
                line = self._lines[self._line_of(run)]
                if self._full(line) is None:
                    self.withdraw(run.id)
                    self._hold(run, line.held)
                    return run
        return None

    def hold(self, run: FlowRun) -> None:
        """Hold the slots of a run that started without standing in line."""
        line = self._lines[self._line_of(run)]
        self._hold(run, line.held)

    def release(self, run: FlowRun) -> None:
        """Give back the slots of ``run`` as it was taken. Releasing twice, or what holds nothing, changes nothing.

        Slots are held by attempt: a retry may be taken before the attempt it follows has given back its own.
        """
        for limit in self._holding.pop((run.id, run.attempt), ()):
            left = self._used[limit] - 1
            if left:
                self._used[limit] = left
            else:
                del self._used[limit]
            if self._parked:
                self._wake(limit)

    def set_limits(self, limits: Limits) -> None:
        """Go by other limits from now on. What is held stays held, above a lowered limit too."""
        self._limits = limits
        for number, line in enumerate(self._lines):
            if self._head(line) is not None:
                self._queue_up(number)

    def hold_back(self, pool: str, reason: str | None) -> None:
        """Let nothing start in ``pool``, for that reason; None: let it start again."""
        if reason is None:
            self._held_back.pop(pool, None)
        else:
            self._held_back[pool] = reason

    def drain(self, only: Callable[[FlowRun], bool] | None) -> None:
        """Let nothing start but what ``only`` says; None: let everything start again."""
        self._only = only

    def reason(self, run: FlowRun) -> str:
        """Say why a waiting run has not started."""
        if self._only is not None and not self._only(run):
            return "the daemon drains: nothing new starts"
        own = Limit("pool", run.work_pool)
        line = self._lines[self._line_of(run)]
        for limit in (own, *line.limits):
            if limit in self._limits.paused:
                return f"{limit} is paused"
        if run.work_pool in self._held_back:
            return self._held_back[run.work_pool]
        for limit in (*line.limits, own):
            if not self._room(limit):
                return f"{limit} is full: {self.used(limit)} of {self._limits.slots[limit]} slots held"
        return "it is next in line"

    def _line_of(self, run: FlowRun) -> int:
        key = (run.work_pool, run.work_queue, run.deployment, run.tags)
        number = self._by_key.get(key)
        if number is None:
            limits = [Limit("queue", run.work_queue)]
            if run.deployment is not None:
                limits.append(Limit("deployment", run.deployment))
            limits.extend(Limit("tag", tag) for tag in run.tags)
            number = self._by_key[key] = len(self._lines)
            self._lines.append(_Line(run.work_pool, run.work_queue, tuple(limits)))
        return number

    def _head(self, line: _Line) -> FlowRun | None:
        runs = line.runs
        while runs:
            when, _, run_id = runs[0]
            run = self._waiting.get(run_id)
            if run is not None and run.expected_start == when:
                return run
            heapq.heappop(runs)
        return None

    def _room(self, limit: Limit) -> bool:
        slots = self._limits.slots.get(limit)
        return slots is None or self._used.get(limit, 0) < slots

    def _full(self, line: _Line) -> Limit | None:
        limits = self._limits
        for limit in line.limits:
            if limit in limits.paused or not self._room(limit):
                return limit
        return None

    def _entry(self, number: int) -> _Entry:
        line = self._lines[number]
        line.token += 1
        when, seq, _ = line.runs[0]
        return (self._limits.priorities.get(line.queue, 1), when, seq, number, line.token)

    def _queue_up(self, number: int) -> None:
        line = self._lines[number]
        line.parked = None
        heapq.heappush(self._ready.setdefault(line.pool, []), self._entry(number))

    def _park(self, number: int, limit: Limit) -> None:
        self._lines[number].parked = limit
        heapq.heappush(self._parked.setdefault(limit, []), self._entry(number))

    def _wake(self, limit: Limit) -> None:
        """Make the first line parked under ``limit`` ready, where there is room; it wakes the next one itself."""
        parked = self._parked.get(limit)
        if not parked or limit in self._limits.paused or not self._room(limit):
            return
        while parked:
            _, _, seq, number, token = heapq.heappop(parked)
            line = self._lines[number]
            run = self._head(line)
            if token != line.token or run is None:
                continue
            if run.seq != seq:
                self._park(number, limit)
                continue
            self._queue_up(number)
            return

    def _wake_others(self, line: _Line) -> None:
        if self._parked:
            for limit in line.limits:
                self._wake(limit)

    def _count_out(self, run: FlowRun) -> None:
        if run.deployment is not None:
            left = self._waiting_of[run.deployment] - 1
            if left:
                self._waiting_of[run.deployment] = left
            else:
                del self._waiting_of[run.deployment]

    def _hold(self, run: FlowRun, limits: tuple[Limit, ...]) -> None:
        self._holding[run.id, run.attempt] = limits
        for limit in limits:
            self._used[limit] = self._used.get(limit, 0) + 1


def limits_of(
    *,
    deployments: Mapping[str, int],
    queues: Mapping[str, tuple[int, int | None, bool]],
    pools: Mapping[str, tuple[int, bool]],
    tags: Mapping[str, int],
) -> Limits:
    """Return the limits of a configuration.

    ``deployments`` and ``tags`` map names to slots; ``queues`` to (priority, slots or None, paused); ``pools`` to
    (slots, paused).
    """
    slots: dict[Limit, int] = {Limit("deployment", name): count for name, count in deployments.items()}
    slots.update({Limit("tag", name): count for name, count in tags.items()})
    slots.update({Limit("queue", name): limit for name, (_, limit, _) in queues.items() if limit is not None})
    slots.update({Limit("pool", name): limit for name, (limit, _) in pools.items()})
    paused = {Limit("queue", name) for name, (_, _, is_paused) in queues.items() if is_paused}
    paused |= {Limit("pool", name) for name, (_, is_paused) in pools.items() if is_paused}
    priorities = {name: priority for name, (priority, _, _) in queues.items()}
    return Limits(slots=slots, paused=frozenset(paused), priorities=priorities)
