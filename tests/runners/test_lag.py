"""The lag monitor, with a real loop and real threads: code waits for what the monitor says, never for time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job, Outcome
from tidemill.core.states import StateType
from tidemill.runners import lag
from tidemill.runners.inline import InlineRunner
from tidemill.runners.lag import Episode, LagMonitor
from tidemill.runners.threads import PoolThreads
from tidemill.sdk.memory import MemoryRecorder

# Code of the flows under test. What a flow waits for is opened by the monitor's word, from the monitor's own thread.
FLOWS = """
import asyncio, threading, time
from pathlib import Path
told = threading.Event()

async def blocks():
    told.wait(120)  # here

async def blocks_in_a_task_of_its_own():
    async def inner():
        told.wait(120)  # here
    await asyncio.gather(inner())

async def blocks_in_a_callback():
    done = asyncio.Event()
    def callback():
        told.wait(120)  # here
        done.set()
    asyncio.get_running_loop().call_soon(callback)
    await done.wait()

async def computes():
    until = time.monotonic() + 30
    while not told.is_set() and time.monotonic() < until: pass  # here

async def blocks_in_a_library():
    threading.Thread(target=lambda: told.wait(120)).start()
    Path("{gate}").read_text()  # here

def hogs():
    until = time.monotonic() + 30
    while not told.is_set() and time.monotonic() < until: pass  # here

async def hogs_a_thread():
    await asyncio.to_thread(hogs)

def waits():
    told.wait(120)

async def holds(count):
    sum(range(count))  # here
    await asyncio.sleep(0)

def gives_way(turns):
    for _ in range(turns): time.sleep(0.001)
