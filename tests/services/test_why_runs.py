"""Why a run began late, was tried again, was skipped or ended: a sentence with its evidence for each way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stage import DONE, FAILED, NOON, World, minutes, seconds, takes
from why_stage import Ways, begun, life, told, why

from tidemill.core.ports import Job, Outcome
from tidemill.core.states import StateType

JOB = '[deployments.job]\ncommand = "true"\n'
SLOW = JOB + 'work_queue = "slow"\n'
ONE_AT_A_TIME = "[work_queues.slow]\nconcurrency_limit = 1\n" + SLOW
MINUTELY = JOB + 'interval = "1m"\n'
FOR_GOOD = Outcome(type=StateType.FAILED, name="Failed", message="no such table", retriable=False)

way = Ways()


def only_first(outcome: Outcome) -> Callable[[Job], tuple[timedelta, Outcome]]:
    return lambda job: (seconds(1), outcome if job.attempt == 1 else DONE)


# -- runs that began late --------------------------------------------------------------------------------------------


@way(
    "completed",
    "It began 5m00s late, at 2026-06-01 12:05:00 +0000 instead of 2026-06-01 12:00:00 +0000: work queue slow was "
    "paused by hand by ada from 2026-06-01 12:00:00 +0000 to 2026-06-01 12:05:00 +0000.",
)
async def its_queue_was_paused(world: World) -> Any:
    async with life(world, SLOW) as house:
        await house.control.pause("work_queue", "slow", by="ada")
        run = await house.control.create_run("job")
        await world.wait(minutes(5))
        await house.control.resume("work_queue", "slow", by="ben")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("completed", "It began 9m59s late", "work queue slow was full: 1 of 1 slots held by first (")
async def its_queue_was_full(world: World) -> Any:
    async with life(world, ONE_AT_A_TIME, takes(minutes(10))) as house:
        await house.control.create_run("job", name="first")
        await world.wait(seconds(1))
        run = await house.control.create_run("job")
        await world.wait(minutes(30))
        return await why(house, flow_run_id=run.id)


@way("completed", "1 of 1 slots held; until then they were held in turn by first (", "; second (")
async def several_went_before_it(world: World) -> Any:
    async with life(world, ONE_AT_A_TIME, takes(minutes(10))) as house:
        for name in ("first", "second"):
            await house.control.create_run("job", name=name)
            await world.wait(seconds(1))
        run = await house.control.create_run("job")
        await world.wait(minutes(40))
        return await why(house, flow_run_id=run.id)


@way(
    "completed",
    "the daemon was down from 2026-06-01 12:00:30 +0000 to 2026-06-01 12:10:30 +0000; it was made up for at "
    '2026-06-01 12:10:30 +0000 by catch_up = "latest".',
)
async def the_daemon_was_down_and_it_was_made_up_for(world: World) -> Any:
    async with life(world, MINUTELY):
        await world.wait(seconds(30))
    await world.wait(minutes(10))
    async with life(world, MINUTELY) as house:
        await world.wait(seconds(20))
        (run,) = [run for run in await world.runs(house) if run.state.name == "Completed"]
        return await why(house, flow_run_id=run.id)


@way("completed", "the daemon was down from 2026-06-01 12:00:", "to 2026-06-01 12:10:40 +0000")
async def the_daemon_was_killed_while_it_waited(world: World) -> Any:
    daemon = await begun(world, SLOW)
    await daemon.house.control.pause("work_queue", "slow", by="ada")
    run = await daemon.house.control.create_run("job")
    await world.wait(seconds(40))
    await daemon.kill()
    await world.wait(minutes(10))
    async with life(world, SLOW) as house:
        await house.control.resume("work_queue", "slow", by="ada")
        await world.wait(seconds(5))
        return await why(house, flow_run_id=run.id)


@way("completed", "the clock went forward from 2026-06-01 12:", "to 2026-06-01 14:")
async def the_clock_went_forward(world: World) -> Any:
    async with life(world, JOB + 'interval = "90m"\n') as house:
        await world.wait(minutes(5))
        world.clock.set(world.now + timedelta(hours=2))
        await world.wait(minutes(70))
        done = [run for run in await world.runs(house) if run.state.name == "Completed"]
        return await why(house, flow_run_id=done[0].id)


@way("completed", "the daemon drained from 2026-06-01 12:00:00 +0000 to 2026-06-01 12:05:00 +0000 by ada")
async def the_daemon_drained(world: World) -> Any:
    async with life(world, JOB) as house:
        house.draining.begin("ada")
        run = await house.control.create_run("job")
        await world.wait(minutes(5))
        house.draining.undo("ada")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("completed", "It completed at 2026-06-01 12:00:01 +0000 after 1.00s.", "Somebody asked for it")
async def nothing_was_wrong(world: World) -> Any:
    async with life(world, JOB) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        found = await why(house, flow_run_id=run.id)
        assert [each["kind"] for each in found["findings"]] == ["completed", "origin"]
        return found


# -- tries -----------------------------------------------------------------------------------------------------------

RETRIED = JOB + 'retries = 2\nretry_delay = "10m"\n'


@way(
    "retry-to-come",
    "Attempt 1 did not succeed at 2026-06-01 12:00:01 +0000 (no luck; retry 1 of 2 in 10 min 0 s); the next one is to "
    "start at 2026-06-01 12:10:01 +0000 (in 9m01",
)
async def it_awaits_its_retry(world: World) -> Any:
    async with life(world, RETRIED, takes(seconds(1), FAILED)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        found = await why(house, flow_run_id=run.id)
        assert [each["kind"] for each in found["findings"]] == ["retry-to-come", "origin"], "told once"
        return found


@way(
    "completed",
    "on attempt 2",
    "Attempt 1 did not succeed at 2026-06-01 12:00:01 +0000 (no luck; retry 1 of 2 in 10 min 0 s); the next one began "
    "at 2026-",
)
async def it_was_tried_again(world: World) -> Any:
    async with life(world, RETRIED, only_first(FAILED)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(30))
        found = await why(house, flow_run_id=run.id)
        assert "late" not in told(found)
        return found


@way("failed", "It failed at 2026-06-01 12:20:03 +0000 on attempt 3: no luck. All 2 retries are used up.")
async def its_retries_are_used_up(world: World) -> Any:
    async with life(world, RETRIED, takes(seconds(1), FAILED)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(60))
        return await why(house, flow_run_id=run.id)


@way("failed", "on attempt 2: no luck. The one retry is used up.")
async def its_only_retry_is_used_up(world: World) -> Any:
    async with life(world, JOB + "retries = 1\n", takes(seconds(1), FAILED)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(60))
        return await why(house, flow_run_id=run.id)


@way("crashed", "on attempt 4: the machine went away. All 3 retries are used up.")
async def a_crash_is_tried_again_three_times_at_least(world: World) -> Any:
    crash = Outcome(type=StateType.CRASHED, name="Crashed", message="the machine went away")
    async with life(world, JOB + 'retries = 2\non_crash = "retry"\n', takes(seconds(1), crash)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(60))
        return await why(house, flow_run_id=run.id)


@way("failed", "It is not tried again: what went wrong would go wrong again.")
async def what_went_wrong_is_not_tried_again(world: World) -> Any:
    async with life(world, RETRIED, takes(seconds(1), FOR_GOOD)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(60))
        return await why(house, flow_run_id=run.id)


@way("failed", "It failed at 2026-06-01 12:00:01 +0000: no luck. Its deployment sets no retries.")
async def it_has_no_retries(world: World) -> Any:
    async with life(world, JOB, takes(seconds(1), FAILED)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(60))
        return await why(house, flow_run_id=run.id)


@way("completed", "It was Failed and was retried by hand by ada at 2026-06-01 12:01:00 +0000.")
async def somebody_retried_it(world: World) -> Any:
    async with life(world, JOB, only_first(FAILED)) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        await house.control.retry_run(run.id, by="ada")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("timed-out", "It was ended by its timeout of 10s at 2026-06-01 12:00:10 +0000: timed out.")
async def it_timed_out(world: World) -> Any:
    async with life(world, JOB + 'timeout = "10s"\n', takes(minutes(1))) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("crashed", "killed, crashed or lost power", 'It is not tried again: on_crash = "fail".')
async def it_crashed_with_the_daemon(world: World) -> Any:
    daemon = await begun(world, JOB, takes(minutes(10)))
    run = await daemon.house.control.create_run("job")
    await world.wait(minutes(1))
    await daemon.kill()
    async with life(world, JOB) as house:
        return await why(house, flow_run_id=run.id)


# -- runs that were not carried out ----------------------------------------------------------------------------------


@way(
    "skipped",
    "It was skipped at 2026-06-01 12:02:00 +0000 and never started: concurrency limit 1 of job is reached, and its "
    "collision_strategy is cancel_new. At that time ran ",
)
async def it_collided(world: World) -> Any:
    config = MINUTELY + 'concurrency_limit = 1\ncollision_strategy = "cancel_new"\n'
    async with life(world, config, takes(minutes(5))) as house:
        await world.wait(minutes(3))
        (run, *_) = [run for run in await world.runs(house) if run.state.name == "Skipped"]
        found = await why(house, flow_run_id=run.id)
        assert len(found["findings"][0]["facts"]["holders"]) == 1
        return found


@way("skipped", 'missed while the daemon was down; catch_up = "skip"', "The daemon was down from 2026-06-01 12:00:30")
async def it_was_missed(world: World) -> Any:
    config = MINUTELY + 'catch_up = "skip"\n'
    async with life(world, config):
        await world.wait(seconds(30))
    await world.wait(minutes(10))
    async with life(world, config) as house:
        await world.wait(seconds(1))
        (run, *_) = [run for run in await world.runs(house) if run.state.name == "Skipped"]
        return await why(house, flow_run_id=run.id)


@way("cancelled", "It was cancelled at 2026-06-01 12:01:00 +0000: cancelled by ada.")
async def somebody_cancelled_it(world: World) -> Any:
    async with life(world, JOB, takes(minutes(5))) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        await house.control.cancel_run(run.id, "cancelled by ada")
        await world.wait(minutes(1))
        return await why(house, flow_run_id=run.id)


@way("cancelled", "a newer run of job became due (collision_strategy cancel_running)")
async def a_newer_run_took_its_place(world: World) -> Any:
    config = MINUTELY + 'concurrency_limit = 1\ncollision_strategy = "cancel_running"\n'
    async with life(world, config, takes(minutes(5))) as house:
        await world.wait(minutes(3))
        (run, *_) = [run for run in await world.runs(house) if run.state.name == "Cancelled"]
        return await why(house, flow_run_id=run.id)


@way("completed", "A backfill made it at 2026-06-01 12:00:00 +0000 for the fire of 2026-06-01 08:00:00 +0000.")
async def a_backfill_made_it(world: World) -> Any:
    async with life(world, JOB + 'cron = "0 8 * * *"\n') as house:
        await house.backfills.begin("job", NOON - timedelta(hours=5), NOON, by="ada")
        await world.wait(minutes(1))
        (run,) = [run for run in await world.runs(house) if run.created_by == "backfill"]
        return await why(house, flow_run_id=run.id)


@pytest.mark.parametrize("name", list(way))
def test_there_is_a_sentence_with_its_evidence(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    way.check(name, tmp_path, caplog)
