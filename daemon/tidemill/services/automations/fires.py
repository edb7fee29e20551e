"""Fires: what automations have decided to do is done, step by step, tried again, and recorded.

A fire is durable before it comes here, and what became of each of its steps is recorded after. A restart in between
does a step twice at most where that is the same as once: a run has a key, a pause is one, a notice that still waits is
replaced.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec.structs import replace

from tidemill.core.automation_words import action_text
from tidemill.core.automations import Fire, Step, StepState, retry_after
from tidemill.core.channels import DEFAULT
from tidemill.core.notices import Notice, NoticeKind
from tidemill.errors import StoreUnavailableError, TidemillError
from tidemill.services.automations.actions import Actions
from tidemill.services.orchestrator import HEAL_S
from tidemill.store import Store, automations

logger = logging.getLogger("tidemill.automations")


class Fires:
    """Carries fires through to their end."""

    def __init__(self, *, store: Store, actions: Actions) -> None:
        self._store = store
        self._actions = actions
        self._times: list[tuple[datetime, int]] = []  # a heap: when something of a fire is to be done, its number
        self._fires: dict[int, Fire] = {}
        self.troubles: dict[str, str] = {}  # by automation: what could not be done the last time

    async def take_up(self, now: datetime) -> None:
        """Go on with what an earlier daemon left unfinished."""
        for fire in await self._store.read(automations.unfinished):
            self.put(fire, now)

    def put(self, fire: Fire, at: datetime) -> None:
        """Do what is to be done of a fire at that time."""
        self._fires[fire.number] = fire
        heapq.heappush(self._times, (at, fire.number))

    def next_at(self) -> datetime | None:
        """Return when there is something to do; None: nothing is left."""
        return self._times[0][0] if self._times else None

    async def tick(self, now: datetime, rounds: Callable[[str], int]) -> int:
        """Do what is due by now; return how many fires that was about. ``rounds``: how many an automation may make."""
        count = 0
        while self._times and self._times[0][0] <= now:
            fire = self._fires.pop(heapq.heappop(self._times)[1])
            await self._go_on(fire, now, rounds(fire.automation))
            count += 1
        return count

    async def _go_on(self, fire: Fire, now: datetime, most_rounds: int) -> None:
        steps = list(fire.steps)
        waits = [HEAL_S]
        for number, step in enumerate(steps):
            if step.state is StepState.WAITING:
                after = await self._try(fire, number, most_rounds)
                steps[number] = after
                if after.state is StepState.WAITING:
                    waits.append((retry_after(after.tries) or timedelta(0)).total_seconds())
        unfinished = any(step.state is StepState.WAITING for step in steps)
        fire = replace(fire, steps=tuple(steps), finished=None if unfinished else now)
        try:
            await self._store.write(automations.CARRY, fire)
        except StoreUnavailableError:
            unfinished = True  # what is done stays so: only its record is tried again
        if unfinished:
            self.put(fire, now + timedelta(seconds=min(waits[1:] or waits)))
        elif not fire.failed:
            self.troubles.pop(fire.automation, None)

    async def _try(self, fire: Fire, number: int, most_rounds: int) -> Step:
        step = fire.steps[number]
        tries = step.tries + 1
        try:
            told = await self._actions.carry_out(fire, number, most_rounds=most_rounds)
            return replace(step, state=StepState.DONE, tries=tries, told=told)
        except StoreUnavailableError as error:
            why, final = str(error), False
        except TidemillError as error:
            why, final = str(error), True
        except Exception as error:
            logger.exception("automation %s: an action failed", fire.automation)
            why, final = f"{type(error).__name__}; the daemon's log has it", False
        if not final and retry_after(tries) is not None:
            return replace(step, tries=tries, told=why)
        self._say_failed(fire, step, why)
        return replace(step, state=StepState.FAILED, tries=tries, told=why)

    def _say_failed(self, fire: Fire, step: Step, why: str) -> None:
        name, cause = fire.automation, fire.cause
        trouble = self.troubles[name] = f"could not {action_text(step.action)}: {why}"
        fields = {"event": "automation-failed", "automation": name, "deployment": cause.deployment, "run": cause.run}
        logger.warning("automation %s %s", name, trouble, extra={"fields": fields})
        notice = Notice(
            kind=NoticeKind.TROUBLE,
            subject=f"automation {name} {trouble}".splitlines()[0],
            deployment=cause.deployment,
            run=cause.run,
            lines=(f"it fired because: {cause.reason}",),
            key=f"automation/{name}/failed",
        )
        self._actions.tell(notice, DEFAULT)
