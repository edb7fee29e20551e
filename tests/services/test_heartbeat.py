"""systemd's watchdog is fed while scheduler and database answer, and not while either is stuck (P10)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from stage import World, play, seconds, takes

from tidemill import systemd
from tidemill.daemon.heartbeat import MOST_S, STATUS_S, Heartbeat
from tidemill.services.house import House

CONFIG = '[deployments.job]\ncommand = "true"\ncron = "0 9 * * *"\n'
PATIENCE_S = 30.0


class Listener(systemd.Notifier):
    """Keeps what systemd would hear."""

    def __init__(self, world: World) -> None:
        super().__init__({"NOTIFY_SOCKET": "/nowhere"})
        self.heard: list[str] = []
        self.longest = timedelta()  # between two beats
        self._world = world
        self._last = world.now

    def send(self, *assignments: str) -> bool:
        self.heard += assignments
        if "WATCHDOG=1" in assignments:
            self.longest = max(self.longest, self._world.now - self._last)
            self._last = self._world.now
        return True

    @property
    def beats(self) -> int:
        return self.heard.count("WATCHDOG=1")

    @property
    def lines(self) -> list[str]:
        return [each.removeprefix("STATUS=") for each in self.heard if each.startswith("STATUS=")]


@contextlib.asynccontextmanager
async def beating(world: World, house: House, patience_s: float = PATIENCE_S) -> AsyncIterator[Listener]:
    """A heart that beats; ``patience_s`` 0: nobody watches."""
    listener = Listener(world)
    environ = {"WATCHDOG_USEC": str(int(patience_s * 1_000_000))}
    heart = Heartbeat(house=house, notifier=listener, clock=world.clock, environ=environ)
    task = asyncio.create_task(heart.run())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def stuck(world: World, house: House) -> object:
    """A scheduler that does not come round: what it waits for never ends."""
    free = asyncio.Event()

    async def never(*_: object) -> int:
        await free.wait()
        return 0

    house.scheduler.make_up = never
    house.timekeeper.missed_since = world.now
    yield
    free.set()


@pytest.mark.parametrize(("patience_s", "pause_s"), [(30.0, 10.0), (3.0, 1.0), (3600.0, MOST_S)])
def test_a_daemon_that_is_well_feeds_it_three_times_in_its_patience(
    tmp_path: Path, patience_s: float, pause_s: float
) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house, beating(world, house, patience_s) as listener:
            await world.wait(seconds(pause_s * 20.5))
            assert listener.beats == 21

    play(tmp_path, main)


def test_a_stuck_scheduler_feeds_it_no_more_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house, beating(world, house) as listener:
            await world.wait(seconds(61))
            with stuck(world, house):
                await world.wait(seconds(PATIENCE_S))
                before = listener.beats
                await world.wait(seconds(120))
                assert listener.beats == before
                assert caplog.messages == ["no heartbeat: the scheduler has not answered for 10.0 s"], "said once"
            await world.wait(seconds(30))
            assert listener.beats > before, "one that gets loose goes on"

    with caplog.at_level(logging.CRITICAL):
        play(tmp_path, main)


def test_a_database_that_does_not_answer_feeds_it_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house:
            async with beating(world, house) as listener:
                await world.wait(seconds(1))
                house.store.read = lambda *_, **__: asyncio.Event().wait()  # type: ignore[method-assign, assignment]
                before = listener.beats
                await world.wait(seconds(60))
                assert listener.beats == before
                assert caplog.messages == ["no heartbeat: the database has not answered for 10.0 s"]
            del house.store.read

    with caplog.at_level(logging.CRITICAL):
        play(tmp_path, main)


def test_a_database_that_cannot_be_read_feeds_it_no_more_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise sqlite3.DatabaseError("disk I/O error")

    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house:
            async with beating(world, house) as listener:
                await world.wait(seconds(1))
                house.store.read = broken  # type: ignore[method-assign, assignment]
                before = listener.beats
                await world.wait(seconds(15))
                assert listener.beats == before
                assert "no heartbeat, the database cannot be read: disk I/O error" in caplog.messages
            del house.store.read

    with caplog.at_level(logging.CRITICAL):
        play(tmp_path, main)


def test_a_disk_that_is_full_is_no_reason_to_be_ended(tmp_path: Path) -> None:
    """P11: the daemon is degraded and heals by itself; a restart would cost what runs and mend nothing."""

    async def main(world: World) -> None:
        config = CONFIG.replace('cron = "0 9 * * *"', 'interval = "1s"')
        async with world.daemon(config) as house, beating(world, house) as listener:
            world.disk.full()
            await world.wait(seconds(20))
            assert house.store.degraded is not None
            before = listener.beats
            await world.wait(seconds(300))
            assert listener.beats > before
            assert listener.longest < seconds(PATIENCE_S)
            world.disk.well()
            await world.wait(seconds(10))

    play(tmp_path, main)


def test_a_scheduler_that_waits_for_a_locked_database_is_no_reason_either(tmp_path: Path) -> None:
    """P11: somebody's ``sqlite3`` holds the lock; the scheduler's write waits until it is given back."""

    async def main(world: World) -> None:
        config = CONFIG.replace('cron = "0 9 * * *"', 'interval = "1s"')
        async with world.daemon(config) as house, beating(world, house) as listener:
            world.disk.trouble = sqlite3.OperationalError("database is locked")
            await world.wait(seconds(20))
            assert house.store.degraded is not None
            before = listener.beats
            await world.wait(seconds(300))
            assert listener.beats > before
            assert listener.longest < seconds(PATIENCE_S)
            world.disk.well()
            await world.wait(seconds(10))

    play(tmp_path, main)


def test_the_status_is_told_when_it_changes_and_not_more_often_than_people_can_read(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        config = CONFIG.replace('cron = "0 9 * * *"', 'interval = "1s"')
        script = takes(timedelta(milliseconds=900))
        async with world.daemon(config, script) as house, beating(world, house, 0) as listener:
            await world.wait(seconds(60))
            assert 20 <= len(listener.lines) <= 60 / STATUS_S + 1
            assert not listener.beats, "nobody watches"

    play(tmp_path, main)


def test_nothing_is_told_while_nothing_happens(tmp_path: Path) -> None:
    """An idle daemon does nothing."""

    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house, beating(world, house, 0) as listener:
            await world.wait(seconds(10))
            heard = len(listener.heard)
            await world.wait(timedelta(hours=5))
            assert len(listener.heard) == heard

    play(tmp_path, main)


def test_without_systemd_nothing_runs(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house:
            nobody = systemd.Notifier({})
            heart = Heartbeat(house=house, notifier=nobody, clock=world.clock, environ={})
            await heart.run()

    play(tmp_path, main)
