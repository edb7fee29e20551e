"""Runs that wait for a work pool which the configuration no longer has: nobody would ever take them.

They go where their deployment's runs go by now. Those of a deployment that is gone, too, are cancelled, with the
reason.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from tidemill.core.events import RunChanged
from tidemill.core.states import StateType
from tidemill.errors import NotFoundError, TransitionError
from tidemill.services.catalogue import Catalogue
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.orchestrator import Orchestrator
from tidemill.store import stranded

logger = logging.getLogger("tidemill.queue")


class Stranded:
    """Looks after runs in front of pools that are gone."""

    def __init__(self, *, orchestrator: Orchestrator, catalogue: Catalogue, dispatcher: Dispatcher) -> None:
        self._orchestrator = orchestrator
        self._catalogue = catalogue
        self._dispatcher = dispatcher

    async def look_after(self) -> int:
        """Bring every such run to another pool, or to its end; return how many there were."""
        count = 0
        pools = self._catalogue.pools.keys()
        while runs := await self._orchestrator.store.read(lambda connection: stranded.elsewhere(connection, pools)):
            for run in runs:
                deployment = self._catalogue.deployments.get(run.deployment or "")
                if deployment is None:
                    reason = f"work pool {run.work_pool} is no longer in the configuration"
                    try:
                        await self._orchestrator.change(run, StateType.CANCELLED, "Cancelled", reason)
                    except (TransitionError, NotFoundError):
                        continue  # a person was faster
                else:
                    moved = replace(run, work_pool=deployment.work_pool, work_queue=deployment.work_queue)
                    await self._orchestrator.store.write(stranded.MOVE, moved)
                    self._dispatcher.hear([RunChanged(moved, (), moved.state)])  # its state is what it was
            count += len(runs)
        if count:
            self._dispatcher.relimit()
            logger.warning("%d runs waited for work pools that are no longer in the configuration", count)
        return count
