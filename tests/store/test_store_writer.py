"""The writer: groups, order, isolation of what is at fault, bounds, and waiters that go away."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from store_making import T0, begin, ended, new_run, op, opened

from fakes import FakeClock
from tidemill.clock import SystemClock
from tidemill.core.runs import LogRow
from tidemill.core.states import StateType
from tidemill.errors import StoreUnavailableError
from tidemill.store import Lane, Op, aiosqlite_doors, logs, runs

Items = Sequence[Any]


class Gate:
    """An op that holds the database's thread until it is let go: what comes meanwhile makes the next group."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self.op: Op[None, None] = op("gate", self._apply, rank=1)

    def _apply(self, connection: sqlite3.Connection, items: Items) -> list[None]:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._open.wait(120)
        return [None] * len(items)

    def open(self) -> None:
        self._open.set()


def kept(name: str, calls: list[tuple[str, list[Any]]], rank: int = 50) -> Op[Any, Any]:
    """An op that notes its calls and refuses the item "bad"."""

    def apply(connection: sqlite3.Connection, items: Items) -> list[Any]:
        calls.append((name, list(items)))
        if "bad" in items:
            raise ValueError("bad item")
        return [f"{name}:{item}" for item in items]

    return op(name, apply, rank)


async def test_what_waits_together_is_committed_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in range(1, 31)]
        assert all([await future for future in made])
        assert (store.stats.groups, store.stats.items, store.stats.largest_group) == (1, 30, 30)


async def test_of_many_that_wait_half_are_written_while_the_loop_serves_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in range(1, 301)]
        assert all([await future for future in made])
        assert store.stats.items == 300
        assert store.stats.largest_group == 150


async def test_a_group_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path, group_items=10) as store:
        made = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in range(1, 31)]
        assert all([await future for future in made])
        assert (store.stats.groups, store.stats.largest_group) == (3, 10)


async def test_within_a_group_ops_go_by_rank_and_items_by_arrival(tmp_path: Path) -> None:
    calls: list[tuple[str, list[Any]]] = []
    late, early = kept("late", calls, rank=60), kept("early", calls, rank=10)
    async with opened(tmp_path) as store:
        futures = [store.submit(each, item) for each, item in ((late, 1), (early, 2), (late, 3), (early, 4))]
        assert [await future for future in futures] == ["late:1", "early:2", "late:3", "early:4"]
    assert calls == [("early", [2, 4]), ("late", [1, 3])]


async def test_only_the_item_at_fault_fails_and_it_leaves_nothing_behind(tmp_path: Path) -> None:
    calls: list[tuple[str, list[Any]]] = []
    fragile = kept("fragile", calls)
    async with opened(tmp_path) as store:
        futures = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in range(1, 6)]
        futures += [store.submit(fragile, item) for item in ("a", "bad", "b")]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert results[:5] == [True] * 5
        assert (results[5], results[7]) == ("fragile:a", "fragile:b")
        assert isinstance(results[6], ValueError)
        assert await store.read(runs.last_seq) == 5
        assert store.stats.failed == 1
        assert store.degraded is None


async def test_a_change_that_breaks_after_it_has_written_is_rolled_back(tmp_path: Path) -> None:
    def apply(connection: sqlite3.Connection, items: Items) -> list[None]:
        runs.CREATE_RUNS.apply(connection, items)
        raise RuntimeError("after the fact")

    async with opened(tmp_path) as store:
        with pytest.raises(RuntimeError, match="after the fact"):
            await store.write(op("half", apply), new_run(1))
        assert await store.read(runs.last_seq) == 0


