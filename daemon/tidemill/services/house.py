"""The services of one daemon, wired together: what runs inside, without edges, signals or a process of its own.

The daemon, the tests and the simulation all build it; with the seams replaced it runs on a virtual clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from tidemill.clock import SLICE_S, Clock
from tidemill.config.settings import Settings
from tidemill.core.deployments import Deployment, Mode, WorkPool
from tidemill.core.ports import Runner
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.errors import TidemillError
from tidemill.ids import Ids
from tidemill.services.answers import Answers
from tidemill.services.automations.desk import assemble
from tidemill.services.backfills import Backfills
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.control import Control
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.draining import Draining
from tidemill.services.kinship import Kinship
from tidemill.services.lateness import Lateness
from tidemill.services.lookout import Lookout
from tidemill.services.metrics import Metrics
from tidemill.services.missed import MissedFires
from tidemill.services.orchestrator import HEAL_S, Orchestrator
from tidemill.services.overrides import Overrides
from tidemill.services.pauses import Pauses
from tidemill.services.recorder import DaemonRecorder
from tidemill.services.recovery import EndOrphans, Recovered, recover
from tidemill.services.reloader import Reloader
from tidemill.services.retention import Janitor
from tidemill.services.scheduler import Scheduler
from tidemill.services.scripts import Scripts
from tidemill.services.slots import SlotKeeper
from tidemill.services.status import Status
from tidemill.services.stranded import Stranded
from tidemill.services.subflows import Subflows
from tidemill.services.telling.outside import Nobody, Outside
from tidemill.services.telling.service import Telling
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.upkeep import Upkeep
from tidemill.services.waits import Waits
from tidemill.services.worker import RunRecorder, Worker
from tidemill.services.workforce import Workforce
from tidemill.store import Store, instance, variables

# How long a stop waits for a database that cannot be written before it leaves the rest to the next start.
STORE_PATIENCE_S = 5.0

logger = logging.getLogger("tidemill")


class House:
    """Everything between the store and the edges."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        ids: Ids,
        runner: Callable[[WorkPool], Runner],
        recorder: Callable[[FlowRun], RunRecorder],
        check_parameters: Callable[[Deployment, Mapping[str, Any]], None],
        last_alive: datetime | None,
        end_orphans: EndOrphans | None = None,
        slice_s: float = SLICE_S,
        document: Callable[[FlowRun], dict[str, Any]] = msgspec.to_builtins,
        script_recorder: Callable[[FlowRun], DaemonRecorder] | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self.clock = clock
        self.bus = EventBus()
        self.last_alive = last_alive
        self._end_orphans = end_orphans
        owner = ids.new(clock.now())
        self.timekeeper = Timekeeper(clock, last_alive=last_alive)
        self.orchestrator = Orchestrator(store=store, clock=clock, ids=ids, owner=owner)
        self.dispatcher = Dispatcher(
            orchestrator=self.orchestrator,
            catalogue=catalogue,
            timekeeper=self.timekeeper,
            clock=clock,
            slice_s=slice_s,
        )
        self.scheduler = Scheduler(
            store=store,
            catalogue=catalogue,
            timekeeper=self.timekeeper,
            bus=self.bus,
            clock=clock,
            ids=ids,
            slice_s=slice_s,
        )
        self.missed = MissedFires(scheduler=self.scheduler, orchestrator=self.orchestrator)
        self.lateness = Lateness(
            lineup=self.dispatcher.lineup,
            orchestrator=self.orchestrator,
            catalogue=catalogue,
            clock=clock,
            slice_s=slice_s,
        )
        self.janitor = Janitor(store=store, catalogue=catalogue, clock=clock)
        self.workforce = Workforce(
            catalogue,
            worker=lambda pool, carrier: Worker(
                pool=pool,
                runner=carrier,
                dispatcher=self.dispatcher,
                orchestrator=self.orchestrator,
                catalogue=catalogue,
                recorder=recorder,
                attempt_ended=self._attempt_ended,
                clock=clock,
            ),
            runner=runner,
        )
        self.workers = self.workforce.workers
        self.status = Status(
            store=store,
            catalogue=catalogue,
            dispatcher=self.dispatcher,
            workers=self.workers,
            timekeeper=self.timekeeper,
            clock=clock,
            owner=owner,
        )
        self.metrics = Metrics(
            store=store,
            catalogue=catalogue,
            dispatcher=self.dispatcher,
            workers=self.workers,
            status=self.status,
            clock=clock,
            bus=self.bus,
        )
        self.slots = SlotKeeper(catalogue)
        self.pauses = Pauses(self.orchestrator)
        self.waits = Waits(self.orchestrator, self.bus)
        self.scripts = Scripts(
            orchestrator=self.orchestrator,
            clock=clock,
            ids=ids,
            recorder=script_recorder,
            attempt_ended=self._attempt_ended,
        )
        self.overrides = Overrides(
            store=store, catalogue=catalogue, scheduler=self.scheduler, dispatcher=self.dispatcher, clock=clock
        )
        self.draining = Draining(
            dispatcher=self.dispatcher, workers=self.workers, paused=lambda: self.pauses.paused, clock=clock
        )
        self.backfills = Backfills(
            orchestrator=self.orchestrator,
            catalogue=catalogue,
            bus=self.bus,
            clock=clock,
            ids=ids,
            check=check_parameters,
        )
        self.why = Lookout(
            store=store,
            catalogue=catalogue,
            dispatcher=self.dispatcher,
            timekeeper=self.timekeeper,
            draining=self.draining,
            workers=self.workers,
            unfit=lambda: self.status.unfit,
            stopping=lambda: self.status.stopping,
        )
        self.status.parts["drain"] = self.draining.document
        self.status.parts["shadow"] = lambda: sorted(
            each.name for each in catalogue.deployments.values() if each.mode is Mode.SHADOW
        )
        self.status.parts["backfills"] = self.backfills.documents
        self.control = Control(
            orchestrator=self.orchestrator,
            catalogue=catalogue,
            workers=self.workers,
            bus=self.bus,
            clock=clock,
            ids=ids,
            check_parameters=check_parameters,
            status=self.status.document,
            pauses=self.pauses,
            slots=self.slots,
            scripts=self.scripts,
            overrides=self.overrides,
            draining=self.draining,
            backfills=self.backfills,
            why=self.why,
        )
        self.control.metrics = self.metrics
        self.kinship = Kinship(self.orchestrator, self.bus, self.control.cancel_run)
        self.telling = Telling(
            store=store,
            catalogue=catalogue,
            clock=clock,
            ids=ids,
            bus=self.bus,
            status=self.status,
            timekeeper=self.timekeeper,
            workers=self.workers,
            outside=outside or Nobody(),
        )
        self.notices = self.control.notices = self.telling.notices
        self.control.upkeep = Upkeep(janitor=self.janitor, catalogue=catalogue, store=store, clock=clock)
        self.automations, self.control.automations = assemble(
            store=store,
            catalogue=catalogue,
            timekeeper=self.timekeeper,
            bus=self.bus,
            clock=clock,
            overrides=self.overrides,
            tell=lambda notice, channel: self.notices.tell(notice, channel=channel),
            create_run=self.control.create_run,
            cancel_run=self.control.cancel_run,
            last_alive=last_alive,
            slice_s=slice_s,
        )
        self.status.parts["automations"] = self.automations.document
        self.status.troubles.append(self.automations.problems)
        self.answers = Answers(
            store=store,
            catalogue=catalogue,
            clock=clock,
            control=self.control,
            slots=self.slots,
            pauses=self.pauses,
            waits=self.waits,
            subflows=Subflows(orchestrator=self.orchestrator, clock=clock, ids=ids),
            document=document,
        )
        self.overrides.pool_grew = lambda name: self.workers[name].staff() if name in self.workers else None
        self.control.cancel_elsewhere = self.scripts.cancel
        catalogue.on_replaced.append(self._limits_replaced)
        self.stranded = Stranded(orchestrator=self.orchestrator, catalogue=catalogue, dispatcher=self.dispatcher)
        self.reloader: Reloader | None = None
        store.on_commit = self.bus.publish
        store.on_lines = self.bus.lines_stored
        self.bus.listen(self.dispatcher.hear)
        self.dispatcher.overdue = self.lateness.watch
        self.dispatcher.cancel_running = self._cancel_running
        self.scheduler.make_up = partial(self.missed.make_up, why="when the clock went forward")
        self.scheduler.make_up_unplanned = self.missed.make_up_unplanned
        self.timekeeper.on_caught_up.append(self.dispatcher.wake)
        self._recorder = recorder
        self._elsewhere: dict[str, tuple[FlowRun, RunRecorder]] = {}  # to be followed again, by run id
        self._cancelling: set[asyncio.Task[Any]] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def recover(self) -> Recovered:
        """Deal with what an earlier daemon left, and with what was missed since; before anything new starts."""
        now = self.clock.now()
        await self.telling.load(self.last_alive)
        recovered = await recover(
            self.orchestrator,
            self.catalogue,
            now=now,
            last_alive=self.last_alive,
            end_orphans=self._end_orphans,
        )
        await self._find_again(recovered)
        await self.scripts.adopt()
        await self.stranded.look_after()
        await self.kinship.load()
        stated = variables.Stated(values=self.catalogue.settings.variables, at=now)
        await self.store.write(variables.STATE_VARIABLES, stated)
        await self.scheduler.load(now)
        if self.last_alive is not None and self.timekeeper.held is None and self.last_alive < now:
            await self.missed.make_up(self.last_alive, now)
        await self.scheduler.plan_at_start(now)
        await self.backfills.load()
        if self.timekeeper.held is None:
            await self.store.write(instance.LAST_ALIVE, now)
        return recovered

    async def _find_again(self, recovered: Recovered) -> None:
        """Get ready to follow what lives on elsewhere. Its code asks again for what it was waiting for."""
        for left in recovered.elsewhere:
            run = left
            if run.state.type is StateType.PAUSED:
                run = await self.orchestrator.change(run, StateType.RUNNING, "Running", "the daemon was restarted")
            self._elsewhere[run.id] = run, self._recorder(run)
        roots = {run_id: recorder for run_id, (_, recorder) in self._elsewhere.items()}
        for subflow in recovered.subflows:
            recorder = roots[subflow.parent_run_id or ""]
            roots[subflow.id] = recorder
            if isinstance(recorder, DaemonRecorder):
                recorder.subflows[subflow.id] = subflow

    def start(self, *, housekeeping: bool = True) -> None:
        """Start scheduling and working. Call :meth:`recover` before. ``housekeeping``: prune history, too."""
        for run, recorder in self._elsewhere.values():
            self.workers[run.work_pool].adopt(run, recorder)
        self._elsewhere.clear()
        services: dict[str, Any] = {
            "workers": self.workforce.run(),
            "dispatcher": self.dispatcher.run(),
            "scheduler": self.scheduler.run(),
            "lateness": self.lateness.run(),
            "backfills": self.backfills.run(),
            "kinship": self.kinship.run(),
            **self.telling.services(),
            "automations": self.automations.run(),
            **({"janitor": self.janitor.run()} if housekeeping else {}),
        }
        self._tasks = {name: asyncio.create_task(each, name=name) for name, each in services.items()}

    async def failed(self) -> BaseException:
        """Return what ended a service that should not have ended: the daemon cannot go on without it."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        task = next(iter(done))
        return task.exception() or RuntimeError(f"service {task.get_name()} ended")

    async def stop(self, grace: timedelta, hurry: asyncio.Event | None = None) -> int:
        """Start nothing more, let what runs end within ``grace`` (or until ``hurry``), cut off the rest.

        Returns how many runs were cut off; they are CRASHED "the daemon stopped", or tried again by ``on_crash``.
        """
        self.status.stopping = True
        self.orchestrator.stopping = True
        if self.reloader is not None:
            self.reloader.close()
        self.scripts.close()
        self.scheduler.close()
        self.dispatcher.close()
        self.lateness.close()
        self.backfills.close()
        self.janitor.close()
        away = sum(worker.detach() for worker in self.workers.values())
        if away:
            logger.info("%d runs go on elsewhere; the next start follows them again", away)
        # Nobody will resume them in time, and they would hold up the stop for as long as it may take.
        paused = self.pauses.paused
        cut = sum(worker.cancel_all("the daemon stopped", only=paused) for worker in self.workers.values())
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        drained = asyncio.gather(*(worker.drained() for worker in self.workers.values()))
        waited: set[asyncio.Future[Any]] = {drained, hurried}
        await asyncio.wait(waited, timeout=grace.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not drained.done():
            cut += sum(worker.cancel_all("the daemon stopped") for worker in self.workers.values())
            await self._concluded(drained)
        self.automations.close()
        if (automations := self._tasks.get("automations")) is not None:
            await asyncio.wait({automations}, timeout=STORE_PATIENCE_S)  # what ended just now is acted on, too
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), hurried, *self._cancelling, return_exceptions=True)
        for worker in self.workers.values():
            await worker.aclose()
        await self.telling.aclose()
        if self.store.degraded is None and not self.timekeeper.held:
            with contextlib.suppress(TidemillError):  # the next start makes up for a little more than was missed
                await self.store.write(instance.LAST_ALIVE, self.clock.now())
        return cut

    async def _concluded(self, drained: asyncio.Future[Any]) -> None:
        """Wait until every attempt that was cut off is recorded, but not for ever for a store that takes nothing."""
        patience_s = STORE_PATIENCE_S
        while not drained.done() and patience_s > 0:
            await asyncio.wait({drained}, timeout=HEAL_S)
            if self.store.degraded is not None:
                patience_s -= HEAL_S
        if drained.done():
            return
        drained.cancel()
        await asyncio.gather(drained, return_exceptions=True)
        names = [live.run.name for worker in self.workers.values() for live in worker.live.values()]
        logger.error(
            "the end of %d runs could not be recorded (%s): %s; the next start calls them crashed",
            len(names),
            ", ".join(names[:10]),
            self.store.degraded,
        )

    def _limits_replaced(self, before: Settings, after: Settings) -> None:
        self.slots.relimit()
        self.dispatcher.relimit()
        self.dispatcher.wake()

    def _attempt_ended(self, run_id: str, attempt: int) -> None:
        self.slots.end((run_id, attempt))

    def _cancel_running(self, run_id: str, reason: str) -> None:
        task = asyncio.create_task(self._cancel(run_id, reason))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancel(self, run_id: str, reason: str) -> None:
        try:
            await self.control.cancel_run(run_id, reason)
        except Exception as error:
            logger.warning("could not cancel flow run %s: %s", run_id, error)
