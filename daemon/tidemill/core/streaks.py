"""Streaks: failures of a deployment in a row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec.structs import replace

from tidemill.core.automations import FAILURES, Cause, InARow
from tidemill.core.causes import SUBFLOW, because, cause_of, mark
from tidemill.core.events import Event, RunChanged
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType

# Deployments whose failures in a row are kept in mind; of others the database is asked again.
MOST_STREAKS = 10_000


class Streak(msgspec.Struct):
    """Failures of one deployment since its last success. ``fired`` says that they were acted on."""

    failed: list[tuple[str, int]]  # run ids with the number of the state, oldest first; no more than are waited for
    since: datetime | None  # when the last success ended; None: none is known
    fired: bool = False


class StreakWatch:
    """Failures in a row. The streak of a deployment is read from history when its first failure is heard."""

    def __init__(self, condition: InARow) -> None:
        self.condition = condition
        self._streaks: OrderedDict[str, Streak] = OrderedDict()

    def unknown(self, event: Event) -> str | None:
        """Return the deployment whose history has to be looked up before this event can be judged."""
        if not isinstance(event, RunChanged) or event.run.state.type not in FAILURES or not self._fits(event.run):
            return None
        name = event.run.deployment
        return name if name is not None and name not in self._streaks else None

    def recall(self, deployment: str, streak: Streak) -> None:
        """Take over what history says of a deployment."""
        self._streaks[deployment] = streak
        if len(self._streaks) > MOST_STREAKS:
            self._streaks.popitem(last=False)

    def hear(self, event: Event) -> Iterable[Cause]:
        if not isinstance(event, RunChanged) or not self._fits(event.run):
            return ()
        run = event.run
        name = run.deployment or ""
        streak = self._streaks.get(name)
        if run.state.type is StateType.COMPLETED:
            if streak is None:
                return ()
            self._streaks[name] = Streak([], run.state.timestamp)
            key, reason = f"{name}/{_began(streak)}/over", f"{name} is {run.state.name} again"
            return [replace(cause_of(run, key, reason, state=run.state), over=True)] if streak.fired else ()
        if run.state.type not in FAILURES or streak is None:
            return ()
        if streak.since is not None and run.state.timestamp < streak.since:
            return ()  # heard again after a start: a success has ended that row
        this = mark(run)
        if this not in streak.failed and len(streak.failed) < self.condition.count:
            streak.failed.append(this)
        if streak.fired or len(streak.failed) < self.condition.count:
            return ()
        streak.fired = True
        reason = f"{name} failed {self.condition.count} times in a row{because(run.state)}"
        return [cause_of(run, f"{name}/{_began(streak)}", reason, state=run.state)]

    def _fits(self, run: FlowRun) -> bool:
        named = run.deployment is not None and run.created_by != SUBFLOW
        return named and self.condition.of.fits(run.deployment, run.tags)

    def due(self, now: datetime) -> Iterable[Cause]:
        return ()

    def next_at(self) -> datetime | None:
        return None

    def standing(self, now: datetime) -> list[str]:
        return [
            f"{name}: {len(each.failed)} of {self.condition.count} failures in a row" + (", told" if each.fired else "")
            for name, each in self._streaks.items()
            if each.failed
        ]


def _began(streak: Streak) -> str:
    return "ever" if streak.since is None else streak.since.isoformat()
