"""A daemon's inside as the API sees it, over a real store: for the tests of ``api/`` and ``cli/``."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from fakes import FakeClock
from tidemill.api import sockets
from tidemill.api.app import build_app
from tidemill.api.places import DATABASE, SOCKET
from tidemill.api.server import Server
from tidemill.clock import SystemClock
from tidemill.config import ApiSettings, RetentionSettings
from tidemill.core import transitions
from tidemill.core.automations import Automation, InARow, NoneWithin, Of, Pause, Run, Tell
from tidemill.core.automations import Kind as Pausable
from tidemill.core.blocks import Block, BlockType
from tidemill.core.deployments import Deployment, FlowKind, FlowRef, WorkPool, WorkQueue
from tidemill.core.events import Emitted, RunChanged, RunDeleted
from tidemill.core.overrides import Override
from tidemill.core.ports import Outcome
from tidemill.core.retries import RetryPolicy
from tidemill.core.runs import Artifact, FlowRun, LogRow, SkippedFire, TaskRun
from tidemill.core.schedules import Schedule
from tidemill.core.slots import SlotLimit
from tidemill.core.states import State, StateType
from tidemill.core.why import Live as LiveFacts
from tidemill.errors import TidemillError, TransitionError
from tidemill.ids import Ids, stable_id
from tidemill.services.bus import EventBus
from tidemill.services.metrics import METRICS
from tidemill.services.orchestrator import Orchestrator
from tidemill.services.recorder import RecorderHouse
from tidemill.services.retention import Janitor
from tidemill.services.scripts import Scripts
from tidemill.services.upkeep import Upkeep
from tidemill.services.wake import Pulse
from tidemill.store import Store, inline_doors
from tidemill.store import runs as stored_runs
from tidemill.store.artifacts import ARTIFACTS
from tidemill.store.catalogue import CLEAR_OVERRIDE, SET_OVERRIDE, SYNC_CATALOGUE, Listing, overrides
from tidemill.store.emitted import EMITTED, EmittedRow
from tidemill.store.logs import LOGS
from tidemill.store.schedules import PLAN, Plan
from tidemill.store.task_runs import TASK_RUNS
from tidemill.telemetry.redaction import Redactor

T = TypeVar("T")
LONG = "a-deployment-with-a-name-as-long-as-names-may-be-which-is-sixty4"


def deployment(name: str, **fields: Any) -> Deployment:
    return Deployment(
        name=name,
        flow=fields.pop("flow", FlowRef(kind=FlowKind.BUILTIN, entrypoint="http_request", name="http_request")),
        **fields,
    )


DEPLOYMENTS = (
    deployment(
        "bored-daily",
        schedules=(Schedule(cron="0 9 * * *", timezone="Europe/Helsinki"),),
        overridable=frozenset({"url"}),
        parameters={"url": "https://bored-api.appbrewery.com/random"},
        tags=("api",),
    ),
    deployment(
        "report_weekly",
        flow=FlowRef(kind=FlowKind.FILE, entrypoint="reports.py:weekly", name="weekly"),
        schedules=(Schedule(interval=timedelta(weeks=1), jitter=timedelta(seconds=90)),),
        work_queue="energy_usage",
        concurrency_limit=1,
    ),
    deployment(LONG),
)
QUEUES = (WorkQueue(name="default"), WorkQueue(name="energy_usage", priority=2, concurrency_limit=2, automatic=True))
POOLS = (WorkPool(name="default"), WorkPool(name="spare", type="process", concurrency_limit=4))


LIMITS = (
    SlotLimit(name="database", limit=5),
    SlotLimit(name="api", limit=10, slot_decay_per_second=2.5, description="what the API bears"),
)
BLOCKS = (
    Block(name="settings", type=BlockType.JSON, fields={"value": {"env": "x"}}, description="for all"),
    Block(
        name="orders-api",
        type=BlockType.HTTP_API,
        fields={"base_url": "https://h/v1", "headers": {}, "auth": {"bearer": {"env": "TOKEN"}}},
        secrets=(("auth", "bearer"),),
    ),
)


AUTOMATIONS = (
    Automation(
        name="must-succeed",
        when=NoneWithin(states=("Completed",), deployments=("bored-daily",), within=timedelta(hours=25)),
        then=(Tell(channel="default"), Run(deployment=LONG)),
        description="somebody has to look",
    ),
    Automation(
        name="three_strikes",
        when=InARow(count=3, of=Of(tags=("api",))),
        then=(Pause(kind=Pausable.DEPLOYMENT, name="{deployment}"),),
        paused=True,
    ),
)


class WatchedBus(EventBus):
    """An event bus that tells when somebody listens or leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = 0
        self._changed = asyncio.Condition()

    def listen(self, hear: Callable[[Sequence[Any]], None]) -> Callable[[], None]:
        leave = super().listen(hear)
        self._count(+1)

        def left() -> None:
            leave()
            self._count(-1)

        return left

    def _count(self, change: int) -> None:
        self.listening += change
        self._told = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, count: int) -> None:
        """Return when so many listen."""
        async with asyncio.timeout(120), self._changed:
            await self._changed.wait_for(lambda: self.listening == count)


