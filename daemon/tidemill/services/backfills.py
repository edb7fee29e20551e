"""Backfills: runs for fires that lie in the past, a few at a time, also over a restart.

A backfill's run is no run of its schedule: it has a key of its own, so neither stands in the other's way (P1).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.backfills import CREATED_BY, MOST, Backfill, key, next_fires
from tidemill.core.deployments import Deployment
from tidemill.core.events import Event, RunChanged, RunDeleted
from tidemill.core.filters import RunFilter
from tidemill.core.runs import FlowRun
from tidemill.core.schedules import CompiledSchedule
from tidemill.core.states import TERMINAL, State, StateType
from tidemill.errors import NotFoundError, StoreUnavailableError, TidemillError
from tidemill.ids import Ids
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.given import Check, merged
from tidemill.services.orchestrator import HEAL_S, Orchestrator
from tidemill.services.wake import Pulse, Wake
from tidemill.store import backfills as stored
from tidemill.store import listing

SLICE = 50  # fires looked at before others have their turn
MOST_AT_A_TIME = 200
SHOWN = 200  # fires of a preview
IDLE_S = 3600.0

logger = logging.getLogger("tidemill.backfill")


class Backfills:
    """Makes the runs of backfills, as many at a time as each may have."""

    def __init__(
        self, *, orchestrator: Orchestrator, catalogue: Catalogue, bus: EventBus, clock: Clock, ids: Ids, check: Check
    ) -> None:
        self.check = check
        self.moved = Pulse()  # told whenever one of them got further
        self._orchestrator = orchestrator
        self._store = orchestrator.store
        self._catalogue = catalogue
        self._clock = clock
        self._ids = ids
        self._under_way: dict[str, Backfill] = {}
        self._running: dict[str, str] = {}  # the backfill of each unfinished run, by its id
        self._closed = False
        self._wake = Wake()
        bus.listen(self._hear)

    # -- what people ask ---------------------------------------------------------------------------------------------

    async def preview(self, deployment: str, first: datetime, last: datetime, *, again: bool = False) -> dict[str, Any]:
        """Return which fires there are and what would become of each, as JSON values; nothing is changed."""
        found = self._catalogue.find(deployment)
        compiled, fires = await self._fires(found, first, last)
        shown: list[dict[str, Any]] = []
        wanted = 0
        for place, (due, schedule) in enumerate(fires):
            reason = await self._passed_over(found.name, schedule, due, again=again)
            wanted += reason is None
            if place < SHOWN:
                shown.append({"due": _time(due), "schedule": schedule, "runs": reason is None, "reason": reason})
            if place % SLICE == SLICE - 1:
                await self._clock.sleep(0)
        return {"deployment": found.name, "first": _time(first), "last": _time(last), "total": len(fires),
                "runs": wanted, "fires": shown, "schedules": len(compiled)}  # fmt: skip

    async def begin(
        self,
        deployment: str,
        first: datetime,
        last: datetime,
        *,
        by: str,
        at_a_time: int = 1,
        again: bool = False,
        parameters: dict[str, Any] | None = None,
    ) -> Backfill:
        """Begin to make runs for the fires due from ``first`` to ``last``, both included; return at once.

        Fires that have a completed run, or one on its way, are passed over; with ``again`` only the latter.
        """
        found = self._catalogue.find(deployment)
        if not 1 <= at_a_time <= MOST_AT_A_TIME:
            raise TidemillError(f"a backfill has from 1 to {MOST_AT_A_TIME} runs at a time, not {at_a_time}")
        merged(found, parameters or {}, self.check)
        _, fires = await self._fires(found, first, last)
        now = self._clock.now()
        made = Backfill(
            id=self._ids.new(now),
            deployment=found.name,
            first=first,
            last=last,
            at_a_time=at_a_time,
            again=again,
            parameters=parameters or {},
            total=len(fires),
            created=now,
            by=by,
        )
        await self._store.write(stored.PUT_BACKFILL, made)
        fields = {
            "event": "backfill-begun",
            "deployment": found.name,
            "backfill": made.id,
            "fires": made.total,
            "by": by,
        }
        logger.info(
            "%s: a backfill of %s began (%s)", found.name, _count(made.total, "fire"), by, extra={"fields": fields}
        )
        self._under_way[made.id] = made
        self._wake.set()
        return made

    async def cancel(self, text: str, *, by: str) -> Backfill:
        """Make no further runs of a backfill; what runs of it goes on. Return it."""
        for each in self._under_way.values():
            if text in (each.id, each.id[-8:], each.tag):
                return await self._end(each, f"cancelled by {by}")
        raise NotFoundError(f'no backfill "{text}" is under way; there are {", ".join(self._names()) or "none"}')

    def find(self, text: str) -> Backfill | None:
        """Return the backfill of that id, where it is under way."""
        return next((each for each in self._under_way.values() if text in (each.id, each.id[-8:], each.tag)), None)

    def documents(self) -> list[dict[str, Any]]:
        """Return how far those are that are under way, as JSON values."""
        return [_brief(each, self.running(each)) for each in self._under_way.values()]

    # -- a daemon's life ---------------------------------------------------------------------------------------------

    async def load(self) -> int:
        """Go on with what an earlier daemon began; return how many. Before :meth:`run`."""
        for each in await self._store.read(partial(stored.backfills, unfinished=True)):
            self._under_way[each.id] = each
            for state in (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED):
                wanted = RunFilter(tags=(each.tag,), state_types=(state,))
                for run in await self._store.read(partial(listing.select, wanted=wanted)):
                    self._running[run.id] = each.id
        return len(self._under_way)

    async def run(self) -> None:
        """Tick whenever a run has ended or a backfill has begun, until closed."""
        while not self._closed:
            try:
                more = await self.tick()
            except StoreUnavailableError:
                await self._wake.wait(HEAL_S)
                continue
            await self._wake.wait(0 if more else IDLE_S)

    async def tick(self) -> bool:
        """Make the runs that there is room for; say whether there is more to do at once."""
        more = False
        for each in list(self._under_way.values()):
            more |= await self._advance(each.id)
        return more

    def close(self) -> None:
        """Make no more runs; the next daemon goes on."""
        self._closed = True
        self._wake.set()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _advance(self, own: str) -> bool:
        looked = 0
        while not self._closed and (backfill := self._under_way.get(own)) is not None:
            if self.running(backfill) >= backfill.at_a_time:
                return False
            deployment = self._catalogue.deployments.get(backfill.deployment)
            if deployment is None:
                await self._end(backfill, f"deployment {backfill.deployment} is no longer in the configuration")
                return False
            after = backfill.cursor or backfill.first - timedelta(microseconds=1)
            fire = next_fires(self._catalogue.schedules(deployment), after, backfill.last)
            if fire is None:
                if not self.running(backfill):
                    await self._end(backfill, "completed")
                return False
            if looked >= SLICE:
                await self._clock.sleep(0)
                return True
            looked += 1
            await self._make(backfill, deployment, *fire)
        return False

    async def _make(self, backfill: Backfill, deployment: Deployment, due: datetime, schedules: Sequence[str]) -> None:
        made = passed = 0
        for schedule in schedules:
            reason = await self._passed_over(deployment.name, schedule, due, again=backfill.again)
            if reason is not None:
                passed += 1
                continue
            earlier, _ = await self._store.read(
                partial(stored.of_fire, deployment=deployment.name, schedule=schedule, due=due)
            )
            run = self._run(backfill, deployment, due, key(deployment.name, schedule, due, len(earlier)))
            self._running[run.id] = backfill.id  # before it can end
            if await self._orchestrator.create(run):
                made += 1
            else:
                del self._running[run.id]
                passed += 1  # another backfill was faster
        present = self._under_way.get(backfill.id)
        if present is not None:  # else it was cancelled meanwhile
            present = replace(present, cursor=due, made=present.made + made, passed_over=present.passed_over + passed)
            self._under_way[backfill.id] = present
            await self._store.write(stored.PUT_BACKFILL, present)
        self.moved.tell()

    def _run(self, backfill: Backfill, deployment: Deployment, due: datetime, own_key: str) -> FlowRun:
        now = self._clock.now()
        return FlowRun(
            seq=self._store.next_seq(),
            id=self._ids.new(now),
            name=self._ids.name(),
            flow=deployment.flow.name,
            deployment=deployment.name,
            work_pool=deployment.work_pool,
            work_queue=deployment.work_queue,
            parameters={**deployment.parameters, **backfill.parameters},
            tags=(*deployment.tags, backfill.tag),
            due=due,
            expected_start=now,
            state=State(type=StateType.SCHEDULED, name="Scheduled", timestamp=now),
            created=now,
            created_by=CREATED_BY,
            idempotency_key=own_key,
        )

    async def _passed_over(self, deployment: str, schedule: str, due: datetime, *, again: bool) -> str | None:
        made, own = await self._store.read(partial(stored.of_fire, deployment=deployment, schedule=schedule, due=due))
        states = made if own is None else [*made, own]
        if any(state not in TERMINAL for state in states):
            return "a run of it is on its way"
        if not again and StateType.COMPLETED in states:
            return "a run of it has completed"
        return None

    async def _fires(
        self, deployment: Deployment, first: datetime, last: datetime
    ) -> tuple[Sequence[CompiledSchedule], list[tuple[datetime, str]]]:
        """Return every fire of the schedules due from ``first`` to ``last``, in order."""
        compiled = [each for each in self._catalogue.schedules(deployment) if each.schedule.active]
        if not compiled:
            raise TidemillError(f"deployment {deployment.name} has no schedule, so there are no fires to make up for")
        now, local = self._clock.now(), partial(_local, zone=compiled[0].info)
        if first > last:
            raise TidemillError(
                f"a backfill ends no earlier than it begins, not at {local(last)} before {local(first)}"
            )
        if last > now:
            raise TidemillError(
                f"a backfill is for the past, and {local(last)} is to come; end it by now, {local(now)}"
            )
        found: list[tuple[datetime, str]] = []
        after = first - timedelta(microseconds=1)
        while (fire := next_fires(compiled, after, last)) is not None:
            after = fire[0]
            found += [(fire[0], schedule) for schedule in fire[1]]
            if len(found) > MOST:
                raise TidemillError(
                    f"there are more than {MOST} fires from {local(first)} to {local(last)}; take a part at a time "
                    f"(the first {MOST} end at {local(found[MOST - 1][0])})"
                )
            if len(found) % SLICE == 0:
                await self._clock.sleep(0)
        return compiled, found

    async def _end(self, backfill: Backfill, outcome: str) -> Backfill:
        ended = replace(backfill, ended=self._clock.now(), outcome=outcome)
        await self._store.write(stored.PUT_BACKFILL, ended)
        self._under_way.pop(backfill.id, None)
        fields = {"event": "backfill-ended", "deployment": ended.deployment, "backfill": ended.id, "outcome": outcome}
        logger.info(
            "%s: the backfill of %s ended, %s made, %s had one already: %s",
            ended.deployment, _count(ended.total, "fire"), _count(ended.made, "run"),
            _count(ended.passed_over, "fire"), outcome, extra={"fields": fields},
        )  # fmt: skip
        self.moved.tell()
        return ended

    def running(self, backfill: Backfill) -> int:
        """Return how many runs of it have not ended."""
        return sum(own == backfill.id for own in self._running.values())

    def _names(self) -> list[str]:
        return [f"{each.id[-8:]} of {each.deployment}" for each in self._under_way.values()]

    def _hear(self, events: Sequence[Event]) -> None:
        if not self._running:
            return
        for event in events:
            if isinstance(event, RunChanged) and event.run.state.is_terminal:
                self._over(event.run.id)
            elif isinstance(event, RunDeleted):
                self._over(event.run_id)

    def _over(self, run_id: str) -> None:
        if self._running.pop(run_id, None) is not None:
            self.moved.tell()
            self._wake.set()


def _brief(value: Backfill, running: int) -> dict[str, Any]:
    return {
        "id": value.id,
        "deployment": value.deployment,
        "first": _time(value.first),
        "last": _time(value.last),
        "total": value.total,
        "made": value.made,
        "passed_over": value.passed_over,
        "left": max(0, value.total - value.made - value.passed_over),
        "running": running,
        "created": _time(value.created),
        "by": value.by,
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _local(when: datetime, *, zone: tzinfo) -> str:
    return f"{when.astimezone(zone):%Y-%m-%d %H:%M:%S %z}"


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