"""


class Watched:
    """An inline runner under a lag monitor."""

    def __init__(self, flows: Path, release: Callable[[], None]) -> None:
        self.told: list[tuple[str, bool]] = []
        self.texts: list[str] = []
        self.seconds: list[float] = []
        self.release = release
        self.heard = asyncio.Event()
        self.monitor = LagMonitor(clock=SystemClock(), tell=self._hear, redact=lambda text: text.replace("# here", ""))
        self.recorder = MemoryRecorder()
        self.runner = InlineRunner(
            pool=WorkPool(name="default"),
            builtins={},
            flows_dir=flows,
            threads=PoolThreads(4),
            clock=SystemClock(),
            grace=timedelta(seconds=5),
            lag=self.monitor,
        )
        self._loop = asyncio.get_running_loop()

    def _hear(self, episode: Episode, ended: bool) -> None:
        self.told.append((episode.kind, ended))
        self.texts.append(f"{episode.who} | {episode.place}")
        self.seconds.append(episode.seconds)
        if not ended:
            self.problems = self.monitor.problems()
            self.release()
        else:
            self._loop.call_soon_threadsafe(self.heard.set)

    async def run(self, flow: str, **parameters: Any) -> Outcome:
        async with asyncio.timeout(120):
            return await self.runner.run(job(flow, parameters), self.recorder, Cancellation())


def job(flow: str, parameters: dict[str, Any]) -> Job:
    return Job(
        run_id="run-1",
        run_name="brisk-otter",
        attempt=1,
        flow=FlowRef(kind=FlowKind.FILE, entrypoint=f"report.py:{flow}", name=flow),
        deployment="daily",
        parameters=parameters,
        expected_start=SystemClock().now(),
    )


@asynccontextmanager
async def watched(folder: Path, text: str = FLOWS) -> AsyncIterator[Watched]:
    """Flows in ``folder`` under a monitor; whatever they wait for is opened when it speaks."""
    gate = folder / "gate"
    (folder / "report.py").write_text(text.replace("{gate}", str(gate)))
    released: list[threading.Event] = []

    def release() -> None:
        for event in released:
            event.set()
        with contextlib.suppress(OSError):  # nobody reads, or there is none
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))

    found = Watched(folder, release)
    found.runner.warm([FlowRef(kind=FlowKind.FILE, entrypoint="report.py:blocks", name="blocks")])
    modules = [each for each in sys.modules.values() if getattr(each, "__file__", None) == str(folder / "report.py")]
    released.append(modules[0].told)
    found.monitor.start()
    try:
        yield found
    finally:
        release()
        found.monitor.stop()


def line_of(text: str, function: str) -> int:
    """The number of the line marked "here" in a function of FLOWS."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if re.match(rf"(async )?def {function}\(", line))
    return next(number for number in range(start, len(lines)) if "# here" in lines[number]) + 1


@pytest.mark.parametrize("flow", ["blocks", "blocks_in_a_task_of_its_own", "blocks_in_a_callback", "computes"])
async def test_code_that_blocks_the_loop_is_named_with_its_line_while_it_does(
    tmp_path: Path, flow: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P10: within a second. The code goes on only when it has been told of, so it was told of while it blocked."""
    async with watched(tmp_path) as house:
        assert (await house.run(flow)).type is StateType.COMPLETED
        async with asyncio.timeout(120):
            await house.heard.wait()
        assert house.told == [("blocks", False), ("blocks", True)]
        assert house.texts[0].startswith(f"daily: brisk-otter | {tmp_path}/report.py:{line_of(FLOWS, flow)} ")
        assert house.seconds[0] < 2, "within a second, and one more on a busy machine"
        assert [
            record.getMessage().split(" for ")[0] for record in caplog.records if record.name == "tidemill.lag"
        ] == [
            "daily: brisk-otter blocks the event loop",
            "daily: brisk-otter no longer blocks the event loop: it did",
        ]
        assert [message.split(" for ")[0] for message in house.recorder.messages] == [
            "the flow's code blocks the event loop",
            "the flow's code no longer blocks the event loop: it did",
        ]


async def test_a_library_that_blocks_is_shown_under_the_flows_own_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    async with watched(tmp_path) as house:
        await house.run("blocks_in_a_library")
        assert f"report.py:{line_of(FLOWS, 'blocks_in_a_library')} blocks_in_a_library: Path(" in house.texts[0]
        assert re.search(r"\(in pathlib\.py:\d+ \w+\)$", house.texts[0])


@pytest.mark.parametrize("flow", ["hogs", "hogs_a_thread"])
async def test_a_thread_that_hogs_the_interpreter_is_named_with_its_line(tmp_path: Path, flow: str) -> None:
    """P10: the loop still answers, and everything is slower."""
    async with watched(tmp_path) as house:
        await house.run(flow)
        async with asyncio.timeout(120):
            await house.heard.wait()
        assert house.told == [("hogs", False), ("hogs", True)]
        assert house.texts[0].startswith(f"daily: brisk-otter | {tmp_path}/report.py:{line_of(FLOWS, 'hogs')} hogs")
        assert house.seconds[0] < 2, "within a second, and one more on a busy machine"


async def test_what_goes_on_is_a_problem_and_what_has_ended_is_none(tmp_path: Path) -> None:
    async with watched(tmp_path) as house:
        await house.run("hogs")
        (problem,) = house.problems  # as it was when the monitor spoke
        assert problem.startswith("daily: brisk-otter hogs the interpreter lock for ")
        async with asyncio.timeout(120):
            await house.heard.wait()
        assert house.monitor.problems() == []
        assert (house.monitor.episodes, house.monitor.longest_s > 0.4) == (1, True)


@pytest.mark.slow
async def test_a_call_that_keeps_the_interpreter_to_itself_is_told_when_it_ends(tmp_path: Path) -> None:
    """Nothing at all runs meanwhile, the monitor included."""
    began = time.thread_time()  # of the processor: on a busy machine the call only takes longer
    sum(range(2_000_000))
    count = int(2_000_000 * 4 / (time.thread_time() - began))
    async with watched(tmp_path) as house:
        await house.run("holds", count=count)
        async with asyncio.timeout(120):
            await house.heard.wait()
        assert house.told == [("holds", False), ("holds", True)]
        assert house.texts[0].startswith(f"daily: brisk-otter | {tmp_path}/report.py:")
        assert house.texts[0].partition(".py:")[2].partition(" ")[2].startswith("holds")
        assert house.seconds[0] > 0.5


async def test_code_that_waits_in_a_thread_or_gives_way_is_nobodys_problem(tmp_path: Path) -> None:
    async with watched(tmp_path) as house:
        waiting = asyncio.ensure_future(house.run("waits"))
        await house.run("gives_way", turns=1200)
        house.release()
        await waiting
        assert (house.told, house.recorder.messages) == ([], [])


async def test_the_monitor_sleeps_while_nothing_runs_inline(tmp_path: Path) -> None:
    """An idle daemon does nothing: the thread waits without a timeout, until a run wakes it."""
    async with watched(tmp_path) as house:
        await until(lambda: house.monitor._asleep)
        assert house.monitor._armed is None
        running = asyncio.ensure_future(house.run("waits"))
        await until(lambda: house.monitor._armed is not None)
        house.release()
        await running
        await until(lambda: house.monitor._asleep)


async def test_a_monitor_that_nobody_woke_stops_at_once(tmp_path: Path) -> None:
    monitor = LagMonitor(clock=SystemClock())
    monitor.start()
    await until(lambda: monitor._asleep)
    monitor.stop()
    assert not any(thread.name == "tidemill-lag" and thread.is_alive() for thread in threading.enumerate())


async def test_many_short_steps_are_a_busy_loop_and_accuse_nobody(tmp_path: Path) -> None:
    """Forty runs of 50 ms each hold the loop up for two seconds; none of them blocks it."""
    text = (
        FLOWS + "\nasync def short():\n    until = time.monotonic() + 0.05\n    while time.monotonic() < until: pass\n"
    )
    async with watched(tmp_path, text) as house:
        await house.run("short")
        await asyncio.gather(*(house.run("short") for _ in range(40)))
        assert house.told == []


def test_the_code_of_no_run_is_not_taken_for_a_runs() -> None:
    assert lag.run_of(sys._getframe()) is None


def test_a_thread_that_has_gone_has_no_run_and_no_place() -> None:
    assert (lag.run_of(None), lag.place(None, None)) == (None, ("a place that is not known", None, None))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread, which has no event for us."""
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
