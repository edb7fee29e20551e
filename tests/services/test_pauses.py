"""A run pauses until a person resumes it, and says so durably before and after."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flow_stage import FLOW, FlowWorld, flows

from tidemill.core.events import RunChanged
from tidemill.core.ports import Job, Outcome
from tidemill.core.reports import PauseQuestion, ResumeQuestion, SubflowQuestion
from tidemill.core.states import StateType
from tidemill.errors import TidemillError, TransitionError
from tidemill.services.house import House
from tidemill.services.recorder import DaemonRecorder
from tidemill.testing import close_house


async def asks(recorder: DaemonRecorder, _: Job) -> Any:
    return await recorder.ask(PauseQuestion(timeout_s=60))


def test_a_paused_run_goes_on_with_what_the_resuming_person_gives(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async with world.carries(asks) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(10)
            assert (await world.run(house, run.id)).state.name == "Paused"
            resumed = await house.control.resume_run(run.id, {"approved": True})
            assert resumed.state.name == "Running"
            ended = await world.ended(house, run)
            assert ended.state.data == {"approved": True}
            assert ended.run_time_s < 1, "a pause is no run time"
            story = await world.story(house, run)
        assert story == ["Scheduled", "Pending", "Running", "Paused", "Running", "Completed"]

    flows(tmp_path, main)


def test_paused_is_durable_before_the_code_waits_and_running_before_it_goes_on(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> list[str]:
            await recorder.ask(PauseQuestion())
            return [event.run.state.name for event in world.events if isinstance(event, RunChanged)]

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            await house.control.resume_run(run.id)
            assert (await world.ended(house, run)).state.data == ["Scheduled", "Running", "Paused", "Running"]

    flows(tmp_path, main)


def test_an_input_that_does_not_fit_is_refused_and_the_run_stays_paused(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            return await recorder.ask(PauseQuestion(timeout_s=60, key="k", schema=schema))

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(10)
            paused = await world.run(house, run.id)
            assert paused.state.data == {"pause_key": "k", "input_schema": schema}, "who inspects it sees what it wants"
            for given, says in (({"n": "many"}, 'n: "many" is not an integer'), (None, "none is given; n: is missing")):
                with pytest.raises(TransitionError, match=f"stays paused; the input does not fit: {says}"):
                    await house.control.resume_run(run.id, given)
            assert await world.run(house, run.id) == paused
            await house.control.resume_run(run.id, {"n": 3})
            assert (await world.ended(house, run)).state.data == {"n": 3}

    flows(tmp_path, main)


def test_no_input_is_enough_where_nothing_has_to_be_given(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            return await recorder.ask(
                PauseQuestion(schema={"type": "object", "properties": {"n": {"type": "integer"}}})
            )

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            await house.control.resume_run(run.id)
            assert (await world.ended(house, run)).state.name == "Completed"

    flows(tmp_path, main)


def test_a_schema_that_is_too_large_to_be_kept_is_not_gone_by(tmp_path: Path) -> None:
    """The conversion in the run's own code has the last word anyway."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            return await recorder.ask(PauseQuestion(schema={"type": "integer", "description": "x" * 20_000}))

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            assert (await world.run(house, run.id)).state.data is None
            await house.control.resume_run(run.id, "many")
            assert (await world.ended(house, run)).state.data == "many"

    flows(tmp_path, main)


