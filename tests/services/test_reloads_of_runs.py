"""What a reload does to runs that wait and run, to their limits, pools and variables."""

from __future__ import annotations

from pathlib import Path

from editing import JOB, MINUTELY, Editor, ran
from stage import NOON, World, minutes, names, play, runner, seconds, takes

from tidemill.core.states import StateType
from tidemill.store import catalogue, variables

# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_of_a_deployment_that_is_removed_finishes(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(MINUTELY, takes(minutes(3))) as house:
            await world.until(NOON + minutes(1.5))
            await Editor(world, house, MINUTELY).edit('[deployments.other]\ncommand = "x"\n')
            await world.until(NOON + minutes(10))
            assert names(await world.runs(house)) == ["Completed"]

    play(tmp_path, main)


def test_runs_that_wait_for_a_deployment_that_is_removed_are_cancelled_when_their_turn_comes(tmp_path: Path) -> None:
    """Nothing of theirs failed, so nobody is told that it did."""

    async def main(world: World) -> None:
        async with world.daemon(f"{JOB}concurrency_limit = 1\n", takes(minutes(3))) as house:
            runs = [await house.control.create_run("job") for _ in range(2)]
            await world.wait(minutes(1))
            await Editor(world, house, JOB).edit('[deployments.other]\ncommand = "x"\n')
            await world.wait(minutes(5))
            ended = {each.id: each for each in await world.runs(house)}
            assert [ended[run.id].state.name for run in runs] == ["Completed", "Cancelled"]
            assert "job is no longer in the configuration" in str(ended[runs[1].id].state.message)

    play(tmp_path, main)


def test_limits_are_heeded_at_once(tmp_path: Path) -> None:
    def config(limit: int) -> str:
        return f"{JOB}concurrency_limit = {limit}\n"

    async def main(world: World) -> None:
        async with world.daemon(config(1), takes(minutes(1))) as house:
            for _ in range(3):
                await house.control.create_run("job")
            await world.wait(seconds(1))
            assert len(house.workers["default"].live) == 1
            await Editor(world, house, config(1)).edit(config(3))
            await world.wait(seconds(1))
            assert len(house.workers["default"].live) == 3

    play(tmp_path, main)


def test_variables_are_restated_and_one_set_at_runtime_holds_until_the_files_changes(tmp_path: Path) -> None:
    def config(value: int) -> str:
        return f"{JOB}[variables]\nx = {value}\ny = {value}\n"

    async def main(world: World) -> None:
        async with world.daemon(config(1)) as house:
            editor = Editor(world, house, config(1))
            by_hand = variables.Variable(name="x", value=7, created=world.now, updated=world.now)
            await house.store.write(variables.SET_VARIABLE, by_hand)
            await editor.edit(config(1) + "z = 1\n")
            held = await house.store.read(variables.all_of)
            assert {name: each.value for name, each in held.items()} == {"x": 7, "y": 1, "z": 1}
            await editor.edit(config(2))
            held = await house.store.read(variables.all_of)
            assert {name: each.value for name, each in held.items()} == {"x": 2, "y": 2}

    play(tmp_path, main)


