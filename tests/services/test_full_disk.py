"""A database that cannot be written: nothing starts unrecorded, nothing told is lost, all heals by itself (P11)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from stage import NOON, World, began, minutes, names, play, runner, seconds, takes

from tidemill.core.events import RunChanged
from tidemill.errors import StoreUnavailableError
from tidemill.services.headline import Headline
from tidemill.services.house import STORE_PATIENCE_S
from tidemill.testing import close_house

JOB = '[deployments.job]\ncommand = "true"\n'
MINUTELY = JOB + 'interval = "1m"\n'


def test_no_code_starts_whose_start_is_not_on_record(tmp_path: Path) -> None:
    """P3, P11: commit before effect; it starts when there is room again."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            await world.until(NOON + minutes(1.5))
            world.disk.full()
            await world.until(NOON + minutes(2.5))
            assert began(house) == [NOON + minutes(1)]
            assert house.store.degraded is not None
            status = await house.control.status()
            assert any("disk is full" in problem for problem in status["problems"])
            for each in (status["work_queues"][0], status["work_pools"][0]):
                assert (each["running"], each["starting"]) == (len(status["running"]), 1) == (0, 1)
            world.disk.well()
            await world.wait(seconds(10))
            assert house.store.degraded is None
            assert [each["starting"] for each in (await house.control.status())["work_queues"]] == [0, 0]
            assert len(began(house)) == 2
            found = [run for run in await world.runs(house) if run.due == NOON + minutes(2)]
            assert names(found) == ["Completed"]
            assert await world.story(house, found[0]) == ["Scheduled", "Pending", "Running", "Completed"]
            assert found[0].start_time == began(house)[1], "when it really started, not when it was first tried"

    play(tmp_path, main)


def test_an_end_that_cannot_be_recorded_is_kept_until_it_can(tmp_path: Path) -> None:
    """P3, P11: how a run ended is not forgotten while the disk is full."""

    async def main(world: World) -> None:
        async with world.daemon(JOB, takes(minutes(1))) as house:
            run = await house.control.create_run("job")
            await world.wait(seconds(30))
            world.disk.full()
            await world.wait(minutes(10))
            assert (await world.run(house, run.id)).state.name == "Running"
            told = [event.run.state.name for event in world.events if isinstance(event, RunChanged)]
            assert "Completed" not in told, "nobody hears of it before it is durable"
            world.disk.well()
            await world.wait(seconds(10))
            assert (await world.run(house, run.id)).state.name == "Completed"
            assert len(began(house)) == 1

    play(tmp_path, main)


def test_what_people_ask_for_is_refused_at_once_and_changes_nothing(tmp_path: Path) -> None:
    """P11: also after an hour, when much that nobody waits for has been kept."""

    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            run = await house.control.create_run("job", scheduled_time=NOON + minutes(200))
            world.disk.full()
            for _ in range(3):
                asked = world.now
                with pytest.raises(StoreUnavailableError, match="disk is full"):
                    await house.control.create_run("job")
                with pytest.raises(StoreUnavailableError):
                    await house.control.cancel_run(run.id, "no")
                with pytest.raises(StoreUnavailableError):
                    await house.control.pause("deployment", "job")
                assert world.now - asked < seconds(1)
                await world.wait(minutes(30))
            assert not house.catalogue.paused("deployment", "job"), "what is not on record is not in force"
            world.disk.well()
            await world.wait(seconds(10))
            assert names(await world.runs(house)) == ["Scheduled"]
            assert (await house.control.create_run("job")).state.name == "Scheduled"

    play(tmp_path, main)


