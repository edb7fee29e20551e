"""The life of a run: retries, timeouts, and what people do to it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from stage import DONE, FAILED, NOON, Script, World, began, minutes, names, play, runner, seconds, takes

from tidemill.core.events import RunDeleted
from tidemill.core.ports import Job, Outcome
from tidemill.core.states import StateType
from tidemill.errors import NotFoundError, TidemillError, TransitionError
from tidemill.services.house import House

JOB = '[deployments.job]\ncommand = "true"\n'


def fails(times: int, outcome: Outcome = FAILED, lasts: timedelta = timedelta(0)) -> Script:
    """The first attempts fail so, the next one completes."""
    return lambda job: (lasts, outcome if job.attempt <= times else DONE)


def pauses(house: House) -> list[float]:
    """Seconds between the starts of attempts that take no time."""
    times = began(house)
    return [(after - before).total_seconds() for before, after in pairwise(times)]


def test_an_end_that_cannot_be_kept_fails_the_run(tmp_path: Path) -> None:
    """Else its code would be gone and the run running for ever."""
    odd = Outcome(type=StateType.COMPLETED, name="Completed", data="half a pair: \ud800")

    async def main(world: World) -> None:
        async with world.daemon(JOB, takes(timedelta(0), odd)) as house:
            run = await house.control.create_run("job")
            await world.wait(timedelta(minutes=1))
            found = await world.run(house, run.id)
            assert (found.state.name, found.state.data) == ("Failed", None)
            assert found.state.message == "how it ended could not be kept: UnicodeEncodeError"

    play(tmp_path, main)


# -- retries ---------------------------------------------------------------------------------------------------------

RETRIES = [
    # configuration, the pauses between attempts that all fail
    ("retries = 0", []),
    ("retries = 2", [0, 0]),
    ('retries = 3\nretry_delay = "10s"', [10, 10, 10]),
    ('retries = 4\nretry_delay = ["10s", "1m", "5m"]', [10, 60, 300, 300]),  # the last one repeats
    ('retries = 4\nretry_delay = "10s"\nretry_backoff = 2.0', [10, 20, 40, 80]),
    ('retries = 4\nretry_delay = "10s"\nretry_backoff = 3.0\nretry_max_delay = "1m"', [10, 30, 60, 60]),
]


@pytest.mark.parametrize(("config", "expected"), RETRIES)
def test_a_failed_run_is_tried_again_after_its_delays(tmp_path: Path, config: str, expected: list[float]) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB + config, takes(timedelta(0), FAILED)) as house:
            run = await house.control.create_run("job")
            await world.wait(timedelta(hours=1))
            assert pauses(house) == expected
            found = await world.run(house, run.id)
            assert found.state.name == "Failed"
            assert (found.attempt, found.retries_used) == (len(expected) + 1, len(expected))
            story = await world.story(house, found)
            again = (
                ["Failed"] if not expected else [*["AwaitingRetry", "Pending", "Retrying"] * len(expected), "Failed"]
            )
            assert story == ["Scheduled", "Pending", "Running", *again]

    play(tmp_path, main)


ASKED = [
    # what the server asks for (Retry-After), what is done: the longer of it, capped, and the policy's own
    (5, 10),
    (120, 120),
    (86_400, 900),
]


@pytest.mark.parametrize(("asked", "waited"), ASKED)
def test_what_a_server_asks_for_is_heeded_up_to_the_cap(tmp_path: Path, asked: float, waited: float) -> None:
    outcome = Outcome(type=StateType.FAILED, name="Failed", message="429", retry_after=seconds(asked))

    async def main(world: World) -> None:
        config = JOB + 'retries = 1\nretry_delay = "10s"\nretry_after_max = "15m"\n'
        async with world.daemon(config, takes(timedelta(0), outcome)) as house:
            await house.control.create_run("job")
            await world.wait(timedelta(hours=2))
            assert pauses(house) == [waited]

    play(tmp_path, main)


def test_a_failure_that_no_retry_can_mend_is_not_tried_again(tmp_path: Path) -> None:
    outcome = Outcome(type=StateType.FAILED, name="Failed", message="404", retriable=False)

    async def main(world: World) -> None:
        async with world.daemon(JOB + "retries = 5\n", takes(timedelta(0), outcome)) as house:
            run = await house.control.create_run("job")
            await world.wait(minutes(1))
            assert (await world.run(house, run.id)).attempt == 1

    play(tmp_path, main)


def test_a_retry_survives_a_restart(tmp_path: Path) -> None:
    """P3: the waiting retry is a row like any other."""

    async def main(world: World) -> None:
        config = JOB + 'retries = 1\nretry_delay = "10m"\n'
        async with world.daemon(config, fails(1)) as house:
            run = await house.control.create_run("job")
            await world.wait(minutes(1))
        async with world.daemon(config, fails(1)) as house:
            await world.until(NOON + minutes(11))
            found = await world.run(house, run.id)
            assert (found.state.name, found.attempt) == ("Completed", 2)
            assert began(house) == [NOON + minutes(10)]

    play(tmp_path, main)


def test_a_retry_gives_its_slot_to_others_while_it_waits(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        config = JOB + 'retries = 1\nretry_delay = "10m"\nconcurrency_limit = 1\n'

        first: list[str] = []

        def script(job: Job) -> tuple[timedelta, Outcome]:
            first.append(job.run_id)
            return seconds(1), FAILED if job.run_id == first[0] and job.attempt == 1 else DONE

        async with world.daemon(config, script) as house:
            await house.control.create_run("job")
            await house.control.create_run("job")
            await world.wait(minutes(1))
            assert names(await world.runs(house)) == ["Completed", "AwaitingRetry"]

    play(tmp_path, main)


def test_a_run_out_of_time_is_timed_out_and_may_be_tried_again(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        config = JOB + 'timeout = "10s"\nretries = 1\n'
        async with world.daemon(config, takes(timedelta(hours=1))) as house:
            run = await house.control.create_run("job")
            await world.wait(minutes(1))
            found = await world.run(house, run.id)
            assert (found.state.name, found.state.type, found.attempt) == ("TimedOut", StateType.FAILED, 2)
            assert found.run_time_s == 20.0, "of both attempts"

    play(tmp_path, main)


# -- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_a_run_that_waits_ends_it_at_once(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            run = await house.control.create_run("job", scheduled_time=NOON + minutes(5))
            found = await house.control.cancel_run(run.id, "not today")
            assert (found.state.name, found.state.message) == ("Cancelled", "not today")
            await world.wait(minutes(10))
            assert began(house) == []

    play(tmp_path, main)


def test_cancelling_a_run_that_runs_asks_it_to_end_and_gives_no_retry(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB + "retries = 3\n", takes(timedelta(hours=1))) as house:
            run = await house.control.create_run("job")
            await world.wait(minutes(1))
            found = await house.control.cancel_run(run.id, "enough")
            assert found.state.type is StateType.CANCELLING
            await world.wait(seconds(1))
            found = await world.run(house, run.id)
            assert (found.state.name, found.state.message) == ("Cancelled", "enough")
            assert found.run_time_s == 60.0
            assert found.attempt == 1

    play(tmp_path, main)


def test_cancelling_a_finished_run_is_refused(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            run = await house.control.create_run("job")
            await world.wait(minutes(1))
            with pytest.raises(TransitionError, match="is Completed already"):
                await house.control.cancel_run(run.id, "too late")
            with pytest.raises(NotFoundError):
                await house.control.cancel_run("nobody", "never was")

    play(tmp_path, main)


@pytest.mark.parametrize("turns", range(12))
def test_a_cancellation_that_races_with_the_start_or_the_end_loses_nothing(tmp_path: Path, turns: int) -> None:
    """Whatever wins, the run ends in one state, its slot is free, and code that ran has RUNNING on record."""

    async def main(world: World) -> None:
        async with world.daemon(JOB + "concurrency_limit = 1\n", takes(timedelta(0))) as house:
            run = await house.control.create_run("job")
            for _ in range(turns):
                await asyncio.sleep(0)
            try:
                await house.control.cancel_run(run.id, "race")
            except TransitionError as error:
                assert "is Completed" in str(error)
            await world.wait(seconds(5))
            found = await world.run(house, run.id)
            assert found.state.name in ("Cancelled", "Completed")
            story = await world.story(house, found)
            assert story.count("Cancelled") + story.count("Completed") == 1
            assert ("Running" in story) == (began(house) != [])
            again = await house.control.create_run("job")
            await world.wait(seconds(5))
            assert (await world.run(house, again.id)).state.name == "Completed"

    play(tmp_path, main)


# -- retrying and deleting by hand -----------------------------------------------------------------------------------


def test_a_finished_run_is_retried_by_hand_as_a_further_attempt(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB + "retries = 1\n", fails(2)) as house:
            run = await house.control.create_run("job")
            await world.wait(seconds(5))
            assert (await world.run(house, run.id)).state.name == "Failed"
            again = await house.control.retry_run(run.id)
            assert (again.state.name, again.state.message, again.end_time) == (
                "AwaitingRetry", "retried by hand", None
            )  # fmt: skip
            await world.wait(seconds(5))
            found = await world.run(house, run.id)
            assert (found.state.name, found.attempt) == ("Completed", 3)

    play(tmp_path, main)


def test_only_a_finished_run_of_a_configured_deployment_is_retried(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB, takes(minutes(1))) as house:
            run = await house.control.create_run("job")
            await world.wait(seconds(5))
            with pytest.raises(TransitionError, match="only a finished run is retried"):
                await house.control.retry_run(run.id)
            await world.wait(minutes(2))
        async with world.daemon(JOB.replace("job", "other")) as house:
            with pytest.raises(TransitionError, match="deployment job is not configured"):
                await house.control.retry_run(run.id)

    play(tmp_path, main)


def test_a_run_is_deleted_when_nobody_has_it_in_hands(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB, takes(minutes(1))) as house:
            waits = await house.control.create_run("job", scheduled_time=NOON + minutes(5))
            runs = await house.control.create_run("job")
            await world.wait(seconds(5))
            with pytest.raises(TransitionError, match="cancel it before deleting it"):
                await house.control.delete_run(runs.id)
            await house.control.delete_run(waits.id)
            await world.wait(minutes(10))
            assert [job.run_id for _, job in runner(house).began] == [runs.id]
            await house.control.delete_run(runs.id)
            assert await world.runs(house) == []
            assert [event.run_id for event in world.events if isinstance(event, RunDeleted)] == [waits.id, runs.id]

    play(tmp_path, main)


# -- making runs -----------------------------------------------------------------------------------------------------


def test_parameters_may_be_given_where_the_deployment_lists_them(tmp_path: Path) -> None:
    """P15."""
    config = JOB + 'parameters = { stdin = "a" }\noverridable = ["stdin"]\n'

    async def main(world: World) -> None:
        async with world.daemon(config) as house:
            run = await house.control.create_run("job", parameters={"stdin": "b"})
            assert run.parameters["stdin"] == "b"
            with pytest.raises(TidemillError, match="does not let command be overridden"):
                await house.control.create_run("job", parameters={"command": "rm -rf /"})
            with pytest.raises(NotFoundError, match="did you mean job"):
                await house.control.create_run("jop")
            assert len(await world.runs(house)) == 1

    play(tmp_path, main)


def test_built_in_flows_allow_no_parameters_unless_listed(tmp_path: Path) -> None:
    """P15."""

    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            with pytest.raises(TidemillError, match="it allows none"):
                await house.control.create_run("job", parameters={"stdin": "b"})

    play(tmp_path, main)


def test_an_idempotency_key_makes_one_run_however_often_and_at_once(tmp_path: Path) -> None:
    """P1."""

    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            made = await asyncio.gather(*(house.control.create_run("job", idempotency_key="order-1") for _ in range(5)))
            assert len({run.id for run in made}) == 1
        async with world.daemon(JOB) as house:
            again = await house.control.create_run("job", idempotency_key="order-1")
            assert again.id == made[0].id
            assert len(await world.runs(house)) == 1

    play(tmp_path, main)


def test_a_run_may_be_asked_for_at_a_time_to_come(tmp_path: Path) -> None:
    """P2: also beyond what is in memory, and over a restart."""

    async def main(world: World) -> None:
        when = NOON + timedelta(days=2)
        async with world.daemon(JOB) as house:
            await house.control.create_run("job", scheduled_time=when, name="later", tags=("x",))
        async with world.daemon(JOB) as house:
            await world.until(when + minutes(1))
            assert began(house) == [when]
            (run,) = await world.runs(house)
            assert (run.name, run.tags, run.created_by) == ("later", ("x",), "person")

    play(tmp_path, main)


# -- one door --------------------------------------------------------------------------------------------------------


def test_of_two_decisions_on_one_state_the_second_fails(tmp_path: Path) -> None:
    """Two orchestrators, as two daemons that both believe they hold the run."""
    from tidemill.ids import Ids
    from tidemill.services.orchestrator import Orchestrator

    async def main(world: World) -> None:
        house = await world.opened(JOB)
        await house.recover()
        run = await house.control.create_run("job")
        other = Orchestrator(store=house.store, clock=world.clock, ids=Ids(), owner="another")
        both = await asyncio.gather(house.orchestrator.begin(run), other.begin(run))
        assert sum(each is not None for each in both) == 1
        stored = await world.run(house, run.id)
        assert (stored.attempt, stored.state_number) == (1, 3)
        house.start()
        await world.kill(house)

    play(tmp_path, main)


def test_an_older_attempts_end_changes_nothing(tmp_path: Path) -> None:
    """Attempts are fenced: the run has been retried by then."""

    async def main(world: World) -> None:
        async with world.daemon(JOB, takes(minutes(1))) as house:
            run = await house.control.create_run("job")
            await world.wait(seconds(5))
            first = await world.run(house, run.id)
            await house.control.cancel_run(run.id, "again")
            await world.wait(seconds(1))
            await house.control.retry_run(run.id)
            await world.wait(seconds(5))
            deployment = house.catalogue.deployments["job"]
            found = await house.orchestrator.conclude(first, FAILED, deployment)
            assert (found.state.name, found.attempt) == ("Retrying", 2)
            await world.wait(minutes(2))
            assert (await world.run(house, run.id)).state.name == "Completed"

    play(tmp_path, main)


def test_the_start_of_an_attempt_is_two_states_of_one_instant(tmp_path: Path) -> None:
    """P3: PENDING and RUNNING in one commit, before the code begins."""

    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            before = world.disk.calls
            run = await house.control.create_run("job")
            await world.wait(seconds(5))
            states = await world.states(house, run)
            assert [state.name for state in states] == ["Scheduled", "Pending", "Running", "Completed"]
            assert states[1].timestamp == states[2].timestamp == began(house)[0]
            assert world.disk.calls - before <= 4, "made, started, ended, and a sign of life"

    play(tmp_path, main)
