"""Overrides by hand: pauses, limits and priorities that a person sets over what the file says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.clock import Clock
from tidemill.core.overrides import Override
from tidemill.errors import TidemillError
from tidemill.services.catalogue import Catalogue
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.scheduler import Scheduler
from tidemill.store import Store, catalogue

# What may be set by hand, by kind of thing.
KEYS: Mapping[str, tuple[str, ...]] = {
    "deployment": ("paused", "concurrency_limit"),
    "work_queue": ("paused", "concurrency_limit", "priority"),
    "work_pool": ("paused", "concurrency_limit"),
    "automation": ("paused",),
}
MOST_SLOTS = 100_000
BY = "api"

logger = logging.getLogger("tidemill.control")


class Overrides:
    """Sets and clears them: durable first, then in force, then told."""

    def __init__(
        self, *, store: Store, catalogue: Catalogue, scheduler: Scheduler, dispatcher: Dispatcher, clock: Clock
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._dispatcher = dispatcher
        self._clock = clock
        # Told the name of a pool that may have more runs at a time than before.
        self.pool_grew: Callable[[str], None] = lambda name: None
        # Told the name of an automation that was paused or resumed.
        self.automation_changed: Callable[[str], None] = lambda name: None

    async def set(self, kind: str, name: str, key: str, value: Any, *, by: str = BY) -> None:
        """Set one key of a deployment, work_queue or work_pool. The file's own value clears what was set before.

        Raises TidemillError for what cannot be set, NotFoundError for a name that is not there.
        """
        name = self._found(kind, name)
        value = _checked(kind, key, value)
        before = self._catalogue.value(kind, name, key)
        file_value = self._catalogue.file_value(kind, name, key)
        if value == file_value:
            await self._store.write(catalogue.CLEAR_OVERRIDE, (kind, name, key))
            self._catalogue.clear_override(kind, name, key)
        else:
            override = Override(
                kind=kind, name=name, key=key, value=value, file_value=file_value, by=by, at=self._clock.now()
            )
            await self._store.write(catalogue.SET_OVERRIDE, override)
            self._catalogue.set_override(override)
        if before != value:
            await self._take_effect(kind, name, key)
        self._tell("override-set", (kind, name, key), value, by)

    async def clear(self, kind: str, name: str, key: str | None = None, *, by: str = BY) -> list[str]:
        """Let the file's values be in force again, of one key or of all; return the keys that had been set by hand."""
        name = self._found(kind, name)
        if key is not None:
            _known(kind, key)
        held = [
            each.key
            for each in self._catalogue.overrides
            if (each.kind, each.name) == (kind, name) and key in (None, each.key)
        ]
        for each in held:
            before = self._catalogue.value(kind, name, each)
            await self._store.write(catalogue.CLEAR_OVERRIDE, (kind, name, each))
            self._catalogue.clear_override(kind, name, each)
            value = self._catalogue.value(kind, name, each)
            if before != value:
                await self._take_effect(kind, name, each)
            self._tell("override-cleared", (kind, name, each), value, by)
        return held

    def _found(self, kind: str, name: str) -> str:
        if kind == "deployment":
            return self._catalogue.find(name).name
        if kind == "work_queue":
            return self._catalogue.find_queue(name).name
        if kind == "work_pool":
            return self._catalogue.find_pool(name).name
        if kind == "automation":
            return self._catalogue.find_automation(name).name
        raise TidemillError(f"nothing of a {kind} is set by hand; of {', '.join(KEYS)} it is")

    async def _take_effect(self, kind: str, name: str, key: str) -> None:
        if kind == "deployment" and key == "paused":
            now = self._clock.now()
            if self._catalogue.paused(kind, name):
                await self._scheduler.pause(name, now)
            else:
                await self._scheduler.resume(name, now)
        if kind == "automation":
            self.automation_changed(name)
            return
        if kind == "work_pool" and key == "concurrency_limit":
            self.pool_grew(name)
        self._dispatcher.relimit()

    def _tell(self, event: str, thing: tuple[str, str, str], value: Any, by: str) -> None:
        kind, name, key = thing
        what = f"{kind.replace('_', ' ')} {name}"
        if key == "paused":
            event = "paused" if value else "resumed"
            said = f"{what} was {event} by hand"
        elif event == "override-cleared":
            said = f"{what}: {key} is the file's again, {_shown(value)}"
        else:
            said = f"{what}: {key} was set to {_shown(value)} by hand"
        fields = {"event": event, "kind": kind, "name": name, "key": key, "value": value, "by": by}
        if kind == "deployment":
            fields["deployment"] = name
        logger.info("%s (%s)", said, by, extra={"fields": fields})


def _checked(kind: str, key: str, value: Any) -> Any:
    _known(kind, key)
    if key == "paused":
        if not isinstance(value, bool):
            raise TidemillError(f"paused is true or false, not {value!r}")
        return value
    if value is None and key == "concurrency_limit" and kind != "work_pool":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_SLOTS:
        remedy = "; to let nothing start, pause it" if key == "concurrency_limit" else ""
        raise TidemillError(f"{key} is a number from 1 to {MOST_SLOTS}, not {value!r}{remedy}")
    return value


def _known(kind: str, key: str) -> None:
    keys = KEYS.get(kind)
    if keys is None or key not in keys:
        raise TidemillError(
            f"{key} of a {kind.replace('_', ' ')} is not set by hand; {', '.join(keys or ()) or 'nothing of it'} is"
        )


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
