"""What is kept of automations, and for how long."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from store_making import T0, at, new_run, opened

from tidemill.core.automations import Automation, Cause, EntersState, Fire, Past, Run, Step, StepState, Tell
from tidemill.store import Store, automations, catalogue
from tidemill.store import runs as stored_runs
from tidemill.store.automations import CARRY, COUNT_FROM, FIRE, STATE_AUTOMATIONS, Stated
from tidemill.store.catalogue import SYNC_CATALOGUE, Listing


def fire(key: str, *, of: str = "x", about: str | None = "a", seconds: float = 0, over: bool = False) -> Fire:
    cause = Cause(key=key, at=at(seconds - 1), reason="because", deployment=about, over=over)
    return Fire(automation=of, cause=cause, at=at(seconds), steps=(Step(action=Tell(channel="default")),))


async def fires(store: Store, name: str = "x", **page: Any) -> list[Fire]:
    return await store.read(partial(automations.fires, name=name, **page))


async def test_a_cause_is_acted_on_once(tmp_path: Path) -> None:
    """Whoever comes first, before a restart or after it."""
    async with opened(tmp_path) as store:
        first = await store.write(FIRE, fire("k"))
    async with opened(tmp_path) as store:
        assert await store.write(FIRE, fire("k", seconds=5)) is None
        other = await store.write(FIRE, fire("l"))
        of_another = await store.write(FIRE, fire("k", of="y"))
        assert None not in (first, other, of_another)
        assert [each.number for each in await fires(store)] == [other, first]


async def test_of_equal_causes_in_one_group_the_first_is_acted_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        futures = [store.submit(FIRE, fire("k", seconds=second)) for second in range(3)]
        numbers = [await each for each in futures]
        assert [number is None for number in numbers] == [False, True, True]


async def test_what_became_of_a_fire_is_kept_and_what_is_unfinished_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = fire("k")
        number = await store.write(FIRE, made)
        made = replace(made, number=number or 0)
        assert await store.read(automations.unfinished) == [made]
        done = replace(made.steps[0], state=StepState.DONE, tries=1, told="told default")
        made = replace(made, steps=(done,), finished=at(3))
        await store.write(CARRY, made)
        assert await store.read(automations.unfinished) == []
        assert await fires(store) == [made]


async def test_an_automation_counts_from_when_it_was_first_stated_until_its_condition_changes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(STATE_AUTOMATIONS, Stated(digests={"x": "1", "y": "1"}, at=at(0)))
        await store.write(STATE_AUTOMATIONS, Stated(digests={"x": "2", "y": "1", "z": "1"}, at=at(10)))
        assert await store.read(automations.since) == {"x": at(10), "y": at(0), "z": at(10)}
        await store.write(COUNT_FROM, ("y", at(20)))
        await store.write(STATE_AUTOMATIONS, Stated(digests={"y": "1"}, at=at(30)))
        assert await store.read(automations.since) == {"y": at(20)}


async def test_the_fires_of_what_is_no_longer_stated_stay_for_a_while(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(FIRE, fire("k"))
        await store.write(STATE_AUTOMATIONS, Stated(digests={}, at=T0 + timedelta(days=89)))
        assert len(await fires(store)) == 1
        await store.write(STATE_AUTOMATIONS, Stated(digests={}, at=T0 + timedelta(days=91)))
        assert await fires(store) == []


async def test_the_oldest_go_and_what_is_unfinished_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: an automation that fires each second fills no disk."""
    monkeypatch.setattr(automations, "KEEP_FIRES", 3)
    async with opened(tmp_path) as store:
        await store.write(FIRE, fire("unfinished"))
        await store.write(FIRE, fire("another's", of="y"))
        for number in range(6):
            await store.write(FIRE, replace(fire(f"k{number}"), finished=at(0)))
        assert [each.cause.key for each in await fires(store)] == ["k5", "k4", "k3", "unfinished"]
        assert len(await fires(store, "y")) == 1


async def test_the_past_is_told_by_deployment_and_ends_apart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(FIRE, fire("1", seconds=10))
        await store.write(FIRE, fire("2", seconds=20))
        await store.write(FIRE, fire("3", seconds=30, over=True))
        await store.write(FIRE, fire("4", about="b", seconds=5))
        await store.write(FIRE, fire("5", about="c", seconds=5, over=True))
        await store.write(FIRE, fire("6", of="y", seconds=99))
        assert await store.read(partial(automations.past, name="x")) == {
            "a": Past(at=at(20), occurred=at(19), over=at(30)),
            "b": Past(at=at(5), occurred=at(4)),
        }


async def test_the_last_times_are_told_oldest_first_and_pages_newest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(5):
            await store.write(FIRE, fire(str(number), seconds=number))
        assert await store.read(partial(automations.times, name="x", limit=3)) == [at(2), at(3), at(4)]
        assert [each.cause.key for each in await fires(store, limit=2, offset=1)] == ["3", "2"]
        found = await store.read(automations.summaries)
        assert (found["x"].fires, found["x"].last.cause.key) == (5, "4")


async def test_a_runs_descent_goes_by_who_asked_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        keys = ["automation/x/1/0", None, "automation/y/2/0", "automation/x/3/0"]
        runs = [new_run(number + 1, idempotency_key=key) for number, key in enumerate(keys)]
        runs = [replace(run, parent_run_id=runs[n - 1].id if n else "gone" * 9) for n, run in enumerate(runs)]
        for run in runs:
            await store.write(stored_runs.CREATE_RUNS, run)
        assert await store.read(partial(automations.descent, run_id=runs[-1].id)) == keys[::-1]
        assert await store.read(partial(automations.descent, run_id="nobody")) == []


async def test_a_descent_in_a_circle_ends(tmp_path: Path) -> None:
    """No daemon writes one; a database may hold anything."""
    async with opened(tmp_path) as store:
        first, second = new_run(1), new_run(2)
        await store.write(stored_runs.CREATE_RUNS, replace(first, parent_run_id=second.id))
        await store.write(stored_runs.CREATE_RUNS, replace(second, parent_run_id=first.id))
        found = await store.read(partial(automations.descent, run_id=first.id))
        assert len(found) == automations.MAX_DESCENT


async def test_automations_are_in_the_catalogue(tmp_path: Path) -> None:
    """Whoever reads the database alone can tell what they are."""
    made = Automation(name="x", when=EntersState(states=("Failed",)), then=(Run(deployment="a"),), description="d")
    async with opened(tmp_path) as store:
        listing = Listing(deployments=(), work_queues=(), work_pools=(), automations=(made,), at=T0)
        await store.write(SYNC_CATALOGUE, listing)
        (entry,) = await store.read(catalogue.automations)
        assert (entry.value, entry.gone) == (made, None)
        await store.write(SYNC_CATALOGUE, replace(listing, automations=(), at=at(1)))
        assert await store.read(catalogue.automations) == []
