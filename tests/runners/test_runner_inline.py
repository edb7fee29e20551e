"""What is the inline runner's own: built-in flows, threads and their bound, imports, and the daemon that goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeClock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job
from tidemill.core.states import StateType
from tidemill.errors import EntrypointError
from tidemill.runners.inline import InlineRunner
from tidemill.runners.threads import PoolThreads
from tidemill.sdk.memory import MemoryRecorder

House = Any
Gate = Any
COMPLETED, FAILED = StateType.COMPLETED, StateType.FAILED

pytestmark = pytest.mark.asyncio(loop_scope="module")


def ref(entrypoint: str) -> FlowRef:
    return FlowRef(kind=FlowKind.FILE, entrypoint=entrypoint, name="flow")


async def test_a_command_out_of_time_ends_with_its_whole_group(within: House, tmp_path: Path) -> None:
    """P10: nothing of it is left, and nothing is abandoned."""
    held = tmp_path / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    command = f"exec 3>{held}; sleep 600 & echo started; wait"
    # Long enough for the shell to come to its waiting; the pipe below proves that it did, and that all of it ended.
    running = within.start("shell", timeout=0.5, command=command)
    await within.recorder.said("started")
    outcome = await running
    assert (outcome.name, outcome.abandoned) == ("TimedOut", False)
    os.set_blocking(reader, True)
    assert await asyncio.wait_for(asyncio.to_thread(os.read, reader, 1), 30) == b""
    os.close(reader)


async def test_threads_are_bounded_and_a_run_waits_for_one(within: House, tmp_path: Path) -> None:
    threads = PoolThreads(1)
    release = threading.Event()
    first = asyncio.ensure_future(threads.run(release.wait))
    second = asyncio.ensure_future(threads.run(threading.get_ident))
    await until(lambda: threads.busy == 1)
    assert (threads.busy, second.done()) == (1, False)
    release.set()
    assert await first is True
    assert await second != threading.get_ident()


async def test_a_run_that_waits_for_a_thread_can_be_cancelled_and_never_begins(tmp_path: Path, gate: Gate) -> None:
    runner = make(tmp_path, threads=1)
    (tmp_path / "flows.py").write_text(
        "from pathlib import Path\n"
        "def blocks(gate):\n    print('started')\n    Path(gate).read_text()\n"
        "def never():\n    raise AssertionError('it began')\n"
    )
    recorder = MemoryRecorder()
    runner.warm([ref("flows.py:blocks"), ref("flows.py:never")])
    first = asyncio.ensure_future(runner.run(job("flows.py:blocks", gate=gate.path), recorder, Cancellation()))
    await asyncio.sleep(0)
    cancellation = Cancellation()
    second = asyncio.ensure_future(runner.run(job("flows.py:never"), recorder, cancellation))
    await asyncio.sleep(0)
    cancellation.request("stop")
    outcome = await asyncio.wait_for(second, 30)
    assert (outcome.type, outcome.abandoned) == (StateType.CANCELLED, False)
    await gate.open()
    assert (await first).type is StateType.COMPLETED


async def test_a_thread_that_was_left_behind_keeps_its_place_in_the_bound(tmp_path: Path, gate: Gate) -> None:
    threads = PoolThreads(2)
    runner = make(tmp_path, threads=threads, grace=0.02)
    (tmp_path / "flows.py").write_text("from pathlib import Path\ndef blocks(gate): Path(gate).read_text()\n")
    runner.warm([ref("flows.py:blocks")])
    blocked = job("flows.py:blocks", timeout=0.2, gate=gate.path)
    assert (await runner.run(blocked, MemoryRecorder(), Cancellation())).abandoned
    assert (threads.busy, runner.abandoned) == (1, 1)
    await gate.open()
    await until(lambda: runner.abandoned == 0)
    assert threads.busy == 0


async def test_a_stop_of_the_daemon_does_not_wait_for_threads(tmp_path: Path, gate: Gate) -> None:
    """P9: it has waited already, and there is nothing that a thread could be told."""
    runner = make(tmp_path, grace=60)
    (tmp_path / "flows.py").write_text(
        "from pathlib import Path\n"
        "def blocks(marker, gate):\n    Path(marker).write_text('')\n    Path(gate).read_text()\n"
    )
    marker = Path(gate.path).with_name("marker")
    os.mkfifo(marker)
    cancellation = Cancellation()
    blocked = job("flows.py:blocks", marker=str(marker), gate=gate.path)
    running = asyncio.ensure_future(runner.run(blocked, MemoryRecorder(), cancellation))
    await asyncio.to_thread(marker.read_text)  # it is in its thread now
    cancellation.request("daemon stopped", crashed=True)
    outcome = await asyncio.wait_for(running, 30)
    assert (outcome.type, outcome.abandoned) == (StateType.CRASHED, True)
    await gate.open()
    await until(lambda: runner.abandoned == 0)


async def test_a_worker_that_is_cancelled_takes_its_run_along(within: House) -> None:
    running = within.start("endings.py:waits")
    await within.recorder.said("started")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await within.recorder.said("put in order")
    await within.until_abandoned(0)


async def test_the_loop_goes_on_while_a_flow_is_imported_for_the_first_time(tmp_path: Path, gate: Gate) -> None:
    runner = make(tmp_path)
    (tmp_path / "slow.py").write_text(
        f"from pathlib import Path\nPath({gate.path!r}).read_text()\nasync def flow(): return 1\n"
    )
    running = asyncio.ensure_future(runner.run(job("slow.py:flow"), MemoryRecorder(), Cancellation()))
    await gate.open()  # which only comes back once the import reads: the loop was free to do it
    assert (await running).data == 1


async def test_an_import_without_end_is_part_of_its_run_and_can_be_cancelled(tmp_path: Path, gate: Gate) -> None:
    runner = make(tmp_path)
    (tmp_path / "endless.py").write_text(f"import pathlib\npathlib.Path({gate.path!r}).read_text()\ndef flow(): ...\n")
    (tmp_path / "other.py").write_text("def flow(): ...\n")
    outcome = await runner.run(job("endless.py:flow", timeout=0.1), MemoryRecorder(), Cancellation())
    assert outcome.name == "TimedOut"
    # It still hangs in its thread, and holds no other import up.
    assert (await runner.run(job("other.py:flow"), MemoryRecorder(), Cancellation())).type is StateType.COMPLETED
    await gate.open()


async def test_warming_imports_beforehand_and_tells_of_the_first_bad_one(tmp_path: Path) -> None:
    runner = make(tmp_path)
    (tmp_path / "good.py").write_text("async def flow(): return 1\n")
    with pytest.raises(EntrypointError, match="there is no file"):
        runner.warm([ref("good.py:flow"), ref("absent.py:flow")])
    (tmp_path / "good.py").unlink()
    assert (await runner.run(job("good.py:flow"), MemoryRecorder(), Cancellation())).data == 1


async def test_sync_code_can_hear_that_it_should_end_and_is_waited_for(within: House) -> None:
    outcome = await within.run("endings.py:heeds", timeout=0.2)
    assert (outcome.name, outcome.abandoned) == ("TimedOut", False)
    assert within.recorder.messages == ["started", "heard"]


@pytest.mark.parametrize("flow", ["swallows", "blocks"])
@pytest.mark.parametrize("why", ["timeout", "cancel"])
async def test_code_that_does_not_end_is_left_behind_and_counted_until_it_does(
    hasty: House, gate: Gate, flow: str, why: str
) -> None:
    """P10: its run has ended, its slot is not free."""
    running = hasty.start(f"endings.py:{flow}", timeout=0.2 if why == "timeout" else None, gate=gate.path)
    await hasty.recorder.said("started")
    if why == "cancel":
        hasty.cancellation.request("stop")
    outcome = await running
    assert outcome.abandoned
    assert (outcome.type, outcome.name) == (
        (FAILED, "TimedOut") if why == "timeout" else (StateType.CANCELLED, "Cancelled")
    )
    assert str(outcome.message).endswith("; its code was told to end and still runs")
    assert hasty.runner.abandoned == 1
    assert any("is left behind" in message for message in hasty.recorder.messages)
    await gate.open()
    await hasty.until_abandoned(0)


async def test_others_run_on_beside_code_that_does_not_end(hasty: House, gate: Gate) -> None:
    await hasty.run("endings.py:blocks", timeout=0.2, gate=gate.path)
    assert (await hasty.run("endings.py:sync_returns", value=1)).type is COMPLETED
    await gate.open()
    await hasty.until_abandoned(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a number of the runner's, which has no event of its own."""
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def make(flows_dir: Path, *, threads: int | PoolThreads = 2, grace: float = 60) -> InlineRunner:
    return InlineRunner(
        pool=WorkPool(name="default"),
        builtins={},
        flows_dir=flows_dir,
        threads=PoolThreads(threads) if isinstance(threads, int) else threads,
        clock=FakeClock(),
        grace=timedelta(seconds=grace),
    )


def job(entrypoint: str, timeout: float | None = None, **parameters: Any) -> Job:
    return Job(
        run_id="run-1",
        run_name="brisk-otter",
        attempt=1,
        flow=ref(entrypoint),
        deployment="daily",
        parameters=parameters,
        timeout=None if timeout is None else timedelta(seconds=timeout),
        expected_start=FakeClock().now(),
    )
