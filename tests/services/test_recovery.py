"""What a daemon does with what an earlier one left."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from stage import DONE, World, began, minutes, names, play, runner, seconds, takes

from tidemill.core import transitions
from tidemill.core.events import RunChanged
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType
from tidemill.errors import TidemillError
from tidemill.services.house import House
from tidemill.store import runs as stored_runs

CONFIG = """
[deployments.job]
command = "true"
"""
RETRIED = CONFIG + 'on_crash = "retry"\n'


async def left_pending(house: House, run: FlowRun) -> None:
    """A run that an earlier daemon had taken and not started: pools with children commit PENDING on its own."""
    state = State(type=StateType.PENDING, name="Pending", timestamp=house.clock.now())
    decided = transitions.enter(run, state, owner="an-earlier-boot", attempt=1)
    assert await house.store.write(stored_runs.TRANSITIONS, decided, event=RunChanged(decided.run, (state,), run.state))


def test_a_run_left_pending_goes_back_in_line_with_no_retry_spent(tmp_path: Path) -> None:
    """P4."""

    async def main(world: World) -> None:
        house = await world.opened(CONFIG)
        run = await house.control.create_run("job")
        await left_pending(house, run)
        await world.kill(house)
        async with world.daemon(CONFIG) as house:
            await world.wait(seconds(2))
            again = await world.run(house, run.id)
            assert await world.story(house, again) == [
                "Scheduled", "Pending", "Scheduled", "Pending", "Retrying", "Completed"
            ]  # fmt: skip
            assert again.retries_used == 0

    play(tmp_path, main)


def test_a_run_left_running_is_crashed_with_the_reason(tmp_path: Path) -> None:
    """P4: and stays what it became before, if it had ended."""

    async def main(world: World) -> None:
        house = await world.opened(CONFIG, takes(minutes(5)))
        await world.started(house)
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        assert names(await world.runs(house)) == ["Running"]
        await world.kill(house)
        await world.wait(minutes(10))
        async with world.daemon(CONFIG) as house:
            found = await world.run(house, run.id)
            assert found.state.type is StateType.CRASHED
            assert "the daemon ended while it ran" in str(found.state.message)
            assert "last known alive at 2026-06-01 12:" in str(found.state.message)
            assert found.end_time == world.now
            assert found.run_time_s <= 60, "the ten minutes without a daemon are no part of it"
            await world.wait(minutes(1))
            assert began(house) == [], "nobody said it was to be tried again"

    play(tmp_path, main)


def test_a_run_left_running_awaits_a_retry_where_its_deployment_says_so(tmp_path: Path) -> None:
    """P4."""

    async def main(world: World) -> None:
        house = await world.opened(RETRIED, takes(minutes(5)))
        await world.started(house)
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        await world.kill(house)
        async with world.daemon(RETRIED) as house:
            await world.wait(seconds(2))
            again = await world.run(house, run.id)
            assert again.state.name == "Completed"
            assert (again.attempt, again.retries_used) == (2, 1)
            story = await world.states(house, again)
            assert [state.name for state in story][3] == "AwaitingRetry"
            assert "the daemon ended while it ran" in str(story[3].message)
            assert "retry 1 of 3" in str(story[3].message)

    play(tmp_path, main)


def test_a_daemon_lived_when_it_recorded_that_a_run_began(tmp_path: Path) -> None:
    """The heartbeat before it is no proof that it died earlier."""

    async def main(world: World) -> None:
        house = await world.opened(CONFIG, takes(minutes(5)))
        await world.started(house)
        await world.wait(seconds(7))
        run = await house.control.create_run("job")
        await world.wait(seconds(1))
        begun = (await world.run(house, run.id)).start_time
        await world.kill(house)
        async with world.daemon(CONFIG) as house:
            found = await world.run(house, run.id)
            assert f"last known alive at {begun:%Y-%m-%d %H:%M:%SZ}" in str(found.state.message)

    play(tmp_path, main)


def test_a_run_that_takes_the_daemon_down_each_time_is_given_up(tmp_path: Path) -> None:
    """P4, P13: on_crash = "retry" is bounded."""

    async def main(world: World) -> None:
        house = await world.opened(RETRIED, takes(minutes(5)))
        await world.started(house)
        run = await house.control.create_run("job")
        for _ in range(transitions.CRASH_RETRIES + 1):
            await world.wait(minutes(1))
            assert (await world.run(house, run.id)).state.type is StateType.RUNNING
            await world.kill(house)
            house = await world.opened(RETRIED, takes(minutes(5)))
            await world.started(house)
        found = await world.run(house, run.id)
        assert found.state.name == "Crashed"
        assert found.attempt == transitions.CRASH_RETRIES + 1
        await world.kill(house)

    play(tmp_path, main)


def test_a_run_left_cancelling_is_cancelled_for_the_reason_given_then(tmp_path: Path) -> None:
    """P4."""

    async def main(world: World) -> None:
        house = await world.opened(RETRIED, takes(minutes(5)))
        await world.started(house)
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        running = await world.run(house, run.id)
        await house.orchestrator.change(running, StateType.CANCELLING, "Cancelling", "enough")
        await world.kill(house)
        async with world.daemon(RETRIED) as house:
            found = await world.run(house, run.id)
            assert (found.state.name, found.state.message) == ("Cancelled", "enough")

    play(tmp_path, main)


def test_what_was_left_is_dealt_with_before_anything_new_starts(tmp_path: Path) -> None:
    """P4: the states of recovery are older than the first start, and take the slot from nobody."""
    config = CONFIG + 'interval = "1m"\nconcurrency_limit = 1\n'

    async def main(world: World) -> None:
        house = await world.opened(config, takes(minutes(5)))
        await world.started(house)
        await world.wait(minutes(3.5))
        await world.kill(house)
        world.events.clear()
        async with world.daemon(config) as house:
            await world.wait(minutes(2))
        changes = [event.run.state.name for event in world.events if isinstance(event, RunChanged)]
        assert changes[0] == "Crashed"
        assert "Running" in changes

    play(tmp_path, main)


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("number", range(4, 16))
def test_a_crash_at_any_commit_loses_and_doubles_nothing(tmp_path: Path, number: int, committed: bool) -> None:
    """P1, P3, P4: the daemon dies at each single commit in turn; what was told is there, nothing ran off the record."""
    config = CONFIG + 'interval = "1m"\n'

    async def main(world: World) -> None:
        died = asyncio.Event()
        house = await world.opened(config, takes(seconds(10)))
        world.disk.crash_at, world.disk.on_crash = (number, committed), died.set
        with contextlib.suppress(TidemillError):
            await world.started(house)
            await died.wait()
        told = {event.run.id: event.run for event in world.events if isinstance(event, RunChanged)}
        ran = {job.run_id for _, job in runner(house).began}
        await world.kill(house)
        async with world.daemon(config, takes(seconds(10))) as house:
            stored = {run.id: run for run in await world.runs(house)}
            for run_id, run in told.items():
                assert stored[run_id].state_number >= run.state_number
                if run.state.is_terminal:
                    assert stored[run_id].state == run.state
            assert all(stored[run_id].attempt == 1 for run_id in ran), "code ran with no RUNNING on record"
            await world.wait(minutes(3))
            runs = await world.runs(house)
        dues = [run.due for run in runs if run.expected_start <= world.now]
        assert dues == [dues[0] + minutes(count) for count in range(len(dues))] if dues[0] else False
        assert all(run.attempt <= 1 for run in runs), "nothing is tried again unasked"
        assert all(run.state.is_terminal for run in runs if run.expected_start < world.now - seconds(10))

    play(tmp_path, main)


def test_a_paused_run_of_a_daemon_that_died_is_crashed(tmp_path: Path) -> None:
    """P4: whoever resumed it would wake nobody: the code that waited is gone."""

    async def main(world: World) -> None:
        house = await world.opened(CONFIG, takes(minutes(5)))
        await world.started(house)
        run = await house.control.create_run("job")
        await world.wait(minutes(1))
        await house.orchestrator.change(await world.run(house, run.id), StateType.PAUSED, "Paused", "for approval")
        await world.kill(house)
        async with world.daemon(CONFIG) as house:
            found = await world.run(house, run.id)
            assert found.state.name == "Crashed"
            assert "the daemon ended while it ran" in (found.state.message or "")

    play(tmp_path, main)


def test_transitions_of_recovery_are_counted(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = await world.opened(CONFIG, takes(minutes(5)))
        await world.started(house)
        for _ in range(3):
            await house.control.create_run("job")
        await world.wait(minutes(1))
        await world.kill(house)
        house = await world.opened(CONFIG)
        assert (await house.recover()).crashed == 3
        assert (await house.recover()).crashed == 0, "a second look finds nothing"
        house.start()
        await world.wait(seconds(1))
        await world.kill(house)

    play(tmp_path, main)


def test_a_stale_transition_of_recovery_changes_nothing(tmp_path: Path) -> None:
    """A decision names the state number it was made on."""

    async def main(world: World) -> None:
        async with world.daemon(CONFIG, takes(minutes(5))) as house:
            run = await house.control.create_run("job")
            await world.wait(seconds(1))
            stale = transitions.enter(run, State(type=StateType.CANCELLED, name="Cancelled", timestamp=world.now))
            assert isinstance(stale, Transition)
            assert await house.orchestrator.change_all([(run, stale)]) == 0
            assert (await world.run(house, run.id)).state.name == "Running"
            await world.wait(minutes(6))
            assert (await world.run(house, run.id)).state.name == DONE.name

    play(tmp_path, main)
