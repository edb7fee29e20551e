"""What follows an edit: the watcher and SIGHUP ask for a reload, systemd hears of it, new code gets warm."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

from tidemill import systemd
from tidemill.clock import Clock
from tidemill.daemon.heartbeat import Heartbeat
from tidemill.daemon.warming import warm
from tidemill.flows.builtins import BuiltinFlow
from tidemill.services.house import House
from tidemill.services.reloader import Reloaded, Reloader


class Editing:
    """Keeps a running daemon to its files."""

    def __init__(
        self,
        *,
        house: House,
        reloader: Reloader,
        flows: Mapping[str, BuiltinFlow],
        notifier: systemd.Notifier,
        heartbeat: Heartbeat,
        clock: Clock,
        config: Path,
        made_dir: Path,
        read_at_ns: int,
    ) -> None:
        self._house = house
        self._reloader = reloader
        self._flows = flows
        self._notifier = notifier
        self._heartbeat = heartbeat
        self._clock = clock
        self._config = config
        self._made_dir = made_dir
        self._read_at_ns = read_at_ns
        self._warming: asyncio.Task[None] | None = None

    async def run(self, *, told: bool = False) -> None:
        """Follow edits until cancelled. ``told``: SIGHUP came before."""
        from tidemill.daemon.watcher import Watcher  # nobody waits for it: what it needs is loaded after the start

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._hear)
        self._reloader.on_begin.append(self._begins)
        self._reloader.on_end.append(self._ends)
        if told:
            self._hear()
        watcher = Watcher(
            config=self._config,
            made_dir=self._made_dir,
            known=lambda: self._house.catalogue.settings.daemon,
            reloader=self._reloader,
            clock=self._clock,
            read_at_ns=self._read_at_ns,
        )
        self._warm()
        try:
            await watcher.run()
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._reloader.close()
            if self._warming is not None:
                self._warming.cancel()
                await asyncio.gather(self._warming, return_exceptions=True)

    def _hear(self) -> None:
        self._reloader.request("SIGHUP", quiet=False)

    def _begins(self) -> None:
        self._notifier.reloading(self._clock.monotonic(), "reloading")

    def _ends(self, reloaded: Reloaded) -> None:
        self._heartbeat.ready()
        if reloaded.ok:
            self._warm()

    def _warm(self) -> None:
        if self._warming is None or self._warming.done():
            self._warming = asyncio.create_task(warm(self._house, self._flows), name="warm-up")
