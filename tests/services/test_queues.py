"""Lines in front of slots, through the real dispatcher and worker: limits, priorities, collisions, lateness, bounds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from stage import DONE, NOON, World, began, minutes, names, play, runner, seconds, takes

from tidemill.core.admission import Limit
from tidemill.core.events import RunChanged
from tidemill.core.ports import Job, Outcome
from tidemill.services import dispatcher
from tidemill.services.house import House

JOB = '[deployments.job]\ncommand = "true"\n'


def most_at_a_time(house: House, how_long: timedelta, **wanted: str) -> int:
    """How many attempts of equal length overlapped at most."""
    times = [at for at, job in runner(house).began if all(getattr(job, key) == value for key, value in wanted.items())]
    return max((sum(1 for other in times if at <= other < at + how_long) for at in times), default=0)


LIMITS = [
    # config, and how many of twelve runs may be at work at a time
    (JOB, 12),
    (JOB + "concurrency_limit = 1\n", 1),
    (JOB + "concurrency_limit = 3\n", 3),
    (JOB + 'work_queue = "narrow"\n[work_queues.narrow]\nconcurrency_limit = 2\n', 2),
    (JOB + 'tags = ["api"]\n[tag_limits]\napi = 4\n', 4),
    (JOB + "[work_pools.default]\nconcurrency_limit = 5\n", 5),
    (JOB + 'concurrency_limit = 4\ntags = ["a"]\n[tag_limits]\na = 3\n[work_pools.default]\nconcurrency_limit = 2', 2),
]  # fmt: skip


@pytest.mark.parametrize(("config", "limit"), LIMITS)
def test_no_more_run_at_a_time_than_every_limit_allows(tmp_path: Path, config: str, limit: int) -> None:
    """And all run in the end, in the order they came."""

    async def main(world: World) -> None:
        async with world.daemon(config, takes(seconds(10))) as house:
            made = [await house.control.create_run("job") for _ in range(12)]
            await world.wait(minutes(3))
            assert most_at_a_time(house, seconds(10)) == limit
            assert names(await world.runs(house)) == ["Completed"] * 12
            assert [job.run_id for _, job in runner(house).began] == [run.id for run in made]
            pool = Limit("pool", "default")
            assert house.dispatcher.lineup.used(pool) == 0, "every slot was given back"

    play(tmp_path, main)


def test_the_queue_with_the_lower_number_goes_first(tmp_path: Path) -> None:
    config = """
        [work_pools.default]
        concurrency_limit = 1
        [work_queues.urgent]
        priority = 1
        [work_queues.ordinary]
        priority = 5
        [deployments.slow]
        command = "true"
        work_queue = "ordinary"
        [deployments.fast]
        command = "true"
        work_queue = "urgent"
        """

    async def main(world: World) -> None:
        async with world.daemon(config, takes(seconds(10))) as house:
            for name in ("slow", "slow", "slow", "fast", "fast"):
                await house.control.create_run(name)
            await world.wait(minutes(2))
            order = [job.deployment for _, job in runner(house).began]
            assert order == ["slow", "fast", "fast", "slow", "slow"], "only what runs already is not overtaken"

    play(tmp_path, main)


# -- collisions ------------------------------------------------------------------------------------------------------


COLLISIONS = [
    # strategy, then the states of five runs that become due every minute and take two and a half
    ("enqueue", ["Completed"] * 5),
    ("cancel_new", ["Completed", "Skipped", "Skipped", "Completed", "Skipped"]),
    ("cancel_running", ["Cancelled", "Cancelled", "Cancelled", "Cancelled", "Completed"]),
]


@pytest.mark.parametrize(("strategy", "states"), COLLISIONS)
def test_a_run_that_becomes_due_while_the_limit_is_reached(tmp_path: Path, strategy: str, states: list[str]) -> None:
    config = (
        JOB
        + f"""
        collision_strategy = "{strategy}"
        concurrency_limit = 1
        [[deployments.job.schedules]]
        interval = "1m"
        end = 2026-06-01T12:05:30Z
        """
    )

    async def main(world: World) -> None:
        async with world.daemon(config, takes(minutes(2.5))) as house:
            await world.wait(minutes(20))
            runs = await world.runs(house)
            assert names(runs) == states
            assert most_at_a_time(house, seconds(1)) == 1
            reasons = {run.state.message for run in runs if run.state.name in ("Skipped", "Cancelled")}
            assert all(strategy in str(reason) for reason in reasons)

    play(tmp_path, main)


def test_cancel_new_applies_to_runs_by_hand_too_and_a_retry_is_no_new_run(tmp_path: Path) -> None:
    config = JOB + 'concurrency_limit = 1\ncollision_strategy = "cancel_new"\nretries = 1\nretry_delay = "1m"\n'
    failed = Outcome(type=DONE.type.FAILED, name="Failed", message="no luck")

    def script(job: Job) -> tuple[timedelta, Outcome]:
        return (seconds(10), failed if job.attempt == 1 else DONE)

    async def main(world: World) -> None:
        async with world.daemon(config, script) as house:
            first = await house.control.create_run("job")
            await world.wait(seconds(5))
            second = await house.control.create_run("job")
            await world.wait(seconds(1))
            assert (await world.run(house, second.id)).state.name == "Skipped"
            await world.wait(seconds(50))
            third = await house.control.create_run("job")
            await world.wait(minutes(3))
            assert (await world.run(house, first.id)).state.name == "Completed"
            assert (await world.run(house, third.id)).attempt >= 1

    play(tmp_path, main)


# -- lateness --------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_too_long_is_called_late_once_with_the_reason(tmp_path: Path) -> None:
    config = JOB + 'interval = "1m"\nconcurrency_limit = 1\nlate_after = "20s"\n'

    async def main(world: World) -> None:
        async with world.daemon(config, takes(minutes(3))) as house:
            await world.until(NOON + minutes(2.3))
            assert names(await world.runs(house))[1] == "Scheduled", "19 seconds are no lateness"
            await world.until(NOON + minutes(2.5))
            late = (await world.runs(house))[1]
            assert (late.state.name, late.state.message) == ("Late", "deployment job is full: 1 of 1 slots held")
            assert late.state.timestamp == NOON + minutes(2) + seconds(20)
            await world.wait(minutes(3))
            story = await world.story(house, late)
            assert story[:3] == ["Scheduled", "Late", "Pending"]
            assert story.count("Late") == 1
        told = [event for event in world.events if isinstance(event, RunChanged) and event.run.id == late.id]
        assert [event.run.state.name for event in told].count("Late") == 1

    play(tmp_path, main)


def test_a_late_run_stays_late_over_a_restart_and_is_not_called_so_again(tmp_path: Path) -> None:
    config = JOB + 'interval = "1m"\n'

    async def main(world: World) -> None:
        async with world.daemon(config) as house:
            await house.control.pause("work_queue", "default")
            await world.until(NOON + minutes(1.5))
            assert names(await world.runs(house))[0] == "Late"
        async with world.daemon(config) as house:
            await world.wait(minutes(1))
            assert await world.story(house, (await world.runs(house))[0]) == ["Scheduled", "Late"]

    play(tmp_path, main)


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_what_piles_up_is_bounded_and_what_is_cut_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: a schedule whose runs never end fills no memory."""
    monkeypatch.setattr(dispatcher, "MAX_WAITING", 20)
    config = JOB + 'interval = "1s"\nconcurrency_limit = 1\n'

    async def main(world: World) -> None:
        async with world.daemon(config, takes(timedelta(hours=5))) as house:
            await world.wait(seconds(120.5))
            assert len(house.dispatcher.lineup) == 20
            skipped = [run for run in await world.runs(house) if run.state.name == "Skipped"]
            assert len(skipped) == 120 - 1 - 20
            assert {run.state.message for run in skipped} == {"20 runs of job wait already"}

    play(tmp_path, main)


