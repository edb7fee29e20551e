"""A task run that is not ready never began, and says which input failed: the end of its flow run changes neither."""

from __future__ import annotations

from pathlib import Path

import msgspec
from flow_stage import FLOW, FlowWorld, Tasks, flows

from tidemill.core.ports import Job
from tidemill.core.states import State, StateType
from tidemill.services.recorder import DaemonRecorder

ENDS_S = 2


async def job(recorder: DaemonRecorder, _: Job) -> None:
    clock = recorder._house.clock
    begun = Tasks(recorder, clock).begin("waits")
    state = State(type=StateType.PENDING, name="NotReady", timestamp=clock.now(), message="no input")
    recorder.report(msgspec.structs.replace(begun, state=state, state_number=begun.state_number + 1))
    await clock.sleep(ENDS_S)


def test_it_stays_so_when_its_flow_run_ends(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            (task,) = await world.task_runs(house, run)
        assert (task.state.type, task.state.name, task.state.message) == (StateType.PENDING, "NotReady", "no input")

    flows(tmp_path, main)


def test_it_stays_so_when_the_daemon_is_killed_under_its_flow_run(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        house = await world.with_flows({"job": job}, FLOW)
        await world.started(house)
        run = await house.control.create_run("job")
        await world.clock.sleep(ENDS_S / 2)
        await world.kill(house)
        async with world.carries(job) as house:
            (task,) = await world.task_runs(house, run)
        assert (task.state.type, task.state.name, task.state.message) == (StateType.PENDING, "NotReady", "no input")

    flows(tmp_path, main)
