"""Automations in circles and floods, over crashes, full disks, pauses and edits of the file."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from automation_stage import JOBS, RUN_THEN, SILENT, TELL, Told, config, ends, fires, made
from stage import DONE, FAILED, NOON, World, minutes, names, play, seconds, takes

from tidemill.core.automations import StepState
from tidemill.core.notices import NoticeKind
from tidemill.services.automations.fires import logger as fires_logger
from tidemill.services.house import House


def test_a_row_of_failures_that_is_over_does_not_fire_again_at_the_next_start(tmp_path: Path) -> None:
    """Its last minute is heard again then: who resumed the deployment must not find it paused once more."""

    async def main(world: World) -> None:
        text = config('{ deployment = "then", failures = 3 }', '{ pause = "{deployment}" }')
        async with world.daemon(text, ends(then=[FAILED, FAILED, FAILED, FAILED, DONE])) as house:
            for _ in range(5):
                await house.control.create_run("then")
                await world.wait(seconds(3))
            assert [fire.cause.over for fire in await fires(house)] == [False]
        async with world.daemon(text) as house:
            await world.wait(minutes(2))
            assert len(await fires(house)) == 1

    play(tmp_path, main)


# --- circles and floods ---------------------------------------------------------------------------------------------


def test_an_automation_that_sets_itself_off_is_stopped_and_that_is_said(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "then", state = "Completed" }', more="rounds = 4")
        async with world.daemon(text) as house:
            told = Told(house)
            await house.control.create_run("then")
            await world.wait(minutes(5))
            assert len(await made(world, house)) == 4
            (trouble,) = told.subjects(NoticeKind.TROUBLE)
            assert trouble.startswith("automation x could not run then: went round in a circle 4 times")
            await house.control.create_run("then")  # a person's run begins anew
            await world.wait(minutes(5))
            assert len(await made(world, house)) == 8

    play(tmp_path, main)


def test_two_that_set_each_other_off_are_stopped(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "other", state = "Completed" }')
        text += '[automations.y]\nwhen = { deployment = "then", state = "Completed" }\nthen = { run = "other" }\n'
        async with world.daemon(text) as house:
            await house.control.create_run("other")
            await world.wait(minutes(5))
            assert len(await made(world, house)) == len(await made(world, house, "other")) == 3

    play(tmp_path, main)


def test_a_circle_through_several_that_are_waited_for_is_stopped(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ after = ["other", "then"] }', f'[{RUN_THEN}, {{ run = "other" }}]')
        async with world.daemon(text) as house:
            for name in ("other", "then"):
                await house.control.create_run(name)
            await world.wait(minutes(5))
            assert len(await made(world, house)) == 3

    play(tmp_path, main)


def test_a_flood_is_held_back_and_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "job", state = "Completed" }', more='max_fires = 2\nper = "1h"')
        text = text.replace('interval = "10m"', 'interval = "1m"')
        async with world.daemon(text) as house:
            await world.until(NOON + minutes(30))
            assert len(await made(world, house)) == 2
            (document,) = house.automations.document()
            assert document["held_back"] == 27
        async with world.daemon(text) as house:  # a restart does not begin the hour anew
            await world.until(NOON + minutes(60))
            assert len(await made(world, house)) == 2
            await world.until(NOON + minutes(75))
            assert len(await made(world, house)) == 4

    with caplog.at_level(logging.WARNING, fires_logger.name):
        play(tmp_path, main)
    assert sum("automation x is held back" in each.message for each in caplog.records) == 2  # once in each life


def test_more_than_can_be_heard_at_once_is_read_from_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: bounded; and nothing of it is lost."""
    monkeypatch.setattr("tidemill.services.automations.service.MOST_HEARD", 10)

    async def main(world: World) -> None:
        text = config('{ deployment = "job", state = "Failed" }').replace('interval = "10m"', 'interval = "30s"')
        text = text.replace("then = {", "max_fires = 1000\nthen = {")
        async with world.daemon(text, ends(job=FAILED)) as house:
            await world.until(NOON + minutes(2))
            events = world.events.copy()
            house.automations._hear(events * 10)
            await world.until(NOON + minutes(5.2))
            causes = [fire.cause.run for fire in await fires(house)]
            failed = [run.id for run in await world.runs(house, "job") if run.state.name == "Failed"]
            assert causes == failed

    play(tmp_path, main)