def test_a_person_may_add_to_what_piles_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "MAX_WAITING", 3)

    async def main(world: World) -> None:
        async with world.daemon(JOB + "concurrency_limit = 1\n", takes(seconds(10))) as house:
            for _ in range(8):
                await house.control.create_run("job")
            await world.wait(minutes(2))
            assert names(await world.runs(house)) == ["Completed"] * 8

    play(tmp_path, main)


def test_more_due_runs_than_fit_into_memory_all_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: the rest waits in the database."""
    monkeypatch.setattr(dispatcher, "MEMORY", 10)

    async def main(world: World) -> None:
        async with world.daemon(JOB + "[work_pools.default]\nconcurrency_limit = 4\n", takes(seconds(5))) as house:
            when = NOON + minutes(5)
            for _ in range(60):
                await house.control.create_run("job", scheduled_time=when)
            await world.until(when - seconds(1))
            assert began(house) == []
            await world.wait(minutes(4))
            assert names(await world.runs(house)) == ["Completed"] * 60
            assert min(began(house)) == when

    play(tmp_path, main)


def test_hundreds_due_at_once_all_start_in_that_instant(tmp_path: Path) -> None:
    """P2: on time, never early, each once."""

    async def main(world: World) -> None:
        async with world.daemon(JOB + "[work_pools.default]\nconcurrency_limit = 300\n") as house:
            when = NOON + minutes(5)
            for _ in range(300):
                await house.control.create_run("job", scheduled_time=when)
            await world.until(when + seconds(3))
            assert set(began(house)) == {when}
            assert len(began(house)) == 300
            assert set(names(await world.runs(house))) == {"Completed"}

    play(tmp_path, main)


# -- code that does not end ------------------------------------------------------------------------------------------


def test_an_abandoned_run_holds_its_slots_until_its_code_has_ended(tmp_path: Path) -> None:
    """P10: two of them would be at work at a time otherwise."""
    import asyncio

    config = JOB + "concurrency_limit = 1\n"
    abandoned = Outcome(type=DONE.type.FAILED, name="TimedOut", message="still runs", abandoned=True)

    async def main(world: World) -> None:
        async with world.daemon(config, lambda job: (seconds(10), abandoned)) as house:
            ended = asyncio.Event()

            async def left(job: Job) -> None:
                await ended.wait()

            runner(house).left = left  # type: ignore[method-assign]
            runner(house).abandoned = 1
            await house.control.create_run("job")
            await house.control.create_run("job")
            await world.wait(minutes(10))
            assert names(await world.runs(house)) == ["TimedOut", "Late"]
            assert house.dispatcher.lineup.used(Limit("deployment", "job")) == 1
            status = await house.control.status()
            assert status["state"] == "degraded"
            assert "1 runs were abandoned" in status["problems"][0]
            assert status["work_pools"][0]["abandoned"] == 1
            ended.set()
            await world.wait(seconds(30))
            assert names(await world.runs(house)) == ["TimedOut", "TimedOut"]

    play(tmp_path, main)
