"""Missed fires: what fell due while the daemon was down or the machine slept.

Runs that were planned ahead for that time and fires nobody had planned yet are decided on together, by the deployment's
``catch_up`` policy inside its window. What does not run is recorded with its reason: as a Skipped run where there is a
row, as a skipped fire where there is none. No fire is lost in silence (P5).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from tidemill.core.catchup import catch_up
from tidemill.core.runs import FlowRun, SkippedFire, Transition
from tidemill.core.schedules import CompiledSchedule, fires
from tidemill.core.states import State, StateType
from tidemill.core.transitions import enter
from tidemill.services.entries import Entry
from tidemill.services.orchestrator import Orchestrator
from tidemill.services.scheduler import Scheduler
from tidemill.store import planning

# How many missed fires of one schedule are looked at one by one. Beyond that the latest are, and the rest is said to be
# "at least" that many: a year of a schedule that fires each second must not hold up the start.
MOST_MISSED = 1_000
DOWN = "while the daemon was down"
_LOOKBACKS = (timedelta(seconds=1), timedelta(minutes=10), timedelta(hours=10), timedelta(days=25))

logger = logging.getLogger("tidemill.scheduler")


class MissedFires:
    """Applies the catch-up policies to a stretch of time in which nothing was scheduled."""

    def __init__(self, *, scheduler: Scheduler, orchestrator: Orchestrator) -> None:
        self._scheduler = scheduler
        self._orchestrator = orchestrator

    async def make_up(self, since: datetime, until: datetime, *, why: str = DOWN) -> int:
        """Decide on every fire due in (since, until]; return how many run now. ``why`` they were missed, in words."""
        planned: dict[tuple[str, str], dict[datetime, FlowRun]] = {}
        rows = await self._orchestrator.store.read(
            lambda connection: planning.planned_between(connection, since, until)
        )
        for run in rows:
            if run.deployment is not None and run.schedule is not None and run.due is not None:
                planned.setdefault((run.deployment, run.schedule), {})[run.due] = run
        made = 0
        for key, entry in list(self._scheduler.entries.items()):
            made += await self._decide(entry, planned.pop(key, {}), since, until, why)
        for (name, _), left in planned.items():
            made += await self._decide_without_schedule(name, left, until, why)
        return made

    async def make_up_unplanned(self, entry: Entry, until: datetime) -> int:
        """Decide on the fires of one schedule up to ``until`` that could not even be planned in time."""
        return await self._decide(entry, {}, entry.cursor, until, "while the database could not be written")

    async def _decide(
        self, entry: Entry, planned: dict[datetime, FlowRun], since: datetime, until: datetime, why: str
    ) -> int:
        unplanned, more = missed_fires(entry.compiled, max(entry.cursor, since), until)
        dues = sorted({*planned, *unplanned})
        if not dues:
            return 0
        now = self._orchestrator.clock.now()
        deployment = entry.deployment
        wanted, dropped = catch_up(dues, deployment.catch_up, deployment.catch_up_window, until, why=why)
        await self._skip(planned, dropped)
        skipped = ranges(entry, [(due, reason) for due, reason in dropped if due not in planned], now)
        if more:
            reason = f"more than {MOST_MISSED} fires were missed; the latest {len(unplanned)} were looked at"
            first = SkippedFire(
                deployment=deployment.name,
                schedule=entry.key,
                first=max(entry.cursor, since),
                last=unplanned[0],
                count=MOST_MISSED,
                exact=False,
                reason=reason,
                at=now,
            )
            skipped.insert(0, first)
        runs = [self._scheduler.make(entry, due) for due in wanted if due not in planned]
        await self._scheduler.plan(runs, [entry], skipped=skipped)
        logger.warning(
            "%s: %s%d %s missed since %s: %d run now, %d skipped",
            deployment.name,
            "more than " if more else "",
            len(dues),
            "fire was" if len(dues) == 1 else "fires were",
            f"{since:%Y-%m-%d %H:%M:%SZ}",
            len(wanted),
            len(dropped),
            extra={"fields": {"deployment": deployment.name, "missed": len(dues), "skipped": len(dropped)}},
        )
        return len(wanted)

    async def _decide_without_schedule(
        self, name: str, planned: dict[datetime, FlowRun], until: datetime, why: str
    ) -> int:
        """Decide on missed runs of a schedule that was changed or removed since they were planned."""
        deployment = self._scheduler.in_force(name)
        if deployment is None:
            reason = f"missed {why}; deployment {name} is paused or no longer in the configuration"
            await self._skip(planned, [(due, reason) for due in planned])
            return 0
        wanted, dropped = catch_up(list(planned), deployment.catch_up, deployment.catch_up_window, until, why=why)
        await self._skip(planned, dropped)
        return len(wanted)

    async def _skip(self, planned: dict[datetime, FlowRun], dropped: Sequence[tuple[datetime, str]]) -> None:
        now = self._orchestrator.clock.now()
        changes: list[tuple[FlowRun, Transition]] = []
        for due, reason in dropped:
            run = planned.get(due)
            if run is not None:
                state = State(type=StateType.CANCELLED, name="Skipped", timestamp=now, message=reason)
                changes.append((run, enter(run, state)))
        await self._orchestrator.change_all(changes)


def missed_fires(compiled: CompiledSchedule, since: datetime, now: datetime) -> tuple[list[datetime], bool]:
    """Return the fires in (since, now], oldest first, and whether there were more than could be looked at.

    Where there are more, those returned are the latest, at most MOST_MISSED.
    """
    if since >= now:
        return [], False
    dues = list(fires(compiled, since, until=now, limit=MOST_MISSED + 1))
    if len(dues) <= MOST_MISSED:
        return dues, False
    best = dues[:1]
    for lookback in _LOOKBACKS:
        if now - lookback <= since:
            break
        latest = list(fires(compiled, now - lookback, until=now, limit=MOST_MISSED + 1))
        if len(latest) > MOST_MISSED:
            break
        best = latest or best
    return best, True


def ranges(entry: Entry, dropped: Sequence[tuple[datetime, str]], now: datetime) -> list[SkippedFire]:
    """Return dropped fires, in order, as one record for each stretch with the same reason."""
    found: list[SkippedFire] = []
    for due, reason in dropped:
        if found and found[-1].reason == reason:
            found[-1] = replace(found[-1], last=due, count=found[-1].count + 1)
        else:
            found.append(
                SkippedFire(
                    deployment=entry.deployment.name,
                    schedule=entry.key,
                    first=due,
                    last=due,
                    count=1,
                    reason=reason,
                    at=now,
                )
            )
    return found
