"""Schedules over pauses, restarts and changes of the file: what is planned, taken back, and started anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stage import NOON, World, began, minutes, names, play, seconds, takes

from tidemill.core.events import RunDeleted
from tidemill.core.overrides import Override
from tidemill.core.runs import FlowRun

JOB = '[deployments.job]\ncommand = "true"\n'
MINUTELY = JOB + 'interval = "1m"\n'


def ran(runs: list[FlowRun]) -> list[datetime]:
    return [run.due for run in runs if run.start_time and run.due]


def at(*numbers: float) -> list[datetime]:
    return [NOON + minutes(number) for number in numbers]


# -- pauses ----------------------------------------------------------------------------------------------------------


def test_pausing_a_deployment_takes_its_upcoming_runs_back(tmp_path: Path) -> None:
    """What runs goes on, what is to come is gone, and people are told."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY, takes(seconds(45))) as house:
            await world.until(NOON + minutes(2.5))
            assert len(await world.runs(house)) > 2
            await house.control.pause("deployment", "job")
            runs = await world.runs(house)
            assert names(runs) == ["Completed", "Running"]
            assert any(isinstance(event, RunDeleted) for event in world.events)
            await world.wait(minutes(10))
            assert len(await world.runs(house)) == 2

    play(tmp_path, main)


def test_a_resumed_deployment_fires_from_now_on(tmp_path: Path) -> None:
    """What fell into the pause is not made up for."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            await world.until(NOON + minutes(2.5))
            await house.control.pause("deployment", "job")
            await world.until(NOON + minutes(10.5))
            await house.control.resume("deployment", "job")
            await world.until(NOON + minutes(13.5))
            assert ran(await world.runs(house)) == at(1, 2, 11, 12, 13)

    play(tmp_path, main)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_pause_by_hand_is_kept_over_a_restart_until_it_is_undone(tmp_path: Path, killed: bool) -> None:
    """An override holds until cleared."""

    async def main(world: World) -> None:
        house = await world.opened(MINUTELY)
        await world.started(house)
        await world.until(NOON + minutes(1.5))
        await house.control.pause("deployment", "job")
        if killed:
            await world.kill(house)
        else:
            from tidemill.testing import close_house

            await close_house(house)
        await world.until(NOON + minutes(10.5))
        async with world.daemon(MINUTELY + 'catch_up = "all"\n') as house:
            await world.until(NOON + minutes(15.5))
            (override,) = house.catalogue.overrides
            assert isinstance(override, Override)
            assert (override.kind, override.name, override.key, override.value) == ("deployment", "job", "paused", True)
            assert (await house.control.status())["overrides"][0]["name"] == "job"
            await house.control.resume("deployment", "job")
            assert house.catalogue.overrides == []
            await world.until(NOON + minutes(17.5))
            assert ran(await world.runs(house)) == at(1, 16, 17)

    play(tmp_path, main)


def test_a_pause_by_hand_is_cleared_when_the_files_own_value_changes(tmp_path: Path) -> None:
    """The file is the truth again once somebody has written what it should say."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            await house.control.pause("deployment", "job")
        house = await world.opened(MINUTELY)
        assert house.catalogue.obsolete() == []
        assert house.catalogue.paused("deployment", "job")
        await world.kill(house)
        house = await world.opened(MINUTELY + "paused = true\n")
        (override,) = house.catalogue.obsolete()
        assert override.key == "paused"
        house.catalogue.clear_override(override.kind, override.name, override.key)
        assert house.catalogue.paused("deployment", "job"), "as the file says"
        await world.kill(house)
        house = await world.opened(JOB.replace("job", "other"))
        assert [each.name for each in house.catalogue.obsolete()] == ["job"], "its deployment is gone"
        await world.kill(house)

    play(tmp_path, main)


PAUSED_IN_FILE = [
    # how the schedule is out of force for a while, by the file
    (MINUTELY + "paused = true\n", "paused"),
    (JOB.replace("job", "other"), "removed"),
    (JOB + '[[deployments.job.schedules]]\ninterval = "1m"\nactive = false\n', "not active"),
]


@pytest.mark.parametrize("config", [row[0] for row in PAUSED_IN_FILE], ids=[row[1] for row in PAUSED_IN_FILE])
def test_a_schedule_that_comes_back_in_the_file_starts_anew(tmp_path: Path, config: str) -> None:
    """P5, P6: days out of force are no downtime."""
    again = MINUTELY + 'catch_up = "all"\ncatch_up_window = "7d"\n'

    async def main(world: World) -> None:
        async with world.daemon(again):
            await world.until(NOON + minutes(2.5))
        async with world.daemon(config):
            await world.until(NOON + timedelta(hours=30) + minutes(0.5))
        async with world.daemon(again) as house:
            await world.wait(minutes(2))
            day = 30 * 60
            assert ran(await world.runs(house, "job")) == at(1, 2, day + 1, day + 2)

    play(tmp_path, main)


