"""Starting and doing nothing: cold start to ready, idle CPU and memory, with 100 and with 10,000 deployments."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import lateness, process
from benchmarks.figures import Figure, median, percentile
from benchmarks.rig import CLOCK, TWO_FLOWS, folder, services, spaced

TITLE = "Starting, and doing nothing: the whole process"
CALM_S, CALM_CPU_S, CALM_WITHIN_S = 2.0, 0.01, 90.0
START_PEERS = "others: Huey 0.14, SAQ 0.26, APScheduler 0.76, DBOS 1.7, Prefect 5.4 (12.2 on a fresh database)"
IDLE_PEERS = "others, CPU s/min and MB: Huey 0.08 and 24, Procrastinate 0.22 and 38 + 61, Prefect 2.1 and 327"


def starts(directory: Path, count: int, rounds: int) -> dict[str, list[float]]:
    """Return seconds to ready and to the first answer, of first starts and of second ones, and CPU seconds to ready."""
    found: dict[str, list[float]] = {name: [] for name in ("first", "second", "cpu", "answered", "bare")}
    for number in range(rounds):
        port = process.free_port()
        path = process.config(directory / f"{count}-{number}", process.many(count, port))
        for which in ("first", "second"):
            found["bare"].append(process.bare_start_s())
            with process.daemon(path, port) as running:
                found[which].append(running.ready_s)
                if which == "second":
                    found["cpu"].append(running.ready_cpu_s)
                    found["answered"].append(running.answered_s)
    return found


def idle(directory: Path, counts: tuple[int, ...], seconds: float) -> dict[int, tuple[float, float]]:
    """Return CPU seconds a minute and MB of idle daemons, and of a bare event loop (0)."""
    with ExitStack() as stack:
        pids = {0: stack.enter_context(process.bare())}
        for count in counts:
            port = process.free_port()
            path = process.config(directory / f"idle-{count}", process.many(count, port))
            pids[count] = stack.enter_context(process.daemon(path, port)).process.pid
        for pid in pids.values():
            calm(pid)
        before = {count: process.cpu_s(pid) for count, pid in pids.items()}
        began = time.monotonic()
        time.sleep(seconds)
        minutes = (time.monotonic() - began) / 60
        return {
            count: ((process.cpu_s(pid) - before[count]) / minutes, process.rss_mb(pid)) for count, pid in pids.items()
        }


def calm(pid: int) -> None:
    """Wait until a daemon that has just started has planned ahead and does nothing any more."""
    until = time.monotonic() + CALM_WITHIN_S
    while time.monotonic() < until:
        before = process.cpu_s(pid)
        time.sleep(CALM_S)
        if process.cpu_s(pid) - before < CALM_CPU_S:
            return
    raise SystemExit(f"the daemon is not idle after {CALM_WITHIN_S:.0f} s")


async def late_with(directory: Path, deployments: int, count: int) -> tuple[list[float], list[float]]:
    """Return the lateness of single runs of a daemon with many deployments, in seconds.

    First while it plans their fires ahead for the first time, then when that is done.
    """
    directory.mkdir()
    text = TWO_FLOWS + process.many(deployments, 0).partition("\n\n")[2]
    async with services(directory, text) as rig:
        planning = await rig.lateness(spaced(count // 4, 0.0313, in_s=0.05))
        while rig.house.scheduler.next_time(CLOCK.now()) <= 0:  # noqa: ASYNC110 - a benchmark has no hand in it
            await asyncio.sleep(0.5)
        return planning, await lateness.one_by_one(rig, count)


def measure(quick: bool) -> list[Figure]:
    with folder() as directory:
        starts(directory, 1, 1)  # what Python compiles, it keeps: a fresh installation's first start is not meant
        few = starts(directory, 100, 2 if quick else 5)
        most = 1_000 if quick else 10_000
        many = starts(directory, most, 1 if quick else 2)
        planning, late = asyncio.run(late_with(directory / "late", most, 60 if quick else 200))
        rest = idle(directory, (100, most), 15.0 if quick else 60.0)
    base = median(few["bare"])
    least_cpu, least_mb = rest[0]
    return [
        Figure(name="100 deployments, first start to ready", value=median(few["first"]), unit="s", floor=base),
        Figure(
            name="100 deployments, second start to ready",
            value=median(few["second"]),
            unit="s",
            target="< 0.4",
            floor=base,
            note=f"{median(few['cpu']):.2f} s of CPU; its API answers after {median(few['answered']):.2f} s. "
            "Floor: Python with asyncio, sqlite3, json and logging",
            peers=START_PEERS,
        ),
        Figure(name=f"{most:,} deployments, first start to ready", value=median(many["first"]), unit="s", floor=base),
        Figure(
            name=f"{most:,} deployments, second start to ready",
            value=median(many["second"]),
            unit="s",
            target="< 3",
            floor=base,
            note=f"{median(many['cpu']):.2f} s of CPU; its API answers after {median(many['answered']):.2f} s",
        ),
        Figure(
            name="  while its fires are first planned ahead: p50",
            value=1000 * median(planning),
            unit="ms",
            note=f"the latest of {len(planning)}: {1000 * max(planning):.0f} ms; {3 * most:,} runs are planned, once",
        ),
        Figure(name=f"{most:,} deployments, one run late by, p50", value=1000 * median(late), unit="ms"),
        Figure(
            name=f"{most:,} deployments, one run late by, p99",
            value=1000 * percentile(late, 99),
            unit="ms",
            target="< 10",
        ),
        Figure(
            name="idle, 100 deployments: CPU",
            value=rest[100][0],
            unit="s/min",
            target="< 0.05",
            floor=least_cpu,
            peers=IDLE_PEERS,
        ),
        Figure(name="idle, 100 deployments: RSS", value=rest[100][1], unit="MB", target="< 60", floor=least_mb),
        Figure(name=f"idle, {most:,} deployments: CPU", value=rest[most][0], unit="s/min", target="< 0.05"),
        Figure(name=f"idle, {most:,} deployments: RSS", value=rest[most][1], unit="MB"),
    ]
