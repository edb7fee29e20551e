"""Lateness: a due run that had to wait longer than its deployment allows is called Late, once, with the reason."""

from __future__ import annotations

import heapq
import logging
from datetime import datetime, timedelta

from tidemill.clock import SLICE_S, Clock
from tidemill.core.admission import Lineup
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType
from tidemill.core.transitions import enter
from tidemill.errors import StoreUnavailableError
from tidemill.services.catalogue import Catalogue
from tidemill.services.orchestrator import HEAL_S, Orchestrator
from tidemill.services.wake import Wake

SLICE = 200
# For runs of no deployment in force.
LATE_AFTER = timedelta(seconds=15)

logger = logging.getLogger("tidemill.queue")


class Lateness:
    """Watches runs that are due and still wait."""

    def __init__(
        self,
        *,
        lineup: Lineup,
        orchestrator: Orchestrator,
        catalogue: Catalogue,
        clock: Clock,
        slice_s: float = SLICE_S,
    ) -> None:
        self._lineup = lineup
        self._orchestrator = orchestrator
        self._catalogue = catalogue
        self._clock = clock
        self._slice_s = slice_s
        self._watched: list[tuple[datetime, str]] = []  # a heap
        self._closed = False
        self._wake = Wake()

    def watch(self, run: FlowRun) -> None:
        """Look at a waiting run again when it counts as late."""
        if run.state.name == "Late":
            return
        deployment = self._catalogue.deployments.get(run.deployment or "")
        late_after = deployment.late_after if deployment is not None else LATE_AFTER
        heapq.heappush(self._watched, (run.expected_start + late_after, run.id))
        if self._watched[0][1] == run.id:
            self._wake.set()

    async def tick(self, now: datetime) -> int:
        """Mark what is late by now; return how many runs."""
        marked = 0
        while self._watched and self._watched[0][0] <= now:
            changes: list[tuple[FlowRun, Transition]] = []
            while self._watched and self._watched[0][0] <= now and len(changes) < SLICE:
                _, run_id = heapq.heappop(self._watched)
                run = self._lineup.get(run_id)
                if run is not None and run.state.name != "Late":
                    state = State(
                        type=StateType.SCHEDULED, name="Late", timestamp=now, message=self._lineup.reason(run)
                    )
                    changes.append((run, enter(run, state)))
            try:
                marked += await self._orchestrator.change_all(changes)
            except StoreUnavailableError:
                for run, _ in changes:
                    heapq.heappush(self._watched, (now + timedelta(seconds=HEAL_S), run.id))
                break
        return marked

    async def run(self) -> None:
        """Tick when the next watched run counts as late, until closed."""
        while not self._closed:
            await self.tick(self._clock.now())
            wait = self._slice_s
            if self._watched:
                wait = min(wait, (self._watched[0][0] - self._clock.now()).total_seconds())
            await self._wake.wait(max(0.0, wait))

    def close(self) -> None:
        """Mark nothing more."""
        self._closed = True
        self._wake.set()