class Overriding:
    """Overrides that take effect nowhere."""

    def __init__(self, mill: Mill) -> None:
        self._mill = mill

    async def set(self, kind: str, name: str, key: str, value: Any, *, by: str) -> None:
        kinds: dict[str, Sequence[Any]] = {
            "deployment": DEPLOYMENTS, "work_queue": QUEUES, "work_pool": POOLS, "automation": AUTOMATIONS,
        }  # fmt: skip
        things = kinds[kind]
        (file_value,) = [getattr(each, key) for each in things if each.name == name]
        at = self._mill.clock.now()
        override = Override(kind=kind, name=name, key=key, value=value, file_value=file_value, by=by, at=at)
        await self._mill.store.write(SET_OVERRIDE, override)

    async def clear(self, kind: str, name: str, key: str | None = None, *, by: str) -> list[str]:
        held = [
            each
            for each in await self._mill.store.read(overrides)
            if (each.kind, each.name) == (kind, name) and key in (None, each.key)
        ]
        for each in held:
            await self._mill.store.write(CLEAR_OVERRIDE, (kind, name, each.key))
        return [each.key for each in held]


class Automating:
    """Automations that wait for ever."""

    def __init__(self, mill: Mill) -> None:
        self._mill = mill

    def find(self, text: str) -> Automation:
        (found,) = [
            each
            for each in AUTOMATIONS
            if text in (each.name, stable_id(self._mill.instance_id, "automation", each.name))
        ]
        return found

    async def set_paused(self, text: str, *, paused: bool, by: str) -> None:
        await self._mill.overrides.set("automation", self.find(text).name, "paused", paused, by=by)

    def standing(self, text: str) -> list[str]:
        return [f"{self.find(text).name} waits"]

    def test(self, text: str) -> dict[str, list[str]]:
        told = [each.channel for each in self.find(text).then if isinstance(each, Tell)]
        return {"told": told, "not_done": ["the rest"]}


class Nothing:
    """Metrics of a daemon in which nothing has happened."""

    async def collect(self) -> dict[str, list[Any]]:
        return {metric.name: [] for metric in METRICS}


class Drains:
    """Draining that waits for the runs that are RUNNING in the list it is given."""

    def __init__(self) -> None:
        self.by: str | None = None
        self.waits_for: list[dict[str, Any]] = []
        self._pulse = Pulse()

    def begin(self, by: str) -> None:
        self.by = by

    def undo(self, by: str) -> None:
        self.by = None
        self._pulse.tell()

    def moved(self) -> asyncio.Future[None]:
        return self._pulse.next()

    def end_all(self) -> None:
        """What is waited for ends."""
        self.waits_for = []
        self._pulse.tell()

    def document(self) -> dict[str, Any]:
        return {
            "draining": self.by is not None,
            "since": None,
            "by": self.by,
            "waits_for": self.waits_for if self.by is not None else [],
            "elsewhere": 0,
            "waiting": 0,
        }