@pytest.mark.parametrize("kind", ["work_queue", "work_pool"])
def test_a_paused_line_lets_runs_wait_until_it_is_resumed(tmp_path: Path, kind: str) -> None:
    """They are Late with the reason, and all of them run then."""
    config = MINUTELY + 'late_after = "15s"\n'

    async def main(world: World) -> None:
        async with world.daemon(config) as house:
            await world.until(NOON + minutes(1.5))
            await house.control.pause(kind, "default")
            await world.until(NOON + minutes(3.5))
            waiting = [run for run in await world.runs(house) if run.expected_start < world.now][1:]
            assert names(waiting) == ["Late", "Late"]
            assert {run.state.message for run in waiting} == {f"{kind.replace('_', ' ')} default is paused"}
            status = await house.control.status()
            assert status["waiting"] == 2
            assert len(status["late"]) == 2
            await house.control.resume(kind, "default")
            await world.wait(seconds(2))
            assert names([await world.run(house, run.id) for run in waiting]) == ["Completed", "Completed"]

    play(tmp_path, main)


@pytest.mark.parametrize("kind", ["work_queue", "work_pool"])
def test_a_paused_line_stays_paused_over_a_restart(tmp_path: Path, kind: str) -> None:
    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            await house.control.pause(kind, "default")
            await world.until(NOON + minutes(1.5))
        async with world.daemon(MINUTELY) as house:
            await world.until(NOON + minutes(3.5))
            assert began(house) == []
            await house.control.resume(kind, "default")
            await world.wait(seconds(2))
            assert ran(await world.runs(house)) == at(1, 2, 3), "what waited all the time is not missed, only late"

    play(tmp_path, main)


# -- changes by restart ----------------------------------------------------------------------------------------------

OLD, NEW = '"*/2 * * * *"', '"1-59/2 * * * *"'  # even minutes, odd minutes


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("second", [-1, 0, 1])
def test_a_cron_edited_around_its_due_second_neither_loses_nor_doubles(
    tmp_path: Path, named: bool, second: int
) -> None:
    """P6: the old rule's fires up to the restart, the new rule's from then on."""

    def config(cron: str) -> str:
        name = 'name = "mornings"\n' if named else ""
        return JOB + f"[[deployments.job.schedules]]\ncron = {cron}\n{name}"

    async def main(world: World) -> None:
        async with world.daemon(config(OLD)):
            await world.until(NOON + minutes(4) + seconds(second))
        async with world.daemon(config(NEW)) as house:
            await world.until(NOON + minutes(8.5))
            runs = [run for run in await world.runs(house) if run.due and run.due < world.now]
            old = at(2, 4) if second >= 0 else at(2)
            assert ran(runs) == [*old, *at(5, 7)]
            assert len(runs) == len(ran(runs))

    play(tmp_path, main)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(("policy", "old"), [("all", (4, 6)), ("latest", (6,)), ("skip", ())])
def test_fires_of_the_old_rule_that_were_missed_before_it_was_edited_follow_catch_up(
    tmp_path: Path, named: bool, policy: str, old: tuple[int, ...]
) -> None:
    """P5, P6: the daemon was down when they were due, and the file changed before it came back."""

    def config(cron: str) -> str:
        name = 'name = "mornings"\n' if named else ""
        return JOB + f'catch_up = "{policy}"\n[[deployments.job.schedules]]\ncron = {cron}\n{name}'

    async def main(world: World) -> None:
        async with world.daemon(config(OLD)):
            await world.until(NOON + minutes(2.5))
        await world.until(NOON + minutes(6.5))
        async with world.daemon(config(NEW)) as house:
            await world.until(NOON + minutes(7.5))
            runs = [run for run in await world.runs(house) if run.due and run.due < world.now]
            assert ran(runs) == at(2, *old, 7)
            assert {run.due for run in runs if run.state.name == "Skipped"} == set(at(4, 6)) - set(at(*old))

    play(tmp_path, main)


def test_missed_runs_of_a_deployment_that_was_removed_meanwhile_are_skipped(tmp_path: Path) -> None:
    """P5: what the file no longer says does not run, and that is on record."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY):
            await world.until(NOON + minutes(1.5))
        await world.until(NOON + minutes(3.5))
        async with world.daemon(JOB.replace("job", "other")) as house:
            await world.wait(minutes(2))
            runs = await world.runs(house, "job")
            assert names(runs) == ["Completed", "Skipped", "Skipped"]
            assert "no longer in the configuration" in str(runs[-1].state.message)

    play(tmp_path, main)


def test_a_removed_deployments_upcoming_runs_are_taken_back_and_its_history_stays(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(MINUTELY):
            await world.until(NOON + minutes(1.5))
        async with world.daemon(JOB.replace("job", "other")) as house:
            assert names(await world.runs(house)) == ["Completed"]

    play(tmp_path, main)


def test_changed_parameters_are_those_of_the_next_run(tmp_path: Path) -> None:
    """P6: upcoming runs are made anew, each fire once."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY):
            await world.until(NOON + minutes(1.5))
        async with world.daemon(MINUTELY.replace('"true"', '"false"')) as house:
            await world.until(NOON + minutes(3.5))
            runs = [run for run in await world.runs(house) if run.start_time]
            assert [run.parameters["command"] for run in runs] == ["true", "false", "false"]
            assert ran(runs) == at(1, 2, 3)

    play(tmp_path, main)


