"""Draining: nothing new starts, what runs ends, and the next daemon goes on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from stage import DONE, World, began, minutes, names, play, seconds, takes

from tidemill.core.ports import Job, Outcome

JOBS = """
[deployments.job]
command = "true"
[deployments.every-minute]
command = "true"
interval = "1m"
"""


def test_while_it_drains_nothing_new_starts_and_what_runs_ends(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOBS, takes(minutes(2.5))) as house:
            await house.control.create_run("job")
            await world.wait(seconds(30))
            house.draining.begin("ada")
            house.draining.begin("ben")
            told = house.draining.document()
            assert (told["draining"], told["by"], told["since"]) == (True, "ada", "2026-06-01T12:00:30Z")
            assert [(each["deployment"], each["seconds"]) for each in told["waits_for"]] == [("job", 30.0)]
            status = await house.control.status()
            assert status["state"] == "draining"
            assert status["drain"]["by"] == "ada"
            await world.wait(minutes(5))
            assert house.draining.document()["waits_for"] == []
            assert house.draining.document()["waiting"] == 5
            assert names(await world.runs(house, "job")) == ["Completed"]
            late = await world.runs(house, "every-minute")
            assert [run.state.name for run in late[:4]] == ["Late"] * 4
            assert late[0].state.message == "the daemon drains: nothing new starts"

    play(tmp_path, main)


def test_undoing_it_starts_what_waited(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOBS) as house:
            house.draining.begin("ada")
            await world.wait(minutes(3.5))
            assert began(house) == []
            house.draining.undo("ada")
            await world.wait(seconds(2))
            assert len(began(house)) == 3
            assert (await house.control.status())["state"] == "ok"

    play(tmp_path, main)


def test_the_next_daemon_does_not_drain_and_starts_what_waited(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOBS) as house:
            house.draining.begin("ada")
            await house.control.create_run("job")
            await world.wait(seconds(5))
        async with world.daemon(JOBS) as house:
            await world.wait(seconds(5))
            assert names(await world.runs(house, "job")) == ["Completed"]

    play(tmp_path, main)


def test_a_run_that_a_running_flow_waits_for_starts_all_the_same(tmp_path: Path) -> None:
    """Else the flow that asked for it would never end, nor the draining."""

    def script(job: Job) -> tuple[timedelta, Outcome]:
        return (minutes(10) if job.run_name == "parent" else seconds(1)), DONE

    async def main(world: World) -> None:
        async with world.daemon(JOBS, script) as house:
            parent = await house.control.create_run("job", name="parent")
            await world.wait(seconds(1))
            house.draining.begin("ada")
            child = await house.control.create_run("job", name="child", parent=parent)
            other = await house.control.create_run("job", name="other")
            await world.wait(seconds(5))
            assert (await world.run(house, child.id)).state.name == "Completed"
            assert (await world.run(house, other.id)).state.name == "Scheduled"

    play(tmp_path, main)


def test_a_drained_pool_respects_limits_for_what_still_starts(tmp_path: Path) -> None:
    limited = JOBS + "concurrency_limit = 1\n"

    async def main(world: World) -> None:
        async with world.daemon(limited, takes(minutes(10))) as house:
            parent = await house.control.create_run("job")
            await world.wait(seconds(1))
            house.draining.begin("ada")
            for _ in range(3):
                await house.control.create_run("every-minute", parent=parent)
            await world.wait(seconds(5))
            asked = [run for run in await world.runs(house, "every-minute") if run.created_by == "flow"]
            assert sorted(names(asked)) == ["Running", "Scheduled", "Scheduled"]

    play(tmp_path, main)
