"""Who is cancelled takes along what it asked for by run_deployment."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flow_stage import FLOW, FlowWorld, flows

from tidemill.core.ports import Job
from tidemill.core.reports import PauseQuestion, RunDeploymentQuestion
from tidemill.core.runs import FlowRun
from tidemill.services.house import House
from tidemill.services.recorder import DaemonRecorder
from tidemill.store import runs as stored_runs

CONFIG = (
    FLOW
    + """
[deployments.kid]
command = "true"
retries = 3
retry_delay = "1h"
[deployments.grandkid]
command = "true"
"""
)
REASON = "its parent n was cancelled: enough"


async def for_ever(recorder: DaemonRecorder, _: Job) -> None:
    await asyncio.Event().wait()


async def fails(recorder: DaemonRecorder, _: Job) -> None:
    raise ValueError("no luck")


async def pauses(recorder: DaemonRecorder, _: Job) -> None:
    await recorder.ask(PauseQuestion(timeout_s=36_000))


def asks(world: FlowWorld, deployment: str = "kid", **fields: Any) -> Any:
    async def flow(recorder: DaemonRecorder, _: Job) -> None:
        await recorder.ask(RunDeploymentQuestion(deployment=deployment, **fields))
        await asyncio.Event().wait()

    return flow


async def children(house: House, run: FlowRun) -> list[FlowRun]:
    return list(await house.store.read(lambda connection: stored_runs.children_of(connection, run.id)))


@pytest.mark.parametrize(
    ("kid", "fields", "name"),
    [
        (for_ever, {}, "Running"),
        (fails, {}, "AwaitingRetry"),
        (pauses, {}, "Paused"),
        (for_ever, {"scheduled_time": timedelta(hours=2)}, "Scheduled"),
    ],
)
def test_what_a_cancelled_run_asked_for_is_cancelled_whatever_it_does(
    kid: Any, fields: dict[str, Any], name: str, tmp_path: Path
) -> None:
    async def main(world: FlowWorld) -> None:
        given = {key: world.now + value for key, value in fields.items()}
        async with world.carries({"job": asks(world, **given), "kid": kid}, CONFIG) as house:
            parent = await house.control.create_run("job", name="n")
            await world.clock.sleep(60)
            (child,) = await children(house, parent)
            assert child.state.name == name
            await house.control.cancel_run(parent.id, "enough")
            ended = await world.ended(house, child)
            assert (ended.state.name, ended.state.message) == ("Cancelled", REASON)

    flows(tmp_path, main)


def test_cancelling_goes_down_to_the_last_generation(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        carried = {"job": asks(world), "kid": asks(world, "grandkid"), "grandkid": for_ever}
        async with world.carries(carried, CONFIG) as house:
            parent = await house.control.create_run("job", name="n")
            await world.clock.sleep(60)
            (child,) = await children(house, parent)
            (grandchild,) = await children(house, child)
            await house.control.cancel_run(parent.id, "enough")
            assert (await world.ended(house, grandchild)).state.name == "Cancelled"

    flows(tmp_path, main)


def test_what_is_asked_for_on_the_way_out_is_cancelled_too(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await recorder.ask(RunDeploymentQuestion(deployment="kid"))

        async with world.carries({"job": job, "kid": for_ever}, CONFIG) as house:
            parent = await house.control.create_run("job", name="n")
            await world.clock.sleep(60)
            await house.control.cancel_run(parent.id, "enough")
            await world.ended(house, parent)
            (child,) = await children(house, parent)
            assert (await world.ended(house, child)).state.message == REASON

    flows(tmp_path, main)


def test_a_run_of_its_own_goes_on(tmp_path: Path) -> None:
    """``as_subflow=False``; and what a person retried after its parent's end is the person's."""

    async def main(world: FlowWorld) -> None:
        async with world.carries({"job": asks(world, name="own", as_subflow=False), "kid": for_ever}, CONFIG) as house:
            parent = await house.control.create_run("job", name="n")
            await world.clock.sleep(60)
            (own,) = await house.store.read(lambda connection: stored_runs.find(connection, "own"))
            assert (own.parent_run_id, own.created_by) == (None, "flow")
            await house.control.cancel_run(parent.id, "enough")
            await world.clock.sleep(60)
            assert (await world.run(house, own.id)).state.name == "Running"

    flows(tmp_path, main)


def test_what_a_dead_daemon_had_not_come_to_is_cancelled_before_anything_starts(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        carried = {"job": asks(world, scheduled_time=world.now + timedelta(hours=2)), "kid": for_ever}
        house = await world.with_flows(carried, CONFIG)
        await world.started(house)
        parent = await house.control.create_run("job", name="n")
        await world.clock.sleep(60)
        (child,) = await children(house, parent)
        await house.control.cancel_run(parent.id, "enough")
        await world.kill(house)
        house = await world.with_flows(carried, CONFIG)
        assert (await world.run(house, child.id)).state.name == "Scheduled"
        await house.recover()
        found = await world.run(house, child.id)
        assert (found.state.name, found.state.message) == ("Cancelled", REASON)
        house.start()

        await house.control.retry_run(child.id)  # from now on it is the person's
        await world.clock.sleep(60)
        assert (await world.run(house, child.id)).state.name == "Running"
        await house.kinship.load()
        assert await house.kinship.tick() == 0
        await house.stop(timedelta(0))

    flows(tmp_path, main)
