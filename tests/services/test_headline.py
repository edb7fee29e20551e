"""The daemon in one line, for systemctl status: what is wrong, what runs, what waits, what is next."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from stage import NOON, World, minutes, play, seconds, takes

from tidemill.services.headline import LONGEST_PROBLEM, Headline
from tidemill.services.house import House

CONFIG = """
[daemon]
timezone = "Europe/Helsinki"
[deployments.job]
command = "true"
concurrency_limit = 1
late_after = "10s"
[deployments.other]
command = "true"
[deployments.report]
command = "true"
cron = "30 15 * * *"
"""


def line(house: House) -> str:
    return Headline(house).line()


def test_it_names_what_runs_what_waits_and_what_is_next_in_local_time(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG, takes(timedelta(hours=2))) as house:
            await world.wait(seconds(1))
            assert line(house) == "nothing runs; next: report at 15:30:00"  # 12:30 in UTC
            for _ in range(3):
                await house.control.create_run("job")
            await house.control.create_run("other")
            await world.wait(seconds(5))
            assert line(house) == "2 running (job, other); 2 waiting; next: report at 15:30:00"
            await world.wait(seconds(10))
            assert line(house) == "2 running (job, other); 2 waiting, 2 of them late; next: report at 15:30:00"

    play(tmp_path, main)


def test_it_names_the_longest_running_and_counts_the_rest(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG, takes(timedelta(hours=2))) as house:
            await house.control.create_run("job")
            await world.wait(seconds(1))
            for _ in range(4):
                await house.control.create_run("other")
            await world.wait(seconds(1))
            assert line(house).startswith("5 running (job, other, other and 2 more); ")

    play(tmp_path, main)


WHEN = [
    # cron in Helsinki, where it is Monday 15:00; what is told
    ("0 9 * * *", "on Tue 09:00:00"),
    ("0 9 * * sun", "on Sun 09:00:00"),
    ("0 9 * * mon", "on 2026-06-08 09:00"),  # not today
    ("0 0 1 1 *", "on 2027-01-01 00:00"),
]


def test_a_fire_of_another_day_is_told_with_the_day(tmp_path: Path) -> None:
    for number, (cron, told) in enumerate(WHEN):
        folder = tmp_path / str(number)
        folder.mkdir()

        async def main(world: World, cron: str = cron, told: str = told) -> None:
            async with world.daemon(CONFIG.replace("30 15 * * *", cron)) as house:
                await world.wait(seconds(1))
                assert line(house) == f"nothing runs; next: report {told}"

        play(folder, main)


def test_with_no_schedule_it_says_so(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG.replace('cron = "30 15 * * *"', "")) as house:
            await world.wait(seconds(1))
            assert line(house) == "nothing runs; nothing is scheduled"

    play(tmp_path, main)


def test_what_is_wrong_stands_first_and_leaves_room_for_the_rest(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house:
            await world.wait(seconds(1))
            house.status.config_faults = ("t.toml:1:1 x: unknown\nkey", "t.toml:2:1 y: " + "z" * 500)
            assert line(house).startswith(
                "degraded: configuration: t.toml:1:1 x: unknown key (and 1 more); nothing runs"
            )
            house.status.config_faults = ("z" * 500,)
            assert len(line(house)) < LONGEST_PROBLEM + 100

    play(tmp_path, main)


def test_the_last_reload_is_told_with_what_it_came_to(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG) as house:
            await world.wait(seconds(1))
            told: dict[str, Any] = {"at": "2026-06-01T11:59:00Z", "outcome": "ok", "summary": "", "faults": []}
            house.status.parts["reload"] = lambda: told
            assert line(house).endswith("; reloaded at 14:59:00")
            told |= {"outcome": "refused", "at": "2026-05-30T11:59:00Z"}
            assert line(house).endswith("; reload refused on Sat 14:59:00")

    play(tmp_path, main)


def test_draining_and_stopping_are_said(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(CONFIG, takes(minutes(1))) as house:
            await house.control.create_run("job")
            await world.wait(seconds(1))
            house.draining.begin("ada")
            assert line(house).startswith("draining; 1 running (job); ")
            house.status.stopping = True
            assert line(house) == "stopping; 1 running (job)"
            assert world.now == NOON + seconds(1)

    play(tmp_path, main)
