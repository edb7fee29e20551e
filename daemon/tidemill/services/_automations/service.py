"""Automations: hears what is committed, watches the time, and decides when what the configuration says is done.

That an automation fires is durable before anything of it is done (``fires``), under the cause's key: a cause that is
heard twice is acted on once. What a crash kept from being heard is read from history at the next start (``backlook``).
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from tidemill.clock import SLICE_S, Clock
from tidemill.config.settings import Settings
from tidemill.core.automation_words import action_text, condition_text
from tidemill.core.automations import Automation, Cause, Fire, NoneWithin, Step, Tell, may_fire
from tidemill.core.events import ArtifactStored, Event, RunChanged, RunDeleted
from tidemill.core.streaks import StreakWatch
from tidemill.core.watches import Watch
from tidemill.durations import format_duration
from tidemill.errors import StoreUnavailableError
from tidemill.services.backlook import look_back, missed, streak
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.fires import Fires
from tidemill.services.orchestrator import HEAL_S
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.wake import Wake
from tidemill.store import Store, automations, runs

KIND = "automation"  # of overrides by hand
MOST_HEARD = 20_000  # events that wait; with more, history is read instead
SLICE = 200  # events between which others have their turn
# What an earlier daemon may not have dealt with any more when it last said that it lives.
BEFORE_LAST_ALIVE = timedelta(seconds=60)
# A silence is not told before what was missed has had time to be made up for: after a start, or a suspended machine.
SETTLE = timedelta(seconds=60)
IDLE_S = 3600.0

logger = logging.getLogger("tidemill.automations")


class Entry:
    """One automation in force, its watch, and how often it has fired lately."""

    __slots__ = ("automation", "fired", "held_back", "last", "watch")

    def __init__(self, automation: Automation, watch: Watch, fired: Iterable[datetime]) -> None:
        self.automation = automation
        self.watch = watch
        self.fired = deque(fired)
        self.held_back = 0  # causes that its limit kept it from acting on
        self.last: datetime | None = self.fired[-1] if self.fired else None


class Automations:
    """Decides when an automation fires, and sees that what it says is done."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        timekeeper: Timekeeper,
        bus: EventBus,
        clock: Clock,
        fires: Fires,
        last_alive: datetime | None,
        slice_s: float = SLICE_S,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._timekeeper = timekeeper
        self._clock = clock
        self._doing = fires
        self._slice_s = slice_s
        self._entries: dict[str, Entry] = {}
        self._anew: set[str] = set()  # automations that count from now: they were resumed
        self._heard: deque[Event] = deque()
        self._heard_since = (last_alive or clock.now()) - BEFORE_LAST_ALIVE
        self._loaded = False
        self._stale = True
        self._undecided: deque[tuple[str, Cause]] = deque()  # the disk was full
        self._settled = clock.now() + SETTLE
        self._closed = False
        self._wake = Wake()
        bus.listen(self._hear)
        catalogue.on_replaced.append(self._replaced)
        timekeeper.on_caught_up.append(self._settle)

    # --- hearing ----------------------------------------------------------------------------------------------------

    def _hear(self, events: Sequence[Event]) -> None:
        if not self._catalogue.settings.automations:
            return
        if len(self._heard) + len(events) > MOST_HEARD:
            # Not one of them is lost: all are in the database.
            self._heard.clear()
            self._entries.clear()
            self._stale = True
            self._heard_since = self._clock.now() - BEFORE_LAST_ALIVE
            logger.warning("more happens than automations can keep up with; they read on in history")
        else:
            self._heard.extend(each for each in events if isinstance(each, RunChanged | RunDeleted | ArtifactStored))
        self._wake.set()

    def _replaced(self, before: Settings, after: Settings) -> None:
        if before.automations != after.automations:
            self._stale = True
            self._wake.set()

    def _settle(self) -> None:
        self._settled = self._clock.now() + SETTLE
        self._wake.set()

    def resumed(self, name: str) -> None:
        """Let an automation count from now: what happened while it was paused is no business of it."""
        self._anew.add(name)
        self._stale = True
        self._wake.set()

    # --- taking over the configuration ------------------------------------------------------------------------------

    async def load(self, now: datetime) -> None:
        """Take over the automations in force; those whose condition is the same go on as they were."""
        stated = self._catalogue.settings.automations
        self._stale = False
        if not self._entries:
            self._heard.clear()  # all of it is read from history
        anew, self._anew = self._anew | self._unpaused(stated), set()
        try:
            causes = await self._take_over(stated, anew & stated.keys(), now)
        except BaseException:
            self._stale, self._anew = True, anew
            raise
        for name in self._doing.troubles.keys() & anew:
            del self._doing.troubles[name]
        if not self._loaded:
            self._loaded = True
            await self._doing.take_up(now)
        for name, cause in causes:
            await self._fire(name, cause, now)

    def _unpaused(self, stated: Mapping[str, Automation]) -> set[str]:
        """Return what the file paused until now: it counts from now, as what was paused by hand does."""
        return {
            name
            for name, entry in self._entries.items()
            if name in stated and entry.automation.paused and not stated[name].paused
        }

    async def _take_over(
        self, stated: Mapping[str, Automation], anew: Set[str], now: datetime
    ) -> list[tuple[str, Cause]]:
        digests = {name: digest(each) for name, each in stated.items()}
        await self._store.write(automations.STATE_AUTOMATIONS, automations.Stated(digests=digests, at=now))
        for name in anew:
            await self._store.write(automations.COUNT_FROM, (name, now))
        sinces = await self._store.read(automations.since)
        before, self._entries = self._entries, {}
        causes: list[tuple[str, Cause]] = []
        for name, automation in stated.items():
            known = before.get(name)
            if known is not None and name not in anew and known.automation.when == automation.when:
                known.automation = automation
                self._entries[name] = known
                continue
            watch, fired = await self._store.read(partial(look_back, automation=automation, since=sinces[name]))
            # From here on it hears for itself; what it then hears twice has the same key.
            entry = self._entries[name] = Entry(automation, watch, fired)
            if not self._catalogue.paused(KIND, name) and name not in self._anew:  # it may be resumed right now
                back = partial(missed, automation=automation, since=sinces[name], heard=self._heard_since)
                for event in await self._store.read(back):
                    causes += [(name, cause) for cause in await self._judge(entry, event)]
        return causes

    # --- deciding ---------------------------------------------------------------------------------------------------

    async def tick(self, now: datetime) -> int:
        """Deal with what was heard and what is due by now; return how often something fired."""
        if self._stale:
            await self.load(now)
        fired = 0
        for _ in range(len(self._undecided)):
            fired += await self._fire(*self._undecided.popleft(), now)
        seen = 0
        while self._heard:
            event = self._heard.popleft()
            for name, entry in list(self._entries.items()):
                if not self._catalogue.paused(KIND, name):
                    for cause in await self._judge(entry, event):
                        fired += await self._fire(name, cause, now)
            seen += 1
            if seen % SLICE == 0:
                await self._clock.sleep(0)
        if self._timekeeper.held is None:
            for name, entry in list(self._entries.items()):
                at = self._next_of(name, entry)
                if at is not None and at <= now:
                    for cause in entry.watch.due(now):
                        fired += await self._fire(name, cause, now)
        await self._doing.tick(now, self._rounds)
        return fired

    def _rounds(self, name: str) -> int:
        stated = self._catalogue.settings.automations.get(name)
        return 1 if stated is None else stated.rounds

    async def _judge(self, entry: Entry, event: Event) -> Iterable[Cause]:
        watch = entry.watch
        if isinstance(watch, StreakWatch) and (name := watch.unknown(event)) is not None:
            past = (await self._store.read(partial(automations.past, name=entry.automation.name))).get(name)
            known = partial(streak, deployment=name, condition=watch.condition, past=past)
            watch.recall(name, await self._store.read(known))
        return watch.hear(event)

    def _next_of(self, name: str, entry: Entry) -> datetime | None:
        at = None if self._catalogue.paused(KIND, name) else entry.watch.next_at()
        if at is not None and isinstance(entry.automation.when, NoneWithin):
            return max(at, self._settled if entry.automation.when.within > SETTLE else at)
        return at

    async def _fire(self, name: str, cause: Cause, now: datetime) -> bool:
        """Act on a cause, unless that was done before or its limit is reached; say whether."""
        entry = self._entries.get(name)
        if entry is None:
            return False
        automation = entry.automation
        while entry.fired and entry.fired[0] <= now - automation.per:
            entry.fired.popleft()
        if not may_fire(entry.fired, now, automation):
            self._hold_back(entry, cause)
            return False
        steps = tuple(Step(action=each) for each in automation.then if isinstance(each, Tell) or not cause.over)
        if not steps:
            return False
        cause = await self._named(cause)
        fire = Fire(automation=name, cause=cause, at=now, steps=steps)
        try:
            number = await self._store.write(automations.FIRE, fire)
        except StoreUnavailableError:
            self._undecided.append((name, cause))
            return False
        if number is None:
            return False
        entry.fired.append(now)
        entry.last = now
        fields = {"event": "automation-fired", "automation": name, "deployment": cause.deployment, "run": cause.run}
        does = ", ".join(action_text(step.action) for step in steps)
        logger.info("automation %s fires (%s): %s", name, does, cause.reason, extra={"fields": fields})
        self._doing.put(replace(fire, number=number), now)
        return True

    async def _named(self, cause: Cause) -> Cause:
        """Return a cause with its run's name and flow, where it was heard of by the run's id."""
        id_ = cause.run
        if id_ is None or cause.run_name is not None:
            return cause
        try:
            run = await self._store.read(lambda connection: runs.get(connection, id_))
        except StoreUnavailableError:
            return cause
        return cause if run is None else replace(cause, run_name=run.name, flow=run.flow)

    def _hold_back(self, entry: Entry, cause: Cause) -> None:
        entry.held_back += 1
        if entry.held_back == 1 or entry.held_back % 1000 == 0:
            automation = entry.automation
            logger.warning(
                "automation %s is held back: it fired %d times within %s; %d held back so far, this one for: %s",
                automation.name,
                automation.max_fires,
                format_duration(automation.per),
                entry.held_back,
                cause.reason,
                extra={"fields": {"automation": automation.name, "held_back": entry.held_back}},
            )

    # --- life -------------------------------------------------------------------------------------------------------

    def next_time(self, now: datetime) -> float:
        """Return seconds until there is something to do, at most a slice."""
        if self._heard or self._stale:
            return 0.0
        if self._undecided:
            return HEAL_S
        times = [] if (doing := self._doing.next_at()) is None else [doing]
        if self._timekeeper.held is None:
            times += [at for name, entry in self._entries.items() if (at := self._next_of(name, entry)) is not None]
        if not times:
            return IDLE_S
        return max(0.0, min(self._slice_s, (min(times) - now).total_seconds()))

    async def run(self) -> None:
        """Tick whenever there is something to do, until closed; what was heard by then is dealt with."""
        while True:
            closing = self._closed
            try:
                await self.tick(self._clock.now())
            except StoreUnavailableError:
                await self._wake.wait(HEAL_S)
                if closing:
                    return
                continue
            if closing:
                return
            await self._wake.wait(self.next_time(self._clock.now()))

    def close(self) -> None:
        """Deal with what was heard so far, and then with nothing more."""
        self._closed = True
        self._wake.set()

    # --- looking ----------------------------------------------------------------------------------------------------

    def standing(self, name: str) -> list[str]:
        """Return how an automation's condition stands, a line for each thing."""
        entry = self._entries.get(name)
        return [] if entry is None else entry.watch.standing(self._clock.now())

    def document(self) -> list[dict[str, Any]]:
        """Return how each automation does, as JSON values."""
        return [
            {
                "name": name,
                "when": condition_text(entry.automation.when),
                "then": [action_text(action) for action in entry.automation.then],
                "paused": self._catalogue.paused(KIND, name),
                "last_fired": None if entry.last is None else _time(entry.last),
                "held_back": entry.held_back,
                "trouble": self._doing.troubles.get(name),
            }
            for name, entry in self._entries.items()
        ]

    def problems(self) -> list[str]:
        """Return what could not be done of each automation's last fire, in words."""
        return [f"automation {name} {each}" for name, each in self._doing.troubles.items() if name in self._entries]


def digest(automation: Automation) -> str:
    """Return a digest of an automation's condition."""
    return hashlib.blake2b(msgspec.json.encode(automation.when, order="sorted"), digest_size=8).hexdigest()


def _time(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
