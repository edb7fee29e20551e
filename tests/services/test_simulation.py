"""The real scheduler, queues, workers and store on a virtual clock."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidemill.config import Loaded, load
from tidemill.core.events import Event, RunChanged
from tidemill.core.ports import Job, Outcome
from tidemill.core.runs import FlowRun
from tidemill.core.schedules import compile_schedule, fires
from tidemill.core.states import StateType
from tidemill.ids import Ids
from tidemill.store import Store, inline_doors
from tidemill.store import runs as stored_runs
from tidemill.testing import VirtualClock, VirtualLoop, close_house, open_house, run_virtually

DONE = Outcome(type=StateType.COMPLETED, name="Completed")
FAILED = Outcome(type=StateType.FAILED, name="Failed", message="no luck")

# Helsinki goes to summer time on 2026-03-29 at 03:00, which becomes 04:00.
WEEK = datetime(2026, 3, 25, 12, 0, tzinfo=UTC)
CONFIG = """
[daemon]
timezone = "Europe/Helsinki"
[retention]
keep_runs_per_deployment = 10_000
[deployments.daily]
command = "true"
cron = "0 9 * * *"
[deployments.in-the-gap]
command = "true"
cron = "30 3 * * *"
[deployments.quarterly]
command = "true"
cron = "*/15 * * * *"
retries = 2
retry_delay = ["10s", "1m"]
[deployments.slow]
command = "true"
interval = "10m"
concurrency_limit = 1
[deployments.picky]
command = "true"
interval = "20m"
concurrency_limit = 1
collision_strategy = "cancel_new"
jitter = "30s"
[deployments.weekly]
command = "true"
cron = "0 6 * * mon"
timezone = "America/New_York"
"""


def loaded(tmp_path: Path, text: str) -> Loaded:
    file = tmp_path / "tidemill.toml"
    file.write_text(text)
    return load(file, environ={})


def script(job: Job) -> tuple[timedelta, Outcome]:
    """Runs of a length and an outcome that depend on nothing but their name and attempt."""
    if job.deployment == "slow":
        return timedelta(minutes=12 if hash_of(job.run_id) % 2 else 6), DONE  # now and then the next one has to wait
    if job.deployment == "picky":
        return timedelta(minutes=31), DONE
    if job.deployment == "quarterly" and job.attempt == 1 and hash_of(job.run_id) % 5 == 0:
        return timedelta(seconds=3), FAILED
    return timedelta(seconds=2), DONE


def hash_of(text: str) -> int:
    return sum(text.encode())


def simulate(
    config: Loaded,
    database: Path,
    *,
    seed: int,
    start: datetime,
    lasts: timedelta,
    script: Callable[[Job], tuple[timedelta, Outcome]] = script,
) -> tuple[list[str], list[FlowRun]]:
    """Return the trace of state changes, a line each, and all runs at the end."""

    async def main(loop: VirtualLoop) -> tuple[list[str], list[FlowRun]]:
        clock = VirtualClock(loop, start)
        house = await open_house(config, database, clock=clock, seed=seed, script=script)
        trace: list[str] = []

        def hear(events: list[Event]) -> None:
            for event in events:
                if isinstance(event, RunChanged):
                    run = event.run
                    trace.append(f"{clock.now():%m-%d %H:%M:%S.%f} {run.deployment} {run.name} {run.state.name}")

        house.bus.listen(hear)  # type: ignore[arg-type]
        await house.recover()
        house.start()
        await clock.sleep(lasts.total_seconds() + 60)  # the last fire gets its time, too
        await close_house(house, grace=timedelta(hours=1))
        store = await Store.open(database, clock=clock, ids=Ids(), doors=inline_doors)
        runs = await store.read(every_run)
        await store.aclose()
        return trace, runs

    return run_virtually(main, seed=seed)


def every_run(connection: object) -> list[FlowRun]:
    seqs = connection.execute("SELECT json_group_array(seq) FROM run").fetchone()[0]  # type: ignore[attr-defined]
    return stored_runs.documents(connection, seqs)  # type: ignore[arg-type]


def check_invariant(config: Loaded, runs: list[FlowRun], start: datetime, end: datetime) -> Counter[str]:
    """After Jepsen's Chronos test: every target has its own run begun in its window, or its absence is accounted for;
    no early run, none twice, none that was no target, none left running, no overlap where the limit is 1."""
    outcomes: Counter[str] = Counter()
    for deployment in config.settings.deployments.values():
        own = [run for run in runs if run.deployment == deployment.name]
        schedule = deployment.schedules[0]
        targets = list(fires(compile_schedule(schedule), start, until=end, limit=10_000))
        dues = Counter(run.due for run in own)
        assert max(dues.values(), default=1) == 1, "a fire ran twice"
        planned = {run.due: run for run in own}
        for target in targets:
            run = planned[target]
            outcomes[f"{deployment.name} {run.state.name}"] += 1
            if run.state.name == "Skipped":
                assert run.state.message
                continue
            if run.state.name == "Late" and deployment.concurrency_limit == 1 and end - target < timedelta(hours=2):
                assert run.state.message == f"deployment {deployment.name} is full: 1 of 1 slots held"
                continue
            assert run.state.is_terminal, f"{run.name} was left {run.state.name}"
            assert run.start_time is not None
            assert run.start_time >= target, "never early"
            if deployment.concurrency_limit is None:
                assert run.start_time - target <= timedelta(seconds=1)
        assert {run.due for run in own if run.start_time is not None} <= set(targets), "a run that was no target"
        if deployment.concurrency_limit == 1:
            spans = sorted(
                (r.start_time, r.end_time) for r in own if r.start_time is not None and r.end_time is not None
            )
            for (_, before), (after, _) in itertools.pairwise(spans):
                assert before <= after, "two at a time where the limit is 1"
    return outcomes


def test_a_week_over_a_clock_change_keeps_the_invariant(tmp_path: Path) -> None:
    """P1, P2, P6: a week of six schedules through the spring change, in seconds."""
    config = loaded(tmp_path, CONFIG)
    week = timedelta(days=7)
    _, runs = simulate(config, tmp_path / "db", seed=1, start=WEEK, lasts=week)
    outcomes = check_invariant(config, runs, WEEK, WEEK + week)
    assert outcomes["daily Completed"] == 7
    assert outcomes["in-the-gap Completed"] == 7, "the fire inside the gap ran at its end, once"
    assert outcomes["quarterly Completed"] == 7 * 96
    assert outcomes["picky Skipped"] > 0
    assert outcomes["weekly Completed"] == 1
    gap = next(run for run in runs if run.deployment == "in-the-gap" and run.due and run.due.date().day == 29)
    assert gap.due == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_the_same_seed_gives_the_same_trace(tmp_path: Path) -> None:
    config = loaded(tmp_path, CONFIG)
    traces = []
    for number in range(2):
        trace, _ = simulate(config, tmp_path / f"db{number}", seed=7, start=WEEK, lasts=timedelta(hours=30))
        traces.append(trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100


@pytest.mark.parametrize("seed", range(4))
def test_other_orders_of_what_happens_at_once_keep_the_invariant(tmp_path: Path, seed: int) -> None:
    """P1: whatever order the loop takes ready tasks in."""
    config = loaded(tmp_path, CONFIG)
    day = timedelta(hours=26)
    start = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)  # over the autumn change
    _, runs = simulate(config, tmp_path / "db", seed=seed, start=start, lasts=day)
    check_invariant(config, runs, start, start + day)
