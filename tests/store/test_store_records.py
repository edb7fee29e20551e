"""Logs, task runs, the catalogue, overrides and variables."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from store_making import IDS, T0, at, new_run, opened, state

from tidemill.core.deployments import Deployment, FlowKind, FlowRef, WorkPool, WorkQueue
from tidemill.core.overrides import Override
from tidemill.core.retries import RetryPolicy
from tidemill.core.runs import LogRow, TaskRun
from tidemill.core.schedules import Schedule
from tidemill.core.states import StateType
from tidemill.ids import stable_id
from tidemill.store import Store, catalogue, logs, runs, task_runs, variables
from tidemill.store.catalogue import CLEAR_OVERRIDE, SET_OVERRIDE, SYNC_CATALOGUE, Listing

S = StateType


# -- logs ------------------------------------------------------------------------------------------------------------


async def with_lines(store: Store) -> list[LogRow]:
    """Write two runs whose lines alternate; return the first one's."""
    first, second = new_run(1), new_run(2)
    lines = []
    for run in (first, second):
        await store.write(runs.CREATE_RUNS, run)
    for number in range(10):
        run = (first, second)[number % 2]
        line = LogRow(
            run=run.seq,
            run_id=run.id,
            at=at(number),
            level=10 + 10 * (number % 3),
            logger="print" if number < 5 else "flow.x",
            message=f"line {number}",
            task_run_id="t" * 36 if number == 8 else None,
        )
        store.post(logs.LOGS, line)
        lines.append(line)
    await store.flush()
    return lines[::2]