# --- crashes --------------------------------------------------------------------------------------------------------


def test_a_failure_that_nobody_heard_of_is_acted_on_at_the_next_start(tmp_path: Path) -> None:
    """The daemon died between the run's end and the automation's decision."""

    async def main(world: World) -> None:
        text = config('{ deployment = "job", state = "Failed" }')
        house = await world.opened(text, ends(job=FAILED))
        house.automations.close()
        await world.started(house)
        await world.until(NOON + minutes(10) + seconds(2))
        assert names(await world.runs(house, "job"))[0] == "Failed"
        assert await made(world, house) == []
        await world.kill(house)
        async with world.daemon(text) as house:
            await world.wait(seconds(5))
            (run,) = await made(world, house)
            assert run.parent_run_id == (await world.runs(house, "job"))[0].id
        async with world.daemon(text) as house:
            await world.wait(seconds(5))
            assert len(await made(world, house)) == 1

    play(tmp_path, main)


def test_a_run_that_the_daemons_death_crashed_is_heard_of(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "job", state = "Crashed" }', TELL)
        house = await world.opened(text, takes(minutes(5)))
        await world.started(house)
        await world.until(NOON + minutes(12))
        await world.kill(house)
        await world.wait(minutes(120))
        house = await world.opened(text)
        told = Told(house)
        await world.started(house)
        await world.wait(seconds(5))
        (subject,) = told.subjects()
        assert subject.startswith("job is Crashed: the daemon ended while it ran")
        await world.kill(house)

    play(tmp_path, main)


@pytest.mark.parametrize("call", range(1, 13))
@pytest.mark.parametrize("committed", [True, False])
def test_wherever_the_daemon_dies_what_follows_a_failure_is_done_once(
    call: int, committed: bool, tmp_path: Path
) -> None:
    """P3: from the run's failure to the end of the run that is made for it, killed at every write."""

    async def main(world: World) -> None:
        text = config('{ deployment = "other", state = "Failed" }', f'[{RUN_THEN}, {{ notify = "default" }}]')
        house = await world.opened(text, ends(other=FAILED))
        await world.started(house)
        await world.wait(seconds(2))
        run = await house.control.create_run("other")
        world.disk.crash_at = (world.disk.calls + call, committed)
        dead = False

        def died() -> None:
            nonlocal dead
            dead = True

        world.disk.on_crash = died
        for _ in range(60):
            await world.wait(seconds(0.1))
            if dead:
                break
        await world.kill(house)
        async with world.daemon(text, ends(other=FAILED)) as house:
            told = Told(house)
            await world.wait(minutes(2))
            present = await world.run(house, run.id)
            found = await made(world, house)
            assert present.state.name in ("Failed", "Crashed")
            if present.state.name == "Failed":
                assert len(found) == 1
                (fire,) = await fires(house)
                assert [step.state for step in fire.steps] == [StepState.DONE, StepState.DONE]
            else:
                assert found == []
            assert len(told.subjects()) <= 1

    play(tmp_path, main)


def test_a_full_disk_loses_no_fire(tmp_path: Path) -> None:
    """P11."""

    async def main(world: World) -> None:
        async with world.daemon(config(SILENT, f"[{TELL}, {RUN_THEN}]"), ends(job=FAILED)) as house:
            told = Told(house)
            await world.until(NOON + minutes(24))
            world.disk.full()
            await world.until(NOON + minutes(40))
            assert told.subjects() == []
            world.disk.well()
            await world.wait(minutes(2))
            assert len(told.subjects()) == 1
            assert len(await made(world, house)) == 1
            (fire,) = await fires(house)
            assert fire.finished is not None

    play(tmp_path, main)