async def test_an_op_that_answers_for_fewer_items_than_it_was_given_is_at_fault(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(ValueError, match="short answered 0 results for 1 items"):
            await store.write(op("short", lambda connection, items: []), 1)


async def test_events_are_published_once_a_group_in_its_order_and_only_for_what_changed(tmp_path: Path) -> None:
    heard: list[list[Any]] = []
    run = new_run(1)
    async with opened(tmp_path) as store:
        store.on_commit = lambda events: heard.append(list(events))
        await store.write(runs.CREATE_RUNS, run, event="made")
        started, done = ended(run)
        futures = [
            store.submit(runs.TRANSITIONS, started, event="started"),
            store.submit(runs.TRANSITIONS, started, event="stale"),
            store.submit(runs.TRANSITIONS, done, event="done"),
            store.submit(runs.CREATE_RUNS, new_run(2)),  # without an event
        ]
        store.post(kept("op", []), "bad", event="failed")
        await asyncio.gather(*futures)
        await store.flush()
    assert heard == [["made"], ["started", "done"]]


async def test_events_are_heard_before_waiters_go_on_and_after_the_commit(tmp_path: Path) -> None:
    async with opened(tmp_path, doors=aiosqlite_doors) as store:
        order: list[str] = []
        store.on_commit = lambda events: order.append("heard")
        await store.write(runs.CREATE_RUNS, new_run(1), event="made")
        order.append("went on")
    assert order == ["heard", "went on"]


async def test_a_hearer_that_fails_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def deaf(events: Sequence[Any]) -> None:
        raise RuntimeError("deaf")

    async with opened(tmp_path) as store:
        store.on_commit = deaf
        assert await store.write(runs.CREATE_RUNS, new_run(1), event="made")
        assert await store.write(runs.CREATE_RUNS, new_run(2), event="made")
    assert "A hearer of 1 committed changes failed" in caplog.text


async def test_a_cancelled_waiter_does_not_take_its_change_back(tmp_path: Path) -> None:
    async with opened(tmp_path, doors=aiosqlite_doors) as store:
        gate = Gate()
        held = store.submit(gate.op, None)
        await gate.entered.wait()
        waiter = asyncio.create_task(store.write(runs.CREATE_RUNS, new_run(1)))
        await asyncio.sleep(0)
        waiter.cancel()
        gate.open()
        await held
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await store.flush()
        assert await store.read(runs.last_seq) == 1


async def test_a_writer_that_is_cancelled_in_a_commit_sees_it_through(tmp_path: Path) -> None:
    async with opened(tmp_path, doors=aiosqlite_doors) as store:
        gate = Gate()
        held = [store.submit(gate.op, None), store.submit(runs.CREATE_RUNS, new_run(1))]
        await gate.entered.wait()
        waiting = store.submit(runs.CREATE_RUNS, new_run(2))
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "store writer"]
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        gate.open()
        assert await asyncio.gather(*held) == [None, True]
        with pytest.raises(StoreUnavailableError, match="is closed"):
            await waiting
        with pytest.raises(StoreUnavailableError, match="is closed"):
            await store.write(runs.CREATE_RUNS, new_run(3))
        assert await store.read(runs.last_seq) == 1


async def test_writers_wait_for_room_and_hasty_ones_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, doors=aiosqlite_doors, backlog_items=2) as store:
        gate = Gate()
        held = store.submit(gate.op, None)
        await gate.entered.wait()
        full = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in (1, 2)]
        patient = asyncio.create_task(store.write(runs.CREATE_RUNS, new_run(3)))
        await asyncio.sleep(0)
        assert not patient.done()
        hasty = [store.submit(runs.CREATE_RUNS, new_run(seq)) for seq in (4, 5, 6)]
        with pytest.raises(StoreUnavailableError, match="4 changes wait to be written; try again"):
            await hasty[2]
        gate.open()
        assert await asyncio.gather(held, *full, *hasty[:2], patient) == [None, True, True, True, True, True]


