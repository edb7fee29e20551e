"""What a run in a process of its own costs, and what it costs the others when its code does its worst.

A start is from the runner's being asked to the first line of the flow's code, by the clock that all processes of a
machine share. The floor of a start is what the same machine takes, in the same run, for ``python -c pass``.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from benchmarks.figures import Figure, median, percentile
from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, Limits, WorkPool
from tidemill.core.ports import Cancellation, Job, Outcome
from tidemill.core.reports import Report
from tidemill.runners.process import ProcessRunner

TITLE = "a process of its own for each run"
AT_ONCE = 20
GRACE = timedelta(seconds=1)

FLOWS = """
import ctypes, os, time

def nothing():
    return time.monotonic()

def segfaults():
    ctypes.string_at(0)

def exits():
    os._exit(3)

def hogs_memory():
    kept = []
    while True:
        kept.append(b"x" * 2**20)

def loops():
    while True:
        pass

def ignores():
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

def forks():
    for _ in range(40):
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(600)

def prints():
    for number in range(1_000_000):
        print(number)

def writes():
    data = b"a line\\n" * 1000
    for _ in range(1000):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(1, rest):]
"""
WORST = ("segfaults", "exits", "hogs_memory", "loops", "ignores", "forks", "prints", "writes")


class _Deaf:
    """A recorder that keeps nothing: what a daemon does with reports is another benchmark's."""

    def report(self, report: Report) -> None: ...

    async def flush(self) -> None: ...

    async def ask(self, question: object) -> object:
        raise NotImplementedError


def measure(quick: bool = False) -> list[Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "flows.py").write_text(FLOWS)
        return asyncio.run(_measured(Path(folder), 20 if quick else 100))


async def _measured(folder: Path, rounds: int) -> list[Figure]:
    bare = median([_python("pass") for _ in range(10)]) * 1e3
    bare_imports = median([_python("import asyncio, logging, msgspec") for _ in range(10)]) * 1e3
    began = time.perf_counter()
    warm = _runner(folder, spares=2)
    await warm.run(_job("nothing"), _Deaf(), Cancellation())
    cold_ms = (time.perf_counter() - began) * 1e3
    with_spare = [await _one(warm) for _ in range(rounds)]
    burst = await _burst(warm)
    await warm.aclose()
    bare_pool = _runner(folder, spares=0)
    await _one(bare_pool)
    without = [await _one(bare_pool) for _ in range(rounds)]
    await bare_pool.aclose()
    lateness, idle = await _worst(folder)
    starts, rounds_ms = [start for start, _ in with_spare], [whole for _, whole in with_spare]
    return [
        Figure(name="start, a spare waits: p50", value=median(starts), unit="ms", target="< 30", floor=bare,
               peers="Prefect 5,000-7,000", note=f"floor: python -c pass; {bare_imports:.0f} ms with what a run needs"),
        Figure(name="start, a spare waits: p99", value=percentile(starts, 99), unit="ms", target="< 30", floor=bare),
        Figure(name="start, no spare: p50", value=median([start for start, _ in without]), unit="ms", target="< 80",
               floor=bare),
        Figure(name="start, no spare: p99", value=percentile([start for start, _ in without], 99), unit="ms",
               floor=bare),
        Figure(name="the whole run, until nothing of it is left: p50", value=median(rounds_ms), unit="ms",
               peers="Prefect 8,500"),
        Figure(name=f"start of {AT_ONCE} at once: p50", value=median(burst), unit="ms"),
        Figure(name=f"start of {AT_ONCE} at once: max", value=max(burst), unit="ms"),
        Figure(name="the first run of a pool, with its fork server", value=cold_ms, unit="ms", floor=bare_imports),
        Figure(name="lateness of the loop beside the worst: p99", value=percentile(lateness, 99), unit="ms",
               target="< 50", floor=max(percentile(idle, 99), 0.1), note=", ".join(WORST)),
        Figure(name="lateness of the loop beside the worst: max", value=max(lateness), unit="ms", target="< 50",
               floor=max(idle)),
    ]  # fmt: skip


def _python(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def _runner(folder: Path, spares: int) -> ProcessRunner:
    return ProcessRunner(
        pool=WorkPool(name="process", type="process", spares=spares),
        flows_dir=folder,
        clock=SystemClock(),
        grace=GRACE,
        environ=os.environ,
    )


def _job(flow: str, *, timeout: timedelta | None = None, limits: Limits = Limits()) -> Job:  # noqa: B008 - frozen
    return Job(
        run_id=f"run-{flow}",
        run_name=flow,
        attempt=1,
        flow=FlowRef(kind=FlowKind.FILE, entrypoint=f"flows.py:{flow}", name=flow),
        deployment="benchmark",
        parameters={},
        timeout=timeout,
        expected_start=SystemClock().now(),
        limits=limits,
    )


async def _one(runner: ProcessRunner) -> tuple[float, float]:
    """Return the milliseconds to the flow's first line, and to the end of it all. The spare is made up for between."""
    await runner.warm([(_job("nothing").flow, None)])
    await asyncio.sleep(0.05)
    asked = time.monotonic()
    outcome: Outcome = await runner.run(_job("nothing"), _Deaf(), Cancellation())
    ended = time.monotonic()
    return (outcome.data - asked) * 1e3, (ended - asked) * 1e3


async def _burst(runner: ProcessRunner) -> list[float]:
    asked = time.monotonic()
    runs = [runner.run(_job("nothing"), _Deaf(), Cancellation()) for _ in range(AT_ONCE)]
    return [(outcome.data - asked) * 1e3 for outcome in await asyncio.gather(*runs)]


async def _worst(folder: Path) -> tuple[list[float], list[float]]:
    """Return how late the loop was, in milliseconds: beside every kind of bad flow, one after another; and at rest."""
    runner = _runner(folder, spares=1)
    await runner.warm([(_job("nothing").flow, None)])
    idle = await _late(lambda: asyncio.sleep(1.0))

    async def all_of_them() -> None:
        for flow in WORST:
            limits = Limits(memory=256 * 2**20) if flow == "hogs_memory" else Limits()
            await runner.run(_job(flow, timeout=timedelta(seconds=2), limits=limits), _Deaf(), Cancellation())

    lateness = await _late(all_of_them)
    await runner.aclose()
    return lateness, idle


async def _late(work: Callable[[], Awaitable[None]]) -> list[float]:
    found: list[float] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            found.append((loop.time() - due) * 1e3)

    watching = asyncio.ensure_future(watch())
    await work()
    watching.cancel()
    return found
