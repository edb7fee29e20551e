"""Backfills: runs for fires in the past, a few at a time, beside what the schedules make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stage import DONE, FAILED, World, minutes, names, play, seconds, takes

from tidemill.core.backfills import Backfill
from tidemill.core.filters import RunFilter
from tidemill.core.ports import Job, Outcome
from tidemill.errors import NotFoundError, TidemillError
from tidemill.services.house import House
from tidemill.store import backfills as stored
from tidemill.store import listing

HOURLY = """
[deployments.job]
command = "true"
tags = ["own"]
[[deployments.job.schedules]]
name = "hourly"
cron = "0 * * * *"
"""


def hour(number: int, day: int = 1) -> datetime:
    return datetime(2026, 6, day, number, tzinfo=UTC)


async def backfilled(house: House) -> list[Any]:
    """The runs that backfills made, oldest fire first."""
    found = await house.store.read(lambda connection: listing.select(connection, RunFilter(deployments=("job",))))
    return sorted((run for run in found if run.created_by == "backfill"), key=lambda run: (run.due, run.seq))


async def kept(house: House) -> list[Backfill]:
    return list(await house.store.read(stored.backfills))


def test_every_fire_of_the_stretch_gets_a_run_oldest_first_one_at_a_time(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(HOURLY, takes(minutes(1))) as house:
            made = await house.backfills.begin("job", hour(3), hour(7), by="ada")
            assert (made.total, made.by) == (5, "ada")
            await world.wait(seconds(90))
            assert names(await backfilled(house)) == ["Completed", "Running"]
            await world.wait(minutes(5))
            runs = await backfilled(house)
            assert [run.due for run in runs] == [hour(number) for number in (3, 4, 5, 6, 7)]
            assert names(runs) == ["Completed"] * 5
            assert {run.tags for run in runs} == {("own", made.tag)}
            assert [run.schedule for run in runs] == [None] * 5
            (end,) = await kept(house)
            assert (end.outcome, end.made, end.passed_over) == ("completed", 5, 0)
            assert house.backfills.documents() == []

    play(tmp_path, main)


def test_several_at_a_time_where_that_is_asked_for(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(HOURLY, takes(minutes(10))) as house:
            await house.backfills.begin("job", hour(0), hour(11), by="ada", at_a_time=4)
            await world.wait(seconds(5))
            assert names(await backfilled(house)) == ["Running"] * 4
            (told,) = (await house.control.status())["backfills"]
            assert (told["running"], told["made"], told["left"]) == (4, 4, 8)

    play(tmp_path, main)


def test_fires_with_a_completed_run_are_passed_over_unless_asked_again(tmp_path: Path) -> None:
    """And a backfill never takes the place of a schedule's own run of the same fire (P1)."""

    def script(job: Job) -> tuple[timedelta, Outcome]:
        return seconds(1), FAILED if job.due == hour(14) and job.run_name != "x" else DONE

    async def main(world: World) -> None:
        async with world.daemon(HOURLY, script) as house:
            await world.until(hour(16) + minutes(1))  # 13, 14 (failed), 15, 16 ran on schedule
            preview = await house.backfills.preview("job", hour(12), hour(16))
            assert (preview["total"], preview["runs"]) == (5, 2)
            assert [each["reason"] for each in preview["fires"]] == [
                None, "a run of it has completed", None, "a run of it has completed", "a run of it has completed"
            ]  # fmt: skip
            assert await backfilled(house) == []
            await house.backfills.begin("job", hour(12), hour(16), by="ada")
            await world.wait(minutes(1))
            assert [run.due for run in await backfilled(house)] == [hour(12), hour(14)]
            # 12 has one now; 14 failed again and is tried once more.
            await house.backfills.begin("job", hour(12), hour(16), by="ada")
            await world.wait(minutes(1))
            assert [run.due for run in await backfilled(house)] == [hour(12), hour(14), hour(14)]
            await house.backfills.begin("job", hour(12), hour(13), by="ada", again=True)
            await world.wait(minutes(1))
            assert [run.due for run in await backfilled(house)].count(hour(12)) == 2
            assert [run.due for run in await world.runs(house) if run.created_by == "schedule"].count(hour(13)) == 1

    play(tmp_path, main)