def test_nobody_resuming_in_time_is_an_error_for_who_asked(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> str:
            try:
                await recorder.ask(PauseQuestion(timeout_s=60))
            except TidemillError as error:
                assert (await world.run(house, recorder.run.id)).state.name == "Running", "so that it may go on"
                return str(error)
            return "resumed"

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert run.state.data == f"timed out: nobody resumed flow run {run.name} within 1m"
            with pytest.raises(TransitionError, match="is Completed; only a paused run is resumed"):
                await house.control.resume_run(run.id)

    flows(tmp_path, main)


def test_a_paused_run_can_be_cancelled(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async with world.carries(asks) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            assert (await house.control.cancel_run(run.id, "no")).state.name == "Cancelling"
            ended = await world.ended(house, run)
            assert (ended.state.name, ended.state.message) == ("Cancelled", "no")

    flows(tmp_path, main)


def test_a_paused_run_is_not_deleted(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async with world.carries(asks) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            with pytest.raises(TransitionError, match="is Paused; cancel it before deleting it"):
                await house.control.delete_run(run.id)

    flows(tmp_path, main)


def test_a_stop_cuts_a_paused_run_off_as_it_does_a_running_one(tmp_path: Path) -> None:
    """P9: and does not wait out its grace for somebody who might resume it."""

    async def main(world: FlowWorld) -> None:
        house = await world.with_flows({"job": asks}, FLOW)
        await world.started(house)
        run = await house.control.create_run("job")
        await world.clock.sleep(1)
        before = world.now
        assert await close_house(house) == 1
        assert (world.now - before).total_seconds() < 1
        (found,) = await world.after_all()
        assert (found.id, found.state.name, found.state.message) == (run.id, "Crashed", "the daemon stopped")

    flows(tmp_path, main)


def test_a_pause_of_a_key_is_passed_over_once_resumed_from(tmp_path: Path) -> None:
    """After a retry the person is not asked again for what is decided."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, job: Job) -> Any:
            answer = await recorder.ask(PauseQuestion(key="approve"))
            if job.attempt == 1:
                raise RuntimeError("no luck")
            return answer

        async with world.carries(job, FLOW + "retries = 1\n") as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            await house.control.resume_run(run.id, "yes")
            ended = await world.ended(house, run)
            assert (ended.state.name, ended.state.data, ended.attempt) == ("Completed", "yes", 2)
            assert (await world.story(house, run)).count("Paused") == 1

    flows(tmp_path, main)


def test_a_run_resumes_another(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def resumes(recorder: DaemonRecorder, _: Job) -> Any:
            return (await recorder.ask(ResumeQuestion(flow_run_id=run.id, input=7)))["id"]

        config = FLOW + '[deployments.other]\ncommand = "true"\n'
        async with world.carries({"job": asks, "other": resumes}, config) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            (other,) = await world.finished(house, "other")
            assert other.state.data == run.id
            assert (await world.ended(house, run)).state.data == 7

    flows(tmp_path, main)


def test_a_subflow_pauses_by_itself(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            child = await recorder.ask(SubflowQuestion(flow="child", name=None, parameters={}))
            children.append(child)
            return await recorder.ask(PauseQuestion(flow_run_id=child))

        children: list[str] = []
        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            assert (await world.run(house, run.id)).state.name == "Running"
            assert (await world.run(house, children[0])).state.name == "Paused"
            await house.control.resume_run(children[0], "go")
            assert (await world.ended(house, run)).state.data == "go"

    flows(tmp_path, main)


def test_an_input_that_cannot_be_kept_is_refused_and_the_run_stays_paused(tmp_path: Path) -> None:
    """P13"""

    async def main(world: FlowWorld) -> None:
        async with world.carries(asks) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            with pytest.raises(TidemillError, match="too large"):
                await house.control.resume_run(run.id, "x" * 70_000)
            assert (await world.run(house, run.id)).state.name == "Paused"

    flows(tmp_path, main)


def test_code_that_ends_while_its_run_is_paused_has_ended(tmp_path: Path) -> None:
    """It did not wait for the answer: what it returns, or how it fails, is what counts."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            waiting.append(asyncio.ensure_future(recorder.ask(PauseQuestion())))
            await world.clock.sleep(1)
            return "done"

        waiting: list[asyncio.Future[Any]] = []
        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert (run.state.name, run.state.data) == ("Completed", "done")
            assert (await world.story(house, run))[-3:] == ["Paused", "Running", "Completed"]
            with pytest.raises(TidemillError, match="has ended"):
                await waiting[0]

    flows(tmp_path, main)


@pytest.mark.parametrize("moment", range(8))
def test_a_resume_that_races_with_the_timeout_loses_nothing(tmp_path: Path, moment: int) -> None:
    """Either the code hears the answer or the resuming person hears that it was too late."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            try:
                return await recorder.ask(PauseQuestion(timeout_s=10))
            except TidemillError:
                return "timed out"

        async def resume(house: House, run_id: str) -> str:
            try:
                await house.control.resume_run(run_id, "yes")
            except TransitionError:
                return "too late"
            return "resumed"

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            while (await world.run(house, run.id)).state.type is not StateType.PAUSED:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await world.clock.sleep(9.999)
            await world.clock.sleep(0.001)
            for _ in range(moment):
                await asyncio.sleep(0)
            told = await resume(house, run.id)
            ended = await world.ended(house, run)
            assert (told, ended.state.data) in [("resumed", "yes"), ("too late", "timed out")]

    flows(tmp_path, main)


def test_an_outcome_other_than_well_leaves_a_pause_directly(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Outcome:
            asking = asyncio.ensure_future(recorder.ask(PauseQuestion()))
            await world.clock.sleep(1)
            asking.cancel()
            return Outcome(type=StateType.FAILED, name="TimedOut", message="timed out")

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert (await world.story(house, run))[-2:] == ["Paused", "TimedOut"]

    flows(tmp_path, main)
