"""Telling people: notices go in by :meth:`Notices.tell`, messages come out of the channels of ``[notify]``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.config.settings import Settings
from tidemill.core.channels import DEFAULT, Channel, UndeliveredError
from tidemill.core.incidents import Incident
from tidemill.core.notices import Notice, NoticeKind, Waiting
from tidemill.errors import NotFoundError, TidemillError
from tidemill.ids import Ids
from tidemill.services.catalogue import Catalogue
from tidemill.services.telling.messages import Writer
from tidemill.services.telling.outbox import Outbox, wait
from tidemill.services.telling.outside import Outside
from tidemill.store import Store
from tidemill.store import notices as stored

# What is told to whoever is named for it, whatever a channel wants to hear of by itself.
_ALWAYS = frozenset({NoticeKind.AUTOMATION, NoticeKind.TEST})

LAST_WORDS_S = 3.0  # at a stop

logger = logging.getLogger("tidemill.notify")


class Notices:
    """Who is told, and what is on its way."""

    def __init__(self, *, store: Store, catalogue: Catalogue, clock: Clock, ids: Ids, outside: Outside) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._ids = ids
        self._writer = Writer(store=store, catalogue=catalogue, clock=clock, ids=ids, outside=outside)
        self.failing: Callable[[], Sequence[Incident]] = (
            tuple  # what goes wrong now; services/telling/alarms.py says it
        )
        self._unheard = 0  # notices for which there was no channel
        self.outbox = Outbox(
            channels=lambda: self.channels,
            write=self._writer.write,
            carry=outside.carry,
            forget=self._forget,
            clock=clock,
        )
        catalogue.on_replaced.append(self._replaced)

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The channels in force, by name."""
        return self._catalogue.settings.notify

    # -- telling -----------------------------------------------------------------------------------------------------

    def tell(self, notice: Notice, *, channel: str = DEFAULT) -> None:
        """Tell people of something, by one channel; a channel that is not there is the default one.

        Never waits and never raises: the notice is kept, gathered with others of the same moment, and tried again until
        it is delivered. Where there is no channel at all, that is said in the log.
        """
        found = self.queue([notice], [channel])
        if found:
            self._store.post(stored.RECORD, stored.Record(waiting=tuple(found)))
            self.outbox.put(found)

    def queue(self, notices: Sequence[Notice], names: Sequence[str], *, storm: str | None = None) -> list[Waiting]:
        """Return what would wait for whom, without keeping it."""
        now = self._clock.now()
        found: list[Waiting] = []
        for notice in notices:
            told = notice if notice.at is not None else replace(notice, at=now)
            hearing = [
                channel.name
                for channel in self._named(names, notice)
                if channel.hears is None or notice.kind in channel.hears or notice.kind in _ALWAYS
            ]
            found += (
                Waiting(
                    id=self._ids.new(now),
                    channel=name,
                    at=now,
                    notice=told,
                    storm=storm,
                    by_default=name != DEFAULT and DEFAULT in hearing,
                )
                for name in hearing
            )
        return found

    def _named(self, names: Sequence[str], notice: Notice) -> list[Channel]:
        channels = self.channels
        found = {name if name in channels else DEFAULT: None for name in names}
        if names and DEFAULT in found and DEFAULT not in channels:
            self._unheard += 1
            logger.warning(
                "nobody is told of this, for there is no [notify] %s: %s", " or ".join(names), notice.subject
            )
        return [channels[name] for name in found if name in channels]

    async def test(self, name: str) -> str:
        """Send a test message now; return its subject. Raises NotFoundError, or a TidemillError that says why not."""
        channel = self.channels.get(name)
        if channel is None:
            known = ", ".join(self.channels) or 'none; write default = "mailto:me@example.org" under [notify]'
            raise NotFoundError(f"no notify channel is called {name}; there are: {known}")
        message = self._writer.test(channel)
        try:
            await self.outbox.deliver(channel, message)
        except UndeliveredError as error:
            self.outbox.tried(name, str(error))
            raise TidemillError(f"notify channel {name}: {error}") from None
        self.outbox.tried(name, None)
        return message.subject

    # -- life --------------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up what an earlier daemon could not deliver."""
        left = await self._store.read(stored.waiting)
        if left:
            logger.info("%s from an earlier daemon", wait(len(left)))
        self.outbox.put(left)
        self.outbox.reconfigured()

    async def run(self) -> None:
        """Deliver, until closed."""
        await self.outbox.run()

    async def aclose(self) -> None:
        """Try once to deliver what waits; the rest is kept for the next start."""
        self.outbox.close()
        left = await self.outbox.flush(LAST_WORDS_S)
        if left:
            logger.warning("%s, untold; the next start tells of it", wait(left))

    # -- looking -----------------------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """Return who is told and how it went, as JSON values."""
        return {
            "channels": self.outbox.documents(),
            "unheard": self._unheard,
            "failing": [
                {
                    "subject": each.subject,
                    "since": each.since.isoformat().replace("+00:00", "Z"),
                    "failures": each.failures,
                    "told": each.told,
                    "flapping": each.flapping,
                    "reason": each.reason,
                }
                for each in self.failing()
            ],
        }

    def problems(self) -> list[str]:
        """Return what keeps people from being told, in words."""
        return self.outbox.problems()

    def _forget(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            self._store.post(stored.DELIVERED, id_)

    def _replaced(self, before: Settings, after: Settings) -> None:
        if before.notify != after.notify:
            self.outbox.reconfigured()
