"""Metrics: what Prometheus is told. Events are counted as they pass; the rest is looked up when somebody asks.

Counters begin at the daemon's start. What is counted by deployment is counted for those that ran.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import tidemill
from tidemill.clock import Clock
from tidemill.core.admission import Limit
from tidemill.core.events import Event, FiresSkipped, RunChanged
from tidemill.core.histograms import Histogram
from tidemill.core.states import StateType
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.status import Status
from tidemill.services.worker import Worker
from tidemill.store import Store, figures

# Seconds. A start that is late by more than a minute waited for a slot; by more than an hour, for a person.
LATENESS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)
TURNS = 3  # of the loop, to see how long one takes


class Metric(NamedTuple):
    """One metric: its name, what it is (gauge, counter, histogram, summary), what it tells, and its labels."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


METRICS = (
    Metric("tidemill_build_info", "gauge", "1, with what runs here", ("version", "python", "sqlite")),
    Metric("tidemill_start_time_seconds", "gauge", "when the daemon started, in seconds since 1970"),
    Metric("tidemill_problems", "gauge", "what keeps the daemon from being well; `tidemill status` names it"),
    Metric("tidemill_deployments", "gauge", "deployments in the configuration in force"),
    Metric("tidemill_flow_runs", "gauge", "flow runs that have not ended, by state", ("state",)),
    Metric(
        "tidemill_flow_runs_finished_total", "counter", "flow runs that ended, by the state they ended in",
        ("deployment", "state"),
    ),
    Metric("tidemill_flow_run_retries_total", "counter", "attempts that failed and are tried again", ("deployment",)),
    Metric(
        "tidemill_flow_run_duration_seconds", "summary", "how long runs that ended ran, without their waiting",
        ("deployment",),
    ),
    Metric(
        "tidemill_flow_run_start_lateness_seconds", "histogram", "from an attempt's due time to the start of its code"
    ),
    Metric("tidemill_skipped_fires_total", "counter", "fires of schedules that made no run", ("deployment",)),
    Metric(
        "tidemill_deployment_last_success_timestamp_seconds", "gauge",
        "when a run last completed, in seconds since 1970; absent: never", ("deployment",),
    ),
    Metric("tidemill_work_queue_waiting", "gauge", "due runs that wait in the queue", ("work_queue",)),
    Metric("tidemill_work_queue_running", "gauge", "runs that hold a slot of the queue", ("work_queue",)),
    Metric("tidemill_work_queue_paused", "gauge", "1: nothing is taken from the queue", ("work_queue",)),
    Metric("tidemill_work_pool_running", "gauge", "runs that hold a slot of the pool", ("work_pool",)),
    Metric("tidemill_work_pool_slots", "gauge", "runs that may run in the pool at a time", ("work_pool",)),
    Metric("tidemill_work_pool_paused", "gauge", "1: nothing starts in the pool", ("work_pool",)),
    Metric(
        "tidemill_work_pool_abandoned", "gauge", "runs whose code did not stop and still holds its slot", ("work_pool",)
    ),
    Metric("tidemill_loop_lag_seconds", "gauge", "how long a turn of the event loop took when this was asked"),
    Metric("tidemill_loop_blocked_total", "counter", "times that a run's code held everything else up"),
    Metric("tidemill_loop_blocked_longest_seconds", "gauge", "the longest of those times"),
    Metric("tidemill_commit_seconds", "histogram", "how long a commit took, with the writing of its group"),
    Metric("tidemill_committed_changes_total", "counter", "changes that were committed, several in a commit"),
    Metric("tidemill_changes_waiting", "gauge", "changes that waited for the next commit at the last one", ("lane",)),
    Metric("tidemill_changes_dropped_total", "counter", "lines and reports that could not be kept"),
    Metric("tidemill_database_degraded", "gauge", "1: writing fails; nothing starts that is not recorded"),
    Metric("tidemill_database_bytes", "gauge", "size of the database", ("part",)),
    Metric("tidemill_log_lines_dropped_total", "counter", "lines that the daemon's own log had no room for"),
)  # fmt: skip

Labels = tuple[str, ...]
Value = float | Histogram | tuple[int, float]
"""Of a summary: how many, and their sum."""
Sample = tuple[Labels, Value]


class Lag(Protocol):
    """Who watches the loop."""

    episodes: int
    longest_s: float


