"""The store against its floor: durable no-op runs a second, and bytes a run.

The floor is a plain loop over sqlite3: the same schema with the same indexes, the same journal mode and FULL syncs, the
same rows written in the same number of states (created Scheduled, then Pending and Running, then Completed: three
commits a run), with prepared statements, in groups of 100 runs, in one thread, with nothing of tidemill around it.
The store does the same through its writer, for N producers that each carry one run at a time through its three commits.

    python benchmarks/store_floor.py [--runs 20000] [--producers 100 200] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tidemill.clock import SystemClock, to_us
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType
from tidemill.ids import Ids
from tidemill.store import Store, connections, instance, runs, schema
from tidemill.store.history import NUMBER_OF

CLOCK = SystemClock()
GROUP = 100
BOOT = "0192e4b0-0000-7000-8000-000000000000"
_S = StateType


def new_run(ids: Ids, seq: int) -> FlowRun:
    now = CLOCK.now()
    return FlowRun(
        seq=seq,
        id=ids.new(now),
        name=ids.name(),
        flow="noop",
        deployment="noop",
        schedule="s-0123456789",
        due=now + timedelta(microseconds=seq),
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
    after = replace(run, state=states[-1], state_number=3, attempt=1, owner=BOOT, start_time=now)
    return Transition(run=after, expected_number=1, states=states)


def end(run: FlowRun) -> Transition:
    now = CLOCK.now()
    state = State(type=_S.COMPLETED, name="Completed", timestamp=now)
    spent = (now - run.start_time).total_seconds() if run.start_time else 0.0
    after = replace(run, state=state, state_number=4, end_time=now, run_time_s=spent)
    return Transition(run=after, expected_number=3, states=(state,))


def groups(count: int) -> Iterator[range]:
    for first in range(1, count + 1, GROUP):
        yield range(first, min(first + GROUP, count + 1))


def floor(path: Path, count: int) -> float:
    """Return seconds for ``count`` runs, each in three commits shared by 100."""
    connections.create_private(path)
    with closing(connections.connect_writer(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connections.settle_writer(connection, path)
        schema.migrate(connection, path, 0, schema.migrations())
        ids = Ids(random.Random(1))
        instance.create(connection, ids.new(CLOCK.now()), CLOCK.now())
        connection.execute("INSERT INTO route VALUES (1, 'noop', 'noop', 'default', 'default')")
        connection.execute("INSERT INTO schedule (number, deployment, identity) VALUES (1, 'noop', 's-0123456789')")
        connection.execute("INSERT INTO owner VALUES (1, ?)", (BOOT,))
        started = time.perf_counter()
        for seqs in groups(count):
            now = to_us(CLOCK.now())
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO run (seq, id, name, route, schedule, due, expected_start, state_type, created)"
                " VALUES (?, ?, ?, 1, 1, ?, ?, 0, ?)",
                [(seq, ids.new(CLOCK.now()), ids.name(), now + seq, now, now) for seq in seqs],
            )
            connection.executemany(
                "INSERT INTO history (run, number, type, at) VALUES (?, 1, 0, ?)", [(seq, now) for seq in seqs]
            )
            connection.execute("COMMIT")
            now = to_us(CLOCK.now())
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE run SET state_type = 2, state_number = 3, attempt = 1, owner = 1, start_time = ?"
                " WHERE seq = ? AND state_number = 1",
                [(now, seq) for seq in seqs],
            )
            connection.executemany(
                "INSERT INTO history (run, number, before, type, at) VALUES (?, ?, ?, ?, ?)",
                [row for seq in seqs for row in ((seq, 2, 0, 1, now), (seq, 3, 1, 2, now))],
            )
            connection.execute("COMMIT")
            now = to_us(CLOCK.now())
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE run SET state_type = 5, state_number = 4, end_time = ?, run_time = 100"
                " WHERE seq = ? AND state_number = 3",
                [(now, seq) for seq in seqs],
            )
            connection.executemany(
                "INSERT INTO history (run, number, before, type, at) VALUES (?, 4, 2, 5, ?)",
                [(seq, now) for seq in seqs],
            )
            connection.execute("COMMIT")
        return time.perf_counter() - started


async def through_store(path: Path, count: int, producers: int) -> tuple[float, dict[str, Any]]:
    """Return seconds for ``count`` runs by ``producers`` that each carry one run at a time, and the writer's counts."""
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
    return spent, {
        "groups": stats.groups,
        "items_a_group": round(stats.items / stats.groups, 1),
        "database_thread_share": round(stats.commit_s / spent, 2),
    }


def check(path: Path, count: int) -> float:
    """Return bytes a run. Raises SystemExit unless every run is Completed with its four states."""
    with closing(sqlite3.connect(path)) as connection:
        done = connection.execute(
            "SELECT count(*) FROM run WHERE state_type = ? AND state_number = 4", (NUMBER_OF[_S.COMPLETED],)
        ).fetchone()[0]
        states = connection.execute("SELECT count(*) FROM history").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if (done, states) != (count, 4 * count):
        raise SystemExit(f"{path}: {done} runs with {states} states, expected {count} with {4 * count}")
    return path.stat().st_size / count


def measure(count: int, producers: list[int], directory: Path) -> dict[str, Any]:
    """Return the figures: the floor before and after the store's turns, so that a drifting machine shows."""
    floors = []
    result: dict[str, Any] = {"runs": count, "sqlite": sqlite3.sqlite_version, "store": []}
    for turn in range(2):
        path = directory / f"floor-{turn}.db"
        floors.append(count / floor(path, count))
        result["floor_bytes_a_run"] = round(check(path, count))
        if turn == 0:
            for each in producers:
                path = directory / f"store-{each}.db"
                spent, counts = asyncio.run(through_store(path, count, each))
                figures = {"producers": each, "runs_a_second": round(count / spent), **counts}
                result["store"].append(figures | {"bytes_a_run": round(check(path, count))})
    result["floor_runs_a_second"] = [round(each) for each in floors]
    for figures in result["store"]:
        figures["share_of_floor"] = round(figures["runs_a_second"] / (sum(floors) / len(floors)), 3)
    return result


def profile(count: int, producers: int, directory: Path) -> None:
    """Print what the loop's thread spends its time on."""
    profiler = cProfile.Profile()
    profiler.runcall(asyncio.run, through_store(directory / "profile.db", count, producers))
    pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description="The store against its floor.")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--producers", type=int, nargs="+", default=[1, 10, 100, 400])
    parser.add_argument("--directory", type=Path, help="where the databases are made; default: a temporary one")
    parser.add_argument("--profile", action="store_true", help="profile the loop instead of measuring")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)  # as the daemon does
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        if options.profile:
            profile(options.runs, options.producers[-1], Path(name))
            return
        result = measure(options.runs, options.producers, Path(name))
    result["cpus"] = os.cpu_count()
    if options.json:
        print(json.dumps(result, indent=2))
        return
    first, last = result["floor_runs_a_second"]
    print(f"floor: {first} and {last} runs/s (before, after), {result['floor_bytes_a_run']} bytes a run")
    for figures in result["store"]:
        print(
            f"store, {figures['producers']:4} producers: {figures['runs_a_second']:6} runs/s,"
            f" {figures['share_of_floor']:.0%} of the floor, {figures['items_a_group']} items a group,"
            f" {figures['bytes_a_run']} bytes a run, database thread busy {figures['database_thread_share']:.0%}"
        )


if __name__ == "__main__":
    main()
