"""Days in which the daemon dies again and again, at seeded instants, on a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stage import DONE, FAILED, World, minutes, play, runner, seconds

from tidemill.config import Loaded
from tidemill.core.ports import Job, Outcome
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.schedules import compile_schedule, fires
from tidemill.errors import TidemillError

# Helsinki's clock goes back on 2026-10-25 at 04:00 summer time, which becomes 03:00.
AUTUMN = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
SPRING = datetime(2026, 3, 28, 20, 0, tzinfo=UTC)
DAY = timedelta(hours=14)
CONFIG = """
[daemon]
timezone = "Europe/Helsinki"
catch_up_window = "7d"
[retention]
keep_runs_per_deployment = 10_000
[deployments.repeated-hour]
command = "true"
cron = "30 3 * * *"
catch_up = "all"
[deployments.latest]
command = "true"
cron = "*/5 * * * *"
retries = 2
retry_delay = ["10s", "1m"]
[deployments.all]
command = "true"
interval = "7m"
catch_up = "all"
jitter = "45s"
[deployments.skip]
command = "true"
interval = "3m"
catch_up = "skip"
[deployments.one-at-a-time]
command = "true"
interval = "10m"
concurrency_limit = 1
on_crash = "retry"
"""


def script(job: Job) -> tuple[timedelta, Outcome]:
    number = sum(job.run_id.encode())
    if job.deployment == "one-at-a-time":
        return minutes(4), DONE
    if job.deployment == "latest" and job.attempt == 1 and number % 5 == 0:
        return seconds(3), FAILED
    return seconds(number % 40), DONE


Span = tuple[datetime, datetime]


async def live_through(world: World, seed: int, end: datetime) -> tuple[list[Span], list[tuple[Job, Span]]]:
    """Die and start again until ``end``; return the stretches of downtime, and when the code of each attempt ran."""
    source = random.Random(seed)
    down: list[Span] = []
    ran: list[tuple[Job, Span]] = []
    while world.now < end:
        house = await world.opened(CONFIG, script)
        died = asyncio.Event()
        world.disk.on_crash = died.set
        lived_until = world.now + minutes(source.expovariate(1 / 60))
        # At some instant, or at some commit, before it or after it: during the start itself, too.
        if source.random() < 0.5:
            world.disk.crash_at = (source.randrange(3, 400), source.random() < 0.5)
        with contextlib.suppress(TidemillError):
            await world.started(house)
            wait = max(0.0, (min(lived_until, end) - world.now).total_seconds())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await died.wait()
        dead_since = world.now
        ran += [(job, (at, min(at + script(job)[0], dead_since))) for at, job in runner(house).began]
        await world.kill(house)
        # Often at once, as a service manager does; now and then after a while.
        await world.wait(seconds(1) if source.random() < 0.6 else minutes(source.uniform(0, 25)))
        down.append((dead_since, world.now))
    async with world.daemon(CONFIG, script, grace=timedelta(hours=1)) as house:
        await world.wait(minutes(15))
        ran += [(job, (at, at + script(job)[0])) for at, job in runner(house).began]
    return down, ran


def check(
    config: Loaded,
    runs: list[FlowRun],
    skipped: list[SkippedFire],
    start: datetime,
    end: datetime,
    down: list[Span],
) -> Counter[str]:
    """Every target has one run or is on record as skipped; none early, none twice, none that was no target."""
    found: Counter[str] = Counter()
    # Up to thirty seconds before its death the daemon had last said that it lives.
    asleep = [(since - seconds(31), until) for since, until in down]
    for deployment in config.settings.deployments.values():
        name = deployment.name
        compiled = compile_schedule(deployment.schedules[0])
        targets = list(fires(compiled, start, until=end, limit=10_000))
        own = {run.due: run for run in runs if run.deployment == name}
        assert len(own) == sum(run.deployment == name for run in runs), "a fire has two runs"
        assert {due for due in own if due and due <= end} <= set(targets), "a run that was no target"
        for target in targets:
            run = own.get(target)
            if run is None:
                assert any(
                    fire.deployment == name and fire.first <= target <= fire.last and fire.reason for fire in skipped
                ), f"{name}: the fire of {target} is lost in silence"
                found[f"{name} unplanned"] += 1
            else:
                found[f"{name} {run.state.name}"] += 1
                assert run.state.is_terminal, f"{run.name} was left {run.state.name}"
            if run is None or run.state.name == "Skipped":
                assert any(since <= target <= until for since, until in asleep), f"{name}: {target} skipped for nothing"
                assert name != "all", "a policy that runs all skips none"
                continue
            assert run.start_time is not None
            planned = run.expected_start if run.attempt == 1 else target  # a retry has a time of its own
            assert run.start_time >= planned >= target, "never early"
            if run.state.name == "Crashed":
                assert any(since <= run.end_time for since, _ in down if run.end_time), "crashed without a crash"
                assert run.state.message
            slept = any(since <= planned <= until for since, until in asleep)
            if deployment.concurrency_limit is None and not slept and run.attempt == 1:
                assert run.start_time - planned <= seconds(1), f"{name}: {target} was late for nothing"
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "start"), [(0, AUTUMN), (1, AUTUMN), (2, AUTUMN), (3, SPRING)])
def test_a_daemon_that_dies_again_and_again_keeps_the_invariant(tmp_path: Path, seed: int, start: datetime) -> None:
    """P1, P2, P4, P5, P6: over a clock change, dying at instants and in the middle of commits."""

    async def main(world: World) -> None:
        end = start + DAY
        down, ran = await live_through(world, seed, end)
        runs = await world.after_all()
        house = await world.opened(CONFIG, script)
        skipped = await world.skipped(house)
        await world.kill(house)
        assert len(down) >= 3
        found = check(world.loaded(CONFIG), runs, skipped, start, end, down)
        on_record = {run.id for run in runs if run.attempt > 0}
        assert {job.run_id for job, _ in ran} <= on_record, "code ran with no start on record"
        assert len({(job.run_id, job.attempt) for job, _ in ran}) == len(ran), "an attempt ran twice"
        alone = sorted(span for job, span in ran if job.deployment == "one-at-a-time")
        for (_, before), (after, _) in itertools.pairwise(alone):
            assert before <= after, "two at a time where the limit is 1"
        repeated = [run for run in runs if run.deployment == "repeated-hour" and run.start_time]
        assert len(repeated) == 1, "the hour that comes twice fires once, the one that is left out fires"
        assert sum(count for name, count in found.items() if name.endswith("Completed")) > 100

    play(tmp_path, main, start=start)
