"""Runs: made once, changed only from the state they were decided on, found by id and name."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from store_making import T0, at, begin, change, end, ended, new_run, opened, state

from tidemill.core.runs import FlowRun, LogRow, SkippedFire
from tidemill.core.states import StateType
from tidemill.store import aiosqlite_doors, history, instance, logs, runs, schedules
from tidemill.store.emitted import EMITTED, EmittedRow
from tidemill.store.schedules import Cursor, Plan

S = StateType


async def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    full = new_run(
        1,
        work_pool="process",
        work_queue="energy",
        parameters={"url": "https://example.org/ä", "n": [1, 2.5, None]},
        tags=("b", "a"),
        schedule="mornings",
        due=at(-5),
        created_by="backfill",
        idempotency_key="key-1",
        state=state(S.SCHEDULED, at(3), name="Late", message="75 s late", data={"x": [1]}),
    )
    plain = replace(new_run(2), deployment=None)
    async with opened(tmp_path) as store:
        for run in (full, plain):
            assert await store.write(runs.CREATE_RUNS, run)
            assert await store.read(lambda connection, run=run: runs.get(connection, run.id)) == run
        assert await store.read(lambda connection: runs.get(connection, "0" * 36)) is None


async def test_the_columns_that_people_read_speak_words(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, new_run(1, schedule="mornings", due=T0))
        query = "SELECT deployment, work_queue, schedule, state FROM flow_run"
        assert await store.read(lambda connection: connection.execute(query).fetchall()) == [
            ("daily", "default", "mornings", "SCHEDULED")
        ]


@pytest.mark.parametrize(
    ("same", "made"),
    [
        ({"schedule": "s", "due": T0}, False),
        ({"schedule": "s", "due": T0 + timedelta(microseconds=1)}, True),
        ({"schedule": "other", "due": T0}, True),
        ({"schedule": "s", "due": T0, "deployment": "other"}, True),
        # Another queue is the same schedule still.
        ({"schedule": "s", "due": T0, "work_queue": "other"}, False),
        ({"idempotency_key": "k"}, False),
        ({"idempotency_key": "l"}, True),
        ({}, True),
    ],
)
async def test_one_run_per_deployment_schedule_and_due_and_per_idempotency_key(
    tmp_path: Path, same: dict[str, Any], made: bool
) -> None:
    """P1: also where the two come in one group."""
    first = new_run(1, schedule="s", due=T0, idempotency_key="k")
    second = new_run(2, **same)
    async with opened(tmp_path) as store:
        assert await store.write(runs.CREATE_RUNS, first)
        futures = [store.submit(runs.CREATE_RUNS, run) for run in (second, new_run(4))]
        assert [await future for future in futures] == [made, True]
        assert (await store.read(lambda connection: runs.get(connection, second.id)) is not None) is made
        assert await store.read(lambda connection: history.of(connection, 4)) == [state(S.SCHEDULED)]


async def test_a_row_number_or_id_given_out_twice_is_an_error_and_not_a_known_run(tmp_path: Path) -> None:
    run = new_run(1)
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        for twin in (new_run(1), replace(new_run(2), id=run.id)):
            with pytest.raises(sqlite3.IntegrityError, match=r"run\.(seq|id)"):
                await store.write(runs.CREATE_RUNS, twin)


async def test_a_change_from_another_state_than_the_present_changes_nothing(tmp_path: Path) -> None:
    run = new_run(1)
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        started = begin(run)
        assert await store.write(runs.TRANSITIONS, started)
        assert not await store.write(runs.TRANSITIONS, change(run, S.CANCELLED))
        assert not await store.write(runs.TRANSITIONS, begin(new_run(9)))
        assert await store.read(lambda connection: runs.get(connection, run.id)) == started.run
        assert await store.read(lambda connection: history.of(connection, 1)) == [run.state, *started.states]


async def test_two_changes_of_one_run_in_one_group_both_hold_in_their_order(tmp_path: Path) -> None:
    run, other = new_run(1), new_run(2)
    async with opened(tmp_path) as store:
        futures = [store.submit(runs.CREATE_RUNS, each) for each in (run, other)]
        changes = ended(run)
        futures += [store.submit(runs.TRANSITIONS, each) for each in (*changes, begin(other))]
        futures.append(store.submit(runs.TRANSITIONS, changes[0]))  # stale by then
        assert [await future for future in futures] == [True, True, True, True, True, False]
        assert store.stats.groups == 1
        assert await store.read(lambda connection: runs.get(connection, run.id)) == changes[1].run
        kinds = [entry.type for entry in await store.read(lambda connection: history.of(connection, 1))]
        assert kinds == [S.SCHEDULED, S.PENDING, S.RUNNING, S.COMPLETED]


async def test_a_stale_change_that_aims_at_the_present_number_is_still_stale(tmp_path: Path) -> None:
    """Decided on state 1 in two steps, while another came to state 3 by other steps."""
    run = new_run(1)
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        late = change(run, S.SCHEDULED, name="Late")
        again = change(late.run, S.SCHEDULED, name="AwaitingRetry")
        for each in (late, again):
            assert await store.write(runs.TRANSITIONS, each)
        mixed = [store.submit(runs.TRANSITIONS, begin(run)), store.submit(runs.CREATE_RUNS, new_run(2))]
        assert [await future for future in mixed] == [False, True]
        assert await store.read(lambda connection: runs.get(connection, run.id)) == again.run


async def test_a_change_that_the_rules_forbid_fails_and_the_rest_of_its_group_holds(tmp_path: Path) -> None:
    run, other = new_run(1), new_run(2)
    async with opened(tmp_path) as store:
        for each in (run, other):
            await store.write(runs.CREATE_RUNS, each)
        bad = store.submit(runs.TRANSITIONS, change(run, S.COMPLETED))
        good = store.submit(runs.TRANSITIONS, begin(other))
        with pytest.raises(sqlite3.IntegrityError, match="follows"):
            await bad
        assert await good
        assert await store.read(lambda connection: runs.get(connection, run.id)) == run


async def test_due_runs_come_earliest_first_and_only_those_that_wait(tmp_path: Path) -> None:
    made = [new_run(seq, expected_start=at(start)) for seq, start in ((1, 30), (2, 10), (3, 10), (4, 20), (5, 99))]
    async with opened(tmp_path) as store:
        for run in made:
            await store.write(runs.CREATE_RUNS, run)
        await store.write(runs.TRANSITIONS, begin(made[3]))
        for limit, seqs in ((10, [2, 3, 1]), (2, [2, 3])):
            due = await store.read(lambda connection, limit=limit: runs.due(connection, at(30), limit))
            assert [run.seq for run in due] == seqs
        assert await store.read(runs.next_expected) == at(10)
        assert [run.seq for run in await store.read(runs.unfinished)] == [4]
        coming = await store.read(lambda connection: runs.upcoming_of(connection, "daily"))
        assert [run.seq for run in coming] == [2, 3, 1, 5]
        assert await store.read(lambda connection: runs.upcoming_of(connection, "none")) == []


async def test_what_comes_next_of_a_deployment_and_what_was_last_is_one_read_for_many(tmp_path: Path) -> None:
    moved = {"work_queue": "slow", "deployment": "moved"}  # from one queue to another: two routes
    made = [
        *(new_run(seq, deployment="daily") for seq in (1, 2, 30, 40)),
        new_run(3, deployment="overdue"),
        new_run(4, deployment="moved"),
        new_run(5, **moved),
        new_run(35, **moved),
        new_run(36, deployment="moved"),
        new_run(6, deployment="twice", expected_start=at(6)),
        new_run(7, deployment="twice", expected_start=at(6), work_queue="slow"),
        new_run(50, deployment="coming"),
        new_run(60, deployment="another"),
    ]
    waiting = {3, 30, 40, 35, 36, 50, 60}
    wanted = ["daily", "overdue", "moved", "twice", "coming", "none"]
    async with opened(tmp_path) as store:
        for run in made:
            await store.write(runs.CREATE_RUNS, run)
            if run.seq not in waiting:
                await store.write(runs.TRANSITIONS, begin(run))
        found = await store.read(lambda connection: runs.around(connection, wanted, at(20)))
    assert {name: (coming, last and last.seq) for name, (coming, last) in found.items()} == {
        "daily": (at(30), 2),
        "overdue": (at(3), 3),  # it waits still, and was to start
        "moved": (at(35), 5),
        "twice": (None, 7),  # of two at the same time the one made later
        "coming": (at(50), None),
    }


async def test_a_run_is_found_by_id_by_name_and_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    first = replace(new_run(1), id="0192e4b0-aaaa-7000-8000-000000000001", name="brisk-otter")
    second = replace(new_run(2), id="0192e4b0-bbbb-7000-8000-000000000002", name="brisk-otter")
    third = replace(new_run(3), id="0292e4b0-bbbb-7000-8000-000000000003", name="calm-owl")
    async with opened(tmp_path) as store:
        for run in (first, second, third):
            await store.write(runs.CREATE_RUNS, run)
        for text, seqs in (
            (first.id, [1]),
            (first.id.upper(), [1]),
            ("brisk-otter", [2, 1]),
            ("calm-owl", [3]),
            ("0192e4b0-b", [2]),
            ("0192E4B0", [2, 1]),
            ("029", []),  # fewer than four characters stand for nothing
            ("0292", [3]),
            ("%", []),
            ("", []),
        ):
            found = await store.read(lambda connection, text=text: runs.find(connection, text))
            assert [run.seq for run in found] == seqs, text


async def test_a_plan_is_written_as_one(tmp_path: Path) -> None:
    """Runs, cursors, skipped fires and deletions hold together or not at all."""
    old, taken = new_run(1, schedule="s", due=at(1)), new_run(2, schedule="s", due=at(2))
    skipped = SkippedFire(
        deployment="daily", schedule="s", first=at(0), last=at(9), count=3, exact=False, reason="paused", at=at(9)
    )
    async with opened(tmp_path) as store:
        for run in (old, taken):
            await store.write(runs.CREATE_RUNS, run)
        await store.write(runs.TRANSITIONS, begin(taken))
        plan = Plan(
            runs=(new_run(3, schedule="s", due=at(3)), new_run(4, schedule="s", due=at(2))),
            cursors=(Cursor(deployment="daily", schedule="s", last_due=at(3)),),
            skipped=(skipped,),
            delete=(1, 2),
        )
        assert await store.write(schedules.PLAN, plan) == (3,)  # 4 fires when 2 did
        assert await store.read(lambda connection: runs.get(connection, old.id)) is None
        assert await store.read(lambda connection: runs.get(connection, taken.id)) is not None  # it has started
        assert await store.read(schedules.cursors) == {("daily", "s"): at(3)}
        assert await store.read(schedules.skipped) == [skipped]
        broken = Plan(runs=(new_run(5), new_run(3)), cursors=(Cursor(deployment="a", schedule="b", last_due=at(9)),))
        with pytest.raises(sqlite3.IntegrityError):
            await store.write(schedules.PLAN, broken)
        assert ("a", "b") not in await store.read(schedules.cursors)
        assert await store.read(runs.last_seq) == 3


async def test_a_cursor_never_goes_back_by_a_plan(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for seconds in (5, 3):
            await store.write(
                schedules.PLAN, Plan(cursors=(Cursor(deployment="a", schedule="s", last_due=at(seconds)),))
            )
        assert await store.read(schedules.cursors) == {("a", "s"): at(5)}


async def test_skipped_fires_are_listed_newest_first_and_by_deployment(tmp_path: Path) -> None:
    def fire(deployment: str, seconds: int) -> SkippedFire:
        when = at(seconds)
        return SkippedFire(
            deployment=deployment, schedule="s", first=when, last=when, count=1, reason="catch_up = skip", at=when
        )

    fires = [fire("a", 1), fire("b", 2), fire("a", 3)]
    async with opened(tmp_path) as store:
        await store.write(schedules.PLAN, Plan(skipped=tuple(fires)))
        assert await store.read(schedules.skipped) == fires[::-1]
        of_a = await store.read(lambda connection: schedules.skipped(connection, deployment="a", limit=1))
        assert of_a == [fires[2]]


@pytest.mark.parametrize(
    ("bring", "deleted"), [((), True), ((S.PENDING,), False), ((S.PENDING, S.RUNNING), False), ((S.CANCELLED,), True)]
)
async def test_a_run_is_deleted_with_its_own_unless_somebody_has_it_in_hands(
    tmp_path: Path, bring: tuple[StateType, ...], deleted: bool
) -> None:
    run = new_run(1, tags=("a", "b"))
    line = LogRow(run=1, run_id=run.id, at=T0, level=20, logger="print", message="hello")
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        await store.write(runs.CREATE_RUNS, new_run(2, tags=("a",)))
        await store.write(logs.LOGS, line)
        await store.write(EMITTED, EmittedRow(run=1, at=T0, occurred=T0, event="e", about=None))
        if bring:
            await store.write(runs.TRANSITIONS, change(run, *bring))
        assert await store.write(runs.DELETE_RUN, 1) is deleted
        counts = {
            table: await store.read(
                lambda connection, sql=f"SELECT count(*) FROM {table} WHERE run = 1": connection.execute(sql).fetchone()
            )
            for table in ("history", "log", "emitted", "run_tag")
        }
        assert (counts == dict.fromkeys(counts, (0,))) is deleted
        assert not await store.write(runs.DELETE_RUN, 77)


async def test_row_numbers_go_on_where_they_stopped(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert [store.next_seq(), store.next_seq()] == [1, 2]
        await store.write(runs.CREATE_RUNS, new_run(2))
    async with opened(tmp_path) as store:
        assert store.next_seq() == 3


async def test_the_instance_is_made_once_and_last_alive_is_what_was_said_last(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = store.instance_id
        assert await store.read(instance.last_alive) is None
        for seconds in (60, 30):  # the clock was set back
            await store.write(instance.LAST_ALIVE, at(seconds))
    async with opened(tmp_path, doors=aiosqlite_doors) as store:
        assert store.instance_id == first == await store.read(instance.id)
        assert await store.read(instance.last_alive) == at(30)
        assert await store.read(instance.created) == T0


async def test_a_run_with_a_long_life_is_read_whole(tmp_path: Path) -> None:
    """Retried, paused and cancelled: every state is kept, in order."""
    run: FlowRun = new_run(1)
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        seen = [run.state]
        for decided in (
            begin(run),
            end(begin(run).run, S.FAILED, name="TimedOut"),
            change(
                end(begin(run).run, S.FAILED, name="TimedOut").run, S.SCHEDULED, name="AwaitingRetry", retries_used=1
            ),
        ):
            assert await store.write(runs.TRANSITIONS, decided)
            seen += decided.states
        assert await store.read(lambda connection: history.of(connection, 1)) == seen
        final = await store.read(lambda connection: runs.get(connection, run.id))
        assert final is not None and final.state.name == "AwaitingRetry" and final.retries_used == 1
