"""Fires that fell due while nobody could start them: downtime, clocks that jump, clocks that stand wrong."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stage import NOON, World, began, minutes, names, play, seconds, takes

from tidemill.core.events import FiresSkipped
from tidemill.services.missed import MOST_MISSED

HOURS = timedelta(hours=1)


def config(*lines: str, interval: str = "1m") -> str:
    return "\n".join(['[deployments.job]\ncommand = "true"', f'interval = "{interval}"', *lines, ""])


CATCH_UP = [
    # policy, window, of the 10 fires of downtime: how many run, how many are skipped
    ("skip", "1d", 0, 10),
    ("latest", "1d", 1, 9),
    ("latest", "0s", 0, 10),  # the last fire is older than nothing at all
    ("all", "1d", 10, 0),
    ("all", "5m", 5, 5),  # 12:10:30 - 5m = 12:05:30
]


@pytest.mark.parametrize(("policy", "window", "run", "skip"), CATCH_UP)
def test_after_downtime_each_missed_fire_runs_or_is_recorded_with_its_reason(
    tmp_path: Path, policy: str, window: str, run: int, skip: int
) -> None:
    """P5: none is lost in silence."""
    text = config(f'catch_up = "{policy}"', f'catch_up_window = "{window}"')

    async def main(world: World) -> None:
        async with world.daemon(text):
            await world.wait(seconds(30))
        await world.wait(minutes(10))
        async with world.daemon(text) as house:
            await world.wait(seconds(5))
            runs = [each for each in await world.runs(house) if each.due and each.due < world.now]
            ran = [each for each in runs if each.state.name == "Completed"]
            not_run = [each for each in runs if each.state.name == "Skipped"]
            fires = await world.skipped(house)
            assert len(ran) == run
            assert len(not_run) + sum(fire.count for fire in fires) == skip
            assert all("catch_up" in (each.state.message or "") for each in not_run)
            assert all(fire.exact and "catch_up" in fire.reason for fire in fires)
            accounted = {each.due for each in runs}
            for fire in fires:
                accounted |= {fire.first + minutes(count) for count in range(fire.count)}
                assert fire.last == fire.first + minutes(fire.count - 1)
            assert accounted == {NOON + minutes(count) for count in range(1, 11)}
            if policy == "latest" and run:
                assert ran[0].due == NOON + minutes(10)
            told = sum(event.skipped.count for event in world.events if isinstance(event, FiresSkipped))
            assert told == sum(fire.count for fire in fires)

    play(tmp_path, main)


@pytest.mark.parametrize(("down", "words"), [(1, "1 fire was missed since"), (2, "2 fires were missed since")])
def test_the_log_counts_missed_fires_as_people_do(
    tmp_path: Path, down: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        async with world.daemon(config()):
            await world.wait(seconds(30))
        await world.wait(minutes(down))
        async with world.daemon(config()):
            await world.wait(seconds(5))

    with caplog.at_level(logging.WARNING):
        play(tmp_path, main)
    assert f"job: {words}" in caplog.text


def test_downtime_after_a_crash_counts_from_the_last_sign_of_life(tmp_path: Path) -> None:
    """P5: a killed daemon has not said goodbye."""

    async def main(world: World) -> None:
        house = await world.opened(config('catch_up = "all"'))
        await world.started(house)
        await world.wait(minutes(2.2))
        await world.kill(house)
        await world.wait(minutes(3))
        async with world.daemon(config('catch_up = "all"')) as house:
            await world.wait(minutes(1))
            runs = [each for each in await world.runs(house) if each.due and each.due < world.now]
            assert [each.due for each in runs] == [NOON + minutes(count) for count in range(1, 7)]
            assert names(runs) == ["Completed"] * 6

    play(tmp_path, main)


def test_a_restart_within_a_second_misses_nothing(tmp_path: Path) -> None:
    """P6."""

    async def main(world: World) -> None:
        for _ in range(6):
            async with world.daemon(config(interval="10s")):
                await world.wait(seconds(10))
        found = [run for run in await world.after_all() if run.due and run.due < NOON + seconds(60)]
        assert [run.due for run in found] == [NOON + seconds(10 * count) for count in range(1, 6)]
        assert names(found) == ["Completed"] * 5

    play(tmp_path, main)


def test_runs_that_wait_since_before_the_downtime_stay_in_line(tmp_path: Path) -> None:
    """P5: catch_up is for fires that nobody could start, not for those that wait their turn."""
    text = config('catch_up = "skip"', "concurrency_limit = 1")

    async def main(world: World) -> None:
        async with world.daemon(text, takes(minutes(10)), grace=minutes(20)):
            await world.wait(minutes(3.5))  # 12:01 runs, 12:02 and 12:03 wait
        stopped = world.now
        await world.wait(minutes(5))
        async with world.daemon(text) as house:
            await world.wait(seconds(30))
            runs = {run.due: run.state.name for run in await world.runs(house)}
            assert [runs[NOON + minutes(count)] for count in (1, 2, 3)] == ["Completed"] * 3
            missed = [name for due, name in runs.items() if due and stopped < due < world.now - seconds(30)]
            assert set(missed) <= {"Skipped"}

    play(tmp_path, main)


def test_a_year_of_downtime_is_looked_at_in_bounded_time_and_says_so(tmp_path: Path) -> None:
    """P5, P13: a fire each second for a year."""
    text = config('catch_up = "latest"', interval="1s")

    async def main(world: World) -> None:
        async with world.daemon(text):
            await world.wait(seconds(3))
        world.clock.set(NOON + timedelta(days=365))
        async with world.daemon(text) as house:
            await world.wait(seconds(2))
            fires = await world.skipped(house)
            assert any(not fire.exact and f"more than {MOST_MISSED}" in fire.reason for fire in fires)
            assert fires[0].first <= NOON + seconds(70)
            assert len(await world.runs(house)) < MOST_MISSED

    play(tmp_path, main)


# -- clocks that jump ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "run"), [("skip", 0), ("latest", 1), ("all", 120)])
@pytest.mark.parametrize("jump", [timedelta(hours=2)])
def test_a_clock_that_jumps_forward_is_downtime(
    tmp_path: Path, policy: str, run: int, jump: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    """P7: a suspended machine, or a clock set right; said, and each fire accounted for (P5)."""
    text = config(f'catch_up = "{policy}"')

    async def main(world: World) -> None:
        async with world.daemon(text) as house:
            await world.until(NOON + minutes(5.5))
            world.clock.set(world.now + jump)
            after = world.now
            await world.wait(minutes(1.2))
            runs = await world.runs(house)
            ran = [each for each in runs if each.start_time and each.due and NOON + minutes(5.5) < each.due <= after]
            assert len(ran) == run
            skipped = [each for each in runs if each.state.name == "Skipped"]
            fires = sum(fire.count for fire in await world.skipped(house))
            assert len(ran) + len(skipped) + fires == 120
            on_time = [each for each in runs if each.due and after < each.due < world.now]
            assert names(on_time) == ["Completed"], "and it goes on as ever"
            assert house.timekeeper.held is None

    play(tmp_path, main)
    assert "the clock went forward by 2:00:00" in caplog.text


def test_a_clock_that_goes_back_fires_nothing_again_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P7."""

    async def main(world: World) -> None:
        async with world.daemon(config()) as house:
            await world.until(NOON + minutes(5.5))
            before = began(house)
            world.clock.set(world.now - 2 * HOURS)
            await world.wait(minutes(90))
            assert began(house) == before
            await world.wait(minutes(30) + seconds(40))
            assert began(house)[5:] == [NOON + minutes(6)], "once the clock has caught up, schedules go on"
            dues = [run.due for run in await world.runs(house)]
            assert len(dues) == len(set(dues))

    play(tmp_path, main)
    assert "the clock went back by 2:00:00" in caplog.text


