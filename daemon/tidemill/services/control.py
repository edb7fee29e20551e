"""What people ask of the daemon, by API and command line: each verb checks, changes through the one door, answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tidemill.clock import Clock
from tidemill.config.settings import Settings
from tidemill.core.deployments import Deployment
from tidemill.core.events import RunDeleted
from tidemill.core.runs import FlowRun
from tidemill.core.states import ACTIVE, State, StateType
from tidemill.errors import NotFoundError, TidemillError, TransitionError
from tidemill.ids import Ids
from tidemill.services.automations.desk import AutomationDesk
from tidemill.services.backfills import Backfills
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.draining import Draining
from tidemill.services.given import merged
from tidemill.services.lookout import Lookout
from tidemill.services.making import Made
from tidemill.services.metrics import Metrics
from tidemill.services.orchestrator import Orchestrator
from tidemill.services.overrides import BY, Overrides
from tidemill.services.pauses import Pauses
from tidemill.services.reloader import Reloader
from tidemill.services.scripts import Scripts
from tidemill.services.slots import SlotKeeper
from tidemill.services.telling.notices import Notices
from tidemill.services.upkeep import Upkeep
from tidemill.services.worker import Worker
from tidemill.store import Store
from tidemill.store import runs as stored_runs

logger = logging.getLogger("tidemill.control")

# Somebody's code is on its way.
IN_HANDS = ACTIVE | {StateType.PAUSED}


class Control:
    """The daemon's verbs. What a verb returns is committed; a TidemillError says why it was refused."""

    def __init__(
        self,
        *,
        orchestrator: Orchestrator,
        catalogue: Catalogue,
        workers: Mapping[str, Worker],
        bus: EventBus,
        clock: Clock,
        ids: Ids,
        check_parameters: Callable[[Deployment, Mapping[str, Any]], None],
        status: Callable[[], Any],
        pauses: Pauses,
        slots: SlotKeeper,
        scripts: Scripts,
        overrides: Overrides,
        draining: Draining,
        backfills: Backfills,
        why: Lookout,
    ) -> None:
        self.clock = clock
        self.events = bus
        self.store: Store = orchestrator.store
        self._orchestrator = orchestrator
        self._catalogue = catalogue
        self._workers = workers
        self._ids = ids
        self._check_parameters = check_parameters
        self._status = status
        self._pauses = pauses
        self._slots = slots
        self.scripts = scripts
        self.overrides = overrides
        self.draining = draining
        self.backfills = backfills
        self.why = why
        self.upkeep: Upkeep
        self.metrics: Metrics
        self.notices: Notices
        self.automations: AutomationDesk
        self.reloader: Reloader  # takes over what the files say by now
        self.made: Made  # what commands write beside them
        # Asks the code of a run that no worker carries to end; False: it is not reached.
        self.cancel_elsewhere: Callable[[FlowRun, str], bool] = lambda run, reason: False

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._catalogue.settings

    @property
    def instance_id(self) -> str:
        """The UUID that this database's configured things derive their ids from."""
        return self._catalogue.instance

    async def create_run(
        self,
        deployment: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        scheduled_time: datetime | None = None,
        idempotency_key: str | None = None,
        parent: FlowRun | None = None,
        made_by: str | None = None,
        as_subflow: bool = True,
    ) -> FlowRun:
        """Make a run of a deployment, now or at ``scheduled_time``; return it. ``parent`` is the run that asks for it,
        with which it is cancelled; ``as_subflow=False``: it is not linked to that.

        ``parameters`` go over the deployment's own; only those its ``overridable`` lists may be given (P15), but by
        what the configuration itself has made, which ``made_by`` names. A known ``idempotency_key`` returns the run
        that was made with it.
        """
        found = self._catalogue.find(deployment)
        now = self.clock.now()
        run = FlowRun(
            seq=self.store.next_seq(),
            id=self._ids.new(now),
            name=name or self._ids.name(),
            flow=found.flow.name,
            deployment=found.name,
            work_pool=found.work_pool,
            work_queue=found.work_queue,
            parameters=merged(found, parameters or {}, self._check_parameters, stated=made_by is not None),
            tags=tuple(dict.fromkeys((*found.tags, *tags))),
            expected_start=scheduled_time or now,
            state=State(type=StateType.SCHEDULED, name="Scheduled", timestamp=now),
            created=now,
            created_by=made_by or ("person" if parent is None else "flow"),
            idempotency_key=idempotency_key,
            parent_run_id=parent.id if parent is not None and as_subflow else None,
        )
        if await self._orchestrator.create(run):
            return run
        key = idempotency_key or ""
        present = await self.store.read(lambda connection: stored_runs.by_idempotency_key(connection, key))
        if present is None:
            raise TidemillError(f"a run with the idempotency key {idempotency_key} came and went; try again")
        return present

    async def cancel_run(self, run_id: str, reason: str) -> FlowRun:
        """Cancel a run: one that waits ends at once, one that runs is asked to end (CANCELLING) and returned so."""
        run = await self._orchestrator.get(run_id)
        if run.state.type is StateType.CANCELLING:
            return run
        if run.state.is_terminal:
            raise TransitionError(f"flow run {run.name} ({run.id}) is {run.state.name} already")
        if run.created_by == "parent":
            raise TransitionError(
                f"flow run {run.name} ({run.id}) is a subflow, whose code is its parent's; "
                f"cancel the parent: {run.parent_run_id}"
            )
        if run.state.type not in IN_HANDS:
            try:
                return await self._orchestrator.change(run, StateType.CANCELLED, "Cancelled", reason)
            except TransitionError:
                run = await self._orchestrator.get(run_id)  # it started meanwhile
        cancelling = await self._orchestrator.change(run, StateType.CANCELLING, "Cancelling", reason)
        worker = self._workers.get(cancelling.work_pool)
        reached = worker is not None and worker.cancel(cancelling, reason)
        if not reached and not self.cancel_elsewhere(cancelling, reason):
            return await self._orchestrator.change(cancelling, StateType.CANCELLED, "Cancelled", reason)
        return cancelling

    async def retry_run(self, run_id: str, *, by: str | None = None) -> FlowRun:
        """Run a finished run again, as a further attempt of the same run."""
        run = await self._orchestrator.get(run_id)
        if not run.state.is_terminal:
            raise TransitionError(f"flow run {run.name} ({run.id}) is {run.state.name}; only a finished run is retried")
        if run.deployment is None:
            whose = "its parent's" if run.created_by == "parent" else "a script's"
            raise TransitionError(f"flow run {run.name} ({run.id}) cannot be retried: its code is {whose}")
        if run.deployment not in self._catalogue.deployments:
            raise TransitionError(
                f"flow run {run.name} ({run.id}) cannot be retried: deployment {run.deployment} is not configured"
            )
        return await self._orchestrator.change(
            run,
            StateType.SCHEDULED,
            "AwaitingRetry",
            "retried by hand" + (f" by {by}" if by else ""),
            by_person=True,
            expected_start=self.clock.now(),
            retries_used=0,
        )

    async def resume_run(self, run_id: str, given: Any = None) -> FlowRun:
        """Let a paused run go on; ``given`` (JSON of at most 64 KiB) is what its code gets. Return it RUNNING."""
        return await self._pauses.resume(run_id, given)

    def concurrency_limits(self) -> list[dict[str, Any]]:
        """Return every concurrency limit with what is taken of it now."""
        return self._slots.documents()

    async def delete_run(self, run_id: str, *, by: str = BY) -> None:
        """Delete a run with its history and logs; its artifacts stay. A run that runs is cancelled first."""
        run = await self._orchestrator.get(run_id)
        if run.state.type in IN_HANDS:
            raise TransitionError(f"flow run {run.name} ({run.id}) is {run.state.name}; cancel it before deleting it")
        event = RunDeleted(run.id, run.seq, run.deployment)
        if not await self.store.write(stored_runs.DELETE_RUN, run.seq, event=event):
            raise NotFoundError(f"flow run {run.name} ({run.id}) is gone or has started meanwhile")
        fields = {"event": "run-deleted", "run": run.name, "run_id": run.id, "due": run.due, "by": by}
        if run.deployment is not None:
            fields["deployment"] = run.deployment
        subject = run.deployment or run.flow
        logger.info("%s: %s was deleted by hand (%s)", subject, run.name, by, extra={"fields": fields})

    async def pause(self, kind: str, name: str, *, by: str = BY) -> None:
        """Pause a deployment's schedules, a work queue or a work pool, until resumed; restarts keep it."""
        await self.overrides.set(kind, name, "paused", True, by=by)

    async def resume(self, kind: str, name: str, *, by: str = BY) -> None:
        """Undo a pause, by hand or of the file."""
        await self.overrides.set(kind, name, "paused", False, by=by)

    async def status(self) -> dict[str, Any]:
        """Return the daemon's health and what it is doing."""
        found: dict[str, Any] = await self._status()
        return found
