"""What people ask of automations, by API and command line: to pause and resume them, to look, to try who is told.

And how the rooms in which automations are heard, decided and done are put together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from tidemill.clock import Clock
from tidemill.core.automation_words import action_text
from tidemill.core.automations import Automation, Cause, Fire, Tell
from tidemill.core.runs import FlowRun
from tidemill.services.actions import Actions, TellChannel, notice_of
from tidemill.services.automations import KIND, Automations
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.fires import Fires
from tidemill.services.overrides import Overrides
from tidemill.services.timekeeper import Timekeeper
from tidemill.store import Store


class AutomationDesk:
    """The verbs. A TidemillError says why one was refused."""

    def __init__(
        self, *, automations: Automations, actions: Actions, overrides: Overrides, catalogue: Catalogue, clock: Clock
    ) -> None:
        self._automations = automations
        self._actions = actions
        self._overrides = overrides
        self._catalogue = catalogue
        self._clock = clock

    def find(self, text: str) -> Automation:
        """Return the automation of that name or id; raises NotFoundError."""
        return self._catalogue.find_automation(text)

    async def set_paused(self, text: str, *, paused: bool, by: str) -> None:
        """Pause an automation or resume it, by hand; restarts keep it. What happens meanwhile is not made up for."""
        await self._overrides.set(KIND, self.find(text).name, "paused", paused, by=by)

    def standing(self, text: str) -> list[str]:
        """Return how an automation's condition stands, a line for each thing."""
        return self._automations.standing(self.find(text).name)

    def test(self, text: str) -> dict[str, list[str]]:
        """Tell the people whom an automation tells, marked as a test; return them, and what else it would do."""
        automation = self.find(text)
        now = self._clock.now()
        cause = Cause(key="test", at=now, reason=f"automation {automation.name} is tried out: nothing happened")
        fire = Fire(automation=automation.name, cause=cause, at=now, steps=())
        told, rest = [], []
        for number, action in enumerate(automation.then):
            if isinstance(action, Tell):
                self._actions.tell(notice_of(fire, number, action, test=True), action.channel)
                told.append(action.channel)
            else:
                rest.append(action_text(action))
        return {"told": told, "not_done": rest}


def assemble(
    *,
    store: Store,
    catalogue: Catalogue,
    timekeeper: Timekeeper,
    bus: EventBus,
    clock: Clock,
    overrides: Overrides,
    tell: TellChannel,
    create_run: Callable[..., Awaitable[FlowRun]],
    cancel_run: Callable[[str, str], Awaitable[FlowRun]],
    last_alive: datetime | None,
    slice_s: float,
) -> tuple[Automations, AutomationDesk]:
    """Return the service and its desk, wired together."""
    actions = Actions(
        store=store, clock=clock, overrides=overrides, tell=tell, create_run=create_run, cancel_run=cancel_run
    )
    service = Automations(
        store=store,
        catalogue=catalogue,
        timekeeper=timekeeper,
        bus=bus,
        clock=clock,
        fires=Fires(store=store, actions=actions),
        last_alive=last_alive,
        slice_s=slice_s,
    )
    overrides.automation_changed = service.resumed
    desk = AutomationDesk(automations=service, actions=actions, overrides=overrides, catalogue=catalogue, clock=clock)
    return service, desk
