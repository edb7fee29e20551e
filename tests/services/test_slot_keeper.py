"""Slots follow live runs: whatever becomes of a run, nothing of it is held for longer than its code lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from flow_stage import DONE, FLOW, FlowWorld, flows

from tidemill.core.ports import Job
from tidemill.core.reports import SlotsQuestion, SlotsReleased
from tidemill.core.states import StateType
from tidemill.errors import TidemillError
from tidemill.services.recorder import DaemonRecorder

CONFIG = (
    FLOW
    + """
retries = 1
[concurrency_limits.db]
limit = 2
[concurrency_limits.api_calls]
limit = 10
slot_decay_per_second = 5
[tag_limits]
heavy = 1
"""
)
ONE = SlotsQuestion(names=("db",))


def test_slots_are_given_back_when_the_code_says_so(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            lease = await recorder.ask(ONE)
            assert house.slots.taken("db") == 1
            recorder.report(SlotsReleased(lease=lease))
            recorder.report(SlotsReleased(lease=lease))
            await recorder.flush()
            assert house.slots.taken("db") == 0

        async with world.carries(job, CONFIG) as house:
            (run,) = await world.finished(house)
            assert run.state.name == "Completed", run.state.message

    flows(tmp_path, main)


async def _fails(world: FlowWorld, recorder: DaemonRecorder) -> None:
    raise RuntimeError("no luck")


async def _sleeps(world: FlowWorld, recorder: DaemonRecorder) -> None:
    await world.clock.sleep(30)


async def _ends(world: FlowWorld, recorder: DaemonRecorder) -> None:
    return None


async def _waits_for_more(world: FlowWorld, recorder: DaemonRecorder) -> None:
    await recorder.ask(SlotsQuestion(names=("db",), occupy=2))


# How an attempt ends that holds a slot.
ENDINGS: dict[str, Callable[[FlowWorld, DaemonRecorder], Awaitable[None]]] = {
    "well, without giving it back": _ends,
    "with an error": _fails,
    "cancelled while it works": _sleeps,
    "cancelled while it waits for more": _waits_for_more,
}


@pytest.mark.parametrize("how", ENDINGS)
def test_a_lease_ends_with_its_attempt(how: str, tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            await recorder.ask(ONE)
            await ENDINGS[how](world, recorder)

        async with world.carries(job, CONFIG) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            if how.startswith("cancelled"):
                assert house.slots.taken("db") == 1
                await house.control.cancel_run(run.id, "enough")
            await world.ended(house, run)
            await world.clock.sleep(1)
            assert house.slots.taken("db") == 0
            assert [each["waiting"] for each in house.slots.documents()] == [0, 0, 0]

    flows(tmp_path, main)


def test_code_that_was_left_behind_holds_its_slots_until_it_has_ended(tmp_path: Path) -> None:
    """A thread cannot be killed: what it does to the database, it goes on doing."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            await recorder.ask(ONE)
            await world.clock.sleep(100)

        async with world.carries(job, CONFIG, deaf=("job",)) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            await house.control.cancel_run(run.id, "enough")
            assert (await world.ended(house, run)).state.name == "Cancelled"
            await world.clock.sleep(50)
            assert house.slots.taken("db") == 1
            await world.clock.sleep(60)
            assert house.slots.taken("db") == 0

    flows(tmp_path, main)


def test_who_waits_gets_slots_in_the_order_of_asking(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        order: list[int] = []

        async def job(recorder: DaemonRecorder, _: Job) -> None:
            number = len(asked)
            asked.append(number)
            lease = await recorder.ask(ONE)
            order.append(number)
            await world.clock.sleep(10)
            recorder.report(SlotsReleased(lease=lease))

        asked: list[int] = []
        async with world.carries(job, CONFIG) as house:
            began = world.now
            await world.finished(house, *["job"] * 6)
            assert order == [0, 1, 2, 3, 4, 5]
            assert 30 <= (world.now - began).total_seconds() < 31, "two at a time"

    flows(tmp_path, main)


def test_a_wait_ends_with_its_timeout_and_says_what_was_missing(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            await recorder.ask(SlotsQuestion(names=("db",), occupy=2))
            began = world.now
            with pytest.raises(TidemillError) as caught:
                await recorder.ask(SlotsQuestion(names=("db",), timeout_s=5))
            assert str(caught.value) == "timed out after 5s: 1 slot of db (2 of 2 taken) could not be had"
            assert (world.now - began).total_seconds() == 5

        async with world.carries(job, CONFIG) as house:
            (run,) = await world.finished(house)
            assert run.state.name == "Completed", run.state.message
            assert house.slots.taken("db") == 0

    flows(tmp_path, main)


def test_a_rate_limit_lets_through_its_slots_and_then_so_many_a_second(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        times: list[float] = []

        async def job(recorder: DaemonRecorder, _: Job) -> None:
            async def call() -> None:
                assert await recorder.ask(SlotsQuestion(names=("api-calls",), rate=True)) is None
                times.append((world.now - began).total_seconds())

            began = world.now
            await asyncio.gather(*(call() for _ in range(30)))

        async with world.carries(job, CONFIG) as house:
            (run,) = await world.finished(house)
            assert run.state.name == "Completed", run.state.message
        assert times[:10] == [0.0] * 10
        assert times[10:] == pytest.approx([0.2 * n for n in range(1, 21)])

    flows(tmp_path, main)


def test_a_tags_limit_counts_task_runs_apart_from_flow_runs(tmp_path: Path) -> None:
    """A flow run with the tag holds the one slot that flow runs share; its tasks have one of their own."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            assert await recorder.ask(SlotsQuestion(names=("tag:heavy",))) is not None
            with pytest.raises(TidemillError, match="timed out"):
                await recorder.ask(SlotsQuestion(names=("tag:heavy",), timeout_s=1))
            assert await recorder.ask(SlotsQuestion(names=("tag:unknown",))) is None

        config = CONFIG.replace("retries = 1", 'tags = ["heavy"]')
        async with world.carries(job, config) as house:
            (run,) = await world.finished(house)
            assert run.state.name == "Completed", run.state.message

    flows(tmp_path, main)


def test_a_slot_of_another_attempt_cannot_be_given_back(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        leases: list[Any] = []

        async def holder(recorder: DaemonRecorder, _: Job) -> None:
            leases.append(await recorder.ask(ONE))
            await world.clock.sleep(10)

        async def thief(recorder: DaemonRecorder, _: Job) -> float:
            recorder.report(SlotsReleased(lease=leases[0]))
            await recorder.flush()
            return house.slots.taken("db")

        config = CONFIG.replace("retries = 1", "") + '[deployments.thief]\ncommand = "true"\n'
        async with world.carries({"job": holder, "thief": thief}, config) as house:
            await house.control.create_run("job")
            await world.clock.sleep(1)
            (run,) = await world.finished(house, "thief")
            assert run.state.data == 1

    flows(tmp_path, main)


def test_a_restarted_daemon_has_no_holders(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            await recorder.ask(SlotsQuestion(names=("db",), occupy=2))
            await world.clock.sleep(3600)

        house = await world.with_flows({"job": job}, CONFIG)
        await world.started(house)
        await house.control.create_run("job")
        await world.clock.sleep(1)
        await world.kill(house)

        async def next_job(recorder: DaemonRecorder, _: Job) -> Any:
            assert await recorder.ask(SlotsQuestion(names=("db",), occupy=2, timeout_s=1)) is not None
            return DONE

        async with world.carries(next_job, CONFIG) as house:
            (run,) = await world.finished(house)
            assert run.state.type is StateType.COMPLETED, run.state.message

    flows(tmp_path, main)
