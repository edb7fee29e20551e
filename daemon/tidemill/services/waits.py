"""Waiting for runs to end: heard from the event bus, never looked for again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tidemill.core.events import Event, RunChanged, RunDeleted
from tidemill.core.runs import FlowRun
from tidemill.services.bus import EventBus
from tidemill.services.orchestrator import Orchestrator


class Waits:
    """Who waits for which run's end."""

    def __init__(self, orchestrator: Orchestrator, bus: EventBus) -> None:
        self._orchestrator = orchestrator
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        bus.listen(self._hear)

    async def ended(self, run_id: str, timeout_s: float | None) -> FlowRun:
        """Return the run once it is in a terminal state, or as it is when the time is over. Raises NotFoundError."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Listened to from before the look, so that no end falls between the two.
        self._waiting.setdefault(run_id, []).append(ended)
        try:
            run = await self._orchestrator.get(run_id)
            if run.state.is_terminal or (timeout_s is not None and timeout_s <= 0):
                return run
            await asyncio.wait({ended}, timeout=timeout_s)
            return await self._orchestrator.get(run_id)
        finally:
            others = self._waiting.get(run_id, [])
            if ended in others:
                others.remove(ended)
            if not others:
                self._waiting.pop(run_id, None)

    def _hear(self, events: Sequence[Event]) -> None:
        if not self._waiting:
            return
        for event in events:
            if isinstance(event, RunChanged) and event.run.state.is_terminal:
                self._tell(event.run.id)
            elif isinstance(event, RunDeleted):
                self._tell(event.run_id)

    def _tell(self, run_id: str) -> None:
        for each in self._waiting.pop(run_id, ()):
            if not each.done():
                each.set_result(None)