def test_after_the_clock_went_back_a_run_by_hand_starts_at_once(tmp_path: Path) -> None:
    """P7."""

    async def main(world: World) -> None:
        async with world.daemon(config()) as house:
            await world.wait(minutes(5.5))
            world.clock.set(world.now - 2 * HOURS)
            await world.wait(minutes(1))
            run = await house.control.create_run("job")
            await world.wait(seconds(2))
            assert (await world.run(house, run.id)).state.name == "Completed"

    play(tmp_path, main)


def test_corrections_of_a_time_service_are_no_jumps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P7: nothing is called missed for two seconds."""

    async def main(world: World) -> None:
        async with world.daemon(config('catch_up = "skip"')) as house:
            for number in range(1, 6):
                await world.until(NOON + minutes(number) - seconds(3))
                world.clock.set(world.now + seconds(2))
            await world.wait(seconds(30))
            runs = [run for run in await world.runs(house) if run.due and run.due < world.now]
            assert names(runs) == ["Completed"] * 5

    play(tmp_path, main)
    assert "the clock went" not in caplog.text


# -- a clock that stands wrong at start ------------------------------------------------------------------------------


def test_a_clock_before_the_last_recorded_time_holds_scheduling_until_it_is_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P7: a machine without a battery clock starts in 1970."""
    caplog.set_level(logging.WARNING)
    text = config('catch_up = "all"')

    async def main(world: World) -> None:
        async with world.daemon(text):
            await world.wait(minutes(2.5))
        world.clock.set(datetime(1970, 1, 1, tzinfo=UTC))
        async with world.daemon(text) as house:
            await world.wait(minutes(10))
            assert began(house) == []
            assert "the clock stands before 2026-06-01 12:02" in str(house.timekeeper.held)
            assert any("clock" in problem for problem in house.status.problems())
            world.clock.set(NOON + minutes(5.5))
            await world.wait(seconds(40))
            assert house.timekeeper.held is None
            runs = [run for run in await world.runs(house) if run.due and run.due < world.now]
            assert [run.due for run in runs] == [NOON + minutes(count) for count in range(1, 7)]
            assert names(runs) == ["Completed"] * 6

    play(tmp_path, main)
    assert "nothing is scheduled until it has passed that" in caplog.text


