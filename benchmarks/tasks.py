"""Task calls inside a flow, durable when the flow has ended; and the same flow under Prefect, where it is installed.

``TIDEMILL_PREFECT_PYTHON`` names a Python that has Prefect (``make prefect`` makes one).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import Figure, Stopwatch, median
from benchmarks.rig import TWO_FLOWS, folder, services

TITLE = "Tasks: calls inside a flow, and a map"
PEERS = "Prefect 79-119/s"
PREFECT = "TIDEMILL_PREFECT_PYTHON"

FLOWS = """\
from {package} import flow, task
import sys, time

@task
def add(number):
    return number + 1

@flow
def calls(count: int):
    for number in range(count):
        add(number)

@flow
def mapped(count: int):
    return len(add.map(list(range(count))).result())

if __name__ == "__main__":
    calls(1)  # what the first run makes, it makes before the clock runs
    began = time.perf_counter()
    calls(int(sys.argv[1]))
    print("seconds", time.perf_counter() - began)
"""
DEPLOYMENTS = """
[deployments.calls]
flow = "counted.py:calls"
[deployments.calls-apart]
flow = "counted.py:calls"
work_pool = "process"
[deployments.mapped]
flow = "counted.py:mapped"
"""


async def rates(directory: Path, count: int, rounds: int) -> dict[str, float]:
    """Return tasks a second by deployment, from the run's being made to its end's being durable."""
    found: dict[str, float] = {}
    (directory / "flows").mkdir()
    (directory / "flows" / "counted.py").write_text(FLOWS.format(package="tidemill"))
    async with services(directory, TWO_FLOWS + DEPLOYMENTS) as rig:
        for name in ("calls", "calls-apart", "mapped"):
            seconds: list[float] = []
            for _ in range(rounds + 1):
                ended = rig.ended(1)
                watch = Stopwatch()
                run = await rig.house.control.create_run(name, parameters={"count": count})
                await ended
                seconds.append(watch.stop().wall_s)
                state = (await rig.house.orchestrator.get(run.id)).state
                if state.name != "Completed":
                    raise RuntimeError(f"{name}: {state.name}: {state.message}")
            found[name] = count / median(seconds[1:])
    return found


def prefects(count: int) -> float | None:
    """Return the task calls a second of the same flow under Prefect; None where it is not installed."""
    python = os.environ.get(PREFECT)
    if not python:
        return None
    with TemporaryDirectory(prefix="tidemill-bench-") as home:
        script = Path(home, "counted.py")
        script.write_text(FLOWS.format(package="prefect"))
        quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}
        quiet["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
        done = subprocess.run(
            [python, str(script), str(count)],
            env={"PATH": os.environ["PATH"], "HOME": home, "PREFECT_HOME": home, **quiet},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("seconds ")]
    if not told:
        print(f"Prefect could not be measured: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return count / float(told[0][1])


def measure(quick: bool) -> list[Figure]:
    count, rounds = (3_000, 1) if quick else (10_000, 3)
    with folder() as directory:
        found = asyncio.run(rates(directory, count, rounds))
    beside = prefects(50 if quick else 200)
    return [
        Figure(
            name="task calls in a flow, inline pool",
            value=found["calls"],
            unit="/s",
            target="≥ 10000",
            floor=beside,
            note="durable at the flow's end" + ("; the floor is Prefect, same flow, same run" if beside else ""),
            peers=PEERS,
        ),
        Figure(name="task calls in a flow, process pool", value=found["calls-apart"], unit="/s", floor=beside),
        Figure(name=f"a map over {count:,} items, inline pool", value=found["mapped"], unit="/s"),
    ]
