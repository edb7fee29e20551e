"""The daemon: one process, from the command line's word to the last line of its log.

Its life in order: read the configuration, take the state directory, bind the addresses, open the database, deal with
what an earlier life left, run, and stop in good order when told to. Nothing runs before all that could be refused has
been looked at.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Awaitable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

from tidemill import __version__, systemd
from tidemill.api import documents, places, sockets
from tidemill.clock import SystemClock
from tidemill.config import BrokenConfigError, Loaded, LogLevel, load, load_last_good, resolve_secret, save_last_good
from tidemill.core.deployments import FlowKind, PoolType, WorkPool
from tidemill.core.ports import Runner
from tidemill.errors import EXIT_FAILED, EXIT_OK, ConfigError, TidemillError
from tidemill.flows.builtins import BuiltinFlow, builtins
from tidemill.ids import Ids
from tidemill.runners.cgroups import Cgroups, delegated
from tidemill.runners.inline import InlineRunner
from tidemill.runners.lag import LagMonitor
from tidemill.runners.nursery import InterpreterError
from tidemill.runners.process import ProcessRunner
from tidemill.runners.threads import PoolThreads
from tidemill.sdk import capture
from tidemill.services.catalogue import Catalogue
from tidemill.services.fitness import ParameterCheck, builtin_faults, entrypoint_fitness
from tidemill.services.house import House
from tidemill.services.orphans import Orphans
from tidemill.services.recorder import RecorderHouse
from tidemill.store import Store, catalogue, instance
from tidemill.store.lock import StateLock
from tidemill.telemetry.logs import EventLog, setup
from tidemill.telemetry.redaction import Redactor

# With one busy thread each hand-over of the interpreter lock takes up to this long; Python's default is ten times it.
SWITCH_INTERVAL_S = 0.0005
STATUS_S = 10.0
WIND_DOWN_S = 1.0  # for each part of what is left when all is recorded and closed

logger = logging.getLogger("tidemill")


def run(config: Path, state_dir: Path | None, strict: bool, environ: Mapping[str, str] = os.environ) -> int:
    """Run a daemon until it is told to stop; return its exit code. Raises TidemillError where it cannot start.

    A configuration that is broken is passed over for the last good one, which is said everywhere; with ``strict``, or
    where there is none, its faults are raised.
    """
    state = places.state_dir(environ, asked=state_dir)
    _make_private(state)
    loaded, faults = _configuration(config, state, strict, builtins(environ=environ), environ)
    settings = loaded.settings
    # A command that ignores SIGTERM has to be killed before its runner gives it up as code that still runs.
    flows = builtins(environ=environ, grace=settings.daemon.grace_period / 2)
    clock = SystemClock()
    lock = StateLock(state)
    lock.acquire(clock.now())
    control_path = places.control_socket(environ, state, asked=state_dir is not None)
    redactor = Redactor()
    log = setup(
        redactor=redactor,
        clock=clock,
        format=settings.log.format,
        level=settings.log.level,
        max_lines_per_second=settings.log.max_lines_per_second,
        environ=environ,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    bound: list[socket.socket] = []
    code, told = EXIT_FAILED, ""
    daemon = None
    try:
        control = sockets.bind_control(control_path)
        bound.append(control)
        bound.extend(sockets.bind(settings.api.listen))
        sockets.point_to(control_path, state)
        daemon = Daemon(
            loaded=loaded,
            faults=faults,
            config=config,
            state=state,
            flows=flows,
            redactor=redactor,
            log=log,
            sockets=bound,
            environ=environ,
            strict=strict,
        )
        try:
            code = _run(daemon)
        finally:
            sockets.remove(control_path, control)
        return code
    except TidemillError as error:
        code, told = error.exit_code, str(error)
        raise
    finally:
        for each in bound:
            each.close()
        lock.release()
        log.close()
        if _threads_stay() or (daemon is not None and not daemon.wound_down):
            _leave(code, told)


def _configuration(
    config: Path, state: Path, strict: bool, flows: Mapping[str, BuiltinFlow], environ: Mapping[str, str]
) -> tuple[Loaded, tuple[str, ...]]:
    """Return what to run by, and the faults of the file where it is the last good set instead."""
    try:
        try:
            loaded = load(config, made_dir=state / "made.d", environ=environ)
        except BrokenConfigError as error:
            raise ConfigError([*error.faults, *builtin_faults(error.rest, flows)]) from error
        if found := builtin_faults(loaded, flows):
            raise ConfigError(found)
    except ConfigError as error:
        if strict:
            raise
        last_good = load_last_good(state, environ=environ)
        if last_good is None:
            raise
        return last_good, tuple(str(fault) for fault in error.faults)
    return loaded, ()


class Daemon:
    """A running daemon: the object graph and its life."""

    def __init__(
        self,
        *,
        loaded: Loaded,
        faults: tuple[str, ...],
        config: Path,
        state: Path,
        flows: Mapping[str, BuiltinFlow],
        redactor: Redactor,
        log: EventLog,
        sockets: list[socket.socket],
        environ: Mapping[str, str],
        strict: bool,
    ) -> None:
        self._loaded = loaded
        self._faults = faults
        self._config = config
        self._state = state
        self._flows = flows
        self._redactor = redactor
        self._log = log
        self._sockets = sockets
        self._environ = environ
        self._strict = strict
        self._clock = SystemClock()
        # Seeded from the system's source: ids are drawn by the thousand, and need not be secret.
        self._ids = Ids(random.Random(Ids().random.getrandbits(128)))  # noqa: S311
        self._notifier = systemd.Notifier(environ)
        self._lag = LagMonitor(clock=self._clock, redact=redactor.text)
        self.wound_down = True  # False: code that heeds no cancellation is still on the loop
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._listen_to_signals()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def live(self) -> int:
        """Start, run until told to stop, stop; return the exit code."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._told_to_stop, number)
        store = await Store.open(self._state / places.DATABASE, clock=self._clock, ids=self._ids)
        code = EXIT_OK
        try:
            house = await self._build(store)
            edge = asyncio.create_task(self._serve(house), name="api")
            try:
                code = await self._run(house, store, edge)
            finally:
                edge.cancel()
                await asyncio.gather(edge, return_exceptions=True)
                for flow in self._flows.values():
                    await flow.aclose()
        finally:
            await store.aclose()
            self._notifier.close()
        return code

    async def _build(self, store: Store) -> House:
        settings = self._loaded.settings
        last_alive = await store.read(instance.last_alive)
        overrides = await store.read(catalogue.overrides)
        known = Catalogue(settings, instance=store.instance_id, overrides=overrides, compiled=self._loaded.compiled)
        for each in known.obsolete():
            await store.write(catalogue.CLEAR_OVERRIDE, (each.kind, each.name, each.key))
            known.clear_override(each.kind, each.name, each.key)
            logger.info(
                "%s %s: %s set by hand no longer holds: the file says otherwise now", each.kind, each.name, each.key
            )
        fitness = await asyncio.to_thread(entrypoint_fitness, self._loaded, self._environ)
        if fitness.faults and self._strict:
            raise ConfigError([fault for found in fitness.faults.values() for fault in found])
        self._recorders = RecorderHouse(
            store=store,
            clock=self._clock,
            ids=self._ids,
            redactor=self._redactor,
            secret=partial(
                resolve_secret, environ=self._environ, credentials_dir=systemd.credentials_directory(self._environ)
            ),
            tell=self._log.output if settings.log.run_output else lambda lines: None,
            publish=lambda events: house.bus.publish(events),  # noqa: PLW0108 - there is no house yet
            lines_per_second=settings.log.max_lines_per_second,
            keep_versions=settings.retention.keep_artifact_versions,
            tell_tasks=lambda events: house.bus.publish_task_runs(events),  # noqa: PLW0108
            tasks_wanted=lambda: house.bus.task_runs_wanted,
        )
        self._instance = store.instance_id
        house = House(
            store=store,
            catalogue=known,
            clock=self._clock,
            ids=self._ids,
            runner=self._runner,
            recorder=self._recorders.recorder,
            check_parameters=ParameterCheck(self._flows, fitness.signatures),
            last_alive=last_alive,
            end_orphans=Orphans(store=store, clock=self._clock).end,
            document=lambda run: documents.flow_run(store.instance_id, run, self._clock.now()),
            script_recorder=self._recorders.outside,
        )
        self._recorders.answering = house.answers
        house.bus.listen(self._log.write)
        if settings.log.level is LogLevel.DEBUG:
            house.bus.listen_to_task_runs(self._log.write)
        status = house.status
        status.config_file = str(self._config)
        status.config_faults = self._faults
        status.unfit = {name: "; ".join(map(str, found)) for name, found in fitness.faults.items()}
        status.addresses = [_address(each) for each in self._sockets]
        status.dropped_lines = lambda: self._log.dropped
        status.lag = self._lag.problems
        return house

    @cached_property
    def _cgroups(self) -> Cgroups | None:
        """The part of the control groups that was handed over to this daemon, where one was."""
        root = delegated()
        if root is None:
            return None
        try:
            return Cgroups(root)
        except OSError as error:
            logger.warning("%s was delegated and cannot be used, so runs have no cgroup of their own: %s", root, error)
            return None

    def _runner(self, pool: WorkPool) -> Runner:
        settings = self._loaded.settings
        if pool.type == PoolType.PROCESS:
            return ProcessRunner(
                pool=pool,
                flows_dir=settings.daemon.flows,
                clock=self._clock,
                grace=settings.daemon.grace_period / 2,
                environ=self._environ,
                lines_per_second=settings.log.max_lines_per_second,
                cgroups=self._cgroups,
            )
        if pool.type == PoolType.DASK:
            from tidemill.runners.dask import DaskRunner  # where there is no such pool, a start does without it

            return DaskRunner(
                pool=pool,
                flows_dir=settings.daemon.flows,
                mailbox=f"tidemill-{self._instance}-{pool.name}",
                boot=self._ids.new(self._clock.now()),
                clock=self._clock,
                grace=settings.daemon.grace_period / 2,
                source=self._ids.random,
            )
        return InlineRunner(
            pool=pool,
            builtins=self._flows,
            flows_dir=settings.daemon.flows,
            threads=PoolThreads(pool.threads),
            clock=self._clock,
            grace=settings.daemon.grace_period / 2,
            lag=self._lag,
        )

    # --- running ----------------------------------------------------------------------------------------------------

    async def _run(self, house: House, store: Store, edge: asyncio.Task[None]) -> int:
        settings = self._loaded.settings
        for fault in (*self._faults, *house.status.unfit.values()):
            logger.error("%s", fault)
        if self._faults:
            logger.error("%s is broken: running the last good configuration instead", self._config)
        for warning in self._loaded.warnings:
            logger.warning("%s", warning)
        await house.recover()
        await store.write(
            catalogue.SYNC_CATALOGUE,
            catalogue.Listing(
                deployments=tuple(settings.deployments.values()),
                work_queues=tuple(settings.work_queues.values()),
                work_pools=tuple(settings.work_pools.values()),
                concurrency_limits=house.slots.limits,
                blocks=tuple(settings.blocks.values()),
                at=self._clock.now(),
            ),
        )
        if not self._faults:
            save_last_good(self._loaded, self._state)
        capture.install((self._log.handler,))
        self._lag.start()
        house.start()
        gc.collect()
        gc.freeze()  # what is there now stays: later collections need not look at it
        gc.enable()
        logger.info(
            "tidemill %s is ready: %d deployments of %s, on %s, state in %s",
            __version__,
            len(settings.deployments),
            self._config,
            ", ".join(house.status.addresses),
            self._state,
        )
        self._notifier.ready(house.status.line())
        warming = asyncio.create_task(self._warm(house), name="warm-up")
        telling = asyncio.create_task(self._tell_systemd(house), name="systemd")
        try:
            return await self._until_stopped(house, store, edge)
        finally:
            for task in (warming, telling):
                task.cancel()
            await asyncio.gather(warming, telling, return_exceptions=True)
            self._notifier.stopping()
            cut = await house.stop(settings.daemon.grace_period, self._hurry)
            self._lag.stop()
            capture.uninstall((self._log.handler,))
            logger.info("stopped; %d runs were cut off", cut) if cut else logger.info("stopped")

    async def _until_stopped(self, house: House, store: Store, edge: asyncio.Task[None]) -> int:
        stop = asyncio.create_task(self._stop.wait())
        failed = asyncio.create_task(house.failed())
        watched: set[asyncio.Future[Any]] = {stop, failed, store.fatal, edge}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if store.fatal.done():
                raise store.fatal.result()
            if failed.done():
                raise failed.result()
            if edge.done():
                edge.result()
                raise RuntimeError("the API ended")
            return EXIT_OK
        finally:
            for task in (stop, failed):
                task.cancel()
            await asyncio.gather(stop, failed, return_exceptions=True)

    async def _serve(self, house: House) -> None:
        # Imported while the services run already: connections wait in line at the bound sockets.
        from tidemill.api.app import build_app
        from tidemill.api.server import Server

        app = build_app(house.control, stop=self._stop, source=self._ids.random)
        await Server(app, self._sockets, clock=self._clock).serve_until(asyncio.Event())

    async def _warm(self, house: House) -> None:
        """Load what the first run of a flow would wait for."""
        deployments = self._loaded.settings.deployments.values()
        for worker in house.workers.values():
            refs = [(each.flow, each.python) for each in deployments if each.work_pool == worker.pool.name]
            if isinstance(worker.runner, ProcessRunner) and refs:
                try:
                    await worker.runner.warm(refs)
                except InterpreterError as error:
                    logger.error("work pool %s: %s", worker.pool.name, error)
        used = {
            each.flow.entrypoint
            for each in deployments
            if each.flow.kind is FlowKind.BUILTIN and self._loaded.settings.work_pools[each.work_pool].type != "process"
        }
        for name in used:
            warm = getattr(self._flows[name], "warm", None)
            if warm is not None:
                await warm()

    async def _tell_systemd(self, house: House) -> None:
        interval = systemd.watchdog_interval(self._environ)
        if not self._notifier.wanted:
            return
        pause = STATUS_S if interval is None else min(STATUS_S, interval.total_seconds() / 2)
        told = ""
        while True:
            # Through a database round trip: a daemon that cannot read its database is not well.
            await house.store.read(instance.last_alive)
            self._notifier.watchdog()
            line = house.status.line()
            if line != told:
                self._notifier.status(line)
                told = line
            await self._clock.sleep(pause)

    # --- signals ----------------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        # Until there is a reload, an editor's or a package's SIGHUP must not end the daemon.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _told_to_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._stop.is_set():
            logger.info("%s: stopping; a second one cuts off what still runs", name)
            self._stop.set()
        elif not self._hurry.is_set():
            logger.warning("%s again: cutting off what still runs", name)
            self._hurry.set()
        else:
            os._exit(128 + number)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise TidemillError(f"{directory}: not a directory; choose another with --state-dir") from error
    except OSError as error:
        raise TidemillError(f"{directory}: the state directory cannot be made: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise TidemillError(f"{directory}: the state directory is not writable; choose another with --state-dir")


def _address(each: socket.socket) -> str:
    name = each.getsockname()
    if each.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if each.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def _run(daemon: Daemon) -> int:
    """As ``asyncio.run``, which would wait for ever for code of an abandoned run that swallows its cancellation."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(daemon.live())
    finally:
        daemon.wound_down = loop.run_until_complete(_wind_down())
        if daemon.wound_down:
            loop.close()
        asyncio.set_event_loop(None)


async def _wind_down() -> bool:
    """End what is left on the loop; say whether all of it has ended in time."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    ending: list[Awaitable[object]] = [asyncio.gather(*left, return_exceptions=True)]
    loop = asyncio.get_running_loop()
    ending += [loop.shutdown_asyncgens(), loop.shutdown_default_executor()]
    for each in ending:
        _, pending = await asyncio.wait({asyncio.ensure_future(each)}, timeout=WIND_DOWN_S)
        if pending:
            return False
    return True


def _threads_stay() -> bool:
    """Say whether code of an abandoned run still holds a thread: Python would wait for it for ever."""
    ours = threading.main_thread()
    return any(thread is not ours and not thread.daemon and thread.is_alive() for thread in threading.enumerate())


def _leave(code: int, told: str) -> NoReturn:
    """End the process here and now.

    What the command line would have done is done before: ``told``, why it ended, goes to standard error.
    """
    error = sys.exc_info()[1]
    if told:
        os.write(2, f"tidemill: {told}\n".encode(errors="replace"))
    elif error is not None:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
