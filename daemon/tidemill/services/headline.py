"""The daemon in one line: what is wrong, what runs, what waits, what is next, what the last reload came to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tidemill.services.house import House

NAMED = 3  # running runs that are named
LONGEST_PROBLEM = 160  # characters: what is wrong stands first, and must leave room for the rest


class Headline:
    """Looks at the services and says it: for systemd's STATUS=, which ``systemctl status`` shows."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._status = house.status
        self._lineup = house.dispatcher.lineup

    def line(self) -> str:
        """Return the line. It holds no duration that would make it another one a second later."""
        now = self._house.clock.now()
        parts = [self._problems(), self._running(), self._waiting()]
        if not self._status.stopping:
            parts += [self._next(now), self._reload(now)]
        return "; ".join(part for part in parts if part)

    def _problems(self) -> str:
        problems = self._status.problems()
        words = "stopping" if self._status.stopping else "draining" if self._status.drains() else ""
        if not problems:
            return words
        first = " ".join(problems[0].split())
        first = first if len(first) <= LONGEST_PROBLEM else f"{first[:LONGEST_PROBLEM]} …"
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        return f"{words or 'degraded'}: {first}{more}"

    def _running(self) -> str:
        runs = [live.run for worker in self._house.workers.values() for live in worker.live.values()]
        if not runs:
            return "nothing runs"
        runs.sort(key=lambda run: run.state.timestamp)
        names = [run.deployment or run.flow for run in runs[:NAMED]]
        more = f" and {len(runs) - NAMED} more" if runs[NAMED:] else ""
        return f"{len(runs)} running ({', '.join(names)}{more})"

    def _waiting(self) -> str:
        waiting = len(self._lineup)
        if not waiting:
            return ""
        late = sum(run.state.name == "Late" for run in self._lineup)
        return f"{waiting} waiting" + (f", {late} of them late" if late else "")

    def _next(self, now: datetime) -> str:
        fires = (
            (due, entry.deployment.name)
            for entry in self._house.scheduler.entries.values()
            if (due := next((each for each in entry.ahead if each > now), None)) is not None
        )
        first = min(fires, default=None)
        if first is None:
            return "" if self._house.scheduler.entries else "nothing is scheduled"
        return f"next: {first[1]} {self._when(first[0], now)}"

    def _reload(self, now: datetime) -> str:
        part = self._status.parts.get("reload")
        told: dict[str, Any] | None = part() if part is not None else None
        if not told:
            return ""
        words = "reloaded" if told["outcome"] == "ok" else "reload refused"
        return f"{words} {self._when(datetime.fromisoformat(told['at']), now)}"

    def _when(self, at: datetime, now: datetime) -> str:
        zone = ZoneInfo(self._house.catalogue.settings.daemon.timezone)
        local, today = at.astimezone(zone), now.astimezone(zone).date()
        if local.date() == today:
            return f"at {local:%H:%M:%S}"
        if abs(local.date() - today) < timedelta(days=7):
            return f"on {local:%a %H:%M:%S}"
        return f"on {local:%Y-%m-%d %H:%M}"
