"""How the daemon is: one document for ``tidemill status``, the API and systemd's STATUS line."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

import tidemill
from tidemill.clock import Clock
from tidemill.core.admission import Limit
from tidemill.core.filters import RunFilter
from tidemill.core.ports import RemoteRunner
from tidemill.core.runs import FlowRun
from tidemill.core.states import TERMINAL, StateType
from tidemill.services.catalogue import Catalogue
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.worker import Worker
from tidemill.store import Store, listing
from tidemill.store import runs as stored_runs

NEXT = 10  # fires shown ahead
LATE = 20  # late runs shown
LATELY = timedelta(days=1)
FAILED = 5  # runs shown that ended badly lately
_BAD = (StateType.FAILED, StateType.CRASHED)
_PAUSED = ("deployment", "paused")


class Status:
    """Looks at the services and says how things are."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        dispatcher: Dispatcher,
        workers: Mapping[str, Worker],
        timekeeper: Timekeeper,
        clock: Clock,
        owner: str,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._dispatcher = dispatcher
        self._workers = workers
        self._timekeeper = timekeeper
        self._clock = clock
        self._owner = owner
        self._started = clock.now()
        self.stopping = False
        # What is wrong with the configuration as a whole, and with the code of single deployments.
        self.config_file: str | None = None
        self.config_faults: Sequence[str] = ()
        self.unfit: Mapping[str, str] = {}
        self.addresses: Sequence[str] = ()
        self.dropped_lines: Callable[[], int] = lambda: 0
        self.lag: Callable[[], list[str]] = list  # which run's code holds everything else up now
        # What other services add to the document, by key ("reload", "notify", …): JSON values, made when asked for.
        self.parts: dict[str, Callable[[], Any]] = {}
        # And what of that is wrong, in words.
        self.troubles: list[Callable[[], Sequence[str]]] = []

    def problems(self) -> list[str]:
        """Return what keeps the daemon from being well, in words; empty: it is."""
        found = [f"configuration: {fault}" for fault in self.config_faults]
        found += [f"deployment {name}: {reason}" for name, reason in self.unfit.items()]
        if self._store.degraded is not None:
            found.append(f"database: {self._store.degraded}")
        if self._timekeeper.held is not None:
            found.append(f"clock: {self._timekeeper.held}")
        found += [
            f"work pool {name}: {worker.runner.problem}; its runs wait"
            for name, worker in self._workers.items()
            if isinstance(worker.runner, RemoteRunner) and worker.runner.problem is not None
        ]
        found += [f"lag: {each}" for each in self.lag()]
        for trouble in self.troubles:
            found += trouble()
        abandoned = sum(worker.abandoned for worker in self._workers.values())
        if abandoned:
            found.append(f"{abandoned} runs were abandoned: their code did not stop and still holds its slots")
        return found

    def drains(self) -> bool:
        """Say whether nothing new starts because somebody has asked for it."""
        drain = self.parts.get("drain")
        return drain is not None and bool(drain()["draining"])

    async def document(self) -> dict[str, Any]:
        """Return everything, as JSON values."""
        now = self._clock.now()
        upcoming = await self._store.read(
            lambda connection: stored_runs.due(
                connection, now + timedelta(days=3660), NEXT + len(self._dispatcher.lineup)
            )
        )
        lately = await self._store.read(lambda connection: _lately(connection, now))
        problems = self.problems()
        parts = {name: tell() for name, tell in self.parts.items()}
        state = "degraded" if problems else "ok"
        if self.drains():
            state = "draining"
        if self.stopping:
            state = "stopping"
        return {
            "state": state,
            "problems": problems,
            "version": tidemill.__version__,
            "pid": os.getpid(),
            "boot_id": self._owner,
            "instance_id": self._catalogue.instance,
            "started": _time(self._started),
            "now": _time(now),
            "timezone": self._catalogue.settings.daemon.timezone,
            "config_file": self.config_file,
            "addresses": list(self.addresses),
            "deployments": len(self._catalogue.deployments),
            "running": [
                self._running(live.run, now) for worker in self._workers.values() for live in worker.live.values()
            ],
            "waiting": len(self._dispatcher.lineup),
            "late": [self._late(run, now) for run in self._dispatcher.lineup if run.state.name == "Late"][:LATE],
            "next": [_brief(run) | {"timezone": self._timezone(run)} for run in upcoming if run.expected_start > now][
                :NEXT
            ],
            "lately": lately,
            "paused": self._paused(),
            "work_queues": self._queues(),
            "work_pools": self._pools(),
            "overrides": [
                {
                    "kind": each.kind,
                    "name": each.name,
                    "key": each.key,
                    "value": each.value,
                    "file_value": each.file_value,
                    "by": each.by,
                    "at": _time(each.at),
                }
                for each in self._catalogue.overrides
            ],
            "dropped_log_lines": self.dropped_lines(),
            **parts,
        }

    def _timezone(self, run: FlowRun) -> str | None:
        """Return the zone in which people mean the times of a run's deployment; None: it has no schedule."""
        found = self._catalogue.deployments.get(run.deployment or "")
        return found.schedules[0].timezone if found is not None and found.schedules else None

    def _paused(self) -> list[dict[str, Any]]:
        """Return the deployments whose schedules make no runs, and by whose word."""
        by_hand = {each.name: each for each in self._catalogue.overrides if (each.kind, each.key) == _PAUSED}
        return [
            {
                "name": name,
                "by_hand": name in by_hand,
                "since": _time(by_hand[name].at) if name in by_hand else None,
                "by": by_hand[name].by if name in by_hand else None,
            }
            for name in self._catalogue.deployments
            if self._catalogue.paused("deployment", name)
        ]

    def _running(self, run: FlowRun, now: datetime) -> dict[str, Any]:
        return {
            **_brief(run),
            "since": _time(run.state.timestamp),
            "seconds": (now - run.state.timestamp).total_seconds(),
        }

    def _late(self, run: FlowRun, now: datetime) -> dict[str, Any]:
        return {
            **_brief(run),
            "seconds_late": (now - run.expected_start).total_seconds(),
            "reason": self._dispatcher.lineup.reason(run),
        }

    def _queues(self) -> list[dict[str, Any]]:
        starting = Counter(run.work_queue for worker in self._workers.values() for run in worker.starting.values())
        waiting: dict[str, int] = {}
        late: dict[str, int] = {}
        for run in self._dispatcher.lineup:
            waiting[run.work_queue] = waiting.get(run.work_queue, 0) + 1
            if run.state.name == "Late":
                late[run.work_queue] = late.get(run.work_queue, 0) + 1
        return [
            {
                "name": name,
                "work_pool": queue.work_pool,
                "priority": self._catalogue.value("work_queue", name, "priority"),
                "paused": self._catalogue.paused("work_queue", name),
                "concurrency_limit": self._catalogue.concurrency_limit("work_queue", name),
                "running": self._dispatcher.lineup.used(Limit("queue", name)) - starting[name],
                "starting": starting[name],
                "waiting": waiting.get(name, 0),
                "late": late.get(name, 0),
            }
            for name, queue in self._catalogue.queues.items()
        ]

    def _starting(self, pool: str) -> int:
        """Return how many runs hold slots while their start is not on record yet: the store may take nothing."""
        return len(self._workers[pool].starting) if pool in self._workers else 0

    def _pools(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "type": pool.type,
                "paused": self._catalogue.paused("work_pool", name),
                "concurrency_limit": self._catalogue.concurrency_limit("work_pool", name),
                "running": self._dispatcher.lineup.used(Limit("pool", name)) - self._starting(name),
                "starting": self._starting(name),
                "abandoned": self._workers[name].abandoned if name in self._workers else 0,
            }
            for name, pool in self._catalogue.pools.items()
        ]


def _lately(connection: sqlite3.Connection, now: datetime) -> dict[str, Any]:
    """Return what became of the runs expected in the last day, and those that ended badly last."""
    since = RunFilter(expected_start_after=now - LATELY, expected_start_before=now)
    counts = listing.count_by_state(connection, since)
    bad = replace(since, state_types=_BAD, limit=FAILED)
    failed = listing.select(connection, bad) if any(kind in _BAD for kind, _ in counts) else []
    return {
        "hours": LATELY.total_seconds() / 3600,
        "ended": {name: count for (kind, name), count in sorted(counts.items()) if kind in TERMINAL},
        "failed": [_brief(run) | {"at": _time(run.state.timestamp), "message": run.state.message} for run in failed],
    }


def _brief(run: FlowRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "deployment": run.deployment,
        "work_queue": run.work_queue,
        "state_name": run.state.name,
        "expected_start_time": _time(run.expected_start),
    }


def _time(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
