"""Silences: nothing good was seen of a deployment for a while. A dead man's switch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from tidemill.core.automations import Cause, NoneWithin, Past, means, split
from tidemill.core.causes import utc
from tidemill.core.events import Event, RunChanged
from tidemill.durations import format_duration

# In shadow mode nothing runs, and so nothing is missing that would have run.
SHADOW = "Shadow"


class _Silence(msgspec.Struct):
    """How long nothing good was seen of one deployment."""

    began: datetime
    ever: bool  # something was seen; else it counts from when the automation was first here
    told: datetime | None = None  # when this silence was acted on last


class SilenceWatch:
    """Nothing good was seen for a while."""

    def __init__(
        self, condition: NoneWithin, since: datetime, last: Mapping[str, datetime], past: Mapping[str | None, Past]
    ) -> None:
        self._condition = condition
        self._meant = split(condition.states)
        self._silences: dict[str, _Silence] = {}
        self._over: list[Cause] = []
        for name in condition.deployments:
            seen, fired = last.get(name), past.get(name)
            # Retention may have taken the run that was seen; the silence has been told all the same.
            told = fired.at if fired is not None and (seen is None or fired.at > seen) else None
            self._silences[name] = _Silence(seen or since, seen is not None, told)
            if fired is not None and seen is not None and told is None and not (fired.over and fired.over > fired.at):
                self._over.append(self._ended(name, seen))  # nobody was there to say so

    def hear(self, event: Event) -> Iterable[Cause]:
        if isinstance(event, RunChanged) and event.run.deployment in self._silences:
            state, silence = event.run.state, self._silences[event.run.deployment]
            seen = means(self._meant, state) or state.name == SHADOW
            if seen and (state.timestamp > silence.began or not silence.ever):
                self._silences[event.run.deployment] = _Silence(state.timestamp, True)
                if silence.told is not None:
                    return [self._ended(event.run.deployment, state.timestamp)]
        return ()

    def _ended(self, name: str, seen: datetime) -> Cause:
        reason = f"{name} has a {_or(self._condition.states)} run again"
        return Cause(key=f"{name}/{seen.isoformat()}/over", at=seen, reason=reason, deployment=name, over=True)

    def _at(self, silence: _Silence) -> datetime | None:
        if silence.told is None:
            return silence.began + self._condition.within
        return None if self._condition.repeat is None else silence.told + self._condition.repeat

    def due(self, now: datetime) -> Iterable[Cause]:
        found, self._over = self._over, []
        for name, silence in self._silences.items():
            at = self._at(silence)
            if at is None or at > now:
                continue
            silence.told = now
            what = _or(self._condition.states)
            last = f"the last one was at {utc(silence.began)}" if silence.ever else "there was none so far"
            reason = f"no {what} run of {name} for {format_duration(self._condition.within)}: {last}"
            key = f"{name}/{silence.began.isoformat()}/{at.isoformat()}"
            found.append(Cause(key=key, at=at, reason=reason, deployment=name))
        return found

    def next_at(self) -> datetime | None:
        times = [each.at for each in self._over]
        return min([*times, *(at for each in self._silences.values() if (at := self._at(each)))], default=None)

    def standing(self, now: datetime) -> list[str]:
        what, within = _or(self._condition.states), self._condition.within
        lines = []
        for name, each in self._silences.items():
            seen = f"last {what} at {utc(each.began)}" if each.ever else f"no {what} since {utc(each.began)}"
            end = f"silent, told at {utc(each.told)}" if each.told else f"due by {utc(each.began + within)}"
            lines.append(f"{name}: {seen}; {end}")
        return lines


def _or(states: Sequence[str]) -> str:
    return " or ".join(states)
