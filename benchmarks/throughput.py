"""Durable no-op runs a second: full history, FULL syncs, the event log written to /dev/null as the daemon writes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks import floor
from benchmarks.figures import Figure, Stopwatch, median
from benchmarks.rig import CLOCK, folder, services

TITLE = "Throughput: durable no-op runs, each with four states of history"
PEERS = (
    "others: Huey/SQLite 1,100-1,380/s (no history, loses interrupted work), Procrastinate/PostgreSQL 106-228/s, "
    "DBOS/SQLite 85-108/s, Prefect 0.2-0.35/s"
)


async def queued(directory: Path, count: int) -> tuple[Stopwatch, float]:
    """Return the time from a full queue to all ended, and the database's bytes a run."""
    async with services(directory, start=False) as rig:
        made = [rig.run("noop", CLOCK.now()) for _ in range(count)]
        await rig.store(made)
        ended = rig.ended(count)
        watch = Stopwatch()
        rig.house.start()
        await ended
        watch.stop()
    return watch, floor.check(directory / "tidemill.db", count)


async def made(directory: Path, count: int) -> Stopwatch:
    """Return the time in which a running daemon makes runs and brings them to their end."""
    async with services(directory) as rig:
        runs = [rig.run("noop", CLOCK.now()) for _ in range(count)]
        ended = rig.ended(count)
        watch = Stopwatch()
        await rig.store(runs)
        await ended
        return watch.stop()


def measure(quick: bool) -> list[Figure]:
    count, rounds = (2_000, 2) if quick else (8_000, 4)
    figures: dict[str, list[float]] = {name: [] for name in ("queued", "made", "floor", "floor made", "cpu", "bytes")}
    with folder() as directory:
        for number in range(rounds):
            for kind in ("queued", "made"):
                (directory / f"{kind}-{number}").mkdir()
            path = directory / f"floor-{number}.db"
            figures["floor"].append(count / floor.seconds(path, count, made_before=True))
            floor_bytes = floor.check(path, count)
            watch, size = asyncio.run(queued(directory / f"queued-{number}", count))
            figures["queued"].append(count / watch.wall_s)
            figures["cpu"].append(watch.cpu_s / count * 1e6)
            figures["bytes"].append(size)
            figures["floor made"].append(count / floor.seconds(directory / f"fl-{number}.db", count, made_before=False))
            watch = asyncio.run(made(directory / f"made-{number}", count))
            figures["made"].append(count / watch.wall_s)
    least = median(figures["floor"])
    return [
        Figure(
            name="queued → all terminal",
            value=median(figures["queued"]),
            unit="runs/s",
            target="≥ 2500",
            floor=least,
            note=f"{median(figures['cpu']):.0f} µs of CPU a run, all threads; best of {rounds} rounds "
            f"{max(figures['queued']):,.0f}, worst {min(figures['queued']):,.0f}",
            peers=PEERS,
        ),
        Figure(
            name="  its share of the floor (aim: 40 %)",
            value=100 * median(value / base for value, base in zip(figures["queued"], figures["floor"], strict=True)),
            unit="%",
            target="≥ 25",
        ),
        Figure(
            name="made by a running daemon → all terminal",
            value=median(figures["made"]),
            unit="runs/s",
            floor=median(figures["floor made"]),
            note="three commits a run: made, started, ended",
        ),
        Figure(
            name="database bytes a run, without its log",
            value=median(figures["bytes"]),
            unit="B",
            target="< 1000",
            floor=floor_bytes,
            peers="others: Prefect 69,000 B",
        ),
    ]