class Mill:
    """The verbs of the daemon, with nothing running behind them: tests move runs themselves."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store, self.clock, self.events = store, clock, WatchedBus()
        store.on_commit = self.events.publish
        store.on_lines = self.events.lines_stored
        self.settings = SimpleNamespace(api=ApiSettings(listen=(), sample=True), retention=RetentionSettings())
        self.metrics = Nothing()
        kept: Any = SimpleNamespace(settings=self.settings)
        # Pieces are deleted at their own pace; what is old goes by the clock of the tests.
        janitor = Janitor(store=store, catalogue=kept, clock=SystemClock())
        self.upkeep = Upkeep(janitor=janitor, catalogue=kept, store=store, clock=clock)
        self.instance_id = store.instance_id
        self.ids = Ids(random.Random(7))
        self.failing: Exception | None = None
        self.made: list[str] = []  # ids of the runs that were asked for
        self.given: list[Any] = []  # what paused runs were resumed with
        self.live_limits: list[dict[str, Any]] = []
        self.overrides = Overriding(self)
        self.draining = Drains()
        self.automations = Automating(self)
        self.why = SimpleNamespace(live=LiveFacts)
        recorders = RecorderHouse(
            store=store,
            clock=clock,
            ids=self.ids,
            redactor=Redactor(),
            secret=lambda ref: "",
            tell=lambda lines: None,
            publish=self.events.publish,
            lines_per_second=1000,
        )
        orchestrator = Orchestrator(store=store, clock=clock, ids=self.ids, owner="boot")
        self.scripts = Scripts(orchestrator=orchestrator, clock=clock, ids=self.ids, recorder=recorders.outside)

    @classmethod
    async def open(cls, folder: Path, clock: FakeClock) -> Mill:
        ids = Ids(random.Random(1))
        return cls(await Store.open(folder / DATABASE, clock=clock, ids=ids, doors=inline_doors), clock)

    # -- what the API asks -------------------------------------------------------------------------------------------

    async def create_run(
        self,
        deployment: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        scheduled_time: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> FlowRun:
        if self.failing is not None:
            raise self.failing
        found = next(each for each in DEPLOYMENTS if each.name == deployment)
        refused = set(parameters or {}) - (found.overridable or set())
        if refused and found.overridable is not None:
            raise TidemillError(f"{deployment} does not let {', '.join(sorted(refused))} be overridden")
        made = await self.add(
            found,
            parameters=dict(parameters or {}),
            tags=tuple(tags),
            name=name,
            at=scheduled_time,
            key=idempotency_key,
        )
        self.made.append(made.id)
        return made

    async def cancel_run(self, run_id: str, reason: str) -> FlowRun:
        run = await self.get(run_id)
        if run.state.is_terminal:
            raise TransitionError(f"flow run {run.name} ({run.id}) is {run.state.name} already")
        running = run.state.type is StateType.RUNNING
        kind, word = (StateType.CANCELLING, "Cancelling") if running else (StateType.CANCELLED, "Cancelled")
        return await self._enter(run, State(type=kind, name=word, timestamp=self.clock.now(), message=reason))

    async def resume_run(self, run_id: str, given: Any = None) -> FlowRun:
        run = await self.get(run_id)
        if run.state.type is not StateType.PAUSED:
            raise TransitionError(f"flow run {run.name} is {run.state.name}; only a paused run is resumed")
        self.given.append(given)
        return await self._enter(run, State(type=StateType.RUNNING, name="Running", timestamp=self.clock.now()))

    def concurrency_limits(self) -> list[dict[str, Any]]:
        return self.live_limits

    async def retry_run(self, run_id: str, *, by: str | None = None) -> FlowRun:
        run = await self.get(run_id)
        if not run.state.is_terminal:
            raise TransitionError(f"flow run {run.name} is {run.state.name}; only a finished run is retried")
        state = State(type=StateType.SCHEDULED, name="AwaitingRetry", timestamp=self.clock.now())
        return await self._enter(run, state, by_person=True, expected_start=self.clock.now())

    async def delete_run(self, run_id: str, *, by: str) -> None:
        run = await self.get(run_id)
        await self.store.write(stored_runs.DELETE_RUN, run.seq, event=RunDeleted(run.id, run.seq, run.deployment))

    async def pause(self, kind: str, name: str, *, by: str) -> None:
        await self.overrides.set(kind, name, "paused", True, by=by)

    async def resume(self, kind: str, name: str, *, by: str) -> None:
        await self.overrides.clear(kind, name, "paused", by=by)

    async def status(self) -> dict[str, Any]:
        now = self.clock.now().isoformat()
        brief = {"id": "0" * 36, "name": "brisk-otter", "deployment": "bored-daily", "work_queue": "default"}
        return {
            "state": "ok", "problems": [], "version": "0.1.0", "pid": 4711, "boot_id": "b", "now": now, "started": now,
            "instance_id": self.instance_id, "timezone": "Europe/Helsinki", "config_file": "/etc/tidemill.toml",
            "addresses": ["127.0.0.1:4200"], "deployments": len(DEPLOYMENTS), "waiting": 1,
            "running": [brief | {"state_name": "Running", "since": now, "seconds": 3.0}],
            "late": [brief | {"state_name": "Late", "seconds_late": 75.0, "reason": "the queue is paused"}],
            "next": [brief | {"state_name": "Scheduled", "expected_start_time": now, "timezone": "Europe/Helsinki"}],
            "work_queues": [{"name": "default", "paused": True, "waiting": 1, "running": 1, "concurrency_limit": 2}],
            "work_pools": [], "dropped_log_lines": 0,
            "overrides": [{"kind": "work_queue", "name": "default", "key": "paused", "value": True, "file_value": False,
                           "by": "api", "at": now}],
        }  # fmt: skip

    # -- what tests do -----------------------------------------------------------------------------------------------

    async def stock(self) -> None:
        """Write the catalogue down."""
        listing = Listing(
            deployments=DEPLOYMENTS,
            work_queues=QUEUES,
            work_pools=POOLS,
            concurrency_limits=LIMITS,
            blocks=BLOCKS,
            automations=AUTOMATIONS,
            at=self.clock.now(),
        )
        await self.store.write(SYNC_CATALOGUE, listing)

    async def add(
        self,
        of: Deployment = DEPLOYMENTS[0],
        *,
        parameters: dict[str, Any] | None = None,
        tags: tuple[str, ...] = (),
        name: str | None = None,
        at: datetime | None = None,
        key: str | None = None,
    ) -> FlowRun:
        """Make a SCHEDULED run."""
        now = self.clock.now()
        run = FlowRun(
            seq=self.store.next_seq(),
            id=self.ids.new(now),
            name=name or self.ids.name(),
            flow=of.flow.name,
            deployment=of.name,
            work_queue=of.work_queue,
            parameters=parameters or {},
            tags=tags,
            expected_start=at or now,
            state=State(type=StateType.SCHEDULED, name="Scheduled", timestamp=now),
            created=now,
            created_by="person",
            idempotency_key=key,
        )
        assert await self.store.write(stored_runs.CREATE_RUNS, run, event=RunChanged(run, (run.state,), None))
        return run

    async def begin(self, run: FlowRun) -> FlowRun:
        """Let a run start."""
        transition = transitions.begin(run, self.clock.now(), "boot")
        return await self._write(run, transition)

    async def finish(
        self, run: FlowRun, type_: StateType = StateType.COMPLETED, message: str | None = None, data: Any = None
    ) -> FlowRun:
        """Let a run end."""
        outcome = Outcome(type=type_, name=type_.value.title(), message=message, data=data)
        source = random.Random(1)
        transition = transitions.conclude(run, outcome, self.clock.now(), retry=RetryPolicy(), source=source)
        return await self._write(run, transition)

    async def pause_run(self, run: FlowRun) -> FlowRun:
        """Let a running run pause."""
        return await self._enter(run, State(type=StateType.PAUSED, name="Paused", timestamp=self.clock.now()))

    async def task(
        self, run: FlowRun, name: str, type_: StateType = StateType.COMPLETED, *, tags: tuple[str, ...] = ()
    ) -> TaskRun:
        """Store a task run of a run."""
        now = self.clock.now()
        state = State(type=type_, name=type_.value.title(), timestamp=now, data={"n": 1})
        made = TaskRun(
            id=self.ids.new(now),
            run=run.seq,
            run_id=run.id,
            name=name,
            task_key=name,
            dynamic_key="0",
            state=state,
            tags=tags,
            created=now,
            start_time=now,
            end_time=now if state.is_terminal else None,
            run_time_s=0.5,
        )
        await self.store.write(TASK_RUNS, made)
        return made

    async def print(self, run: FlowRun, *lines: str, level: int = 20) -> None:
        """Let a run print lines."""
        for line in lines:
            row = LogRow(run=run.seq, run_id=run.id, at=self.clock.now(), level=level, logger="print", message=line)
            self.store.post(LOGS, row)
        await self.store.flush()

    async def emit(self, run: FlowRun, event: str, about: str | None = None) -> Emitted:
        """Let a run's code emit an event, as its recorder takes it over."""
        now = self.clock.now()
        resource = {} if about is None else {"prefect.resource.id": about}
        told = Emitted(run=run, event=event, resource=resource, payload=None, occurred=now, id=self.ids.new(now))
        self.store.post(EMITTED, EmittedRow(run=run.seq, at=now, occurred=now, event=event, about=told.about))
        self.events.publish([told])
        await self.store.flush()
        return told

    async def keep(self, key: str, text: str, *, run: FlowRun | None = None, type_: str = "json") -> Artifact:
        """Store an artifact of canonical JSON text."""
        now = self.clock.now()
        made = Artifact(
            id=self.ids.new(now),
            key=key,
            version=0,
            type=type_,
            text=text,
            created=now,
            run_id=run.id if run else None,
            deployment=run.deployment if run else None,
        )
        return await self.store.write(ARTIFACTS, made)

    async def skip(self, reason: str, *, of: Deployment = DEPLOYMENTS[0]) -> None:
        """Record a fire that made no run."""
        now = self.clock.now()
        fire = SkippedFire(deployment=of.name, schedule="s", first=now, last=now, count=1, reason=reason, at=now)
        await self.store.write(PLAN, Plan(skipped=(fire,)))

    async def get(self, run_id: str) -> FlowRun:
        """Return a run as it is stored."""
        found = await self.store.read(lambda connection: stored_runs.get(connection, run_id))
        assert found is not None
        return found

    async def _enter(self, run: FlowRun, state: State, **changes: Any) -> FlowRun:
        return await self._write(run, transitions.enter(run, state, **changes))

    async def _write(self, run: FlowRun, transition: Any) -> FlowRun:
        event = RunChanged(transition.run, transition.states, run.state)
        assert await self.store.write(stored_runs.TRANSITIONS, transition, event=event)
        changed: FlowRun = transition.run
        return changed


