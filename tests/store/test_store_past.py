"""What deployments were stated as before, and backfills: what the database keeps for people's questions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace
from store_making import T0, at, new_run, opened

from tidemill.core import backfills as core_backfills
from tidemill.core.backfills import Backfill
from tidemill.core.deployments import Deployment, FlowKind, FlowRef
from tidemill.core.states import StateType
from tidemill.store import backfills, catalogue, runs, schedules
from tidemill.store.backfills import PUT_BACKFILL
from tidemill.store.catalogue import KEEP_PAST, SYNC_CATALOGUE, Listing

JOB = Deployment(name="job", flow=FlowRef(kind=FlowKind.BUILTIN, entrypoint="shell", name="shell"))
OTHER = replace(JOB, name="other")


def listing(seconds: float, *deployments: Deployment) -> Listing:
    return Listing(deployments=deployments, work_queues=(), work_pools=(), at=at(seconds))


async def test_earlier_forms_of_a_deployment_are_kept_with_their_times(tmp_path: Path) -> None:
    slower = replace(JOB, timeout=timedelta(minutes=20))
    async with opened(tmp_path) as store:

        async def past() -> list[tuple[Deployment, float, float]]:
            found = await store.read(lambda connection: catalogue.past_of(connection, "job"))
            return [
                (each.value, (each.since - T0).total_seconds(), (each.until - T0).total_seconds()) for each in found
            ]

        await store.write(SYNC_CATALOGUE, listing(0, JOB, OTHER))
        await store.write(SYNC_CATALOGUE, listing(10, JOB, OTHER))
        assert await past() == []  # nothing has changed
        await store.write(SYNC_CATALOGUE, listing(20, slower, OTHER))
        await store.write(SYNC_CATALOGUE, listing(30, OTHER))
        await store.write(SYNC_CATALOGUE, listing(40, OTHER))
        await store.write(SYNC_CATALOGUE, listing(50, JOB, OTHER))
        await store.write(SYNC_CATALOGUE, listing(60, slower, OTHER))
        assert await past() == [(JOB, 0, 20), (slower, 20, 30), (JOB, 50, 60)]


async def test_a_deployment_that_changes_all_the_time_fills_nothing(tmp_path: Path) -> None:
    """P13: the newest few forms of each are kept."""
    async with opened(tmp_path) as store:
        for number in range(3 * KEEP_PAST):
            changing = replace(JOB, timeout=timedelta(minutes=1 + number))
            await store.write(SYNC_CATALOGUE, listing(number, changing, OTHER))
        found = await store.read(lambda connection: catalogue.past_of(connection, "job"))
        assert len(found) == KEEP_PAST
        assert found[-1].until == at(3 * KEEP_PAST - 1)
        assert await store.read(lambda connection: catalogue.past_of(connection, "other")) == []


def backfill(number: int, **fields: object) -> Backfill:
    values: dict[str, object] = {
        "id": f"{number:036d}", "deployment": "job", "first": at(0), "last": at(100), "total": 5, "created": T0,
    }  # fmt: skip
    return Backfill(**(values | fields))  # type: ignore[arg-type]


async def test_a_backfill_is_kept_as_it_goes_and_stays_as_it_ended(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = backfill(1, parameters={"x": [1]}, again=True, at_a_time=3, by="ada")
        await store.write(PUT_BACKFILL, first)
        assert await store.read(backfills.backfills) == [first]
        going = replace(first, cursor=at(50), made=2, passed_over=1)
        await store.write(PUT_BACKFILL, going)
        ended = replace(going, ended=at(60), outcome="cancelled by ben")
        await store.write(PUT_BACKFILL, ended)
        await store.write(PUT_BACKFILL, replace(going, made=3))  # a step that was under way
        assert await store.read(backfills.backfills) == [ended]
        assert await store.read(lambda connection: backfills.backfills(connection, unfinished=True)) == []
        assert await store.read(lambda connection: backfills.backfills(connection, deployment="other")) == []


async def test_backfills_that_ended_long_ago_are_forgotten(tmp_path: Path) -> None:
    """P13. One under way never is."""
    async with opened(tmp_path) as store:
        await store.write(PUT_BACKFILL, backfill(0))
        for number in range(1, backfills.KEEP + 20):
            await store.write(PUT_BACKFILL, backfill(number, ended=at(9), outcome="completed"))
        found = await store.read(lambda connection: backfills.backfills(connection, limit=10_000))
        assert found[0].ended is None
        (count,) = await store.read(lambda connection: connection.execute("SELECT count(*) FROM backfill").fetchone())
        assert count == backfills.KEEP + 1


async def test_the_runs_of_one_fire_are_told_apart_by_who_made_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        own = new_run(1, deployment="job", schedule="hourly", due=at(100), created_by="schedule")
        key = core_backfills.key("job", "hourly", at(100), 0)
        made = new_run(2, deployment="job", due=at(100), created_by="backfill", idempotency_key=key)
        near = new_run(3, deployment="job", idempotency_key=core_backfills.key("job", "hourly", at(101), 0))
        for run in (own, made, near):
            assert await store.write(runs.CREATE_RUNS, run)
        found = await store.read(lambda connection: backfills.of_fire(connection, "job", "hourly", at(100)))
        assert found == ([StateType.SCHEDULED], StateType.SCHEDULED)
        assert await store.read(lambda connection: backfills.of_fire(connection, "job", "daily", at(100))) == ([], None)
        between = await store.read(lambda connection: schedules.runs_between(connection, "job", at(99), at(100)))
        assert [run.id for run in between] == [own.id]
