"""Alarms: what goes wrong becomes notices, by the rules of core/incidents.py, and what is well again ends them.

Every decision is kept in one change with the notices it brings, and with the time up to which the ends of runs have
been heard: whatever a crash cut off is heard at the next start, and nothing is told twice.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.config.settings import Settings
from tidemill.core import incidents
from tidemill.core.catchup import is_lost
from tidemill.core.channels import DEFAULT
from tidemill.core.deployments import CatchUp
from tidemill.core.events import Event, FiresSkipped, RunChanged
from tidemill.core.incidents import Failure, Incident
from tidemill.core.messages import Place, missed_notice
from tidemill.core.notices import NoticeKind, Waiting
from tidemill.core.pacing import GATHER_S
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.states import StateType
from tidemill.core.troubles import CHANNEL, CODE_OF, Trouble
from tidemill.core.zones import zone
from tidemill.ids import Ids
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.notices import Notices
from tidemill.services.wake import Wake
from tidemill.store import Store
from tidemill.store import notices as stored

TICK_S = 60.0  # between two looks at the daemon's own troubles: one that is gone by the second is not told
IDLE_S = 3600.0
# `last_alive` is written at least every 30 s: an end that nobody heard lies no further before it than that.
UNHEARD = timedelta(minutes=2)
_FAILING = frozenset({StateType.FAILED, StateType.CRASHED})
_open_incident = msgspec.json.Decoder(Incident)

logger = logging.getLogger("tidemill.notify")


class Alarms:
    """Listens to the bus and looks at the daemon itself."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        ids: Ids,
        notices: Notices,
        bus: EventBus,
        troubles: Callable[[], Mapping[str, Trouble]],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._ids = ids
        self._notices = notices
        self._troubles = troubles
        self._known: dict[str, Incident] = {}
        self._burst: deque[tuple[datetime, str]] = deque()  # incidents that began lately
        self._missed: dict[str, tuple[str, SkippedFire]] = {}  # by deployment: the notice's key, and what it tells
        self._seen: set[str] = set()  # troubles of the last look
        self._wake = Wake()
        self._closed = False
        notices.failing = self.failing
        bus.listen(self._hear)
        catalogue.on_replaced.append(self._replaced)

    # -- life --------------------------------------------------------------------------------------------------------

    async def load(self, last_alive: datetime | None) -> None:
        """Take up what is known to fail, and hear of the ends that an earlier daemon had no time to tell."""
        now = self._clock.now()
        found = await self._store.read(stored.incidents)
        known = {subject: _open_incident.decode(document) for subject, document in found.items()}
        old = [subject for subject, each in known.items() if incidents.forgettable(each, now)]
        self._known = {subject: each for subject, each in known.items() if subject not in old}
        self._notices.outbox.hold_only(self._storms())
        if old:
            self._store.post(stored.RECORD, stored.Record(incidents=tuple((subject, None) for subject in old)))
        heard = await self._store.read(stored.heard)
        if heard is None or last_alive is None or not self._notices.channels:
            self._store.post(stored.RECORD, stored.Record(heard=now))
            return
        since = max(heard, last_alive - UNHEARD)
        runs = await self._store.read(lambda connection: stored.ended_since(connection, since))
        self._take([RunChanged(run, (run.state,), None) for run in runs])

    async def run(self) -> None:
        """Look at the daemon's own troubles, and at what has been calm for long enough, until closed."""
        while not self._closed:
            await self._wake.wait(TICK_S if self._notices.channels else IDLE_S)
            if not self._closed:
                self.tick(self._clock.now())

    def tick(self, now: datetime) -> int:
        """Take one look; return how many notices it brought."""
        changed = _Changed()
        for subject, each in list(self._known.items()):
            over = incidents.calmed(each, now)
            if over is not None:
                self._well(over, now, changed)
            elif incidents.forgettable(each, now):
                del self._known[subject]
                changed.incidents[subject] = None
        self._look(now, changed)
        return self._keep(changed)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._wake.set()

    # -- hearing -----------------------------------------------------------------------------------------------------

    def _hear(self, events: Sequence[Event]) -> None:
        if self._notices.channels:
            self._take(events)

    def _take(self, events: Sequence[Event]) -> None:
        changed = _Changed()
        for event in events:
            if isinstance(event, RunChanged):
                state = event.run.state
                if state.type in _FAILING:
                    self._run_failed(event.run, changed)
                elif state.type is StateType.COMPLETED:
                    self._run_completed(event.run, changed)
                elif state.name == "Skipped":
                    self._run_skipped(event.run, changed)
            elif isinstance(event, FiresSkipped):
                self._fires_missed(event.skipped, changed)
        self._keep(changed)

    def _run_failed(self, run: FlowRun, changed: _Changed) -> None:
        if run.deployment is None:  # a script's, which its person sees; a subflow's, whose parent's run says it
            return
        state = run.state
        kind = NoticeKind.TIMED_OUT if state.name == "TimedOut" else NoticeKind(state.type.lower())
        failure = Failure(kind=kind, at=state.timestamp, reason=state.message, state=state.name, run=run.id)
        changed.heard = max(state.timestamp, changed.heard or state.timestamp)
        names = self._names(run.deployment)
        if not names:
            return
        incident, tell = incidents.failed(self._known.get(run.deployment), run.deployment, failure)
        if tell:
            if incident.told == 1:
                incident = self._in_storm(incident, changed)
            changed.waiting += self._notices.queue([incidents.failure_notice(incident, failure)], names)
        self._put(incident, changed)

    def _run_completed(self, run: FlowRun, changed: _Changed) -> None:
        incident = self._known.get(run.deployment or "")
        if incident is None or incident.over is not None:
            return
        at = run.state.timestamp
        if at < incident.last:  # it ended before the failure that was heard first
            return
        after, tell = incidents.recovered(incident, at)
        if tell:
            self._well(after, at, changed, run=run.id)
        else:
            self._put(after, changed)

    def _well(self, incident: Incident, at: datetime, changed: _Changed, *, run: str | None = None) -> None:
        self._put(incident, changed)
        subject = incident.subject
        if _is_trouble(subject):
            notice = incidents.trouble_over_notice(incident, at)
        else:
            notice = incidents.recovery_notice(incident, at, run)
        changed.waiting += self._notices.queue([notice], self._people(subject), storm=incident.storm)
        if incident.storm is not None and incident.storm not in self._storms():
            changed.calm.append(incident.storm)

    def _storms(self) -> set[str]:
        """Return the storms that are not over: some of each still fail."""
        return {each.storm for each in self._known.values() if each.storm and each.over is None and not each.flapping}

    def _in_storm(self, incident: Incident, changed: _Changed) -> Incident:
        """Return an incident that just began as part of a storm, where enough others began with it.

        What goes to and fro is in none: it is not well for hours, and the others would wait for it.
        """
        if incident.flapping:
            return incident
        burst, at = self._burst, incident.last
        burst.append((at, incident.subject))
        while burst and at - burst[0][0] > incidents.STORM_WINDOW:
            burst.popleft()
        names = {name for _, name in burst}
        if len(names) < incidents.STORM:
            return incident
        known = [each for name in names if (each := self._known.get(name)) is not None]
        others = [each for each in known if each.over is None and not each.flapping]
        storm = next((each.storm for each in others if each.storm is not None), None) or self._ids.new(at)
        for each in others:
            if each.storm is None:
                self._put(replace(each, storm=storm), changed)
        return replace(incident, storm=storm)

    def _run_skipped(self, run: FlowRun, changed: _Changed) -> None:
        if run.deployment is not None and run.due is not None:
            missed = SkippedFire(
                deployment=run.deployment,
                schedule=run.schedule or "",
                first=run.due,
                last=run.due,
                count=1,
                reason=run.state.message or "",
                at=run.state.timestamp,
            )
            self._fires_missed(missed, changed)

    def _fires_missed(self, missed: SkippedFire, changed: _Changed) -> None:
        name = missed.deployment
        deployment = self._catalogue.deployments.get(name)
        policy = deployment.catch_up if deployment is not None else CatchUp.LATEST
        if not is_lost(missed.reason, policy):
            return
        now = self._clock.now()
        known = self._missed.get(name)
        if known is not None and now - known[1].at <= timedelta(seconds=GATHER_S):
            # One stretch of missed fires comes in pieces; the notice that has all of them takes the first one's place.
            key, before = known
            missed = replace(
                before,
                first=min(before.first, missed.first),
                last=max(before.last, missed.last),
                count=before.count + missed.count,
            )
        else:
            key, missed = f"missed {self._ids.new(now)}", replace(missed, at=now)
        self._missed[name] = key, missed
        place = Place(host="", zone=zone(self._catalogue.settings.daemon.timezone), now=now)
        changed.waiting += self._notices.queue([replace(missed_notice(missed, place), key=key)], self._names(name))

    # -- the daemon itself -------------------------------------------------------------------------------------------

    def _look(self, now: datetime, changed: _Changed) -> None:
        """Tell of a trouble that was there at the last look, too, and of one that is gone."""
        present = self._troubles()
        for subject, trouble in present.items():
            known = self._known.get(subject)
            if subject not in self._seen and (known is None or known.over is not None):
                continue
            failure = Failure(kind=trouble.kind, at=now, reason=trouble.subject, lines=trouble.lines)
            incident, tell = incidents.failed(known, subject, failure)
            if tell:
                changed.waiting += self._notices.queue(
                    [incidents.trouble_notice(incident, failure)], self._people(subject)
                )
                self._put(incident, changed)
            else:
                self._known[subject] = incident  # each look counts; what was not told need not be written
        for subject, each in list(self._known.items()):
            if _is_trouble(subject) and subject not in present and each.over is None:
                after, tell = incidents.recovered(each, now)
                if tell:
                    self._well(after, now, changed)
                elif after != each:
                    self._put(after, changed)
        self._seen = set(present)

    # -- keeping -----------------------------------------------------------------------------------------------------

    def _people(self, subject: str) -> tuple[str, ...]:
        """Return the channels that hear of an incident."""
        if not _is_trouble(subject):
            return self._names(subject)
        if subject.startswith(CHANNEL):
            broken = subject.removeprefix(CHANNEL)
            mine = self._names(None)
            return mine if broken not in mine else tuple(name for name in self._notices.channels if name != broken)
        return self._names(subject.removeprefix(CODE_OF) if subject.startswith(CODE_OF) else None)

    def _names(self, deployment: str | None) -> tuple[str, ...]:
        """Return the channels that hear of a deployment (None: of the daemon itself)."""
        channels = self._notices.channels
        if deployment is None:
            return (DEFAULT,) if DEFAULT in channels else tuple(channels)
        found = self._catalogue.deployments.get(deployment)
        if found is not None and found.notify is not None:
            return found.notify
        return (DEFAULT,) if DEFAULT in channels else ()

    def _put(self, incident: Incident, changed: _Changed) -> None:
        self._known[incident.subject] = incident
        changed.incidents[incident.subject] = incident

    def _keep(self, changed: _Changed) -> int:
        if changed.waiting or changed.incidents or changed.heard is not None:
            record = stored.Record(
                waiting=tuple(changed.waiting),
                incidents=tuple(
                    (subject, None if each is None else msgspec.json.encode(each).decode())
                    for subject, each in changed.incidents.items()
                ),
                heard=changed.heard,
            )
            self._store.post(stored.RECORD, record)
            self._notices.outbox.put(changed.waiting)
        for storm in changed.calm:
            self._notices.outbox.release(storm)
        return len(changed.waiting)

    def _replaced(self, before: Settings, after: Settings) -> None:
        self._wake.set()

    def failing(self) -> list[Incident]:
        """Return what fails now, longest first."""
        return sorted((each for each in self._known.values() if each.over is None), key=lambda each: each.since)


def _is_trouble(subject: str) -> bool:
    return " " in subject  # which no deployment's name has


class _Changed:
    """What one moment brought."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.incidents: dict[str, Incident | None] = {}
        self.heard: datetime | None = None
        self.calm: list[str] = []  # storms that are over