def test_an_override_holds_over_reloads_until_the_files_own_value_changes(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            editor = Editor(world, house, MINUTELY)
            await house.control.pause("deployment", "job", by="me")
            await editor.edit(MINUTELY + 'timeout = "1m"\n')
            assert house.catalogue.paused("deployment", "job")
            await world.until(NOON + minutes(3.5))
            assert await world.runs(house) == []
            await editor.edit(MINUTELY + "paused = true\n")
            assert house.catalogue.overrides == []
            assert await house.store.read(catalogue.overrides) == []
            await editor.edit(MINUTELY)
            await world.until(NOON + minutes(5.5))
            assert ran(await world.runs(house)) == [4, 5]

    play(tmp_path, main)


# -- pools -------------------------------------------------------------------------------------------------------------

HEAVY = JOB + 'work_pool = "heavy"\n[work_pools.heavy]\n'


def test_a_new_pool_has_a_worker_at_once(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            await Editor(world, house, JOB).edit(HEAVY)
            run = await house.control.create_run("job")
            await world.wait(seconds(2))
            assert (await world.run(house, run.id)).state.type is StateType.COMPLETED
            assert len(runner(house, "heavy").began) == 1

    play(tmp_path, main)


def test_a_pool_that_is_gone_ends_with_its_last_run_and_what_waits_goes_where_its_deployment_goes(
    tmp_path: Path,
) -> None:
    async def main(world: World) -> None:
        config = HEAVY + "concurrency_limit = 1\n"
        async with world.daemon(config, takes(minutes(2))) as house:
            first = await house.control.create_run("job")
            second = await house.control.create_run("job")
            later = await house.control.create_run("job", scheduled_time=world.now + minutes(30))
            await world.wait(seconds(1))
            gone = house.workers["heavy"]
            await Editor(world, house, config).edit(JOB)
            await world.wait(seconds(1))
            assert list(gone.live) == [first.id], "what runs goes on where it is"
            assert list(house.workers["default"].live) == [second.id]
            assert (await house.control.cancel_run(first.id, "enough")).state.name == "Cancelling", "and is reached"
            await world.wait(minutes(3))
            assert set(house.workers) == {"default", "process"}
            assert (await world.run(house, first.id)).state.name == "Cancelled"
            assert (await world.run(house, second.id)).state.name == "Completed"
            assert (await world.run(house, later.id)).work_pool == "default"
            await world.wait(minutes(30))
            assert (await world.run(house, later.id)).state.name == "Completed"

    play(tmp_path, main)


def test_what_waits_for_a_pool_and_a_deployment_that_are_gone_is_cancelled_with_the_reason(tmp_path: Path) -> None:
    """Also where that happened while no daemon ran."""

    async def main(world: World) -> None:
        for restarted in (False, True):
            async with world.daemon(HEAVY) as house:
                run = await house.control.create_run("job", scheduled_time=world.now + minutes(30))
                if not restarted:
                    await Editor(world, house, HEAVY).edit('[deployments.other]\ncommand = "x"\n')
            if restarted:
                async with world.daemon('[deployments.other]\ncommand = "x"\n'):
                    pass
            after = next(each for each in await world.after_all() if each.id == run.id)
            assert after.state.name == "Cancelled"
            assert after.state.message == "work pool heavy is no longer in the configuration"

    play(tmp_path, main)


def test_a_pool_whose_settings_change_has_another_runner_for_new_runs_only(tmp_path: Path) -> None:
    """The old one is closed when the last run that began in it has ended."""
    closed: list[object] = []

    async def main(world: World) -> None:
        async with world.daemon(HEAVY, takes(minutes(2))) as house:
            worker = house.workers["heavy"]
            before = runner(house, "heavy")

            async def close() -> None:
                closed.append(before)

            before.aclose = close  # type: ignore[method-assign]
            await house.control.create_run("job")
            await world.wait(seconds(1))
            editor = Editor(world, house, HEAVY)
            await editor.edit(HEAVY + "concurrency_limit = 5\n")
            assert runner(house, "heavy") is before, "a limit is no reason"
            await editor.edit(HEAVY + "threads = 7\n")
            assert house.workers["heavy"] is worker
            assert runner(house, "heavy") is not before
            await house.control.create_run("job")
            await world.wait(minutes(1))
            assert not closed
            assert [len(each.began) for each in (before, runner(house, "heavy"))] == [1, 1]
            await world.wait(minutes(1.5))
            assert closed == [before]
            assert names(await world.runs(house)) == ["Completed", "Completed"]

    play(tmp_path, main)


def test_a_pool_that_is_back_before_its_last_run_has_ended_goes_on(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(HEAVY, takes(minutes(2))) as house:
            await house.control.create_run("job")
            await world.wait(seconds(1))
            worker, editor = house.workers["heavy"], Editor(world, house, HEAVY)
            await editor.edit(JOB)
            await world.wait(seconds(1))
            await editor.edit(HEAVY)
            await house.control.create_run("job")
            await world.wait(seconds(1))
            assert house.workers["heavy"] is worker
            assert len(worker.live) == 2
            await world.wait(minutes(5))
            assert names(await world.runs(house)) == ["Completed", "Completed"]
            assert "heavy" in house.workers

    play(tmp_path, main)
