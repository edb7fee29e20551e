"""A daemon's life: start, run until told to stop, stop in good order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill import __version__, systemd
from tidemill.api import places
from tidemill.clock import SystemClock
from tidemill.config import Loaded, save_last_good
from tidemill.daemon.assembly import Assembly
from tidemill.daemon.editing import Editing
from tidemill.daemon.heartbeat import Heartbeat
from tidemill.errors import EXIT_OK
from tidemill.flows.builtins import BuiltinFlow
from tidemill.ids import Ids
from tidemill.runners.lag import LagMonitor
from tidemill.sdk import capture
from tidemill.services.diary import Diary
from tidemill.services.house import House
from tidemill.store import Store, catalogue
from tidemill.telemetry.logs import EventLog
from tidemill.telemetry.redaction import Redactor

logger = logging.getLogger("tidemill")


class Daemon:
    """A running daemon: the object graph and its life."""

    def __init__(
        self,
        *,
        loaded: Loaded,
        read_at_ns: int,
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
        self._read_at_ns = read_at_ns  # when that was begun, on the wall clock
        self._faults = faults
        self._config = config
        self._state = state
        self._flows = flows
        self._redactor = redactor
        self._log = log
        self._sockets = sockets
        self._environ = environ
        self._clock = SystemClock()
        # Seeded from the system's source: ids are drawn by the thousand, and need not be secret.
        self._ids = Ids(random.Random(Ids().random.getrandbits(128)))  # noqa: S311
        self._notifier = systemd.Notifier(environ)
        self._lag = LagMonitor(clock=self._clock, redact=redactor.text)
        self.assembly = Assembly(
            loaded=loaded,
            faults=faults,
            config=config,
            state=state,
            flows=flows,
            redactor=redactor,
            log=log,
            lag=self._lag,
            sockets=sockets,
            clock=self._clock,
            ids=self._ids,
            environ=environ,
            strict=strict,
        )
        self.wound_down = True  # False: code that heeds no cancellation is still on the loop
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._told_to_reload = asyncio.Event()  # before there is somebody to do it
        self._begun = asyncio.Event()
        self._listen_to_signals()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def live(self) -> int:
        """Start, run until told to stop, stop; return the exit code."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._told_to_stop, number)
        self._loop.add_signal_handler(signal.SIGHUP, self._told_to_reload.set)
        self._notifier.status("starting: opening the database")
        store = await Store.open(self._state / places.DATABASE, clock=self._clock, ids=self._ids)
        code = EXIT_OK
        diary = Diary(store=store, clock=self._clock, redactor=self._redactor)
        diary.open()
        if store.set_aside is not None:
            logger.info("the database was brought up to date; as it was before: %s", store.set_aside)
        try:
            house = await self.assembly.build(store)
            edge = asyncio.create_task(self._serve(house), name="api")
            try:
                code = await self._run(house, store, edge)
            finally:
                edge.cancel()
                await asyncio.gather(edge, return_exceptions=True)
                for flow in self._flows.values():
                    await flow.aclose()
        finally:
            diary.close()
            await store.aclose()
            self._notifier.close()
        return code

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
                automations=tuple(settings.automations.values()),
                at=self._clock.now(),
            ),
        )
        if not self._faults:
            save_last_good(self._loaded, self._state)
        capture.install((self._log.handler,))
        self._lag.start()
        house.start()
        self._begun.set()
        gc.collect()
        gc.freeze()  # what is there now stays: later collections need not look at it
        gc.enable()
        logger.info(
            "tidemill %s is ready: %d deployment%s of %s, on %s, state in %s",
            __version__,
            len(settings.deployments),
            "" if len(settings.deployments) == 1 else "s",
            self._config,
            ", ".join(house.status.addresses),
            self._state,
            extra={"fields": {"event": "daemon-started", "version": __version__, "last_alive": house.last_alive}},
        )
        heartbeat = Heartbeat(house=house, notifier=self._notifier, clock=self._clock, environ=self._environ)
        heartbeat.ready()
        assert house.reloader is not None
        editing = Editing(
            house=house,
            reloader=house.reloader,
            flows=self._flows,
            notifier=self._notifier,
            heartbeat=heartbeat,
            clock=self._clock,
            config=self._config,
            made_dir=self._state / places.MADE,
            read_at_ns=self._read_at_ns,
        )
        following = asyncio.create_task(editing.run(told=self._told_to_reload.is_set()), name="edits")
        telling = asyncio.create_task(heartbeat.run(), name="systemd")
        try:
            return await self._until_stopped(house, store, edge)
        finally:
            for task in (following, telling):
                task.cancel()
            await asyncio.gather(following, telling, return_exceptions=True)
            grace = house.catalogue.settings.daemon.grace_period
            heartbeat.stopping(grace)
            cut = await house.stop(grace, self._hurry)
            self._lag.stop()
            capture.uninstall((self._log.handler,))
            fields = {"event": "daemon-stopped", **({"cut_off": cut} if cut else {})}
            said = f"stopped; {cut} {'run was' if cut == 1 else 'runs were'} cut off" if cut else "stopped"
            logger.info(said, extra={"fields": fields})
            heartbeat.stopped(said)

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
        # Until then the database says what an earlier configuration stated. Connections wait in line at the bound
        # sockets, also while the API is imported beside the services that run already.
        await self._begun.wait()
        from tidemill.api.app import build_app
        from tidemill.api.server import Server

        app = build_app(house.control, stop=self._stop, source=self._ids.random)
        await Server(app, self._sockets, clock=self._clock).serve_until(asyncio.Event())

    # --- signals ----------------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        # Before the loop runs, an editor's or a package's SIGHUP must not end the daemon.
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
