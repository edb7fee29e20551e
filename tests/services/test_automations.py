"""Automations at work: when they fire, and what is done then."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from automation_stage import JOBS, RUN_THEN, SILENT, TELL, Told, config, ends, fires, keep, made
from stage import DONE, FAILED, NOON, World, minutes, names, play, runner, seconds, takes

from tidemill.core.automations import StepState
from tidemill.core.notices import NoticeKind
from tidemill.errors import TidemillError

# --- when -----------------------------------------------------------------------------------------------------------


def test_a_run_is_made_when_another_fails(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        script = ends(job=[DONE, FAILED, DONE])
        async with world.daemon(config('{ deployment = "job", state = "Failed" }'), script) as house:
            await world.wait(minutes(35))
            (run,) = await made(world, house)
            (fire,) = await fires(house)
            failed = (await world.runs(house, "job"))[1]
            assert run.state.name == "Completed"
            assert run.parent_run_id == failed.id == fire.cause.run
            assert (fire.steps[0].state, fire.finished) == (StepState.DONE, NOON + minutes(20) + seconds(1))
            assert fire.cause.reason == "job is Failed: no luck"

    play(tmp_path, main)


def test_a_run_that_is_retried_enters_awaiting_retry_and_not_failed(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "job", state = ["AwaitingRetry", "Failed"] }')
        text = text.replace('interval = "10m"', 'interval = "10m"\nretries = 1\nretry_delay = "1m"')
        async with world.daemon(text, ends(job=[FAILED, DONE])) as house:
            await world.wait(minutes(15))
            assert [fire.cause.state for fire in await fires(house)] == ["AwaitingRetry"]

    play(tmp_path, main)


def test_a_run_that_runs_for_too_long_is_cancelled(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "job", state = "Running", for = "2m" }', '{ cancel = "{run}" }')
        async with world.daemon(text, takes(minutes(5))) as house:
            await world.wait(minutes(13))
            run = (await world.runs(house, "job"))[0]
            assert (run.state.name, run.end_time) == ("Cancelled", NOON + minutes(12))
            assert run.state.message == "automation x: job is Running for 2m"

    play(tmp_path, main)


def test_a_late_run_is_told_when_it_is_late_enough(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ late = "3m" }', '{ notify = "default" }').replace(
            'interval = "10m"', 'interval = "10m"\nconcurrency_limit = 1'
        )
        async with world.daemon(text, takes(minutes(14))) as house:
            told = Told(house)
            await world.until(NOON + minutes(22))
            assert told.subjects() == []
            await world.until(NOON + minutes(23.5))
            (subject,) = told.subjects()
            assert subject.startswith("job is late by 3m: ")
            await world.until(NOON + minutes(29))
            assert len(told.subjects()) == 1

    play(tmp_path, main)


def test_failures_in_a_row_fire_once_and_the_end_of_them_is_told(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        script = ends(job=[FAILED, DONE, FAILED, FAILED, FAILED, FAILED, FAILED, DONE])
        text = config('{ deployment = "job", failures = 3 }', f'[{RUN_THEN}, {{ notify = "default" }}]')
        async with world.daemon(text, script) as house:
            told = Told(house)
            await world.until(NOON + minutes(75))
            assert [run.created for run in await made(world, house)] == [NOON + minutes(50) + seconds(1)]
            assert told.subjects() == ["job failed 3 times in a row: no luck"]
            await world.until(NOON + minutes(85))
            assert told.subjects()[1:] == ["job is Completed again"]
            assert len(await made(world, house)) == 1  # nothing is run because all is well

    play(tmp_path, main)


def test_failures_before_the_automation_was_there_count(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOBS, ends(job=FAILED)) as house:
            await world.until(NOON + minutes(25))
        async with world.daemon(config("{ failures = 3 }"), ends(job=FAILED)) as house:
            await world.until(NOON + minutes(29))
            assert await fires(house) == []
            await world.until(NOON + minutes(35))
            assert len(await fires(house)) == 1

    play(tmp_path, main)


def test_after_all_of_several_completed_since_the_last_time(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ after = ["job", "other"] }').replace(
            "[deployments.then]", 'interval = "30m"\n[deployments.then]'
        )
        async with world.daemon(text) as house:
            await world.until(NOON + minutes(65))
            assert [run.created for run in await made(world, house)] == [
                NOON + minutes(30) + seconds(1),
                NOON + minutes(60) + seconds(1),
            ]

    play(tmp_path, main)


def test_a_run_is_made_when_an_artifact_changes_with_what_changed(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        then = '{ run = "then", parameters = { stdin = "{artifact} {version}" } }'
        async with world.daemon(config('{ artifact = "prices" }', then)) as house:
            await world.wait(seconds(1))
            for text in ("1", "1", "2"):
                await keep(house, world, "prices", text)
                await keep(house, world, "unlike", text)
            await world.wait(seconds(5))
            assert [run.parameters["stdin"] for run in await made(world, house)] == ["prices 1", "prices 2"]

    play(tmp_path, main)


def test_the_run_that_made_an_artifact_is_called_by_its_name(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        then = '{ notify = "default", message = "{version} by {run} of {flow}" }'
        async with world.daemon(config('{ artifact = "prices" }', then), takes(seconds(1))) as house:
            told = Told(house)
            await world.wait(minutes(11))
            run = (await world.runs(house, "job"))[0]
            await keep(house, world, "prices", "1", run)
            await world.wait(seconds(5))
            assert told.subjects() == [f"1 by {run.name} of shell"]

    play(tmp_path, main)


# --- a dead man's switch --------------------------------------------------------------------------------------------


def test_a_dead_mans_switch_is_told_once_and_again_when_all_is_well(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(config(SILENT, TELL), ends(job=[DONE, *[FAILED] * 5, DONE])) as house:
            told = Told(house)
            await world.until(NOON + minutes(34))
            assert told.subjects() == []
            await world.until(NOON + minutes(65))
            assert told.subjects() == ["no Completed run of job for 25m: the last one was at 2026-06-01 12:10:01Z"]
            await world.until(NOON + minutes(75))
            assert told.subjects()[1:] == ["job has a Completed run again"]

    play(tmp_path, main)


def test_silence_counts_over_restarts(tmp_path: Path) -> None:
    """Neither is it forgotten by a restart nor told anew by one."""

    async def main(world: World) -> None:
        subjects: list[str] = []
        for number in range(8):
            async with world.daemon(config(SILENT, TELL), ends(job=FAILED)) as house:
                told = Told(house)
                await world.until(NOON + minutes(10 * number + 9))
                subjects += told.subjects()
        assert subjects == ["no Completed run of job for 25m: there was none so far"]

    play(tmp_path, main)


def test_after_a_long_night_what_was_missed_is_made_up_for_before_silence_is_told(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(config(SILENT, TELL)) as house:
            await world.until(NOON + minutes(15))
        await world.wait(timedelta(hours=12))
        async with world.daemon(config(SILENT, TELL)) as house:
            told = Told(house)
            await world.wait(minutes(5))
            assert told.subjects() == []
        await world.wait(timedelta(hours=12))
        async with world.daemon(config(SILENT, TELL), ends(job=FAILED)) as house:
            told = Told(house)
            await world.wait(minutes(5))
            assert len(told.subjects()) == 1

    play(tmp_path, main)


def test_silence_is_told_of_a_paused_deployment_too_and_again_where_that_is_wanted(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        when = SILENT.replace(" }", ', repeat = "1h" }')
        async with world.daemon(config(when, TELL)) as house:
            told = Told(house)
            await house.control.pause("deployment", "job", by="me")
            await world.until(NOON + minutes(150))
            assert len(told.subjects()) == 3

    play(tmp_path, main)


# --- then -----------------------------------------------------------------------------------------------------------


def test_actions_are_done_in_their_order_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        then = (
            '[{ run = "then", parameters = { umask = "{state}" } }, { pause = "{deployment}" }, { notify = "default" }]'
        )
        async with world.daemon(config('{ deployment = "job", state = "Failed" }', then), ends(job=FAILED)) as house:
            told = Told(house)

            def refuse(deployment: object, parameters: object) -> None:
                raise TidemillError("umask is no umask")

            house.control._check_parameters = refuse
            await world.wait(minutes(35))
            (fire,) = await fires(house)  # it is paused: there is no second one
            assert [step.state for step in fire.steps] == [StepState.FAILED, StepState.DONE, StepState.DONE]
            assert fire.steps[0].told == "umask is no umask"
            assert house.catalogue.paused("deployment", "job")
            assert told.subjects() == ["job is Failed: no luck"]
            assert told.subjects(NoticeKind.TROUBLE) == ["automation x could not run then: umask is no umask"]
            assert house.status.problems() == ["automation x could not run then: umask is no umask"]

    play(tmp_path, main)


def test_an_automation_may_give_what_a_person_may_not(tmp_path: Path) -> None:
    """P15 is about who asks; what the file says is its author's."""

    async def main(world: World) -> None:
        then = '{ run = "then", parameters = { umask = "027" }, tags = ["auto"] }'
        text = config('{ deployment = "job", state = "Failed" }', then)
        async with world.daemon(text, ends(job=FAILED)) as house:
            await world.wait(minutes(11))
            (run,) = await made(world, house)
            assert run.parameters == {"command": "true", "umask": "027"}
            assert run.tags == ("auto",)

    play(tmp_path, main)


