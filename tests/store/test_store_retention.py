"""Retention: what goes, in which pieces, and what always stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from store_making import IDS, T0, at, begin, change, ended, new_run, opened

from tidemill.core.runs import Artifact, LogRow, SkippedFire
from tidemill.core.states import StateType
from tidemill.store import Store, artifacts, logs, retention, runs, schedules
from tidemill.store.emitted import EMITTED, EmittedRow
from tidemill.store.retention import Pruning, prune, surplus

DAY = 86_400.0
S = StateType


async def finished(store: Store, seq: int, days: float, **changes: Any) -> str:
    """Write a run that was to start so many days before T0 and is Completed; return its id."""
    run = new_run(seq, expected_start=at(-days * DAY), **changes)
    await store.write(runs.CREATE_RUNS, run)
    for each in ended(run):
        await store.write(runs.TRANSITIONS, each)
    return run.id


async def left(store: Store) -> list[int]:
    query = "SELECT seq FROM run ORDER BY seq"
    return [row[0] for row in await store.read(lambda connection: connection.execute(query).fetchall())]


async def prune_all(store: Store, rules: Pruning) -> dict[str, int]:
    """Prune piece by piece as the janitor does; return the sums."""
    total: dict[str, int] = {}
    for _ in range(1000):
        piece = await prune(store, rules)
        if not any(piece.values()):
            return total
        for kind, count in piece.items():
            total[kind] = total.get(kind, 0) + count
    raise AssertionError("it does not come to an end")


async def test_runs_go_by_age_but_the_newest_of_each_deployment_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await finished(store, 1, 100)
        await finished(store, 2, 95)
        await finished(store, 3, 10)
        await finished(store, 4, 300, deployment="yearly")
        await finished(store, 5, 200, deployment="yearly")
        # The same deployment, moved to another queue: still one deployment.
        await finished(store, 6, 150, deployment="moved", work_queue="old")
        await finished(store, 7, 120, deployment="moved", work_queue="new")
        counts = await prune_all(store, Pruning(now=T0, keep=timedelta(days=90)))
        assert await left(store) == [3, 5, 7]
        assert counts["runs"] == 4


async def test_runs_that_have_not_ended_stay_whatever_their_age(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for seq, kinds in ((1, ()), (2, (S.PENDING,)), (3, (S.PENDING, S.RUNNING)), (4, (S.CANCELLED,))):
            run = new_run(seq, expected_start=at(-200 * DAY))
            await store.write(runs.CREATE_RUNS, run)
            if kinds:
                await store.write(runs.TRANSITIONS, change(run, *kinds))
        await finished(store, 5, 1)
        rules = Pruning(now=T0, keep=timedelta(days=90), keep_runs=1, max_size=1)
        await prune_all(store, rules)
        assert await left(store) == [1, 2, 3, 5]


async def test_runs_go_by_count_for_each_deployment_the_oldest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for seq in range(1, 11):
            await finished(store, seq, 20 - seq, work_queue="a" if seq % 2 else "b")
        for seq in range(11, 14):
            await finished(store, seq, seq, deployment="other")
        await prune_all(store, Pruning(now=T0, keep_runs=3))
        assert await left(store) == [8, 9, 10, 11, 12, 13]


async def test_runs_that_are_planned_do_not_count_among_those_that_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for seq in (1, 2, 3, 4):
            await finished(store, seq, 20 - seq)
        for seq in (5, 6, 7):
            await store.write(runs.CREATE_RUNS, new_run(seq, expected_start=at(seq)))
        await prune_all(store, Pruning(now=T0, keep_runs=3))
        assert await left(store) == [2, 3, 4, 5, 6, 7]


async def test_runs_go_by_size_the_oldest_first_until_it_fits(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for seq in range(1, 301):
            await finished(store, seq, 400 - seq, parameters={"x": "y" * 3000})
        before = await store.read(retention.size)
        await prune_all(store, Pruning(now=T0, max_size=before // 2))
        after = await store.read(retention.size)
        kept = await left(store)
        assert after <= before // 2
        assert kept == list(range(kept[0], 301))
        assert 90 <= len(kept) <= 150  # in pieces of a hundred
        await prune_all(store, Pruning(now=T0, max_size=1))
        assert await left(store) == [300]


async def test_nothing_goes_where_nothing_bounds_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for seq in (1, 2):
            await finished(store, seq, 1000)
        assert await store.read(lambda connection: surplus(connection, Pruning(now=T0))) == retention.Surplus()
        assert await prune(store, Pruning(now=T0)) == {"runs": 0}


async def test_a_piece_is_bounded_so_that_no_start_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PIECE_RUNS", 10)
    monkeypatch.setattr(retention, "PIECE_LINES", 25)
    async with opened(tmp_path) as store:
        for seq in range(1, 32):
            run_id = await finished(store, seq, 200 - seq)
            for _ in range(4):
                line = LogRow(run=seq, run_id=run_id, at=T0, level=20, logger="print", message="x")
                store.post(logs.LOGS, line)
        await store.flush()
        rules = Pruning(now=T0, keep=timedelta(days=90))
        pieces = []
        while any((piece := await prune(store, rules)).values()):
            pieces.append((piece["runs"], piece["lines"]))
        # The lines go first; their runs follow when none is left.
        assert pieces == [(0, 25), (10, 15), (0, 25), (10, 15), (0, 25), (10, 15)]
        assert await left(store) == [31]


async def test_a_run_that_was_retried_after_it_was_chosen_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        chosen = await finished(store, 1, 200)
        await finished(store, 2, 1)
        piece = await store.read(lambda connection: surplus(connection, Pruning(now=T0, keep=timedelta(days=90))))
        assert piece.runs == (1,)
        run = await store.read(lambda connection: runs.get(connection, chosen))
        assert run is not None
        assert await store.write(runs.TRANSITIONS, change(run, S.SCHEDULED, name="AwaitingRetry"))
        assert (await store.write(retention.REMOVE, piece))["runs"] == 0
        assert await left(store) == [1, 2]


async def test_lines_may_go_before_their_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        run = new_run(1)
        await store.write(runs.CREATE_RUNS, run)
        await store.write(runs.TRANSITIONS, begin(run))
        for days in (9, 8, 3, 1):
            line = LogRow(run=1, run_id=run.id, at=at(-days * DAY), level=20, logger="print", message=f"{days}")
            await store.write(logs.LOGS, line)
            when = at(-days * DAY)
            await store.write(EMITTED, EmittedRow(run=1, at=when, occurred=when, event=f"{days}", about=None))
        counts = await prune_all(store, Pruning(now=T0, keep_logs=timedelta(days=7)))
        assert counts["lines"] == 4, "lines, and events that were emitted"
        kept = await store.read(lambda connection: logs.of_run(connection, 1))
        assert [line.row.message for line in kept] == ["3", "1"]
        assert await events(store) == ["3", "1"]


async def events(store: Store) -> list[str]:
    found = await store.read(lambda connection: connection.execute("SELECT event FROM emitted").fetchall())
    return [event for (event,) in found]


async def test_events_go_with_their_run_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PIECE_LINES", 3)
    async with opened(tmp_path) as store:
        for seq in (1, 2):
            await finished(store, seq, 100 - 99 * (seq - 1))
            for number in range(5):
                row = EmittedRow(run=seq, at=T0, occurred=T0, event=f"{seq}-{number}", about=None)
                await store.write(EMITTED, row)
        rules = Pruning(now=T0, keep=timedelta(days=90))
        pieces = [await prune(store, rules) for _ in range(3)]
        assert [(piece["runs"], piece.get("lines", 0)) for piece in pieces] == [(0, 3), (1, 2), (0, 0)]
        assert await events(store) == [f"2-{number}" for number in range(5)]


def artifact(key: str | None, text: str, days: float) -> Artifact:
    return Artifact(id=IDS.new(T0), key=key, version=0, type="json", text=text, created=at(-days * DAY))


async def test_the_latest_of_every_key_stays_and_documents_without_a_key_go_by_age(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for days, key in ((300, "a"), (200, "a"), (300, "b"), (300, None), (1, None)):
            await store.write(artifacts.ARTIFACTS, artifact(key, f'"{days}"', days))
        await prune_all(store, Pruning(now=T0, keep=timedelta(days=90)))
        listed = await store.read(artifacts.newest_first)
        assert [(each.key, each.version) for each in listed] == [(None, 1), ("b", 1), ("a", 2), ("a", 1)]
        await prune_all(store, Pruning(now=T0, max_size=1))  # under pressure older versions go too, the latest never
        listed = await store.read(artifacts.newest_first)
        assert [(each.key, each.version) for each in listed] == [(None, 1), ("b", 1), ("a", 2)]


async def test_artifacts_outlive_their_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        run_id = await finished(store, 1, 200)
        await finished(store, 2, 1)
        made = Artifact(id=IDS.new(T0), key="k", version=0, type="json", text="1", run_id=run_id, created=T0)
        await store.write(artifacts.ARTIFACTS, made)
        await prune_all(store, Pruning(now=T0, keep=timedelta(days=90)))
        assert await left(store) == [2]
        latest = await store.read(lambda connection: artifacts.latest(connection, "k"))
        assert latest is not None and latest.run_id == run_id


async def test_skipped_fires_go_by_age(tmp_path: Path) -> None:
    def fire(days: float) -> SkippedFire:
        when = at(-days * DAY)
        return SkippedFire(deployment="d", schedule="s", first=when, last=when, count=1, reason="paused", at=when)

    async with opened(tmp_path) as store:
        await store.write(schedules.PLAN, schedules.Plan(skipped=(fire(200), fire(100), fire(1))))
        counts = await prune_all(store, Pruning(now=T0, keep=timedelta(days=90)))
        assert counts["skipped fires"] == 2
        assert await store.read(schedules.skipped) == [fire(1)]


async def test_free_pages_are_given_back_when_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SLACK_PAGES", 10)
    monkeypatch.setattr(retention, "PIECE_PAGES", 20)
    async with opened(tmp_path) as store:
        for seq in range(1, 60):
            await finished(store, seq, 200 - seq, parameters={"x": "y" * 8000})
        counts = await prune_all(store, Pruning(now=T0, keep=timedelta(days=90)))
        assert counts["pages"] >= 80
        query = "PRAGMA freelist_count"
        free = (await store.read(lambda connection: connection.execute(query).fetchone()))[0]
        assert free <= 20
        checked = await store.read(lambda connection: connection.execute("PRAGMA integrity_check").fetchone())
        assert checked == ("ok",)
