"""Start lateness: from the time a run is due to the first line of its code, its RUNNING durable before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from benchmarks import floor
from benchmarks.figures import Figure, median, percentile
from benchmarks.rig import CLOCK, Rig, at_rest, busy_thread, folder, services, spaced

TITLE = "Start lateness: due → the first line of the flow's code"
AT_ONCE = 1000


async def one_by_one(rig: Rig, count: int) -> list[float]:
    """Return the lateness of single runs on an idle daemon, in seconds."""
    await at_rest()
    return await rig.lateness(spaced(count, 0.0313, in_s=0.5))


async def at_once(rig: Rig, rounds: int) -> list[list[float]]:
    """Return the lateness of a thousand runs due in the same second, for each round."""
    found = []
    for _ in range(rounds):
        await at_rest()
        due = CLOCK.now() + timedelta(seconds=1.5)
        found.append(await rig.lateness([due] * AT_ONCE))
    return found


def figures_of(
    title: str, rounds: list[list[float]], floors: list[list[float]], peers: str, most_ms: int
) -> list[Figure]:
    """Return the median round's p50 and latest start."""

    def over(values: list[list[float]], of: Callable[[list[float]], float]) -> float:
        return 1000 * median(map(of, values))

    worst = 1000 * max(map(max, rounds))
    return [
        Figure(
            name=f"{title}, p50",
            value=over(rounds, median),
            unit="ms",
            target="< 200" if most_ms < 1000 else "",
            floor=over(floors, median),
        ),
        Figure(
            name=f"{title}, latest",
            value=over(rounds, max),
            unit="ms",
            target=f"< {most_ms}",
            floor=over(floors, max),
            note=f"median of {len(rounds)} rounds; the worst round's latest start: {worst:.0f} ms",
            peers=peers,
        ),
    ]


async def _measure(directory: Path, quick: bool) -> list[Figure]:
    count, rounds = (60, 1) if quick else (300, 5)
    floors = [floor.burst(directory / f"floor-{number}.db", AT_ONCE) for number in range(rounds)]
    async with services(directory) as rig:
        least = await floor.lateness(directory / "floor.db", spaced(count, 0.0313, in_s=0.5))
        single = await one_by_one(rig, count)
        together = await at_once(rig, rounds)
        with busy_thread():
            beside = await at_once(rig, rounds)
            single_beside = await one_by_one(rig, min(count, 100))
    commit_ms = 1000 * median(least)
    return [
        Figure(
            name="one run on an idle daemon, p50",
            value=1000 * median(single),
            unit="ms",
            target=f"≤ {2 + commit_ms:.1f}",
            floor=commit_ms,
            note="target: 2 ms and one commit, which is the floor: a bare loop that wakes and commits in a thread",
            peers="others, p50: APScheduler 4-7 (no history), SAQ 3-8, Procrastinate 8-29, Prefect 130-210, "
            "DBOS 527-1,051",
        ),
        Figure(
            name="one run on an idle daemon, p99",
            value=1000 * percentile(single, 99),
            unit="ms",
            target="< 10",
            floor=1000 * percentile(least, 99),
            note=f"{count} runs 31 ms apart; from {1000 * min(single):.2f} to {1000 * max(single):.1f} ms",
            peers="others, worst: Prefect 4,740, and up to 430 early",
        ),
        *figures_of(
            "1,000 due in the same second",
            together,
            floors,
            "others, p50/latest: APScheduler 344/672, SAQ 1,034/1,935, Huey 1,599/2,052",
            400,
        ),
        *figures_of("1,000 due, one thread computing", beside, floors, "", 1000),
        Figure(
            name="one run, one thread computing, p50",
            value=1000 * median(single_beside),
            unit="ms",
            floor=commit_ms,
        ),
    ]


def measure(quick: bool) -> list[Figure]:
    with folder() as directory:
        return asyncio.run(_measure(directory, quick))