def test_a_restart_with_the_same_file_keeps_the_planned_runs(tmp_path: Path) -> None:
    """P6: their ids, which people may have noted, too."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            await world.until(NOON + minutes(1.5))
            before = {run.id for run in await world.runs(house)}
        async with world.daemon(MINUTELY) as house:
            assert before <= {run.id for run in await world.runs(house)}

    play(tmp_path, main)


def test_a_run_whose_deployment_is_removed_while_it_runs_finishes(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(MINUTELY, takes(seconds(30)), grace=minutes(5)) as house:
            await world.until(NOON + minutes(1.1))
            assert names(await world.runs(house))[0] == "Running"
        assert names(await world.after_all())[0] == "Completed", "the stop waited for it"

    play(tmp_path, main)


# -- kinds of schedules ----------------------------------------------------------------------------------------------


def test_reboot_is_once_for_each_start_of_the_daemon(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        for count in range(1, 4):
            async with world.daemon(JOB + 'cron = "@reboot"\n') as house:
                await world.wait(minutes(5))
                runs = await world.runs(house)
                assert names(runs) == ["Completed"] * count

    play(tmp_path, main)


def test_reboot_waits_for_a_right_clock(tmp_path: Path) -> None:
    """P7: no run of 1970."""

    async def main(world: World) -> None:
        config = JOB + 'cron = "@reboot"\n'
        async with world.daemon(config):
            await world.wait(minutes(5))
        world.clock.set(datetime(1970, 1, 1, tzinfo=UTC))
        async with world.daemon(config) as house:
            await world.wait(minutes(5))
            assert len(await world.runs(house)) == 1
            world.clock.set(NOON + minutes(20))
            await world.wait(minutes(1))
            runs = await world.runs(house)
            assert names(runs) == ["Completed", "Completed"]
            assert runs[1].due is not None
            assert runs[1].due >= NOON + minutes(20)

    play(tmp_path, main)


def test_a_one_shot_fires_once_over_restarts(tmp_path: Path) -> None:
    """P1."""

    async def main(world: World) -> None:
        config = JOB + "at = 2026-06-01T12:05:00Z\n"
        for _ in range(3):
            async with world.daemon(config) as house:
                await world.wait(minutes(4))
                runs = await world.runs(house)
                assert [run.due for run in runs] == at(5)
        assert names(runs) == ["Completed"]

    play(tmp_path, main)


def test_a_one_shot_that_fell_into_downtime_follows_catch_up(tmp_path: Path) -> None:
    """P5."""

    async def main(world: World) -> None:
        config = JOB + "at = 2026-06-01T12:05:00Z\n"
        async with world.daemon(config):
            await world.wait(minutes(1))
        await world.until(NOON + timedelta(hours=2))
        async with world.daemon(config) as house:
            await world.wait(seconds(5))
            assert names(await world.runs(house)) == ["Completed"]

    play(tmp_path, main)


def test_jitter_puts_a_fire_off_by_the_same_amount_whoever_asks(tmp_path: Path) -> None:
    """P2: never early, never by more than the jitter, and not drawn anew by a restart."""
    config = MINUTELY + 'jitter = "30s"\n'

    async def main(world: World) -> None:
        async with world.daemon(config) as house:
            await world.wait(seconds(1))
            before = {run.due: run.expected_start for run in await world.runs(house)}
        async with world.daemon(config + 'tags = ["changed"]\n') as house:
            await world.until(NOON + minutes(10.5))
            runs = await world.runs(house)
            after = {run.due: run.expected_start for run in runs}
            assert {due: after[due] for due in before} == before
            offsets = [run.expected_start - run.due for run in runs if run.due]
            assert all(timedelta(0) <= offset < seconds(30) for offset in offsets)
            assert len(set(offsets)) > 3
            assert all(run.start_time >= run.expected_start for run in runs if run.start_time)

    play(tmp_path, main)


def test_jittered_fires_between_due_and_start_at_a_restart_run_once(tmp_path: Path) -> None:
    """P1, P6: due before the restart, to start after it."""
    config = JOB + 'interval = "10s"\njitter = "30s"\ncatch_up = "skip"\n'

    async def main(world: World) -> None:
        for number in range(1, 8):
            async with world.daemon(config) as house:
                await world.until(NOON + seconds(11.5 * number))
                await world.clock.sleep(0)
        async with world.daemon(config) as house:
            await world.until(NOON + minutes(3))
            runs = [run for run in await world.runs(house) if run.due and run.due <= NOON + minutes(2)]
            assert [run.due for run in runs if run.due] and sorted(run.due for run in runs if run.due) == [
                NOON + seconds(10 * count) for count in range(1, 13)
            ]
            assert names(runs) == ["Completed"] * 12

    play(tmp_path, main)
