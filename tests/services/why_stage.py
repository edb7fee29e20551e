"""Daemons that keep a diary, on a virtual clock, and asking them why: ``from why_stage import life, why``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from stage import NOON, Script, World, play, seconds, takes

from tidemill.api.ask import Ask
from tidemill.api.why_reads import explain
from tidemill.services.diary import Diary
from tidemill.services.house import House
from tidemill.store import Store, inline_doors
from tidemill.store.catalogue import SYNC_CATALOGUE, Listing
from tidemill.telemetry.redaction import Redactor

logger = logging.getLogger("tidemill.daemon")
BRIEF = takes(seconds(1))
Way = Callable[[World], Awaitable[dict[str, Any]]]


class Daemon:
    """A house with a diary, which says when it begins and ends as the real one does."""

    def __init__(self, world: World, house: House) -> None:
        self.world, self.house = world, house
        self.diary = Diary(store=house.store, clock=world.clock, redactor=Redactor())

    async def begin(self) -> None:
        self.diary.open()
        settings = self.house.catalogue.settings
        await self.house.recover()
        listing = Listing(
            deployments=tuple(settings.deployments.values()),
            work_queues=tuple(settings.work_queues.values()),
            work_pools=tuple(settings.work_pools.values()),
            at=self.world.now,
        )
        await self.house.store.write(SYNC_CATALOGUE, listing)
        self.house.start()
        fields = {"event": "daemon-started", "last_alive": self.house.last_alive}
        logger.info("ready", extra={"fields": fields})

    async def stop(self) -> None:
        await self.house.stop(seconds(30))
        logger.info("stopped", extra={"fields": {"event": "daemon-stopped"}})
        self.diary.close()
        await self.house.store.aclose()

    async def kill(self) -> None:
        await self.house.store.flush()
        logging.getLogger("tidemill").removeHandler(self.diary)
        await self.world.kill(self.house)


async def begun(world: World, config: str, script: Script = BRIEF) -> Daemon:
    """A daemon that the test ends itself."""
    daemon = Daemon(world, await world.opened(config, script))
    await daemon.begin()
    return daemon


@contextlib.asynccontextmanager
async def life(world: World, config: str, script: Script = BRIEF) -> AsyncIterator[House]:
    """A daemon's life, from a start to a stop in good order."""
    daemon = await begun(world, config, script)
    try:
        yield daemon.house
    finally:
        await daemon.stop()


async def why(house: House, **query: str) -> dict[str, Any]:
    """What the daemon answers."""
    now, live = house.clock.now(), house.why.live()
    found: dict[str, Any] = await house.store.read(
        lambda connection: explain(Ask(connection, now, {}, query, {}), live)
    )
    return found


async def why_while_down(world: World, **query: str) -> dict[str, Any]:
    """What the database alone answers."""
    store = await Store.open(world.database, clock=world.clock, ids=_NO_IDS, doors=inline_doors)
    try:
        found: dict[str, Any] = await store.read(lambda connection: explain(Ask(connection, world.now, {}, query, {})))
        return found
    finally:
        await store.aclose()


class _NoIds:
    def new(self, now: Any) -> str:
        return "0" * 36


_NO_IDS: Any = _NoIds()


def told(found: dict[str, Any]) -> str:
    """All that was said, with what was said of the runs it names."""
    own = [each["sentence"] for each in found["findings"]]
    return "\n".join([*own, *(each["sentence"] for run in found.get("runs", []) for each in run["findings"])])


class Ways:
    """A table: each way in which something is so, what is answered first, and words of what is said."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Way, str, tuple[str, ...], datetime]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __call__(self, kind: str, *words: str, start: datetime = NOON) -> Callable[[Way], Way]:
        """Put a way into the table; the world begins at ``start``."""

        def put(scenario: Way) -> Way:
            self._rows[scenario.__name__] = (scenario, kind, words, start)
            return scenario

        return put

    def check(self, name: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Play one, and hold what is said against the table."""
        scenario, kind, words, start = self._rows[name]
        found: dict[str, Any] = {}

        async def main(world: World) -> None:
            found.update(await scenario(world))

        with caplog.at_level(logging.INFO, "tidemill"):
            play(folder, main, start=start)
        said = told(found)
        for each in words:
            assert each in said, said
        assert found["findings"][0]["kind"] == kind, said
        for sentence in said.splitlines():
            assert sentence.endswith("."), sentence
            assert "None" not in sentence
            assert ".." not in sentence