@contextlib.asynccontextmanager
async def opened(folder: Path, clock: FakeClock) -> AsyncIterator[Mill]:
    """A stocked mill, closed at the end."""
    mill = await Mill.open(folder, clock)
    try:
        await mill.stock()
        yield mill
    finally:
        await mill.store.aclose()


class Live:
    """A mill that answers on its control socket from a thread of its own, for commands, which wait for answers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, FakeClock()
        self.loop = asyncio.new_event_loop()
        self.mill: Mill
        self._thread = threading.Thread(target=self._serve)
        self._ready = threading.Event()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the mill do something, and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let the mill begin something, and return at once."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def listen(self) -> int:
        """Listen on a loopback port, too, and return it."""
        (opened,) = sockets.bind(["127.0.0.1:0"])
        server = Server(self._app, [opened], clock=self.clock)
        await server.open()
        self._servers.append(server)
        port: int = opened.getsockname()[1]
        return port

    def _serve(self) -> None:
        self.loop.run_until_complete(self._main())
        self.loop.close()

    async def _main(self) -> None:
        async with opened(self.folder, self.clock) as self.mill:
            self._stop = asyncio.Event()
            self._app = build_app(self.mill, stop=self._stop, source=random.Random(1))
            path = self.folder / SOCKET
            control = sockets.bind_control(path)
            self._servers = [Server(self._app, [control], clock=self.clock)]
            await self._servers[0].open()
            self._ready.set()
            await self._stop.wait()
            for server in self._servers:
                await server.aclose()
            sockets.remove(path, control)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(120)

    def tell_to_stop(self) -> None:
        """Begin to stop; called inside the mill's thread."""
        self._stop.set()

    def stop(self) -> None:
        """Stop as the daemon does: the control socket goes, the database stays."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def live(folder: Path) -> Iterator[Live]:
    """A live mill, stopped at the end."""
    found = Live(folder)
    found.start()
    try:
        yield found
    finally:
        found.stop()
