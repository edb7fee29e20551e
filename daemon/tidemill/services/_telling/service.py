"""Everything by which others hear of this daemon, wired together: notices and what raises them, and pings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any

from tidemill.clock import Clock
from tidemill.config.notify import untold
from tidemill.ids import Ids
from tidemill.services.alarms import Alarms
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.notices import Notices
from tidemill.services.outside import Outside
from tidemill.services.pings import Pings
from tidemill.services.status import Status
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.troubles import Troubles
from tidemill.services.worker import Worker
from tidemill.store import Store, instance

logger = logging.getLogger("tidemill.notify")

WELL_S = 10.0  # for the database to answer, when a ping is about to say that all is well


class Telling:
    """Built by the house, which starts and stops it."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        ids: Ids,
        bus: EventBus,
        status: Status,
        timekeeper: Timekeeper,
        workers: Mapping[str, Worker],
        outside: Outside,
    ) -> None:
        self._store = store
        self._timekeeper = timekeeper
        self._outside = outside
        self._catalogue = catalogue
        self.notices = Notices(store=store, catalogue=catalogue, clock=clock, ids=ids, outside=outside)
        self.alarms = Alarms(
            store=store,
            catalogue=catalogue,
            clock=clock,
            ids=ids,
            notices=self.notices,
            bus=bus,
            troubles=Troubles(
                store=store, timekeeper=timekeeper, workers=workers, status=status, outbox=self.notices.outbox
            ).now,
        )
        self.pings = Pings(catalogue=catalogue, clock=clock, outside=outside, bus=bus, well=self._well)
        status.parts["notify"] = self.document
        status.troubles += [self.notices.problems, self.pings.problems]

    async def load(self, last_alive: datetime | None) -> None:
        """Take up what an earlier daemon left to be told."""
        if (silence := untold(self._catalogue.settings)) is not None:
            logger.info(silence)
        await self.notices.load()
        await self.alarms.load(last_alive)

    def services(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Return what is to run, by name."""
        return {"notices": self.notices.run(), "alarms": self.alarms.run(), "pings": self.pings.run()}

    def document(self) -> dict[str, Any]:
        """Return who is told and how it went, as JSON values."""
        return {**self.notices.document(), "pings": self.pings.document()}

    async def _well(self) -> bool:
        """Say whether runs could start and be recorded now: nothing is held, and the database answers."""
        if self._store.degraded is not None or self._timekeeper.held is not None:
            return False
        try:
            async with asyncio.timeout(WELL_S):
                await self._store.read(instance.last_alive)
        except Exception:
            return False
        return True

    async def aclose(self) -> None:
        """Say the last words; what could not be told is told at the next start."""
        self.alarms.close()
        await self.pings.aclose()
        await self.notices.aclose()
        await self._outside.aclose()
