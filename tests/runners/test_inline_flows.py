"""Flows of the decorator in inline pools: which loop carries them, who answers them, and what is theirs of a reload."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeClock
from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job, Outcome
from tidemill.core.reports import Question, VariableQuestion
from tidemill.core.states import StateType
from tidemill.runners.inline import InlineRunner
from tidemill.runners.threads import PoolThreads
from tidemill.sdk.capture import install, uninstall
from tidemill.sdk.memory import MemoryRecorder

FLOWS = """
import asyncio, threading, time
from tidemill import flow, task, get_run_logger
from tidemill.cache_policies import INPUTS
from tidemill.runtime import flow_run
from tidemill.variables import Variable

@task
def double(x):
    return 2 * x

@task
async def adouble(x):
    return 2 * x

@task(cache_policy=INPUTS)
def kept(x):
    return x

@flow
def sync_flow(n: int = 3):
    return [double(n), double.map(range(3)).result(), Variable.get("region"), threading.get_ident()]

@flow
async def pure_flow():
    return [await adouble(1), await Variable.get("region"), threading.get_ident()]

@flow
async def mixed_flow():
    return [double(1), kept(2), adouble.submit(3).result(), await Variable.get("region"), threading.get_ident()]

@flow
async def found_out_too_late():
    return globals()["dou" + "ble"].submit(1).result()

@flow
async def asks_too_late():
    read = getattr(Variable, "g" + "et")
    def reads():
        return read("region")
    return reads()

@flow(log_prints=True)
def speaks():
    print("kept")

@flow
def quiet():
    print("not kept")

def plain():
    print("always kept")
    return flow_run.name

@flow(timeout_seconds=0.2)
async def slow_async():
    await asyncio.sleep(60)

@flow(timeout_seconds=0.2)
def slow_sync():
    while True:
        time.sleep(0.01)

@flow
async def mixed_and_slow():
    double(1)
    get_run_logger().info("begun")
    await asyncio.sleep(60)

@flow
def steps():
    get_run_logger().info("begun")
    while True:
        double(1)
        time.sleep(0.001)

@flow(retries=2, retry_delay_seconds=30)
def fails():
    raise ValueError("no")
"""


class Waiting(MemoryRecorder):
    """Answers variables only after the loop has gone round: who blocks the loop would wait for ever."""

    def __init__(self) -> None:
        super().__init__(variables={"region": "fi"})

    async def ask(self, question: Question) -> Any:
        if isinstance(question, VariableQuestion):
            await asyncio.sleep(0.001)
        return await super().ask(question)


@pytest.fixture
def runner(tmp_path: Path) -> InlineRunner:
    (tmp_path / "flows.py").write_text(FLOWS)
    return InlineRunner(
        pool=WorkPool(name="default"),
        builtins={},
        flows_dir=tmp_path,
        threads=PoolThreads(4),
        clock=SystemClock(),
        grace=timedelta(seconds=30),
    )


def job(name: str, **parameters: Any) -> Job:
    return Job(
        run_id="run-1",
        run_name="brisk-otter",
        attempt=1,
        flow=FlowRef(kind=FlowKind.FILE, entrypoint=f"flows.py:{name}", name=name),
        deployment="daily",
        parameters=parameters,
        expected_start=FakeClock().now(),
    )


async def run(runner: InlineRunner, name: str, recorder: MemoryRecorder | None = None, **parameters: Any) -> Outcome:
    install()  # here, as pytest puts its own streams in place after the fixtures
    try:
        return await asyncio.wait_for(runner.run(job(name, **parameters), recorder or Waiting(), Cancellation()), 30)
    finally:
        uninstall()


async def test_a_sync_flow_runs_in_a_thread_and_is_answered_there(runner: InlineRunner) -> None:
    outcome = await run(runner, "sync_flow", n="4")
    assert outcome.type is StateType.COMPLETED, outcome.message
    *results, thread = outcome.data
    assert results == [8, [0, 2, 4], "fi"]
    assert thread != threading.get_ident()


async def test_an_async_flow_of_async_tasks_runs_on_the_daemons_loop(runner: InlineRunner) -> None:
    assert (await run(runner, "pure_flow")).data == [2, "fi", threading.get_ident()]


async def test_an_async_flow_that_calls_sync_tasks_runs_in_a_thread_with_a_loop_of_its_own(
    runner: InlineRunner,
) -> None:
    *results, thread = (await run(runner, "mixed_flow")).data
    assert results == [2, 2, 6, "fi"]
    assert thread != threading.get_ident()


@pytest.mark.parametrize("name", ["found_out_too_late", "asks_too_late"])
async def test_what_would_block_the_daemons_loop_fails_its_run_instead(runner: InlineRunner, name: str) -> None:
    """P10."""
    outcome = await run(runner, name)
    assert outcome.type is StateType.FAILED
    assert "would block the daemon's event loop" in str(outcome.message)


@pytest.mark.parametrize(("name", "lines"), [("speaks", ["kept"]), ("quiet", []), ("plain", ["always kept"])])
async def test_prints_are_kept_as_the_flow_says_and_always_of_a_plain_function(
    runner: InlineRunner, name: str, lines: list[str]
) -> None:
    recorder = Waiting()
    await run(runner, name, recorder)
    assert recorder.messages == lines


async def test_a_plain_function_has_a_run_like_any_flow(runner: InlineRunner) -> None:
    assert (await run(runner, "plain")).data == "brisk-otter"


@pytest.mark.parametrize("name", ["slow_async", "slow_sync"])
async def test_a_flow_s_own_timeout_holds_where_the_deployment_sets_none(runner: InlineRunner, name: str) -> None:
    outcome = await run(runner, name)
    assert (outcome.type, outcome.name, outcome.abandoned) == (StateType.FAILED, "TimedOut", False)


@pytest.mark.parametrize("name", ["steps", "mixed_and_slow"])
async def test_a_cancellation_reaches_flows_in_threads(runner: InlineRunner, name: str) -> None:
    recorder, cancellation = Waiting(), Cancellation()
    install()
    try:
        running = asyncio.ensure_future(runner.run(job(name), recorder, cancellation))
        async with asyncio.timeout(120):
            while "begun" not in recorder.messages:  # noqa: ASYNC110 - reports come from a thread
                await asyncio.sleep(0.001)
        cancellation.request("stop")
        outcome = await asyncio.wait_for(running, 30)
    finally:
        uninstall()
    assert (outcome.type, outcome.message, outcome.abandoned) == (StateType.CANCELLED, "stop", False)


async def test_the_flows_own_retries_are_told_with_its_outcome(runner: InlineRunner) -> None:
    outcome = await run(runner, "fails")
    assert outcome.retry is not None
    assert (outcome.retry.retries, outcome.retry.delays) == (2, (timedelta(seconds=30),))


async def test_after_a_reload_runs_begin_with_the_new_code(runner: InlineRunner, tmp_path: Path) -> None:
    (tmp_path / "helper_of_inline.py").write_text("VALUE = 'old'\n")
    (tmp_path / "flows.py").write_text("import helper_of_inline as h\ndef value(): return h.VALUE\n")
    assert (await run(runner, "value")).data == "old"
    (tmp_path / "helper_of_inline.py").write_text("VALUE = 'the new one'\n")
    assert (await run(runner, "value")).data == "old"
    runner.reload()
    assert (await run(runner, "value")).data == "the new one"