def test_a_full_disk_is_said_once_a_minute_not_once_a_try(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P11."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            await world.until(NOON + minutes(1.5))
            world.disk.full()
            await world.wait(minutes(10))
            world.disk.well()
            await world.wait(minutes(1))
            assert house.store.degraded is None

    play(tmp_path, main)
    said = [record for record in caplog.records if "cannot be written" in record.message]
    assert 2 <= len(said) <= 11
    assert sum("can be written again" in record.message for record in caplog.records) == 1


def test_collisions_and_lateness_wait_for_the_disk_without_spinning(tmp_path: Path) -> None:
    """P11: a tried write a second and run, not a storm of them."""
    config = JOB + 'interval = "10s"\nconcurrency_limit = 1\ncollision_strategy = "cancel_new"\n'

    async def main(world: World) -> None:
        async with world.daemon(config, takes(minutes(20))) as house:
            await world.until(NOON + seconds(15))
            world.disk.full()
            before = world.disk.calls
            await world.wait(minutes(1))
            assert world.disk.calls - before < 600
            world.disk.well()
            await world.wait(seconds(15))
            runs = [run for run in await world.runs(house) if run.due and run.due < world.now - seconds(12)]
            assert names(runs)[0] == "Running"
            assert set(names(runs)[1:]) == {"Skipped"}

    play(tmp_path, main)


# -- stopping --------------------------------------------------------------------------------------------------------


def test_a_stop_lets_runs_end_within_the_grace(tmp_path: Path) -> None:
    """P9: nothing new starts, what runs ends, nothing is cut off."""

    async def main(world: World) -> None:
        house = await world.opened(MINUTELY, takes(seconds(20)))
        await world.started(house)
        await world.until(NOON + minutes(1) + seconds(1))
        assert await close_house(house, grace=seconds(90)) == 0
        assert world.now == NOON + minutes(1) + seconds(20), "as soon as the last one has ended"
        assert names(await world.after_all())[:2] == ["Completed", "Scheduled"]

    play(tmp_path, main)


def test_what_outlasts_the_grace_is_crashed_because_the_daemon_stopped(tmp_path: Path) -> None:
    """P4, P9."""

    async def main(world: World) -> None:
        house = await world.opened(MINUTELY, takes(minutes(20)))
        await world.started(house)
        await world.until(NOON + minutes(1.5))
        assert await close_house(house, grace=seconds(30)) == 1
        assert world.now == NOON + minutes(2)
        run = (await world.after_all())[0]
        assert (run.state.name, run.state.message) == ("Crashed", "the daemon stopped")

    play(tmp_path, main)


def test_what_was_cut_off_is_tried_again_where_its_deployment_says_so(tmp_path: Path) -> None:
    """P4: after the next start."""

    async def main(world: World) -> None:
        config = JOB + 'on_crash = "retry"\n'
        house = await world.opened(config, takes(minutes(20)))
        await world.started(house)
        await house.control.create_run("job")
        await world.wait(minutes(1))
        assert await close_house(house, grace=seconds(1)) == 1
        assert names(await world.after_all()) == ["AwaitingRetry"]
        async with world.daemon(config) as house:
            await world.wait(seconds(5))
            assert names(await world.runs(house)) == ["Completed"]

    play(tmp_path, main)


def test_a_second_signal_cuts_the_grace_short(tmp_path: Path) -> None:
    """P9."""

    async def main(world: World) -> None:
        house = await world.opened(JOB, takes(minutes(20)))
        await world.started(house)
        await house.control.create_run("job")
        await world.wait(seconds(5))
        hurry = asyncio.Event()
        stopping = asyncio.create_task(house.stop(minutes(10), hurry))
        await world.wait(seconds(5))
        assert not stopping.done()
        assert Headline(house).line().startswith("stopping")
        hurry.set()
        assert await stopping == 1
        assert world.now == NOON + seconds(10)
        await house.store.aclose()
        assert names(await world.after_all()) == ["Crashed"]

    play(tmp_path, main)


def test_a_stop_while_the_disk_is_full_ends_in_bounded_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P9, P11: what could not be recorded is said, and dealt with by the next start."""

    async def main(world: World) -> None:
        house = await world.opened(JOB, takes(minutes(20)))
        await world.started(house)
        await house.control.create_run("job")
        await world.wait(seconds(5))
        world.disk.full()
        await house.control.status()
        began_to_stop = world.now
        await close_house(house, grace=seconds(30))
        assert world.now - began_to_stop <= seconds(30 + STORE_PATIENCE_S + 5)
        world.disk.well()
        assert names(await world.after_all()) == ["Running"]
        async with world.daemon(JOB) as house:
            assert names(await world.runs(house)) == ["Crashed"]

    play(tmp_path, main)
    assert "the end of 1 runs could not be recorded" in caplog.text


def test_a_stop_does_not_wait_for_code_that_was_left_behind(tmp_path: Path) -> None:
    """P9, P10: nobody can end it, and its run has ended."""
    from tidemill.core.ports import Job, Outcome
    from tidemill.core.states import StateType

    async def main(world: World) -> None:
        left = Outcome(type=StateType.FAILED, name="TimedOut", message="still runs", abandoned=True)
        house = await world.opened(JOB, takes(seconds(5), left))

        async def for_ever(job: Job) -> None:
            await asyncio.Event().wait()

        await world.started(house)
        runner(house).left = for_ever  # type: ignore[method-assign]
        await house.control.create_run("job")
        await world.wait(minutes(1))
        stopping = world.now
        assert await close_house(house, grace=minutes(10)) == 0
        assert world.now - stopping < seconds(1)

    play(tmp_path, main)


def test_a_stop_right_after_the_start_is_in_good_order(tmp_path: Path) -> None:
    """P9: also before the services had their first turn."""

    async def main(world: World) -> None:
        for _ in range(3):
            house = await world.opened(MINUTELY)
            await world.started(house)
            assert await close_house(house) == 0
        assert world.now == NOON

    play(tmp_path, main)
