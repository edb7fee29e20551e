"""What is counted beforehand is what goes."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from store_making import T0, at, ended, new_run, opened

from tidemill.core.daemon_log import DaemonLine
from tidemill.core.runs import LogRow, SkippedFire
from tidemill.core.states import StateType
from tidemill.store import Store, daemon_log, logs, prunable, retention, runs, schedules
from tidemill.store.emitted import EMITTED, EmittedRow
from tidemill.store.retention import Pruning

pytestmark = pytest.mark.thorough

DAY = 86_400.0
KINDS = (StateType.COMPLETED, StateType.COMPLETED, StateType.FAILED, None)


async def fill(store: Store, source: random.Random, count: int) -> None:
    """Runs of some deployments over 200 days, most of them ended, with lines."""
    for seq in range(1, count + 1):
        run = new_run(
            seq,
            expected_start=at(-source.uniform(-2, 200) * DAY),
            deployment=source.choice(["a", "b", "c", None]),
            work_queue=source.choice(["x", "y"]),
        )
        await store.write(runs.CREATE_RUNS, run)
        kind = source.choice(KINDS)
        for transition in [] if kind is None else ended(run, kind):
            await store.write(runs.TRANSITIONS, transition)
        for _ in range(source.randrange(3)):
            line = LogRow(run=seq, run_id=run.id, at=run.expected_start, level=20, logger="x", message="m")
            store.post(logs.LOGS, line)
            event = EmittedRow(run=seq, at=run.expected_start, occurred=run.expected_start, event="e", about=None)
            store.post(EMITTED, event)
    for days in (180, 120, 1):
        when = at(-days * DAY)
        fire = SkippedFire(deployment="a", schedule="s", first=when, last=when, count=1, reason="paused", at=when)
        await store.write(schedules.PLAN, schedules.Plan(skipped=(fire,)))
        store.post(daemon_log.NOTE, DaemonLine(at=when, level=20, event=None, message="said"))
    await store.flush()


@pytest.mark.parametrize("keep_runs", [None, 1, 7, 500])
@pytest.mark.parametrize("keep", [None, timedelta(days=90), timedelta(days=3)])
@pytest.mark.parametrize("seed", [1, 2])
async def test_what_was_counted_is_what_is_deleted(
    tmp_path: Path, seed: int, keep: timedelta | None, keep_runs: int | None
) -> None:
    rules = Pruning(now=T0, keep=keep, keep_runs=keep_runs)
    async with opened(tmp_path) as store:
        await fill(store, random.Random(seed), 80)
        expected = await store.read(lambda connection: prunable.prospect(connection, rules))
        deleted: dict[str, int] = {}
        while any((piece := await retention.prune(store, rules)).values()):
            for kind, count in piece.items():
                deleted[kind] = deleted.get(kind, 0) + count
        assert expected.runs == deleted.get("runs", 0)
        assert expected.lines == deleted.get("lines", 0)
        assert expected.skipped_fires == deleted.get("skipped fires", 0)
        assert expected.daemon_lines == deleted.get("lines of the daemon", 0) == (0 if keep is None else 2)
        again = await store.read(lambda connection: prunable.prospect(connection, rules))
        assert (again.runs, again.lines, again.skipped_fires) == (0, 0, 0)


async def test_what_goes_for_the_size_is_estimated_and_said_apart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, random.Random(1), 80)
        used = await store.read(retention.size)
        found = await store.read(lambda connection: prunable.prospect(connection, Pruning(now=T0, max_size=used // 2)))
    assert found.bytes_used == used
    assert found.runs == found.for_size
    assert 30 <= found.for_size <= 50