class Metrics:
    """Counts what passes on the bus; :meth:`collect` adds how things are now."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        dispatcher: Dispatcher,
        workers: Mapping[str, Worker],
        status: Status,
        clock: Clock,
        bus: EventBus,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._dispatcher = dispatcher
        self._workers = workers
        self._status = status
        self._clock = clock
        self._started = clock.now()
        self.lag: Lag | None = None
        self._finished: dict[Labels, int] = {}
        self._durations: dict[str, tuple[int, float]] = {}
        self._retries: dict[str, int] = {}
        self._skipped: dict[str, int] = {}
        self._succeeded: dict[str, float] = {}
        self._looked_back = False
        self._lateness = Histogram(LATENESS_S)
        bus.listen(self.hear)

    def hear(self, events: Sequence[Event]) -> None:
        """Count committed events."""
        for event in events:
            if type(event) is RunChanged:
                self._changed(event)
            elif type(event) is FiresSkipped:
                name = event.skipped.deployment
                self._skipped[name] = self._skipped.get(name, 0) + event.skipped.count

    def _changed(self, event: RunChanged) -> None:
        run, before = event.run, event.before
        state, name = run.state, run.deployment or ""
        if state.type is StateType.RUNNING:
            if before is not None and before.type is StateType.SCHEDULED:
                self._lateness.observe(max(0.0, (state.timestamp - run.expected_start).total_seconds()))
        elif state.is_terminal:
            self._finished[name, state.name] = self._finished.get((name, state.name), 0) + 1
            if run.attempt:
                count, seconds = self._durations.get(name, (0, 0.0))
                self._durations[name] = count + 1, seconds + run.run_time_s
            if state.type is StateType.COMPLETED and name:
                self._succeeded[name] = state.timestamp.timestamp()
        elif state.name == "AwaitingRetry" and before is not None and not before.is_terminal:
            self._retries[name] = self._retries.get(name, 0) + 1

    async def collect(self) -> dict[str, list[Sample]]:
        """Return the samples of every metric, by its name."""
        if not self._looked_back:
            earlier = await self._store.read(figures.last_success)
            self._succeeded = {**earlier, **self._succeeded}
            self._looked_back = True
        lag_s = await self._loop_lag()
        path = self._store.path
        found = await self._store.read(lambda connection: figures.figures(connection, path))
        samples = dict(self._own(lag_s, found))
        samples.update(self._queues())
        samples.update(self._pools())
        return samples

    async def _loop_lag(self) -> float:
        longest = 0.0
        for _ in range(TURNS):
            began = self._clock.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, self._clock.monotonic() - began)
        return longest

    def _own(self, lag_s: float, found: figures.Figures) -> Iterator[tuple[str, list[Sample]]]:
        stats, lag = self._store.stats, self.lag
        versions = (tidemill.__version__, ".".join(map(str, sys.version_info[:3])), sqlite3.sqlite_version)
        yield "tidemill_build_info", [(versions, 1)]
        yield "tidemill_start_time_seconds", [((), self._started.timestamp())]
        yield "tidemill_problems", [((), len(self._status.problems()))]
        yield "tidemill_deployments", [((), len(self._catalogue.deployments))]
        yield "tidemill_flow_runs", [((name,), count) for name, count in found.unfinished.items()]
        yield "tidemill_flow_runs_finished_total", list(self._finished.items())
        yield "tidemill_flow_run_retries_total", _by_name(self._retries)
        yield "tidemill_flow_run_duration_seconds", _by_name(self._durations)
        yield "tidemill_flow_run_start_lateness_seconds", [((), self._lateness)]
        yield "tidemill_skipped_fires_total", _by_name(self._skipped)
        known = self._catalogue.deployments
        yield (
            "tidemill_deployment_last_success_timestamp_seconds",
            [((name,), at) for name, at in self._succeeded.items() if name in known],
        )
        yield "tidemill_loop_lag_seconds", [((), lag_s)]
        yield "tidemill_loop_blocked_total", [((), lag.episodes if lag else 0)]
        yield "tidemill_loop_blocked_longest_seconds", [((), lag.longest_s if lag else 0)]
        yield "tidemill_commit_seconds", [((), stats.commits)]
        yield "tidemill_committed_changes_total", [((), stats.items)]
        yield "tidemill_changes_waiting", [(("states",), stats.backlog), (("logs",), stats.backlog_logs)]
        yield "tidemill_changes_dropped_total", [((), stats.dropped)]
        yield "tidemill_database_degraded", [((), int(self._store.degraded is not None))]
        yield (
            "tidemill_database_bytes",
            [(("used",), found.used_bytes), (("file",), found.file_bytes), (("wal",), found.wal_bytes)],
        )
        yield "tidemill_log_lines_dropped_total", [((), self._status.dropped_lines())]

    def _queues(self) -> dict[str, list[Sample]]:
        lineup, known = self._dispatcher.lineup, self._catalogue
        waiting = dict.fromkeys(known.queues, 0)
        for run in lineup:
            waiting[run.work_queue] = waiting.get(run.work_queue, 0) + 1
        names = list(known.queues)
        return {
            "tidemill_work_queue_waiting": _by_name(waiting),
            "tidemill_work_queue_running": [((name,), lineup.used(Limit("queue", name))) for name in names],
            "tidemill_work_queue_paused": [((name,), int(known.paused("work_queue", name))) for name in names],
        }

    def _pools(self) -> dict[str, list[Sample]]:
        lineup, known = self._dispatcher.lineup, self._catalogue
        names = list(known.pools)
        slots = {name: known.concurrency_limit("work_pool", name) for name in names}
        abandoned = {name: self._workers[name].abandoned if name in self._workers else 0 for name in names}
        return {
            "tidemill_work_pool_running": [((name,), lineup.used(Limit("pool", name))) for name in names],
            "tidemill_work_pool_slots": [((name,), count) for name, count in slots.items() if count is not None],
            "tidemill_work_pool_paused": [((name,), int(known.paused("work_pool", name))) for name in names],
            "tidemill_work_pool_abandoned": _by_name(abandoned),
        }


def _by_name(values: Mapping[str, Value]) -> list[Sample]:
    return [((name,), value) for name, value in values.items()]
