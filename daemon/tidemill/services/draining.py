"""Draining: nothing new starts, and what runs comes to its end, before an upgrade or a restart.

It ends with the daemon or by ``undo``. Schedules go on making runs, which wait: the next daemon starts them. What a
running flow waits for (a run that it asked for) starts all the same, or the flow would never end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping
from datetime import datetime
from typing import Any

from tidemill.clock import Clock
from tidemill.core.ports import RemoteRunner
from tidemill.core.runs import FlowRun
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.wake import Pulse
from tidemill.services.worker import Worker

logger = logging.getLogger("tidemill.drain")


class Draining:
    """Whether the daemon drains, since when, and what it waits for."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        workers: Mapping[str, Worker],
        paused: Callable[[], Container[str]],
        clock: Clock,
    ) -> None:
        self._dispatcher = dispatcher
        self._workers = workers
        self._paused = paused  # ids of the runs whose code waits for a person
        self._clock = clock
        self._ended = Pulse()
        self.since: datetime | None = None
        self.by: str | None = None

    def begin(self, by: str) -> None:
        """Start nothing new from now on."""
        if self.since is None:
            self.since, self.by = self._clock.now(), by
            self._dispatcher.drain(self._awaited)
            fields = {"event": "draining", "by": by, "running": len(self.running())}
            logger.info("draining: nothing new starts (%s)", by, extra={"fields": fields})

    def undo(self, by: str) -> None:
        """Start what waits, and what comes."""
        if self.since is not None:
            self.since = self.by = None
            self._dispatcher.drain(None)
            self._ended.tell()
            logger.info("no longer draining (%s)", by, extra={"fields": {"event": "drain-undone", "by": by}})

    def running(self) -> list[FlowRun]:
        """Return the runs that are waited for: those that would not survive the daemon's end."""
        return [
            live.run
            for worker in self._workers.values()
            if not isinstance(worker.runner, RemoteRunner)
            for live in worker.live.values()
        ]

    def moved(self) -> Awaitable[object]:
        """Return what is done when, from now on, a run has ended or the draining has."""
        pulses = [self._ended, *(worker.concluded for worker in self._workers.values())]
        return asyncio.wait([pulse.next() for pulse in pulses], return_when=asyncio.FIRST_COMPLETED)

    def document(self) -> dict[str, Any]:
        """Return how far it is, as JSON values."""
        now = self._clock.now()
        elsewhere = sum(
            len(worker.live) for worker in self._workers.values() if isinstance(worker.runner, RemoteRunner)
        )
        return {
            "draining": self.since is not None,
            "since": _time(self.since),
            "by": self.by,
            "waits_for": [self._waited(run, now) for run in self.running()],
            "elsewhere": elsewhere,
            "waiting": len(self._dispatcher.lineup),
        }

    def _awaited(self, run: FlowRun) -> bool:
        if run.created_by != "flow" or self.since is None:
            return False
        # While it drains only flows that run ask for runs; a subflow that asked is not known by its id here.
        return run.created >= self.since or any(run.parent_run_id in worker.live for worker in self._workers.values())

    def _waited(self, run: FlowRun, now: datetime) -> dict[str, Any]:
        since = run.state.timestamp
        return {
            "id": run.id,
            "name": run.name,
            "deployment": run.deployment,
            "state_name": "Paused" if run.id in self._paused() else run.state.name,
            "since": _time(since),
            "seconds": (now - since).total_seconds(),
        }


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
