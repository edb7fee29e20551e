"""Who hears of what was committed, and how the daemon says it is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from stage import DONE, NOON, World, minutes, play, seconds, takes

from tidemill.core.events import Event, RunChanged, RunDeleted
from tidemill.services.bus import EventBus

JOB = '[deployments.job]\ncommand = "true"\n'


def event(number: int) -> Event:
    return RunDeleted(str(number), number, None)


def seqs(events: list[Any]) -> list[int]:
    return [each.seq for each in events if isinstance(each, RunDeleted)]


async def test_listeners_hear_every_group_in_order_until_they_leave() -> None:
    bus, heard = EventBus(), []
    leave = bus.listen(heard.extend)
    bus.publish([event(1), event(2)])
    bus.publish([event(3)])
    leave()
    bus.publish([event(4)])
    assert seqs(heard) == [1, 2, 3]


async def test_a_subscription_holds_what_came_since_it_was_made() -> None:
    bus = EventBus()
    bus.publish([event(1)])
    subscription = bus.subscribe()
    bus.publish([event(2), event(3)])
    subscription.close()
    bus.publish([event(4)])
    assert seqs([each async for each in subscription]) == [2, 3]


async def test_a_reader_that_falls_behind_loses_the_oldest_and_can_see_how_many() -> None:
    """P13: a browser tab that sleeps fills no memory."""
    bus = EventBus()
    subscription = bus.subscribe(backlog=5)
    bus.publish([event(number) for number in range(3)])
    bus.publish([event(number) for number in range(3, 20)])
    assert subscription.dropped == 15
    subscription.close()
    assert seqs([each async for each in subscription]) == [15, 16, 17, 18, 19]


async def test_a_batch_is_all_that_came_since_the_last_one() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    bus.publish([event(1), event(2)])
    bus.publish([event(3)])
    assert seqs(await subscription.batch() or []) == [1, 2, 3]
    bus.publish([event(4)])
    subscription.close()
    assert seqs(await subscription.batch() or []) == [4]
    assert await subscription.batch() is None


async def test_who_wants_lines_is_woken_when_some_were_stored() -> None:
    bus = EventBus()
    wants, does_not = bus.subscribe(lines=True), bus.subscribe()
    bus.lines_stored()
    bus.lines_stored()
    assert await wants.batch() == []
    assert not does_not._more.is_set()
    wants.close()
    bus.lines_stored()  # nobody listens any more


async def test_closing_ends_a_reader_that_waits() -> None:
    subscription = EventBus().subscribe()

    async def read() -> list[Event]:
        return [each async for each in subscription]

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    subscription.close()
    subscription.close()
    assert await reading == []


async def test_a_reader_hears_what_comes_while_it_waits() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    reading = asyncio.ensure_future(anext(aiter(subscription)))
    await asyncio.sleep(0)
    bus.publish([event(7)])
    assert seqs([await reading]) == [7]
    subscription.close()


def test_nobody_hears_of_what_is_not_durable(tmp_path: Path) -> None:
    """P3: at every event told, the database holds that state already."""

    async def main(world: World) -> None:
        async with world.daemon(JOB + 'interval = "1m"\n') as house:
            ahead: list[RunChanged] = []

            def look(events: Any) -> None:
                import sqlite3

                connection = sqlite3.connect(world.database)
                for each in events:
                    if isinstance(each, RunChanged):
                        row = connection.execute("SELECT state_number FROM run WHERE id = ?", (each.run.id,)).fetchone()
                        if row is None or row[0] < each.run.state_number:
                            ahead.append(each)
                connection.close()

            house.bus.listen(look)
            await world.wait(minutes(5))
            assert ahead == []
            assert sum(isinstance(each, RunChanged) for each in world.events) > 10

    play(tmp_path, main)


def test_a_hearer_that_fails_stops_nobody(tmp_path: Path) -> None:
    """P10: runs go on whoever listens."""

    async def main(world: World) -> None:
        async with world.daemon(JOB + 'interval = "1m"\n') as house:

            def fail(events: Any) -> None:
                raise ValueError("a page's fault")

            house.bus.listen(fail)
            await world.wait(minutes(3.5))
            found = [run for run in await world.runs(house) if run.state.name == "Completed"]
            assert len(found) == 3

    play(tmp_path, main)


def test_the_status_says_what_runs_what_waits_and_what_is_next(tmp_path: Path) -> None:
    config = JOB + 'interval = "1h"\nconcurrency_limit = 1\nwork_queue = "line"\n'

    async def main(world: World) -> None:
        async with world.daemon(config, takes(timedelta(hours=2), DONE)) as house:
            house.status.config_file = "/etc/tidemill/tidemill.toml"
            for _ in range(3):
                await house.control.create_run("job")
            await world.wait(seconds(60))
            found = await house.control.status()
            assert found["state"] == "ok"
            assert found["problems"] == []
            assert [each["seconds"] for each in found["running"]] == [60.0]
            assert found["waiting"] == 2
            assert [each["seconds_late"] for each in found["late"]] == [60.0, 60.0]
            assert found["late"][0]["reason"] == "deployment job is full: 1 of 1 slots held"
            assert [each["expected_start_time"] for each in found["next"]] == [
                "2026-06-01T13:00:00Z", "2026-06-01T14:00:00Z", "2026-06-01T15:00:00Z"
            ]  # fmt: skip
            assert {each["timezone"] for each in found["next"]} == {
                house.catalogue.deployments["job"].schedules[0].timezone
            }
            queue = next(each for each in found["work_queues"] if each["name"] == "line")
            assert (queue["running"], queue["waiting"], queue["paused"]) == (1, 2, False)
            assert found["started"] == "2026-06-01T12:00:00Z"
            assert found["deployments"] == 1
            house.status.config_faults = ("tidemill.toml:1:1 x: unknown key",)
            found = await house.control.status()
            assert (found["state"], found["problems"]) == (
                "degraded", ["configuration: tidemill.toml:1:1 x: unknown key"]
            )  # fmt: skip
            assert world.now == NOON + seconds(60)

    play(tmp_path, main)
