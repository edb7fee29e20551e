"""A dead man's switch elsewhere hears of starts and ends, and that the daemon is well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from stage import DONE, FAILED, NOON, World, minutes, play, seconds, takes
from test_telling import People, changed, people

from tidemill.core.ports import Job, Outcome

HOUR = timedelta(hours=1)
JOB = '[deployments.job]\ncommand = "true"\ninterval = "1h"\nping = "https://hc.example.org/uuid"\n'


def pinged(heard: People, since: datetime = NOON) -> list[str]:
    return [url.removeprefix("https://hc.example.org/") for at, url in heard.pinged if at >= since]


def test_a_run_is_told_when_it_begins_and_when_it_is_done(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(JOB, takes(minutes(5))):
            await world.until(NOON + HOUR + minutes(4))
            assert pinged(heard) == ["uuid/start"]
            await world.until(NOON + HOUR + minutes(6))
            assert pinged(heard) == ["uuid/start", "uuid"]

    play(tmp_path, main)


def test_a_failure_is_told_when_no_try_is_left(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(JOB + 'retries = 1\nretry_delay = "10m"\n', takes(seconds(1), FAILED)):
            await world.until(NOON + HOUR + minutes(9))
            assert pinged(heard) == ["uuid/start"]
            await world.until(NOON + HOUR + minutes(11))
            assert pinged(heard) == ["uuid/start", "uuid/fail"]

    play(tmp_path, main)


def test_each_may_have_a_url_of_its_own_or_none(tmp_path: Path) -> None:
    config = JOB.replace('"https://hc.example.org/uuid"', '{ success = "https://hc.example.org/up?ok=1" }')

    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(config):
            await world.wait(HOUR + minutes(1))
        assert pinged(heard) == ["up?ok=1"]

    play(tmp_path, main)


def test_a_ping_that_does_not_arrive_is_tried_again_and_said(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["ping"] = "Connection refused"
        async with world.daemon(JOB) as house:
            await world.until(NOON + HOUR + seconds(10))
            assert house.status.problems() == ["ping of deployment job: Connection refused"]
            heard.broken.clear()
            await world.until(NOON + HOUR + minutes(2))
            assert pinged(heard) == ["uuid"]  # the start has become old news
            assert house.status.problems() == []

    play(tmp_path, main)


def test_a_ping_is_not_tried_for_ever(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["ping"] = "Connection refused"
        async with world.daemon(JOB):
            await world.until(NOON + HOUR + minutes(10))
            heard.broken.clear()
            await world.until(NOON + 2 * HOUR - minutes(1))
        assert pinged(heard, NOON + HOUR) == []

    play(tmp_path, main)


DAEMON = '[daemon]\nping = "https://hc.example.org/daemon"\nping_interval = "1m"\n'


def test_the_daemon_says_that_it_is_well_as_long_as_it_is(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(DAEMON + '[deployments.job]\ncommand = "true"\ninterval = "1m"\n'):
            await world.wait(minutes(3) + seconds(1))
            assert pinged(heard) == ["daemon"] * 4
            world.disk.full()
            await world.wait(minutes(3))
            assert set(pinged(heard, world.now - minutes(1))) == {"daemon/fail"}
            world.disk.well()
            await world.wait(minutes(2))
            assert set(pinged(heard, world.now - minutes(1))) == {"daemon"}
        stopped = world.now
        await world.wait(minutes(5))
        assert pinged(heard, stopped + seconds(1)) == []

    play(tmp_path, main)


def test_a_reload_may_begin_and_end_the_daemons_pings(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon("# nothing\n") as house:
            await world.wait(minutes(3))
            assert pinged(heard) == []
            changed(house, world, DAEMON)
            await world.wait(seconds(1))
            assert pinged(heard) == ["daemon"]
            changed(house, world, "# nothing\n")
            await world.wait(minutes(10))
            assert pinged(heard) == ["daemon"]

    play(tmp_path, main)


def test_a_run_that_the_stop_cuts_off_is_told_before_the_daemon_goes(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(JOB, takes(HOUR / 2), grace=seconds(1)):
            await world.until(NOON + HOUR + minutes(1))
        assert pinged(heard) == ["uuid/start", "uuid/fail"]

    play(tmp_path, main)


def test_what_a_person_cancels_is_no_failure(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(JOB, takes(HOUR / 2)) as house:
            await world.until(NOON + HOUR + minutes(1))
            (run,) = [run for run in await world.runs(house) if run.attempt]
            await house.control.cancel_run(run.id, "not now")
            await world.wait(minutes(1))
        assert pinged(heard) == ["uuid/start"]

    play(tmp_path, main)


def in_turn(*outcomes: Outcome) -> Callable[[Job], tuple[timedelta, Outcome]]:
    left = list(outcomes)
    return lambda job: (seconds(1), left.pop(0))


def test_pings_of_one_deployment_come_in_order(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(JOB, in_turn(FAILED, DONE, FAILED)):
            await world.wait(3 * HOUR + minutes(1))
        words = ["start", "fail", "start", "", "start", "fail"]
        assert pinged(heard) == [f"uuid/{word}".rstrip("/") for word in words]

    play(tmp_path, main)