def test_a_second_start_with_a_wrong_clock_is_held_as_the_first_was(tmp_path: Path) -> None:
    """P7: 1970 is not put on record."""

    async def main(world: World) -> None:
        async with world.daemon(config()):
            await world.wait(minutes(2.5))
        for _ in range(2):
            world.clock.set(datetime(1970, 1, 1, tzinfo=UTC))
            async with world.daemon(config()) as house:
                await world.wait(minutes(5))
                assert house.timekeeper.held is not None
                assert began(house) == []
        world.clock.set(NOON + minutes(10.5))
        async with world.daemon(config()) as house:
            await world.wait(seconds(5))
            runs = [run for run in await world.runs(house) if run.due and run.due < world.now]
            assert min(run.due for run in runs if run.due) == NOON + minutes(1), "no fire of 1970"
            assert names([run for run in runs if run.due == NOON + minutes(10)]) == ["Completed"]

    play(tmp_path, main)


# -- a disk that is full for hours -----------------------------------------------------------------------------------


def test_fires_that_could_not_be_planned_for_long_follow_catch_up(tmp_path: Path) -> None:
    """P5, P11: no storm when the disk has room again."""
    text = config('catch_up = "latest"')

    async def main(world: World) -> None:
        async with world.daemon(text) as house:
            await world.until(NOON + minutes(5.5))
            world.disk.full()
            await world.until(NOON + minutes(35.5))
            world.disk.well()
            await world.wait(minutes(5))
            assert house.store.degraded is None
            runs = await world.runs(house)
            late = [
                run
                for run in runs
                if run.due and run.start_time and run.start_time - run.due > minutes(1) and run.due > NOON + minutes(10)
            ]
            assert len(late) <= 1
            dues = {run.due for run in runs}
            for fire in await world.skipped(house):
                dues |= {fire.first + minutes(count) for count in range(fire.count)}
            assert dues >= {NOON + minutes(count) for count in range(1, 40)}

    play(tmp_path, main)


def test_a_jump_while_the_disk_is_full_is_made_up_for_when_it_has_room(tmp_path: Path) -> None:
    """P7, P11: and does not end the scheduler."""

    async def main(world: World) -> None:
        async with world.daemon(config('catch_up = "latest"')) as house:
            await world.until(NOON + minutes(5.5))
            world.disk.full()
            world.clock.set(world.now + 2 * HOURS)
            await world.wait(minutes(5))
            world.disk.well()
            await world.wait(minutes(3))
            assert house.timekeeper.held is None
            runs = await world.runs(house)
            assert {run.state.name for run in runs if run.due and run.due < world.now - minutes(1)} <= {
                "Completed",
                "Skipped",
            }
            recent = [run for run in runs if run.due and world.now - minutes(2) < run.due < world.now - seconds(2)]
            assert names(recent) == ["Completed"] * len(recent)
            assert recent

    play(tmp_path, main)
