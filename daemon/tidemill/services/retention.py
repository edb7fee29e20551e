"""Retention: history is kept as long as the configuration says, and goes in small pieces that delay nobody."""

from __future__ import annotations

import logging
from datetime import datetime

import msgspec

from tidemill.clock import Clock
from tidemill.config.settings import RetentionSettings
from tidemill.errors import StoreUnavailableError
from tidemill.services.catalogue import Catalogue
from tidemill.services.wake import Wake
from tidemill.store import Store
from tidemill.store.retention import Pruning, prune

EVERY_S = 3600.0
FIRST_S = 60.0  # after the start, when others have had their turn
PAUSE_S = 0.05  # between two pieces

logger = logging.getLogger("tidemill.retention")


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted, by kind, and whether more was left to go."""

    deleted: dict[str, int]
    more: bool


def rules_of(settings: RetentionSettings, now: datetime) -> Pruning:
    """Return what ``[retention]`` means at ``now``."""
    return Pruning(
        now=now,
        keep=settings.keep,
        keep_runs=settings.keep_runs_per_deployment,
        keep_logs=settings.keep_logs,
        max_size=settings.max_database_size,
    )


class Janitor:
    """Prunes history, every hour and after the start."""

    def __init__(self, *, store: Store, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._closed = False
        self._wake = Wake()

    async def tick(self, now: datetime) -> dict[str, int]:
        """Prune everything that is to go by ``now``, piece by piece; return what was deleted, by kind."""
        return (await self.prune(rules_of(self._catalogue.settings.retention, now))).deleted

    async def prune(self, rules: Pruning, *, seconds: float | None = None) -> Pruned:
        """Prune by other rules, for about so long at most; None: until nothing more is to go."""
        began = self._clock.monotonic()
        total: dict[str, int] = {}
        more = True
        while more and not self._closed and (seconds is None or self._clock.monotonic() - began < seconds):
            piece = await prune(self._store, rules)
            for kind, count in piece.items():
                total[kind] = total.get(kind, 0) + count
            more = any(piece.values())
            if more:
                await self._clock.sleep(PAUSE_S)
        # Not for the diary's own oldest lines alone: saying it would write the next line that has to go.
        if any(count for kind, count in total.items() if kind != "lines of the daemon"):
            what = ", ".join(f"{count} {kind}" for kind, count in total.items() if count)
            logger.info("retention deleted %s", what, extra={"fields": total})
        return Pruned(deleted=total, more=more and not self._closed)

    async def run(self) -> None:
        """Tick every hour, until closed."""
        await self._wake.wait(FIRST_S)
        while not self._closed:
            try:
                await self.tick(self._clock.now())
            except StoreUnavailableError as error:
                logger.warning("retention waits: %s", error)
            await self._wake.wait(EVERY_S)

    def close(self) -> None:
        """Prune nothing more."""
        self._closed = True
        self._wake.set()