async def test_lines_are_read_back_in_order_by_page_and_by_level(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        lines = await with_lines(store)

        async def read(**asked: Any) -> list[LogRow]:
            return [line.row for line in await store.read(lambda connection: logs.of_run(connection, 1, **asked))]

        assert await read() == lines
        assert await read(limit=2, offset=1) == lines[1:3]
        assert await read(level=20) == [line for line in lines if line.level >= 20]
        assert await store.read(lambda connection: logs.count_of_run(connection, 1)) == 5
        assert await store.read(lambda connection: logs.count_of_run(connection, 1, level=30)) == 2
        tail = await store.read(lambda connection: logs.tail_of_run(connection, 1, limit=2))
        assert [line.row for line in tail] == lines[-2:]


async def test_a_follower_goes_on_after_the_last_line_it_saw(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        lines = await with_lines(store)
        first = await store.read(lambda connection: logs.of_run(connection, 1, limit=2))
        rest = await store.read(lambda connection: logs.of_run(connection, 1, after=first[-1].number))
        assert [line.row for line in (*first, *rest)] == lines
        last = await store.read(logs.last_number)
        assert await store.read(lambda connection: logs.of_all(connection, after=last)) == []
        assert [line.number for line in await store.read(logs.of_all)] == list(range(last - 9, last + 1))


async def test_a_line_of_a_deleted_run_is_left_out_and_spoils_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        run = new_run(1)
        await store.write(runs.CREATE_RUNS, run)
        line = LogRow(run=1, run_id=run.id, at=T0, level=20, logger="print", message="here")
        store.post(logs.LOGS, replace(line, run=99, message="gone"))
        store.post(logs.LOGS, line)
        await store.flush()
        assert [each.row for each in await store.read(logs.of_all)] == [line]
        assert store.stats.dropped == 0


async def test_a_line_with_a_nul_in_it_is_kept_to_its_end(tmp_path: Path) -> None:
    """SQL's JSON functions take a NUL for the end of a text."""
    async with opened(tmp_path) as store:
        run = new_run(1)
        await store.write(runs.CREATE_RUNS, run)
        line = LogRow(run=1, run_id=run.id, at=T0, level=20, logger="print", message="a\0b\\u0000c")
        store.post(logs.LOGS, line)
        await store.flush()
        assert [each.row.message for each in await store.read(logs.of_all)] == ["a\\x00b\\u0000c"]


# -- task runs -------------------------------------------------------------------------------------------------------


async def test_a_task_run_goes_forward_only(tmp_path: Path) -> None:
    run = new_run(1)
    first = TaskRun(
        id=IDS.new(T0), run=1, run_id=run.id, name="fetch-0", task_key="fetch", dynamic_key="0", tags=("a",),
        state=state(S.PENDING), created=T0, expected_start=at(1),
    )  # fmt: skip
    running = replace(first, state=state(S.RUNNING, at(1), data=[1]), state_number=2, attempt=1, start_time=at(1))
    done = replace(
        running,
        state=state(S.COMPLETED, at(2), name="Cached", message="m"),
        state_number=3,
        end_time=at(2),
        run_time_s=1.25,
    )
    orphan = replace(first, id=IDS.new(T0), run=99)
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        for given, present in ((first, first), (running, running), (done, done), (running, done)):
            await store.write(task_runs.TASK_RUNS, given)
            assert await store.read(lambda connection: task_runs.get(connection, first.id)) == present
        await store.write(task_runs.TASK_RUNS, orphan)  # its run is gone: nobody's
        assert await store.read(lambda connection: task_runs.of_run(connection, 1)) == [done]
        assert await store.read(lambda connection: task_runs.get(connection, orphan.id)) is None


async def test_reports_of_one_task_in_one_group_end_at_the_latest(tmp_path: Path) -> None:
    run = new_run(1)
    first = TaskRun(
        id=IDS.new(T0),
        run=1,
        run_id=run.id,
        name="t",
        task_key="t",
        dynamic_key="0",
        state=state(S.PENDING),
        created=T0,
    )
    async with opened(tmp_path) as store:
        store.post(runs.CREATE_RUNS, run)
        for number in (1, 3, 2):
            store.post(task_runs.TASK_RUNS, replace(first, state_number=number))
        await store.flush()
        (found,) = await store.read(lambda connection: task_runs.of_run(connection, 1))
        assert found.state_number == 3


# -- the catalogue ---------------------------------------------------------------------------------------------------

DAILY = Deployment(
    name="daily",
    flow=FlowRef(kind=FlowKind.FILE, entrypoint="reports.py:daily", name="daily"),
    parameters={"region": "fi", "token": {"env": "TOKEN"}},
    overridable=frozenset({"region"}),
    schedules=(Schedule(cron="0 9 * * *", timezone="Europe/Helsinki", exclude=(date(2026, 12, 24),)),),
    retry=RetryPolicy(retries=3, delays=(timedelta(seconds=10), timedelta(minutes=1))),
    timeout=timedelta(minutes=10),
    tags=("api",),
)
HOURLY = Deployment(name="hourly", flow=FlowRef(kind=FlowKind.BUILTIN, entrypoint="shell", name="shell"))
QUEUE, POOL = WorkQueue(name="default"), WorkPool(name="default")


def listing(seconds: float, *deployments: Deployment) -> Listing:
    return Listing(deployments=deployments, work_queues=(QUEUE,), work_pools=(POOL,), at=at(seconds))


async def test_the_catalogue_follows_the_configuration_and_forgets_nothing(tmp_path: Path) -> None:
    slower = replace(DAILY, timeout=timedelta(minutes=20))
    async with opened(tmp_path) as store:

        async def read(**asked: Any) -> dict[str, tuple[Any, ...]]:
            found = await store.read(lambda connection: catalogue.deployments(connection, **asked))
            return {each.value.name: (each.value, each.created, each.updated, each.gone) for each in found}

        await store.write(SYNC_CATALOGUE, listing(0, DAILY, HOURLY))
        assert await read() == {"daily": (DAILY, T0, T0, None), "hourly": (HOURLY, T0, T0, None)}
        await store.write(SYNC_CATALOGUE, listing(10, slower))
        assert await read() == {"daily": (slower, T0, at(10), None)}
        assert (await read(gone=True))["hourly"] == (HOURLY, T0, T0, at(10))
        await store.write(SYNC_CATALOGUE, listing(20, slower, HOURLY))  # back again; the other is left alone
        assert await read() == {"daily": (slower, T0, at(10), None), "hourly": (HOURLY, T0, at(20), None)}
        (entry, _) = await store.read(catalogue.deployments)
        assert entry.id == stable_id(store.instance_id, "deployment", "daily")
        assert [each.value for each in await store.read(catalogue.work_queues)] == [QUEUE]
        assert [each.value for each in await store.read(catalogue.work_pools)] == [POOL]


async def test_ten_thousand_deployments_are_taken_over_as_one(tmp_path: Path) -> None:
    many = tuple(replace(HOURLY, name=f"d{number}") for number in range(10_000))
    async with opened(tmp_path) as store:
        await store.write(SYNC_CATALOGUE, listing(0, *many))
        assert len(await store.read(catalogue.deployments)) == 10_000


async def test_an_override_holds_until_it_is_taken_back(tmp_path: Path) -> None:
    paused = Override(kind="deployment", name="daily", key="paused", value=True, file_value=False, by="cli", at=T0)
    limit = Override(kind="work_queue", name="default", key="concurrency_limit", value=3, file_value=None, at=T0)
    async with opened(tmp_path) as store:
        for each in (limit, paused):
            await store.write(SET_OVERRIDE, each)
        assert await store.read(catalogue.overrides) == [paused, limit]
        await store.write(SET_OVERRIDE, replace(limit, value=5, at=at(9)))
        assert await store.write(CLEAR_OVERRIDE, ("deployment", "daily", "paused"))
        assert not await store.write(CLEAR_OVERRIDE, ("deployment", "daily", "paused"))
        assert await store.read(catalogue.overrides) == [replace(limit, value=5, at=at(9))]


async def test_a_variable_is_set_replaced_and_removed(tmp_path: Path) -> None:
    first = variables.Variable(name="region", value={"a": [1]}, tags=("x",), created=T0, updated=T0)
    async with opened(tmp_path) as store:
        await store.write(variables.SET_VARIABLE, first)
        assert await store.read(variables.all_of) == {"region": first}
        await store.write(variables.SET_VARIABLE, replace(first, value=[], tags=(), created=at(9), updated=at(9)))
        assert await store.read(variables.all_of) == {"region": replace(first, value=[], tags=(), updated=at(9))}
        assert await store.write(variables.UNSET_VARIABLE, ("region", at(10)))
        assert not await store.write(variables.UNSET_VARIABLE, ("region", at(10)))
        assert await store.read(variables.all_of) == {}
