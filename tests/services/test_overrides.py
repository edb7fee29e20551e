"""What a person sets by hand over the file: pauses, limits and priorities."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from stage import World, minutes, names, play, seconds, takes

from tidemill.errors import NotFoundError, TidemillError
from tidemill.store import catalogue

QUEUED = """
[work_queues.slow]
concurrency_limit = 1
[work_queues.express]
priority = 2
[deployments.job]
command = "true"
work_queue = "slow"
[deployments.urgent]
command = "true"
work_queue = "express"
[deployments.every-minute]
command = "true"
interval = "1m"
"""


async def runs_now(world: World, house: Any, deployment: str, count: int) -> list[Any]:
    return [await house.control.create_run(deployment) for _ in range(count)]


def test_a_limit_set_by_hand_holds_over_a_restart_until_it_is_cleared(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(QUEUED, takes(minutes(1))) as house:
            await house.control.overrides.set("work_queue", "slow", "concurrency_limit", 3, by="ada")
            await runs_now(world, house, "job", 5)
            await world.wait(seconds(1))
            assert names(await world.runs(house, "job")).count("Running") == 3
            await world.wait(minutes(5))
        async with world.daemon(QUEUED, takes(minutes(1))) as house:
            assert house.catalogue.concurrency_limit("work_queue", "slow") == 3
            assert await house.control.overrides.clear("work_queue", "slow") == ["concurrency_limit"]
            await runs_now(world, house, "job", 3)
            await world.wait(seconds(1))
            assert names(await world.runs(house, "job")).count("Running") == 1
            assert await house.control.overrides.clear("work_queue", "slow") == []

    play(tmp_path, main)


def test_a_limit_of_none_lets_everything_start(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(QUEUED, takes(minutes(1))) as house:
            await house.control.overrides.set("work_queue", "slow", "concurrency_limit", None)
            await runs_now(world, house, "job", 5)
            await world.wait(seconds(1))
            assert names(await world.runs(house, "job")) == ["Running"] * 5

    play(tmp_path, main)


def test_a_pool_with_more_slots_by_hand_starts_more_runs_at_a_time(tmp_path: Path) -> None:
    """Its worker has a task for each slot of the file's limit; raising it by hand brings further ones."""

    async def main(world: World) -> None:
        config = QUEUED + "[work_pools.default]\nconcurrency_limit = 1\n"
        async with world.daemon(config, takes(minutes(10))) as house:
            await runs_now(world, house, "urgent", 5)
            await world.wait(seconds(1))
            assert names(await world.runs(house, "urgent")).count("Running") == 1
            await house.control.overrides.set("work_pool", "default", "concurrency_limit", 4)
            await world.wait(seconds(1))
            assert names(await world.runs(house, "urgent")).count("Running") == 4

    play(tmp_path, main)


def test_a_priority_set_by_hand_says_who_goes_first(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        config = QUEUED + "[work_pools.default]\nconcurrency_limit = 1\n"
        async with world.daemon(config, takes(minutes(1))) as house:
            await house.control.pause("work_pool", "default")
            await house.control.overrides.set("work_queue", "slow", "priority", 9)
            await runs_now(world, house, "job", 1)
            await runs_now(world, house, "urgent", 1)
            await world.wait(seconds(1))
            await house.control.resume("work_pool", "default")
            await world.wait(seconds(1))
            assert names(await world.runs(house, "urgent")) == ["Running"]
            assert names(await world.runs(house, "job")) == ["Scheduled"]

    play(tmp_path, main)


def test_the_files_own_value_clears_what_was_set(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(QUEUED) as house:
            overrides = house.control.overrides
            await overrides.set("work_queue", "slow", "concurrency_limit", 7)
            await overrides.set("work_queue", "slow", "concurrency_limit", 1)
            assert house.catalogue.overrides == []
            assert await house.store.read(catalogue.overrides) == []

    play(tmp_path, main)


def test_clearing_a_pause_lets_the_schedule_make_runs_again(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(QUEUED) as house:
            await house.control.pause("deployment", "every-minute", by="ada")
            await world.wait(minutes(5))
            assert await world.runs(house, "every-minute") == []
            assert (await house.control.status())["paused"] == [
                {"name": "every-minute", "by_hand": True, "since": "2026-06-01T12:00:00Z", "by": "ada"}
            ]
            await house.control.overrides.clear("deployment", "every-minute", "paused")
            await world.wait(minutes(3.5))
            assert names(await world.runs(house, "every-minute")).count("Completed") == 3

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("kind", "name", "key", "value", "words"),
    [
        ("work_queue", "slow", "concurrency_limit", 0, "a number from 1"),
        ("work_queue", "slow", "concurrency_limit", True, "a number from 1"),
        ("work_queue", "slow", "concurrency_limit", "2", "a number from 1"),
        ("work_queue", "slow", "priority", None, "a number from 1"),
        ("work_pool", "default", "concurrency_limit", None, "a number from 1"),
        ("work_pool", "default", "priority", 1, "paused, concurrency_limit"),
        ("deployment", "job", "parameters", {}, "paused, concurrency_limit"),
        ("deployment", "job", "paused", 1, "true or false"),
        ("block", "job", "paused", True, "nothing of a block"),
    ],
)  # fmt: skip
def test_what_cannot_be_set_by_hand_is_refused(
    tmp_path: Path, kind: str, name: str, key: str, value: Any, words: str
) -> None:
    """P15: names and numbers only; nothing of what a deployment runs."""

    async def main(world: World) -> None:
        async with world.daemon(QUEUED) as house:
            with pytest.raises(TidemillError, match=words):
                await house.control.overrides.set(kind, name, key, value)
            assert house.catalogue.overrides == []
            with pytest.raises(NotFoundError, match="did you mean slow"):
                await house.control.overrides.clear("work_queue", "slwo")

    play(tmp_path, main)


def test_who_did_what_is_said_with_fields_for_programs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World) -> None:
        async with world.daemon(QUEUED) as house:
            await house.control.pause("deployment", "job", by="ada")
            await house.control.resume("deployment", "job", by="ben")
            await house.control.overrides.set("work_queue", "slow", "priority", 4, by="ada")
            await house.control.overrides.clear("work_queue", "slow", "priority", by="ben")

    with caplog.at_level(logging.INFO, "tidemill.control"):
        play(tmp_path, main)
    told = [each for each in caplog.records if each.name == "tidemill.control"]
    assert [(each.fields["event"], each.fields["by"]) for each in told] == [  # type: ignore[attr-defined]
        ("paused", "ada"), ("resumed", "ben"), ("override-set", "ada"), ("override-cleared", "ben")
    ]  # fmt: skip
    assert [each.getMessage() for each in told] == [
        "deployment job was paused by hand (ada)",
        "deployment job was resumed by hand (ben)",
        "work queue slow: priority was set to 4 by hand (ada)",
        "work queue slow: priority is the file's again, 1 (ben)",
    ]
