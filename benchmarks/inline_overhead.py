"""What the inline runner adds to an async no-op flow, beside a bare task in the same process.

    python benchmarks/inline_overhead.py [--runs 20000] [--rounds 7] [--json]

Rounds alternate between the two, and the best round of each counts: the noise of a busy machine only ever adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Job
from tidemill.runners.inline import InlineRunner
from tidemill.runners.threads import PoolThreads
from tidemill.sdk.memory import MemoryRecorder

FLOW = "async def nothing():\n    pass\n"
TARGET_US = 30.0


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


async def measure(runs: int, rounds: int) -> dict[str, float]:
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
    floor, run, run_timed = min(floors), min(plain), min(with_timeout)
    return {
        "bare_task_us": round(floor, 2),
        "inline_run_us": round(run, 2),
        "inline_run_with_timeout_us": round(run_timed, 2),
        "overhead_us": round(run - floor, 2),
        "ratio": round(run / floor, 2),
        "target_us": TARGET_US,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What the inline runner adds to an async no-op flow.")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = asyncio.run(measure(given.runs, given.rounds))
    if given.json:
        print(json.dumps(result))
        return
    print(f"bare create_task + await     {result['bare_task_us']:8.2f} µs")
    print(f"InlineRunner.run             {result['inline_run_us']:8.2f} µs   {result['ratio']:.1f} times the bare task")
    print(f"  with a timeout             {result['inline_run_with_timeout_us']:8.2f} µs")
    print(f"overhead of a run            {result['overhead_us']:8.2f} µs   (to reach: {TARGET_US:g} µs)")


if __name__ == "__main__":
    main()
