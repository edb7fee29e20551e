"""Upkeep: what people ask of the database beside its runs: what is to be kept, and pruning now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.clock import Clock
from tidemill.config.retention import amended
from tidemill.config.settings import RetentionSettings
from tidemill.durations import format_duration
from tidemill.services.catalogue import Catalogue
from tidemill.services.retention import Janitor, Pruned, rules_of
from tidemill.store import Store

MOST_S = 5.0  # for one answer; who wants more asks again


class Upkeep:
    """The verbs of ``tidemill db`` that need the daemon."""

    def __init__(self, *, janitor: Janitor, catalogue: Catalogue, store: Store, clock: Clock) -> None:
        self._janitor = janitor
        self._catalogue = catalogue
        self._store = store
        self._clock = clock

    async def prune(self, given: Mapping[str, Any]) -> Pruned:
        """Delete what ``[retention]``, with ``given`` in place of its own values, lets go; for some seconds at most.

        Raises TidemillError for a rule that is none.
        """
        settings = amended(self._catalogue.settings.retention, given)
        return await self._janitor.prune(rules_of(settings, self._clock.now()), seconds=MOST_S)

    def document(self) -> dict[str, Any]:
        """Return where the database is, why it cannot be written if so, and the rules that pruning goes by."""
        return {
            "file": str(self._store.path),
            "degraded": self._store.degraded,
            "retention": document(self._catalogue.settings.retention),
        }


def document(settings: RetentionSettings) -> dict[str, Any]:
    """Return the rules as the file would write them."""
    return {
        "keep": "forever" if settings.keep is None else format_duration(settings.keep),
        "keep_runs_per_deployment": settings.keep_runs_per_deployment or "unlimited",
        "keep_logs": "forever" if settings.keep_logs is None else format_duration(settings.keep_logs),
        "max_database_size": settings.max_database_size or "unlimited",
    }