def test_all_runs_of_a_deployment_are_cancelled_but_those_to_come(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "other", state = "Completed" }', '{ cancel = "job" }')
        text = text.replace('interval = "10m"', 'interval = "10m"\nconcurrency_limit = 1')
        async with world.daemon(text, lambda job: (minutes(60 if job.deployment == "job" else 0.1), DONE)) as house:
            await world.until(NOON + minutes(25))
            await house.control.create_run("other")
            await world.wait(minutes(1))
            found = await world.runs(house, "job")
            assert names(found[:2]) == ["Cancelled", "Cancelled"]
            assert {run.state.name for run in found[2:]} == {"Scheduled"}
            (fire,) = await fires(house)
            assert fire.steps[0].told == "cancelled 2 runs of job"
            assert len(runner(house).began) == 2  # the one that waited did not take the other's place

    play(tmp_path, main)


def test_a_pause_by_an_automation_is_undone_by_another(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        text = config('{ deployment = "job", failures = 1 }', '{ pause_work_queue = "default" }')
        text += '[automations.y]\nwhen = { late = "5m" }\nthen = { resume_work_queue = "default" }\n'
        async with world.daemon(text, ends(job=[FAILED, DONE])) as house:
            await world.until(NOON + minutes(11))
            assert house.catalogue.paused("work_queue", "default")
            (override,) = house.catalogue.overrides
            assert override.by == "automation x"
            await world.until(NOON + minutes(26))
            assert not house.catalogue.paused("work_queue", "default")
            assert names(await world.runs(house, "job"))[:2] == ["Failed", "Completed"]

    play(tmp_path, main)


def test_people_are_told_in_the_words_that_are_written(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        then = '{ notify = "default", message = "{deployment} broke\\n{message} ({state})" }'
        async with world.daemon(config('{ deployment = "job", state = "Failed" }', then), ends(job=FAILED)) as house:
            told = Told(house)
            await world.wait(minutes(11))
            ((channel, notice),) = told.notices
            run = (await world.runs(house, "job"))[0]
            assert channel == "default"
            assert notice.subject == "job broke"
            assert notice.lines == ("no luck (Failed)", "job is Failed: no luck", "automation: x")
            assert (notice.deployment, notice.run, notice.at) == ("job", run.id, run.end_time)

    play(tmp_path, main)
