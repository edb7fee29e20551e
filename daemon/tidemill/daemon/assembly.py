"""The object graph of a daemon: the house, its runners, and what they are given of the process around them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from tidemill import systemd
from tidemill.api import documents
from tidemill.api.places import MADE
from tidemill.clock import Clock
from tidemill.config import Loaded, LogLevel, Settings, resolve_secret, save_last_good
from tidemill.core.deployments import PoolType, WorkPool
from tidemill.core.ports import Runner
from tidemill.errors import ConfigError, LogFileError
from tidemill.flows.builtins import BuiltinFlow
from tidemill.flows.shell import ShellFlow
from tidemill.ids import Ids
from tidemill.runners.cgroups import Cgroups, delegated
from tidemill.runners.inline import InlineRunner
from tidemill.runners.lag import LagMonitor
from tidemill.runners.process import ProcessRunner
from tidemill.runners.threads import PoolThreads
from tidemill.services.bus import EventBus
from tidemill.services.catalogue import Catalogue
from tidemill.services.fitness import ParameterCheck, entrypoint_fitness
from tidemill.services.house import House
from tidemill.services.orphans import Orphans
from tidemill.services.recorder import RecorderHouse
from tidemill.services.reloading import read, reloads
from tidemill.services.telling.carriers import Carriers
from tidemill.store import Store, catalogue, instance
from tidemill.telemetry.logs import LEVELS, EventLog
from tidemill.telemetry.redaction import Redactor

NOTIFY_THREADS = 4  # for mail programs and servers

logger = logging.getLogger("tidemill")


class Assembly:
    """Builds a house around a store."""

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
        lag: LagMonitor,
        sockets: Sequence[socket.socket],
        clock: Clock,
        ids: Ids,
        environ: Mapping[str, str],
        strict: bool,
    ) -> None:
        self._loaded = loaded
        self._faults = faults
        self._config = config
        self._state = state
        self._made_dir = state / MADE
        self._flows = flows
        self._redactor = redactor
        self._log = log
        self._lag = lag
        self._sockets = sockets
        self._clock = clock
        self._ids = ids
        self._environ = environ
        self._strict = strict
        self._leave_task_runs: Callable[[], None] | None = None
        self._unopened: list[str] = []  # why the log is not in the file that the configuration names

    async def build(self, store: Store) -> House:
        """Return the house. Raises ConfigError for an entrypoint that does not import, where that is to be strict."""
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
        recorders = RecorderHouse(
            store=store,
            clock=self._clock,
            ids=self._ids,
            redactor=self._redactor,
            secret=partial(
                resolve_secret, environ=self._environ, credentials_dir=systemd.credentials_directory(self._environ)
            ),
            tell=lambda lines: self._log.output(lines) if known.settings.log.run_output else None,
            publish=lambda events: house.bus.publish(events),  # noqa: PLW0108 - there is no house yet
            lines_per_second=settings.log.max_lines_per_second,
            keep_versions=settings.retention.keep_artifact_versions,
            tell_tasks=lambda events: house.bus.publish_task_runs(events),  # noqa: PLW0108
            tasks_wanted=lambda: house.bus.task_runs_wanted,
        )
        check = ParameterCheck(self._flows, fitness.signatures)
        house = House(
            store=store,
            catalogue=known,
            clock=self._clock,
            ids=self._ids,
            runner=partial(self._runner, known),
            recorder=recorders.recorder,
            check_parameters=check,
            last_alive=last_alive,
            end_orphans=Orphans(store=store, clock=self._clock).end,
            document=lambda run: documents.flow_run(store.instance_id, run, self._clock.now()),
            script_recorder=recorders.outside,
            outside=Carriers(
                reveal=recorders.reveal,
                redact=self._redactor.value,
                threads=PoolThreads(NOTIFY_THREADS),
                clock=self._clock,
                host=socket.gethostname() or "localhost",
                environ=self._environ,
            ),
        )
        recorders.answering = house.answers
        house.bus.listen(self._log.write)
        self._tell_task_runs(house.bus, settings)
        known.on_replaced.append(partial(self._follow, house, recorders))
        self._reloads(house, check)
        status = house.status
        status.config_file = str(self._config)
        status.config_faults = self._faults
        status.unfit = {name: "; ".join(map(str, found)) for name, found in fitness.faults.items()}
        status.addresses = [_address(each) for each in self._sockets]
        status.dropped_lines = lambda: self._log.dropped
        status.troubles.append(lambda: [*self._log.problems(), *self._unopened])
        status.lag = self._lag.problems
        house.metrics.lag = self._lag
        return house

    def _reloads(self, house: House, check: ParameterCheck) -> None:
        reloader = reloads(
            house,
            loaded=self._loaded,
            made_dir=self._made_dir,
            read=lambda: read(self._config, self._made_dir, self._flows, self._environ),
            examine=lambda loaded: entrypoint_fitness(loaded, self._environ),
            keep=lambda loaded: save_last_good(loaded, self._state),
        )
        reloader.on_examined.append(check.go_by)
        reloader.on_code.append(house.workforce.renew_code)
        reloader.on_code.append(partial(self._to_file_at_last, house.catalogue))

    def _follow(self, house: House, recorders: RecorderHouse, before: Settings, after: Settings) -> None:
        """Bring what stands outside the house in line with another configuration."""
        recorders.go_by(
            lines_per_second=after.log.max_lines_per_second, keep_versions=after.retention.keep_artifact_versions
        )
        shell = self._flows.get("shell")
        if isinstance(shell, ShellFlow):
            shell.grace = after.daemon.grace_period / 4  # half of what a runner grants
        if before.log.level is not after.log.level:
            self._log.set_level(LEVELS[after.log.level])
            self._tell_task_runs(house.bus, after)
        if before.log.file != after.log.file:
            self._to_file(after)

    def _to_file(self, settings: Settings) -> None:
        """Let the log go on in the file that is named; where it cannot be opened, the next reload tries again."""
        try:
            self._log.to_file(settings.log.file, format=self._loaded.settings.log.format)
        except LogFileError as error:
            logger.error("%s; the log goes on where it was", error)
            self._unopened = [f"{error}; then: tidemill reload"]
        else:
            self._unopened = []

    def _to_file_at_last(self, known: Catalogue) -> None:
        if self._unopened:
            self._to_file(known.settings)

    def _tell_task_runs(self, bus: EventBus, settings: Settings) -> None:
        """Write what task runs do into the log where everything is wanted there."""
        if self._leave_task_runs is not None:
            self._leave_task_runs()
            self._leave_task_runs = None
        if settings.log.level is LogLevel.DEBUG:
            self._leave_task_runs = bus.listen_to_task_runs(self._log.write)

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

    def _runner(self, known: Catalogue, pool: WorkPool) -> Runner:
        settings = known.settings
        if pool.type == PoolType.PROCESS:
            return ProcessRunner(
                pool=pool,
                flows_dir=settings.daemon.flows,
                clock=self._clock,
                grace=settings.daemon.grace_period / 2,
                environ=self._environ,
                import_timeout=settings.daemon.import_timeout,
                lines_per_second=settings.log.max_lines_per_second,
                cgroups=self._cgroups,
            )
        if pool.type == PoolType.DASK:
            from tidemill.runners.dask import DaskRunner  # where there is no such pool, a start does without it

            return DaskRunner(
                pool=pool,
                flows_dir=settings.daemon.flows,
                mailbox=f"tidemill-{known.instance}-{pool.name}",
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


def _address(each: socket.socket) -> str:
    name = each.getsockname()
    if each.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if each.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"
