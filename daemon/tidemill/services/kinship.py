"""Kinship: who is cancelled takes the runs along that it asked for by run_deployment.

Nothing of it is remembered: the database says at any time which runs are still to go, so the next start goes on where
a daemon died. Runs that run_deployment made with ``as_subflow=False`` are nobody's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tidemill.core.events import Event, RunChanged
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.errors import NotFoundError, StoreUnavailableError, TransitionError
from tidemill.services.bus import EventBus
from tidemill.services.orchestrator import HEAL_S, Orchestrator
from tidemill.store import kinship

MADE_BY = "flow"  # created_by of the runs it is about
_CANCELLED = frozenset({StateType.CANCELLING, StateType.CANCELLED})


class Kinship:
    """Cancels the unfinished runs of cancelled ones; ``cancel`` is the daemon's verb for it."""

    def __init__(
        self, orchestrator: Orchestrator, bus: EventBus, cancel: Callable[[str, str], Awaitable[FlowRun]]
    ) -> None:
        self._orchestrator = orchestrator
        self._cancel = cancel
        self._parents: deque[str] = deque()  # ids of runs whose own are to be looked for
        self._more = asyncio.Event()
        bus.listen(self._hear)

    async def load(self) -> None:
        """Cancel what still waits and should not: before anything starts. The rest is for :meth:`run`."""
        for parent in await self._orchestrator.store.read(kinship.cancelled):
            await self._look_after(parent, only=frozenset({StateType.SCHEDULED}))
            self._add(parent)

    async def run(self) -> None:
        """Look after the runs of every run that is cancelled, from the start and from now on."""
        while True:
            await self._more.wait()
            await self.tick()

    async def tick(self) -> int:
        """Make one pass; return how many runs were cancelled. What a full disk refuses is tried until it is done."""
        self._more.clear()
        count = 0
        while self._parents:
            try:
                count += await self._look_after(self._parents[0])
            except StoreUnavailableError:
                await self._orchestrator.clock.sleep(HEAL_S)
                continue
            self._parents.popleft()
        return count

    async def _look_after(self, parent_id: str, *, only: frozenset[StateType] | None = None) -> int:
        count = 0
        for run in await self._orchestrator.store.read(partial(kinship.left_of, run_id=parent_id)):
            if only is not None and run.state.type not in only:
                continue
            parent = await self._orchestrator.get(parent_id)
            why = f": {parent.state.message}" if parent.state.message else ""
            try:
                await self._cancel(run.id, f"its parent {parent.name} was cancelled{why}")
            except (TransitionError, NotFoundError):
                continue  # it ended meanwhile, or is gone
            count += 1
        return count

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, RunChanged):
                continue
            run = event.run
            if run.state.type in _CANCELLED and run.attempt > 0:
                self._add(run.id)
            elif event.before is None and run.created_by == MADE_BY and run.parent_run_id is not None:
                self._add(run.parent_run_id)  # it may have been cancelled while this was made

    def _add(self, parent_id: str) -> None:
        self._parents.append(parent_id)
        self._more.set()
