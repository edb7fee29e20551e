"""The store's group commit: durable runs a second by how many write at once, three commits a run, beside the floor."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from benchmarks import floor
from benchmarks.figures import Figure, median
from benchmarks.rig import folder
from tidemill.clock import SystemClock
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType
from tidemill.daemon import SWITCH_INTERVAL_S
from tidemill.ids import Ids
from tidemill.store import Store, runs

TITLE = "The store alone: runs a second by producers that each carry one run at a time"
CLOCK = SystemClock()
_S = StateType


def new_run(ids: Ids, seq: int) -> FlowRun:
    now = CLOCK.now()
    return FlowRun(
        seq=seq,
        id=ids.new(now),
        name=ids.name(),
        flow="noop",
        deployment="noop",
        expected_start=now,
        state=State(type=_S.SCHEDULED, name="Scheduled", timestamp=now),
        created=now,
    )


def begin(run: FlowRun) -> Transition:
    now = CLOCK.now()
    states = (
        State(type=_S.PENDING, name="Pending", timestamp=now),
        State(type=_S.RUNNING, name="Running", timestamp=now),
    )
    after = replace(run, state=states[-1], state_number=3, attempt=1, owner=floor.BOOT, start_time=now)
    return Transition(run=after, expected_number=1, states=states)


def end(run: FlowRun) -> Transition:
    now = CLOCK.now()
    state = State(type=_S.COMPLETED, name="Completed", timestamp=now)
    spent = (now - run.start_time).total_seconds() if run.start_time else 0.0
    after = replace(run, state=state, state_number=4, end_time=now, run_time_s=spent)
    return Transition(run=after, expected_number=3, states=(state,))


async def through_store(path: Path, count: int, producers: int) -> tuple[float, str]:
    """Return runs a second by ``producers`` that each carry one run at a time, and how they were written."""
    ids = Ids(random.Random(1))
    store = await Store.open(path, clock=CLOCK, ids=ids)
    left = count

    async def produce() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            run = new_run(ids, store.next_seq())
            if not await store.write(runs.CREATE_RUNS, run):
                raise SystemExit("a run was not made")
            for decide in (begin, end):
                transition = decide(run)
                if not await store.write(runs.TRANSITIONS, transition):
                    raise SystemExit("a transition was stale")
                run = transition.run

    try:
        started = time.perf_counter()
        await asyncio.gather(*(produce() for _ in range(producers)))
        spent = time.perf_counter() - started
        stats = store.stats
    finally:
        await store.aclose()
    items = stats.items / stats.groups
    return count / spent, f"{items:.0f} changes a commit, {1e6 * stats.commit_s / stats.items:.0f} µs of it a change"


def measure(quick: bool) -> list[Figure]:
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the daemon does
    rounds = 1 if quick else 3
    count = 2_000 if quick else 8_000
    floors: list[float] = []
    found: dict[int, list[tuple[float, str]]] = {1: [], 10: [], 100: []}
    with folder() as directory:
        for turn in range(rounds):
            path = directory / f"floor-{turn}.db"
            floors.append(count / floor.seconds(path, count, made_before=False))
            for producers, results in found.items():
                most = count // (20 if producers == 1 else 2 if producers == 10 else 1)
                path = directory / f"store-{producers}-{turn}.db"
                results.append(asyncio.run(through_store(path, most, producers)))
                floor.check(path, most)
    return [
        Figure(
            name=f"{producers} producer{'' if producers == 1 else 's'}",
            value=median(speed for speed, _ in results),
            unit="runs/s",
            floor=median(floors),
            note=sorted(results)[len(results) // 2][1],
        )
        for producers, results in found.items()
    ]