async def test_posts_beyond_the_bound_are_dropped_counted_and_said_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    run = new_run(1)
    line = LogRow(run=1, run_id=run.id, at=run.created, level=20, logger="print", message="x")
    async with opened(tmp_path, clock=clock, backlog_logs=3) as store:
        await store.write(runs.CREATE_RUNS, run)
        for _ in range(5):
            store.post(logs.LOGS, line)
        assert store.stats.dropped == 2
        await store.flush()
        for _ in range(2):
            clock.advance(31)
            for _ in range(4):
                store.post(logs.LOGS, line)
            await store.flush()
        assert store.stats.dropped == 4
        assert await store.read(lambda connection: logs.count_of_run(connection, 1)) == 9
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [
        "Not recorded, 1 so far; the last one was a line of a run: too much waits to be written",
        "Not recorded, 4 so far; the last one was a line of a run: too much waits to be written",
    ]


async def test_lines_travel_behind_states_and_a_flush_covers_both(tmp_path: Path) -> None:
    calls: list[tuple[str, list[Any]]] = []
    lines = Op(name="lines", rank=1, apply=kept("lines", calls).apply, lane=Lane.LOGS)
    states = kept("states", calls)
    async with opened(tmp_path, group_items=1) as store:
        for item in range(3):
            store.post(lines, item)
        for item in range(2):
            store.post(states, item)
        await store.flush()
        done = [each for _, items in calls for each in items]
        assert sorted(done) == [0, 0, 1, 1, 2]


async def test_an_idle_writer_does_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, new_run(1))
        for _ in range(20):
            await asyncio.sleep(0)
        assert store.stats.groups == 1


async def test_a_closed_store_takes_and_gives_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        last = store.submit(runs.CREATE_RUNS, new_run(1))
        await store.aclose()
        assert await last  # what was handed in before is written
        for attempt in (
            store.write(runs.CREATE_RUNS, new_run(2)),
            store.submit(runs.CREATE_RUNS, new_run(2)),
            store.flush(),
            store.read(runs.last_seq),
        ):
            with pytest.raises(StoreUnavailableError, match="the store is closed"):
                await attempt
        store.post(runs.CREATE_RUNS, new_run(3))
        assert store.stats.dropped == 1


async def test_many_producers_on_real_threads_lose_nothing(tmp_path: Path) -> None:
    """The inline door hides real concurrency: this one does not."""
    async with opened(tmp_path, doors=aiosqlite_doors, clock=SystemClock()) as store:

        async def carry(seq: int) -> bool:
            run = new_run(seq)
            made = await store.write(runs.CREATE_RUNS, run)
            held = [await store.write(runs.TRANSITIONS, each) for each in ended(run)]
            present = await store.read(lambda connection: runs.get(connection, run.id))
            return made and all(held) and present is not None and present.state.type is StateType.COMPLETED

        assert all(await asyncio.gather(*(carry(seq) for seq in range(1, 201))))
        assert store.stats.items == 600
        assert store.stats.groups < 100


async def test_a_read_sees_what_was_acknowledged_before(tmp_path: Path) -> None:
    async with opened(tmp_path, doors=aiosqlite_doors, readers=2) as store:
        for seq in range(1, 30):
            run = new_run(seq)
            await store.write(runs.CREATE_RUNS, run)
            await store.write(runs.TRANSITIONS, begin(run))
            seen = await asyncio.gather(*(store.read(runs.last_seq) for _ in range(5)))
            assert seen == [seq] * 5


async def test_who_follows_lines_hears_when_they_are_durable_and_of_nothing_else(tmp_path: Path) -> None:
    heard: list[int] = []
    async with opened(tmp_path) as store:
        run = new_run(1)
        await store.write(runs.CREATE_RUNS, run)

        def lines_stored() -> None:
            heard.append(connection.execute("SELECT count(*) FROM log").fetchone()[0])

        with sqlite3.connect(tmp_path / "tidemill.db") as connection:
            store.on_lines = lines_stored
            await store.write(runs.CREATE_RUNS, new_run(2))
            assert heard == []
            for _ in range(3):
                row = LogRow(run=1, run_id=run.id, at=T0, level=20, logger="print", message="x")
                store.post(logs.LOGS, row)
            await store.flush()
    assert heard == [3]
