"""What the inline runner adds to an async no-op flow, beside a bare task in the same process.

Rounds alternate between the two, and the best round of each counts: the noise of a busy machine only ever adds.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import Figure
from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job
from tidemill.runners.inline import InlineRunner
from tidemill.runners.threads import PoolThreads
from tidemill.sdk.memory import MemoryRecorder

FLOW = "async def nothing():\n    pass\n"
TITLE = "The inline runner: CPU of one attempt"


async def nothing() -> None:
    pass


async def bare(runs: int) -> float:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for _ in range(runs):
        await loop.create_task(nothing())
    return (time.perf_counter() - started) / runs * 1e6


async def inline(runner: InlineRunner, job: Job, runs: int) -> float:
    recorder = MemoryRecorder()
    started = time.perf_counter()
    for _ in range(runs):
        await runner.run(job, recorder, Cancellation())
    return (time.perf_counter() - started) / runs * 1e6


async def _measure(runs: int, rounds: int) -> list[Figure]:
    with TemporaryDirectory() as folder:
        (Path(folder) / "noop.py").write_text(FLOW)
        runner = InlineRunner(
            pool=WorkPool(name="default"),
            builtins={},
            flows_dir=Path(folder),
            threads=PoolThreads(1),
            clock=SystemClock(),
            grace=timedelta(seconds=30),
        )
        job = Job(
            run_id="0192e4a0-0000-7000-8000-000000000000",
            run_name="brisk-otter",
            attempt=1,
            flow=FlowRef(kind=FlowKind.FILE, entrypoint="noop.py:nothing", name="nothing"),
            deployment="noop",
            parameters={},
            expected_start=datetime.now(UTC),
        )
        timed = Job(**{name: getattr(job, name) for name in job.__struct_fields__} | {"timeout": timedelta(minutes=10)})
        floors, plain, with_timeout = [], [], []
        for _ in range(rounds):
            floors.append(await bare(runs))
            plain.append(await inline(runner, job, runs))
            with_timeout.append(await inline(runner, timed, runs))
        await runner.aclose()
    floor = min(floors)
    return [
        Figure(
            name="an async no-op flow", value=min(plain), unit="µs", floor=floor, note="floor: a bare task, awaited"
        ),
        Figure(name="  with a timeout", value=min(with_timeout), unit="µs", floor=floor),
        Figure(name="  what the runner adds to the task", value=min(plain) - floor, unit="µs", target="< 30"),
    ]


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(*((5_000, 3) if quick else (20_000, 7))))