def test_a_backfill_goes_on_after_a_restart_and_makes_nothing_twice(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(HOURLY, takes(minutes(1))) as house:
            await house.backfills.begin("job", hour(0), hour(9), by="ada", at_a_time=2)
            await world.wait(seconds(90))
        house = await world.opened(HOURLY, takes(minutes(1)))
        await world.started(house)
        await world.wait(seconds(30))
        assert len(house.backfills.documents()) == 1
        await world.kill(house)
        async with world.daemon(HOURLY, takes(minutes(1))) as house:
            await world.wait(minutes(30))
            dues = [run.due for run in await backfilled(house)]
            assert sorted(set(dues)) == [hour(number) for number in range(10)]
            assert len(dues) == 10
            assert (await kept(house))[0].outcome == "completed"

    play(tmp_path, main)


def test_a_collision_strategy_neither_skips_its_runs_nor_lets_them_cut_others_off(tmp_path: Path) -> None:
    for strategy in ("cancel_new", "cancel_running"):
        config = HOURLY.replace("tags", f'concurrency_limit = 1\ncollision_strategy = "{strategy}"\ntags')

        async def main(world: World, config: str = config) -> None:
            async with world.daemon(config, takes(minutes(1))) as house:
                own = await house.control.create_run("job")
                await house.backfills.begin("job", hour(8), hour(9), by="ada", at_a_time=2)
                await world.wait(minutes(4))
                assert names(await backfilled(house)) == ["Completed"] * 2
                assert (await world.run(house, own.id)).state.name == "Completed"

        (tmp_path / strategy).mkdir()
        play(tmp_path / strategy, main)


def test_cancelling_makes_no_more_runs_and_leaves_what_runs(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(HOURLY, takes(minutes(1))) as house:
            made = await house.backfills.begin("job", hour(0), hour(9), by="ada")
            await world.wait(seconds(30))
            ended = await house.backfills.cancel(made.id[-8:], by="ben")
            assert ended.outcome == "cancelled by ben"
            await world.wait(minutes(10))
            assert names(await backfilled(house)) == ["Completed"]
            with pytest.raises(NotFoundError, match="there are none"):
                await house.backfills.cancel(made.id, by="ben")

    play(tmp_path, main)


def test_a_run_that_waits_for_its_retry_still_has_its_place(tmp_path: Path) -> None:
    config = HOURLY.replace("tags", 'retries = 1\nretry_delay = "10m"\ntags')

    async def main(world: World) -> None:
        async with world.daemon(config, takes(seconds(1), FAILED)) as house:
            await house.backfills.begin("job", hour(0), hour(9), by="ada")
            await world.wait(minutes(5))
            assert names(await backfilled(house)) == ["AwaitingRetry"]

    play(tmp_path, main)


def test_a_deployment_that_is_gone_ends_its_backfill_with_the_reason(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(HOURLY, takes(minutes(1))) as house:
            await house.backfills.begin("job", hour(0), hour(9), by="ada")
            await world.wait(seconds(5))
        async with world.daemon(HOURLY.replace("job", "other")) as house:
            await world.wait(minutes(1))
            assert (await kept(house))[0].outcome == "deployment job is no longer in the configuration"

    play(tmp_path, main)


def test_parameters_of_a_backfill_are_those_that_may_be_overridden(tmp_path: Path) -> None:
    config = HOURLY.replace("tags", 'overridable = ["stdin"]\ntags')

    async def main(world: World) -> None:
        async with world.daemon(config) as house:
            with pytest.raises(TidemillError, match="does not let command be overridden"):
                await house.backfills.begin("job", hour(3), hour(4), by="ada", parameters={"command": "rm"})
            await house.backfills.begin("job", hour(3), hour(3), by="ada", parameters={"stdin": "3"})
            await world.wait(minutes(1))
            (run,) = await backfilled(house)
            assert run.parameters["stdin"] == "3"
            assert run.parameters["command"] == "true"

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("first", "last", "at_a_time", "words"),
    [
        (hour(5), hour(4), 1, "ends no earlier than it begins"),
        (hour(5), hour(13), 1, r"is for the past, and 2026-06-01 13:00:00 \+0000 is to come"),
        (datetime(2020, 1, 1, tzinfo=UTC), hour(4), 1, "more than 10000 fires"),
        (hour(3), hour(4), 0, "from 1 to 200"),
    ],
)
def test_what_cannot_be_backfilled_is_refused(  # the virtual day is the first of June, noon
    tmp_path: Path, first: datetime, last: datetime, at_a_time: int, words: str
) -> None:
    async def main(world: World) -> None:
        async with world.daemon(HOURLY) as house:
            with pytest.raises(TidemillError, match=words):
                await house.backfills.begin("job", first, last, by="ada", at_a_time=at_a_time)
            assert await kept(house) == []

    play(tmp_path, main)


def test_a_deployment_without_a_schedule_has_nothing_to_make_up_for(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon('[deployments.job]\ncommand = "true"\n') as house:
            with pytest.raises(TidemillError, match="has no schedule"):
                await house.backfills.preview("job", hour(3), hour(4))

    play(tmp_path, main)
