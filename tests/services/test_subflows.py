"""Subflows: flow runs of their own, linked to the run whose code they are, and never outliving it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flow_stage import FLOW, FlowWorld, Tasks, flows

from tidemill.core.ports import Job, Outcome
from tidemill.core.reports import LogReport, SubflowEnded, SubflowQuestion
from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType
from tidemill.errors import TidemillError, TransitionError
from tidemill.services.recorder import DaemonRecorder
from tidemill.store import logs
from tidemill.store import runs as stored_runs

PARENT_TASK = "01890a5d-ac96-774b-bcce-b302099a8057"


def begins(name: str = "kid", **fields: Any) -> SubflowQuestion:
    return SubflowQuestion(flow="child", name=name, **{"parameters": {}, **fields})


def ends(world: FlowWorld, run_id: str, kind: StateType = StateType.COMPLETED, **fields: Any) -> SubflowEnded:
    state = State(type=kind, name=kind.capitalize(), timestamp=world.now, **fields)
    return SubflowEnded(flow_run_id=run_id, state=state)


async def children(world: FlowWorld, house: Any, run: FlowRun) -> list[FlowRun]:
    return list(await house.store.read(lambda connection: stored_runs.children_of(connection, run.id)))


def test_a_subflow_is_a_run_of_its_own_running_and_durable_when_its_code_starts(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            question = begins(parameters={"n": 1}, tags=("a",), parent_task_run_id=PARENT_TASK)
            child = await world.run(house, await recorder.ask(question))
            assert (child.state.name, child.flow, child.name, child.parameters) == ("Running", "child", "kid", {"n": 1})
            assert (child.parent_run_id, child.parent_task_run_id) == (recorder.run.id, PARENT_TASK)
            assert (child.deployment, child.created_by, child.tags, child.attempt) == (None, "parent", ("a",), 1)
            await world.clock.sleep(5)
            recorder.report(ends(world, child.id, message="fine", data=[1]))

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            (child,) = await children(world, house, run)
            assert await world.story(house, child) == ["Pending", "Running", "Completed"]
        assert (child.state.message, child.run_time_s) == ("fine", 5.0)

    flows(tmp_path, main)


def test_reports_from_inside_a_subflow_are_its_own(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            child = await recorder.ask(begins())
            tasks = Tasks(recorder, world.clock)
            tasks.end(tasks.begin("inner", flow_run_id=child))
            line = LogReport(at=world.now, level=20, logger="print", message="from inside", flow_run_id=child)
            recorder.report(line)
            recorder.report(ends(world, child))
            recorder.report(line)
            await recorder.flush()
            recorder.report(line)
            tasks.begin("late", flow_run_id=child)
            tasks.begin("nobody's", flow_run_id="no such run")

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            (child,) = await children(world, house, run)
            assert [task.name for task in await world.task_runs(house, child)] == ["inner"]
            assert await world.task_runs(house, run) == []
            kept = await house.store.read(lambda connection: logs.of_run(connection, child.seq))
            assert [line.row.message for line in kept] == ["from inside", "from inside"]
        assert world.lines == [("kid", "from inside")] * 2

    flows(tmp_path, main)


def test_subflows_have_subflows(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            child = await recorder.ask(begins("child"))
            inner = await recorder.ask(begins("inner", parent_flow_run_id=child))
            recorder.report(ends(world, inner))
            recorder.report(ends(world, child))
            await recorder.flush()
            with pytest.raises(TidemillError, match="does not run here"):
                await recorder.ask(begins("late", parent_flow_run_id=child))

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert run.state.name == "Completed", run.state.message
            (child,) = await children(world, house, run)
            (inner,) = await children(world, house, child)
        assert (child.name, inner.name, inner.state.name) == ("child", "inner", "Completed")

    flows(tmp_path, main)


# How the parent's attempt ends -> what becomes of the subflow it left open, and why.
ENDINGS = {
    "well": (StateType.CRASHED, "its parent {0} ended before it did (Completed)"),
    "failed": (StateType.CRASHED, "its parent {0} ended before it did (Failed)"),
    "cancelled": (StateType.CANCELLED, "its parent {0} was cancelled: enough"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_a_subflow_ends_with_its_parent_at_the_latest(how: str, tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            await recorder.ask(begins())
            if how == "cancelled":
                await world.clock.sleep(60)
            return Outcome(type=StateType.FAILED, name="Failed") if how == "failed" else None

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            if how == "cancelled":
                await house.control.cancel_run(run.id, "enough")
            run = await world.ended(house, run)
            (child,) = await children(world, house, run)
            states = [event.run.id for event in world.events if getattr(event, "run", None) is not None]
        kind, message = ENDINGS[how]
        assert (child.state.type, child.state.message) == (kind, message.format(run.name))
        assert states.index(child.id) < len(states) - 1, "and before its parent is told to have ended"
        assert states[-1] == run.id

    flows(tmp_path, main)


def test_a_retried_parent_begins_its_subflows_anew(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, job: Job) -> None:
            child = await recorder.ask(begins(f"of-{job.attempt}"))
            if job.attempt == 1:
                raise RuntimeError("no luck")
            recorder.report(ends(world, child))

        async with world.carries(job, FLOW + "retries = 1\n") as house:
            (run,) = await world.finished(house)
            found = await children(world, house, run)
        assert [(each.name, each.state.name) for each in found] == [("of-1", "Crashed"), ("of-2", "Completed")]

    flows(tmp_path, main)


def test_a_subflow_of_a_killed_daemon_is_crashed_with_its_parent(tmp_path: Path) -> None:
    """P4"""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            await recorder.ask(begins())
            await world.clock.sleep(3600)

        house = await world.with_flows({"job": job}, FLOW)
        await world.started(house)
        run = await house.control.create_run("job")
        await world.clock.sleep(1)
        await world.kill(house)

        async with world.carries(job) as house:
            (child,) = await children(world, house, run)
            assert {(await world.run(house, run.id)).state.name, child.state.name} == {"Crashed"}

    flows(tmp_path, main)


def test_a_subflow_is_not_cancelled_or_retried_apart_from_its_parent(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            made.append(await recorder.ask(begins()))
            await world.clock.sleep(60)

        made: list[str] = []
        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            with pytest.raises(TransitionError, match=f"is a subflow, .*cancel the parent: {run.id}"):
                await house.control.cancel_run(made[0], "no")
            await house.control.cancel_run(run.id, "no")
            await world.ended(house, run)
            with pytest.raises(TransitionError, match="its code is its parent's"):
                await house.control.retry_run(made[0])

    flows(tmp_path, main)


def test_large_parameters_are_cut_and_say_so(tmp_path: Path) -> None:
    """P13"""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            recorder.report(ends(world, await recorder.ask(begins(parameters={"small": 1, "large": "x" * 300_000}))))

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            (child,) = await children(world, house, run)
        assert child.parameters == {"small": 1, "large": "… [300002 bytes of JSON cut]"}

    flows(tmp_path, main)
