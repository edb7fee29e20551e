"""Why there was a run of a deployment at a time, or none, and how one stands: a sentence for each way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stage import DONE, FAILED, World, minutes, seconds, takes
from why_stage import Ways, life, why, why_while_down

JOB = '[deployments.job]\ncommand = "true"\n'
HOURLY = JOB + 'cron = "0 * * * *"\n'
NINE = JOB + 'cron = "0 9 * * *"\n'

way = Ways()


def helsinki(day: int, hour: int, minute: int = 0, *, month: int = 3) -> datetime:
    """An instant of 2026 whose wall time is in Helsinki, before the clocks change (UTC+2) or after (+3)."""
    offset = 3 if (month, day) >= (3, 29) and (month, day) < (10, 25) else 2
    return datetime(2026, month, day, hour, minute, tzinfo=UTC) - timedelta(hours=offset)


def in_helsinki(rule: str) -> str:
    return f'[daemon]\ntimezone = "Europe/Helsinki"\n{JOB}{rule}\n'


# -- there was a run -------------------------------------------------------------------------------------------------


@way("run", "was due at 2026-06-01 13:00:00 +0000; run ", " is Completed.", "It completed at 2026-06-01 13:00:01 +0000")
async def it_ran(world: World) -> Any:
    async with life(world, HOURLY) as house:
        await world.wait(minutes(90))
        return await why(house, deployment="job", at="13:00")


@way("run", " is Late.", "work queue slow is paused by hand since 2026-06-01 12:00:00 +0000 by ada")
async def its_run_is_late(world: World) -> Any:
    async with life(world, HOURLY + 'work_queue = "slow"\n') as house:
        await house.control.pause("work_queue", "slow", by="ada")
        await world.wait(minutes(90))
        return await why(house, deployment="job", at="13:00")


@way("run", " is Skipped.", "its collision_strategy is cancel_new")
async def its_run_collided(world: World) -> Any:
    config = HOURLY + 'concurrency_limit = 1\ncollision_strategy = "cancel_new"\n'
    async with life(world, config, takes(minutes(90))) as house:
        await world.wait(minutes(150))
        return await why(house, deployment="job", at="14:00")


@way(
    "other-run",
    "was to start at 2026-06-01 12:20:00 +0000 (somebody asked for it) and is Completed.",
    "minute 20 is not",
)
async def somebody_ran_it_by_hand_then(world: World) -> Any:
    async with life(world, HOURLY) as house:
        await world.wait(minutes(20))
        await house.control.create_run("job")
        await world.wait(minutes(20))
        return await why(house, deployment="job", at="12:20")


@way("jitter", ":00:00 +0000, and its jitter of up to 30m00s put the start at 2026-06-01 ")
async def jitter_moved_it_there(world: World) -> Any:
    async with life(world, JOB + 'schedules = [{ cron = "0 * * * *", jitter = "30m" }]\n') as house:
        await world.wait(minutes(600))
        done = [run for run in await world.runs(house) if run.state.name == "Completed"]
        run = next(run for run in done if run.expected_start.minute > 0)
        return await why(house, deployment="job", at=f"{run.expected_start:%H:%M}")


# -- the schedule has no fire then -----------------------------------------------------------------------------------


@way(
    "not-due",
    'Schedule "0 9 * * mon-fri, Etc/UTC" does not fire then (hour 10 is not in 9): before that it was due at 2026-06-'
    "01 09:00:00 +0000, and next at 2026-06-02 09:00:00 +0000.",
)
async def it_is_not_its_hour(world: World) -> Any:
    async with life(world, JOB + 'cron = "0 9 * * mon-fri"\n') as house:
        return await why(house, deployment="job", at="10:00")


@way("not-due", "(Sunday is not in mon-fri)")
async def it_is_not_its_day(world: World) -> Any:
    async with life(world, JOB + 'cron = "0 9 * * mon-fri"\n') as house:
        return await why(house, deployment="job", at="yesterday")


@way("not-due", 'Schedule "every 7m" does not fire then: before that it was due at')
async def an_interval_passes_it_by(world: World) -> Any:
    async with life(world, JOB + 'interval = "7m"\n') as house:
        return await why(house, deployment="job", at="11:59:59")


@way("excluded", "leaves out 2026-05-01 (exclude), so it did not fire at 2026-05-01 09:00:00 +0000.")
async def the_date_is_excluded(world: World) -> Any:
    async with life(world, JOB + 'schedules = [{ cron = "0 9 * * *", exclude = ["2026-05-01"] }]\n') as house:
        return await why(house, deployment="job", at="2026-05-01")


@way(
    "before-start", "begins only at 2026-06-10 00:00:00 +0000 (start), so 2026-06-01 09:00:00 +0000 is before its time."
)
async def it_has_not_begun(world: World) -> Any:
    async with life(world, JOB + 'schedules = [{ cron = "0 9 * * *", start = "2026-06-10" }]\n') as house:
        return await why(house, deployment="job", at="09:00")


@way("after-end", "ended at 2026-05-10 00:00:00 +0000 (end), so 2026-06-01 09:00:00 +0000 is after its time.")
async def it_has_ended(world: World) -> Any:
    async with life(world, JOB + 'schedules = [{ cron = "0 9 * * *", end = "2026-05-10" }]\n') as house:
        return await why(house, deployment="job", at="09:00")


@way("excluded", "leaves out 2026-07-01 (exclude), so it does not fire at 2026-07-01 09:00:00 +0000.")
async def a_date_to_come_is_excluded(world: World) -> Any:
    async with life(world, JOB + 'schedules = [{ cron = "0 9 * * *", exclude = ["2026-07-01"] }]\n') as house:
        return await why(house, deployment="job", at="2026-07-01")


@way("inactive", "is not active (active = false), so it did not fire at 2026-06-01 09:00:00 +0000.")
async def it_is_inactive(world: World) -> Any:
    async with life(world, JOB + 'schedules = [{ cron = "0 9 * * *", active = false }]\n') as house:
        return await why(house, deployment="job", at="09:00")


@way("reboot", "fires when the daemon starts, at no time of its own.")
async def it_fires_at_starts_only(world: World) -> Any:
    async with life(world, JOB + 'cron = "@reboot"\n') as house:
        return await why(house, deployment="job", at="09:00")


@way("no-schedule", "job has no schedule: its runs are made by hand.")
async def it_has_no_schedule(world: World) -> Any:
    async with life(world, JOB) as house:
        return await why(house, deployment="job", at="09:00")


# -- summer time -----------------------------------------------------------------------------------------------------


@way("run", "03:30 does not exist that day: first instant after the gap", start=helsinki(28, 20))
async def a_fixed_time_in_the_gap_ran_after_it(world: World) -> Any:
    async with life(world, in_helsinki('cron = "30 3 * * *"')) as house:
        await world.wait(timedelta(hours=12))
        return await why(house, deployment="job", at="2026-03-29 03:30")


@way(
    "dst-gap",
    "the clocks go forward by 1h and skip 03:30 that day, and what fires every matching minute has no fire in a gap.",
    start=helsinki(28, 20),
)
async def a_step_has_no_fire_in_the_gap(world: World) -> Any:
    async with life(world, in_helsinki('cron = "*/30 3 * * *"')) as house:
        await world.wait(timedelta(hours=12))
        return await why(house, deployment="job", at="2026-03-29 03:30")


@way("not-due", "does not fire then (minute 30 is not in 5; hour 3 is not in 9)", start=helsinki(28, 20))
async def what_never_fires_at_that_time_lost_nothing_in_the_gap(world: World) -> Any:
    async with life(world, in_helsinki('cron = "5 9 * * *"')) as house:
        return await why(house, deployment="job", at="2026-03-29 03:30")


@way("run", "(repeated hour: first pass)", " is Completed", start=helsinki(24, 20, month=10))
async def a_repeated_hour_is_asked_about_by_its_wall_time(world: World) -> Any:
    async with life(world, in_helsinki('cron = "30 3 * * *"')) as house:
        await world.wait(timedelta(hours=12))
        return await why(house, deployment="job", at="2026-10-25 03:30")


@way(
    "dst-repeat",
    "fires once in a repeated hour, in its first pass: 2026-10-25 03:30:00 +0300.",
    start=helsinki(24, 20, month=10),
)
async def the_second_pass_of_a_repeated_hour_has_no_fire(world: World) -> Any:
    async with life(world, in_helsinki('cron = "30 3 * * *"')) as house:
        await world.wait(timedelta(hours=12))
        return await why(house, deployment="job", at="2026-10-25T01:30:00Z")


# -- what is to come -------------------------------------------------------------------------------------------------


@way("to-come", "is due at 2026-06-11 09:00:00 +0000, in 9d21h; runs are planned 3 fires ahead.")
async def it_is_to_come(world: World) -> Any:
    async with life(world, NINE) as house:
        return await why(house, deployment="job", at="2026-06-11 09:00")


@way("run", "is due at 2026-06-02 09:00:00 +0000; run ", " is Scheduled.")
async def its_run_is_planned(world: World) -> Any:
    async with life(world, NINE) as house:
        await world.wait(seconds(1))
        return await why(house, deployment="job", at="2026-06-02 09:00")


@way("paused", "but job is paused by hand by ada: it makes no run.")
async def it_is_paused_and_will_not_run(world: World) -> Any:
    async with life(world, NINE) as house:
        await house.control.pause("deployment", "job", by="ada")
        return await why(house, deployment="job", at="2026-06-11 09:00")


# -- how a deployment stands -----------------------------------------------------------------------------------------


@way("next", "It runs next at 2026-06-02 09:00:00 +0000, in 20h59m: ", "It has not run yet")
async def all_is_well(world: World) -> Any:
    async with life(world, NINE) as house:
        await world.wait(seconds(1))
        return await why(house, name="job")


@way("paused", "Its schedules make no runs: deployment job is paused by hand since 2026-06-01 12:00:00 +0000 by ada.")
async def it_stands_paused(world: World) -> Any:
    async with life(world, NINE) as house:
        await house.control.pause("deployment", "job", by="ada")
        found = await why(house, name="job")
        assert found["findings"][0]["remedy"] == "tidemill deployment resume job"
        return found


@way(
    "stopping", "Its runs wait: the daemon stops, and nothing starts", ": the daemon stops: nothing starts before it is"
)
async def the_daemon_stops(world: World) -> Any:
    async with life(world, JOB + 'interval = "1m"\n', takes(minutes(5))) as house:
        await world.wait(seconds(90))
        stop = asyncio.create_task(house.stop(minutes(5)))
        await world.wait(seconds(90))
        found = await why(house, name="job")
        await stop
        return found


@way(
    "shadow",
    'It runs nothing: mode = "shadow" only records when it would have run.',
    "Nothing ran: would have started now",
)
async def it_stands_in_shadow(world: World) -> Any:
    async with life(world, HOURLY + 'mode = "shadow"\n') as house:
        await world.wait(minutes(90))
        return await why(house, name="job")


@way("run", " is Shadow.", 'Nothing ran: would have started now, in work pool default; mode = "shadow": nothing runs.')
async def its_run_was_a_shadow(world: World) -> Any:
    async with life(world, HOURLY + 'mode = "shadow"\n') as house:
        await world.wait(minutes(90))
        return await why(house, deployment="job", at="13:00")


@way("unfit", "It cannot run: reports.py:12 has no function daily.")
async def its_code_cannot_be_loaded(world: World) -> Any:
    async with life(world, NINE) as house:
        house.status.unfit = {"job": "reports.py:12 has no function daily"}
        return await why(house, name="job")


@way("paused", "Its runs wait: work queue slow is paused by hand", "waits since 2026-06-01 12:00:00 +0000 (5m00s ago).")
async def its_line_is_paused(world: World) -> Any:
    async with life(world, JOB + 'work_queue = "slow"\n') as house:
        await house.control.pause("work_queue", "slow", by="ada")
        await house.control.create_run("job")
        await world.wait(minutes(5))
        return await why(house, name="job")


@way(
    "last-failed",
    "Its last run, ",
    ", is Failed since 2026-06-01 12:00:01 +0000.",
    "no luck",
    "Nothing comes by itself",
)
async def its_last_run_failed(world: World) -> Any:
    async with life(world, JOB, takes(seconds(1), FAILED)) as house:
        await house.control.create_run("job")
        await world.wait(minutes(5))
        return await why(house, name="job")


@way(
    "retry",
    " is tried again at 2026-06-01 12:10:01 +0000, in 5m01s.",
    "Attempt 1 did not succeed at 2026-06-01 12:00:01 +0000",
)
async def it_waits_for_its_next_attempt(world: World) -> Any:
    async with life(world, JOB + 'retries = 1\nretry_delay = "10m"\n', takes(seconds(1), FAILED)) as house:
        await house.control.create_run("job")
        await world.wait(minutes(5))
        found = await why(house, name="job")
        assert "never" not in [each["kind"] for each in found["findings"]]
        return found


@way(
    "paused",
    "one (",
    ") is tried again at 2026-06-01 13:30:01 +0000, in 1h20m.",
    "two (",
    "It runs next at 2026-06-01 13:00:00 +0000, in 49m59s:",
)
async def several_wait_for_their_next_attempts_beside_what_is_planned_and_a_pause(world: World) -> Any:
    """Each is told, also where a run of the schedule comes sooner."""
    queue = 'work_queue = "slow"\nretries = 1\nretry_delay = "90m"\n'
    async with life(world, HOURLY + queue, takes(seconds(1), FAILED)) as house:
        await house.control.create_run("job", name="one")
        await world.wait(minutes(10))
        await house.control.create_run("job", name="two")
        await world.wait(seconds(1))
        await house.control.pause("work_queue", "slow", by="ada")
        return await why(house, name="job")


@way(
    "running",
    " runs since 2026-06-01 12:05:00 +0000.",
    "It runs since 2026-06-01 12:05:00 +0000 (3m00s ago), attempt 2",
)
async def it_runs_again_by_hand(world: World) -> Any:
    script = {1: (seconds(1), FAILED), 2: (minutes(10), DONE)}
    async with life(world, JOB, lambda job: script[job.attempt]) as house:
        run = await house.control.create_run("job")
        await world.wait(minutes(5))
        await house.control.retry_run(run.id, by="ada")
        await world.wait(minutes(3))
        return await why(house, name="job")


@way("down", "The daemon is down, last alive at 2026-06-01 12:30:00 +0000 (1h00m ago): nothing runs.")
async def it_stands_still_with_the_daemon(world: World) -> Any:
    async with life(world, NINE):
        await world.wait(minutes(30))
    await world.wait(minutes(60))
    return await why_while_down(world, name="job")


@way(
    "missed", "8 fires from 2026-06-01 14:00:00 +0000 to 2026-06-01 21:00:00 +0000 made no run: missed while the daemon"
)
async def fires_of_it_were_missed(world: World) -> Any:
    config = "[daemon]\nupcoming = 1\n" + HOURLY
    async with life(world, config):
        await world.wait(minutes(30))
    await world.wait(minutes(600))
    async with life(world, config) as house:
        await world.wait(seconds(30))
        found = await why(house, name="job")
        found["findings"] = [each for each in found["findings"] if each["kind"] == "missed"]
        return found


@pytest.mark.parametrize("name", list(way))
def test_there_is_a_sentence_with_its_evidence(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    way.check(name, tmp_path, caplog)
