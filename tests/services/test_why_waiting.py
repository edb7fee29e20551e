"""Why a run waits, and what one that runs is at: a sentence with its evidence for each way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stage import NOON, World, minutes, seconds, takes
from why_stage import Ways, begun, life, why, why_while_down

JOB = '[deployments.job]\ncommand = "true"\n'
SLOW = JOB + 'work_queue = "slow"\n'
ONE_AT_A_TIME = "[work_queues.slow]\nconcurrency_limit = 1\n" + SLOW
MINUTELY = JOB + 'interval = "1m"\n'

way = Ways()


# -- runs that wait --------------------------------------------------------------------------------------------------


@way("to-come", "It is not due yet: its schedule says 2026-06-01 12:01:00 +0000 (in 1m00s).")
async def its_time_has_not_come(world: World) -> Any:
    async with life(world, MINUTELY) as house:
        await world.wait(seconds(0.1))
        (run, *_) = await world.runs(house)
        return await why(house, flow_run_id=run.id)


@way("jitter", "It is due at 2026-06-01 13:00:00 +0000; its schedule's jitter puts its start ")
async def jitter_moves_its_start(world: World) -> Any:
    async with life(world, JOB + 'schedules = [{ interval = "1h", jitter = "30m" }]\n') as house:
        await world.wait(seconds(0.1))
        (run, *_) = await world.runs(house)
        return await why(house, flow_run_id=run.id)


@way("to-come", "it was asked for to start at 2026-06-01 12:30:00 +0000 (in 30m00s)", "Somebody asked for it")
async def somebody_asked_for_it_later(world: World) -> Any:
    async with life(world, JOB) as house:
        run = await house.control.create_run("job", scheduled_time=NOON + minutes(30))
        return await why(house, flow_run_id=run.id)


@way(
    "paused",
    "It has waited 4m00s for its start, due at 2026-06-01 12:01:00 +0000: work queue slow is paused by hand since "
    "2026-06-01 12:00:00 +0000 by ada.",
)
async def its_queue_is_paused_by_hand(world: World) -> Any:
    async with life(world, SLOW + 'interval = "1m"\n') as house:
        await house.control.pause("work_queue", "slow", by="ada")
        await world.wait(minutes(5))
        (run, *_) = await world.runs(house)
        found = await why(house, flow_run_id=run.id)
        assert found["findings"][0]["remedy"] == "tidemill work-queue resume slow"
        assert found["findings"][0]["facts"]["by"] == "ada"
        return found


@way("paused", "work queue slow is paused by the configuration")
async def its_queue_is_paused_by_the_file(world: World) -> Any:
    async with life(world, "[work_queues.slow]\npaused = true\n" + SLOW) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("paused", "work pool default is paused by hand since 2026-06-01 12:00:00 +0000 by ada")
async def its_pool_is_paused(world: World) -> Any:
    async with life(world, JOB) as house:
        await house.control.pause("work_pool", "default", by="ada")
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way(
    "full",
    "work queue slow lets 1 run at a time, and 1 of 1 slots are held: first (",
    ") of job, since 2026-06-01 12:00:00 +0000.",
)
async def its_queue_is_full(world: World) -> Any:
    async with life(world, ONE_AT_A_TIME, takes(minutes(10))) as house:
        await house.control.create_run("job", name="first")
        await world.wait(seconds(1))
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("full", "deployment job lets 1 run at a time", "first (")
async def its_deployment_is_full(world: World) -> Any:
    async with life(world, JOB + "concurrency_limit = 1\n", takes(minutes(10))) as house:
        await house.control.create_run("job", name="first")
        await world.wait(seconds(1))
        run = await house.control.create_run("job")
        return await why(house, flow_run_id=run.id)


@way("full", "tag db lets 1 run at a time", "first (")
async def a_tag_of_it_is_full(world: World) -> Any:
    async with life(world, "[tag_limits]\ndb = 1\n" + JOB + 'tags = ["db"]\n', takes(minutes(10))) as house:
        await house.control.create_run("job", name="first")
        await world.wait(seconds(1))
        run = await house.control.create_run("job")
        return await why(house, flow_run_id=run.id)


@way("full", "work pool default lets 1 run at a time", "first (")
async def its_pool_is_full(world: World) -> Any:
    async with life(world, "[work_pools.default]\nconcurrency_limit = 1\n" + JOB, takes(minutes(10))) as house:
        await house.control.create_run("job", name="first")
        await world.wait(seconds(1))
        run = await house.control.create_run("job")
        return await why(house, flow_run_id=run.id)


@way("draining", "the daemon drains since 2026-06-01 12:00:00 +0000 by ada: nothing new starts")
async def the_daemon_drains(world: World) -> Any:
    async with life(world, JOB) as house:
        house.draining.begin("ada")
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("clock", "nothing becomes due: the clock stands before 2026-06-01 12:0")
async def the_clock_is_held(world: World) -> Any:
    async with life(world, JOB):
        await world.wait(minutes(5))
    world.clock.set(NOON - timedelta(days=1))
    async with life(world, JOB) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("database", "the database cannot be written (", "nothing starts that cannot be recorded")
async def the_disk_is_full(world: World) -> Any:
    async with life(world, MINUTELY) as house:
        await world.wait(seconds(30))
        world.disk.full()
        await world.wait(minutes(2))
        (run, *_) = await world.runs(house)
        found = await why(house, flow_run_id=run.id)
        world.disk.well()
        await world.wait(minutes(2))
        return found


@way(
    "gone", "deployment job is no longer in the configuration since 2026-06-01 12:05:00 +0000, so it will be cancelled"
)
async def its_deployment_is_gone(world: World) -> Any:
    other = '[work_queues.slow]\npaused = true\n[deployments.other]\ncommand = "true"\n'
    async with life(world, SLOW) as house:
        await house.control.pause("work_queue", "slow", by="ada")
        run = await house.control.create_run("job")
        await world.wait(minutes(5))
    async with life(world, other) as house:
        await world.wait(minutes(1))
        found = await why(house, flow_run_id=run.id)
        assert found["findings"][0]["kind"] == "paused"
        found["findings"].reverse()
        found["findings"] = [each for each in found["findings"] if each["kind"] == "gone"]
        return found


@way("down", "the daemon is down, last alive at 2026-06-01 12:02:00 +0000 (3m00s ago): nothing starts")
async def the_daemon_is_down(world: World) -> Any:
    async with life(world, SLOW) as house:
        await house.control.pause("work_queue", "slow", by="ada")
        run = await house.control.create_run("job")
        await world.wait(minutes(2))
    await world.wait(minutes(3))
    return await why_while_down(world, flow_run_id=run.id)


@way("next", "nothing holds it up, it is about to start.")
async def it_is_about_to_start(world: World) -> Any:
    async with life(world, JOB) as house:
        run = await house.control.create_run("job")
        return await why(house, flow_run_id=run.id)


# -- runs on their way -----------------------------------------------------------------------------------------------


@way(
    "running", "It runs since 2026-06-01 12:00:00 +0000 (1m00s ago); its timeout of 10m ends it at 2026-06-01 12:10:00"
)
async def it_runs(world: World) -> Any:
    async with life(world, JOB + 'timeout = "10m"\n', takes(minutes(5))) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("running", "The daemon is down, last alive at", "the next start says what became of it")
async def it_ran_when_the_daemon_died(world: World) -> Any:
    daemon = await begun(world, JOB, takes(minutes(5)))
    run = await daemon.house.control.create_run("job")
    await world.wait(minutes(1))
    await daemon.kill()
    return await why_while_down(world, flow_run_id=run.id)


@pytest.mark.parametrize("name", list(way))
def test_there_is_a_sentence_with_its_evidence(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    way.check(name, tmp_path, caplog)