def test_what_ends_as_the_daemon_stops_is_acted_on_before_it_is_gone(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "job", state = ["Failed", "Crashed"] }')
        async with world.daemon(text, lambda job: (minutes(1), FAILED), grace=minutes(5)):
            await world.until(NOON + minutes(10) + seconds(30))
        found = await world.after_all("then")
        assert [run.state.name for run in found] == ["Scheduled"]

    play(tmp_path, main)


# --- by hand, and by the file ---------------------------------------------------------------------------------------


def test_a_paused_automation_does_nothing_and_counts_from_its_resumption(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ after = ["job", "other"] }')
        async with world.daemon(text) as house:
            desk = house.control.automations
            await world.until(NOON + minutes(15))
            await desk.set_paused("x", paused=True, by="me")
            await house.control.create_run("other")
            await world.until(NOON + minutes(25))
            assert await fires(house) == []
        async with world.daemon(text) as house:
            assert house.catalogue.paused("automation", "x")  # restarts keep it
            await house.control.automations.set_paused("x", paused=False, by="me")
            await world.until(NOON + minutes(35))
            assert await fires(house) == []  # the other one completed before
            await house.control.create_run("other")
            await world.until(NOON + minutes(45))
            assert len(await fires(house)) == 1

    play(tmp_path, main)


def replace_settings(world: World, house: House, text: str) -> None:
    loaded = world.loaded(text)
    house.catalogue.replace(loaded.settings, loaded.compiled)


def test_an_edit_takes_effect_and_what_is_unchanged_goes_on_as_it_was(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        failing = '{ deployment = "job", failures = 3 }'
        async with world.daemon(config(failing), ends(job=FAILED)) as house:
            await world.until(NOON + minutes(25))
            added = f'[automations.y]\nwhen = {{ deployment = "job", state = "Failed" }}\nthen = {RUN_THEN}\n'
            replace_settings(world, house, config(failing, '{ pause = "job" }') + added)
            await world.until(NOON + minutes(29))
            assert await fires(house, "y") == []  # what was before it is no business of it
            await world.until(NOON + minutes(35))
            (fire,) = await fires(house)
            assert fire.steps[0].told == "paused deployment job"
            assert len(await fires(house, "y")) == 1
            replace_settings(world, house, JOBS)
            await world.wait(minutes(1))
            assert house.automations.document() == []

    play(tmp_path, main)


def test_the_file_pauses_and_resumes_too(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        when = '{ deployment = "job", state = "Running", for = "3m" }'
        async with world.daemon(config(when, more="paused = true"), takes(minutes(8))) as house:
            await world.until(NOON + minutes(35))
            assert await fires(house) == []
            replace_settings(world, house, config(when))
            await world.until(NOON + minutes(37))
            assert len(await fires(house)) == 1  # it runs for so long already

    play(tmp_path, main)


def test_trying_one_out_tells_people_and_does_nothing_else(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config("{ failures = 3 }", f'[{TELL}, {RUN_THEN}, {{ pause = "job" }}]')
        async with world.daemon(text) as house:
            told = Told(house)
            await world.wait(seconds(1))
            assert house.control.automations.test("x") == {"told": ["default"], "not_done": ["run then", "pause job"]}
            ((_, notice),) = told.notices
            assert (notice.kind, notice.subject[:6]) == (NoticeKind.TEST, "test: ")
            await world.wait(minutes(1))
            assert await fires(house) == []
            assert await made(world, house) == []

    play(tmp_path, main)


def test_an_idle_automation_wakes_nobody(tmp_path: Path) -> None:
    """Where nothing depends on time, nothing is looked at."""

    async def main(world: World) -> None:
        text = config("{ failures = 3 }").replace('interval = "10m"', "")
        async with world.daemon(text) as house:
            await world.wait(seconds(1))
            ticks = 0
            tick = house.automations.tick

            async def counted(*given: object) -> int:
                nonlocal ticks
                ticks += 1
                return await tick(*given)  # type: ignore[arg-type]

            house.automations.tick = counted  # type: ignore[method-assign]
            await world.wait(timedelta(hours=24))
            assert ticks <= 25

    play(tmp_path, main)
