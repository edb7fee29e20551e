"""Why a fire of a schedule made no run: a sentence with its evidence for each way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from editing import Editor
from stage import World, minutes, seconds
from why_stage import Ways, begun, life, why, why_while_down

JOB = '[deployments.job]\ncommand = "true"\n'
HOURLY = JOB + 'cron = "0 * * * *"\n'
NINE = JOB + 'cron = "0 9 * * *"\n'
OTHER = '[deployments.other]\ncommand = "true"\n'

way = Ways()


# -- the schedule fired, and there is no run -------------------------------------------------------------------------


@way(
    "paused",
    "job was paused by hand from 2026-06-01 12:30:00 +0000 to 2026-06-01 14:30:00 +0000 by ada, and what falls into a "
    "pause is not made up for.",
)
async def it_was_paused_then(world: World) -> Any:
    async with life(world, HOURLY) as house:
        await world.wait(minutes(30))
        await house.control.pause("deployment", "job", by="ada")
        await world.wait(minutes(120))
        await house.control.resume("deployment", "job", by="ben")
        await world.wait(minutes(60))
        return await why(house, deployment="job", at="13:00")


@way("paused", "job was paused by hand since 2026-06-01 12:30:00 +0000 by ada")
async def it_is_paused_still(world: World) -> Any:
    async with life(world, HOURLY) as house:
        await world.wait(minutes(30))
        await house.control.pause("deployment", "job", by="ada")
        await world.wait(minutes(60))
    async with life(world, HOURLY) as house:
        await world.wait(minutes(60))
        return await why(house, deployment="job", at="13:00")


@way("paused", "job was paused by the configuration, and what falls into a pause is not made up for.")
async def the_file_pauses_it(world: World) -> Any:
    async with life(world, HOURLY + "paused = true\n") as house:
        await world.wait(minutes(120))
        return await why(house, deployment="job", at="13:00")


@way(
    "missed",
    'missed while the daemon was down; catch_up = "latest" runs only the last one (one of 8 fires), as was decided at '
    "2026-06-01 22:30:00 +0000",
    "the daemon was down from 2026-06-01 12:30:00 +0000 to 2026-06-01 22:30:00 +0000.",
)
async def the_daemon_was_down(world: World) -> Any:
    config = "[daemon]\nupcoming = 1\n" + HOURLY
    async with life(world, config):
        await world.wait(minutes(30))
    await world.wait(minutes(600))
    async with life(world, config) as house:
        await world.wait(seconds(30))
        found = await why(house, deployment="job", at="15:00")
        assert found["findings"][0]["facts"]["reason"].startswith("missed while the daemon was down")
        return found


@way("down", "the daemon was down since 2026-06-01 12:30:00 +0000; the next start decides on it, by catch_up.")
async def the_daemon_is_down_still(world: World) -> Any:
    async with life(world, "[daemon]\nupcoming = 1\n" + HOURLY):
        await world.wait(minutes(30))
    await world.wait(minutes(300))
    return await why_while_down(world, deployment="job", at="15:00")


@way("down", "the daemon was down since 2026-06-01 12:")
async def the_daemon_was_killed_and_is_down_still(world: World) -> Any:
    daemon = await begun(world, "[daemon]\nupcoming = 1\n" + HOURLY)
    await world.wait(minutes(30))
    await daemon.kill()
    await world.wait(minutes(300))
    return await why_while_down(world, deployment="job", at="15:00")


@way("gone", "job is no longer in the configuration, since 2026-06-01 12:30:00 +0000: it makes no runs.")
async def a_reload_removed_it(world: World) -> Any:
    async with life(world, HOURLY):
        await world.wait(minutes(30))
    async with life(world, OTHER) as house:
        await world.wait(minutes(90))
        return await why(house, deployment="job", at="13:00")


@way("gone", "job is no longer in the configuration, since 2026-06-01 12:20:00 +0000: it makes no runs.")
async def an_edit_removed_it(world: World) -> Any:
    async with life(world, HOURLY) as house:
        editor = Editor(world, house, HOURLY)
        await world.wait(minutes(20))
        await editor.edit(OTHER)
        await world.wait(minutes(90))
        return await why(house, deployment="job", at="13:00")


@way(
    "not-due", 'Its schedules were changed at 2026-06-01 12:20:00 +0000; since then: "0 * * * *, Etc/UTC".', "not in 9"
)
async def an_edit_changed_its_schedule(world: World) -> Any:
    async with life(world, NINE) as house:
        editor = Editor(world, house, NINE)
        await world.wait(minutes(20))
        await editor.edit(HOURLY)
        await world.wait(minutes(90))
        return await why(house, deployment="job", at="12:10")


@way("run", " is Completed.")
async def an_edited_schedule_ran(world: World) -> Any:
    async with life(world, NINE) as house:
        editor = Editor(world, house, NINE)
        await world.wait(minutes(20))
        await editor.edit(HOURLY)
        await world.wait(minutes(90))
        return await why(house, deployment="job", at="13:00")


@way("gone", "job was not in the configuration from 2026-06-01 12:30:00 +0000 to 2026-06-01 13:30:00 +0000")
async def it_was_gone_for_a_while(world: World) -> Any:
    async with life(world, HOURLY):
        await world.wait(minutes(30))
    async with life(world, OTHER):
        await world.wait(minutes(60))
    async with life(world, HOURLY) as house:
        await world.wait(minutes(60))
        return await why(house, deployment="job", at="13:00")


@way(
    "not-there-yet",
    "job is in the configuration only since 2026-06-01 12:00:00 +0000: there was nothing to run before.",
)
async def it_was_not_there_yet(world: World) -> Any:
    async with life(world, HOURLY) as house:
        return await why(house, deployment="job", at="09:00")


@way(
    "not-due",
    'Its schedules were changed at 2026-06-01 12:30:00 +0000; since then: "15 * * * *, Etc/UTC".',
    'Schedule "0 9 * * *, Etc/UTC" does not fire then',
)
async def its_schedule_was_another_then(world: World) -> Any:
    async with life(world, NINE):
        await world.wait(minutes(30))
    async with life(world, JOB + 'cron = "15 * * * *"\n') as house:
        await world.wait(minutes(30))
        return await why(house, deployment="job", at="12:15")


@way("newer", "the schedule is in the configuration only since 2026-06-01 13:00:00 +0000; a new one begins when it is")
async def its_schedule_came_at_that_very_second(world: World) -> Any:
    async with life(world, NINE):
        await world.wait(minutes(30))
    await world.wait(minutes(30))
    async with life(world, HOURLY) as house:
        await world.wait(minutes(30))
        return await why(house, deployment="job", at="13:00")


@way(
    "deleted",
    "was due at 2026-06-01 13:00:00 +0000; its run ",
    " was deleted by hand at 2026-06-01 13:30:00 +0000 by ada.",
)
async def its_run_was_deleted(world: World) -> Any:
    async with life(world, HOURLY) as house:
        await world.wait(minutes(90))
        (run, *_) = [run for run in await world.runs(house) if run.state.name == "Completed"]
        await house.control.delete_run(run.id, by="ada")
        await world.wait(minutes(30))
        return await why(house, deployment="job", at="13:00")


@way(
    "not-there-yet",
    "there was nothing to run before.",
    "A backfill made run ",
    "for the fire of 2026-06-01 09:00:00 +0000; it",
)
async def a_backfill_made_up_for_it(world: World) -> Any:
    async with life(world, NINE) as house:
        await house.backfills.begin("job", world.now - timedelta(hours=5), world.now, by="ada")
        await world.wait(minutes(1))
        found = await why(house, deployment="job", at="09:00")
        assert [each["findings"][0]["kind"] for each in found["runs"]] == ["completed"]
        return found


@way("missed", 'missed when the clock went forward; catch_up = "skip"')
async def the_clock_went_past_it(world: World) -> Any:
    async with life(world, "[daemon]\nupcoming = 1\n" + HOURLY + 'catch_up = "skip"\n') as house:
        await world.wait(minutes(5))
        world.clock.set(world.now + timedelta(hours=5))
        await world.wait(minutes(70))
        return await why(house, deployment="job", at="15:00")


@way("not-on-record", "nothing that old is on record ([retention] keep = 1d0h), the oldest run of it is of 2026-06-0")
async def its_run_is_too_old(world: World) -> Any:
    async with life(world, '[retention]\nkeep = "1d"\n' + HOURLY) as house:
        await world.wait(timedelta(days=4))
        return await why(house, deployment="job", at="2026-06-01 14:00")


@pytest.mark.parametrize("name", list(way))
def test_there_is_a_sentence_with_its_evidence(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    way.check(name, tmp_path, caplog)
