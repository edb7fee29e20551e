"""Simulating: two weeks of a hundred deployments, by the command as people run it."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.figures import Figure, median
from benchmarks.process import environment
from benchmarks.rig import folder

TITLE = "Simulating: two weeks of 100 deployments, the whole command"
START = datetime(2026, 3, 28, tzinfo=UTC)
PEERS = "others: none simulates queues and limits; a calendar of fires is what there is"


def hundred() -> str:
    """A hundred deployments as a machine's crontabs have them: mostly daily, some hourly, a few every some minutes."""
    source = random.Random(3)

    def at() -> str:
        return f"{source.randrange(60)} {source.randrange(24)}"

    crons = [f"{at()} * * *" for _ in range(60)] + [f"{at()} * * {n % 7}" for n in range(15)]
    crons += [f"{at()} {n + 1} * *" for n in range(5)] + [f"{source.randrange(60)} * * * *" for _ in range(16)]
    crons += ["*/15 * * * *"] * 3 + ["*/5 * * * *"]
    text = '[daemon]\ntimezone = "Europe/Helsinki"\n'
    return text + "".join(f'[deployments.job-{n}]\ncommand = "true"\ncron = "{cron}"\n' for n, cron in enumerate(crons))


def command(config: Path, weeks: int) -> tuple[float, int]:
    """Return how many seconds the command took, and how many runs it simulated."""
    began = time.perf_counter()
    argv = [sys.executable, "-m", "tidemill", "simulate", str(config), "--from", "2026-03-28", "--for", f"{weeks}w"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment())
    took = time.perf_counter() - began
    match = re.search(r"^([\d,]+) runs:", done.stdout, re.MULTILINE)
    assert match is not None
    return took, int(match[1].replace(",", ""))


def fires_alone(config: Path, weeks: int) -> float:
    """Return how many seconds it takes to work out when everything is due, and nothing else."""
    from tidemill.config import load
    from tidemill.core.schedules import fires

    loaded = load(config, environ={})
    began = time.perf_counter()
    for schedules in loaded.compiled.values():
        for compiled in schedules:
            sum(1 for _ in fires(compiled, START, until=START + timedelta(weeks=weeks), limit=1_000_000))
    return time.perf_counter() - began


def measure(quick: bool) -> list[Figure]:
    with folder() as directory:
        config = directory / "tidemill.toml"
        config.write_text(hundred())
        taken = [command(config, 2) for _ in range(2 if quick else 5)]
        floor = fires_alone(config, 2)
    seconds, runs = median(took for took, _ in taken), taken[0][1]
    return [
        Figure(
            name="two weeks of 100 deployments",
            value=seconds,
            unit="s",
            target="< 3",
            floor=floor,
            peers=PEERS,
            note=f"{runs:,} runs; floor: working out when each is due",
        ),
        Figure(name="runs simulated a second", value=runs / seconds, unit="/s"),
    ]
