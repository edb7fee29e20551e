"""Cached results, variables over the file's, and documents that change in place."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_making import at, begin, change, ended, new_run, opened, state

from tidemill.core.runs import Artifact, TaskRun
from tidemill.core.states import StateType
from tidemill.store import artifacts, runs, task_cache, task_runs, variables
from tidemill.store.retention import Pruning, prune
from tidemill.store.task_cache import CACHE, Cached

UUID = "01890a5d-ac96-774b-bcce-b3020000000"


def cached(key: str, text: str = "1", *, expires: float | None = None, created: float = 0) -> Cached:
    return Cached(key=key, text=text, created=at(created), expires=None if expires is None else at(expires))


async def test_a_later_result_replaces_an_earlier_one_also_in_one_group(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for text in ("1", "2"):
            store.post(CACHE, cached("k", text))
        await store.write(CACHE, cached("other"))
        assert await store.read(lambda connection: task_cache.get(connection, "k", at(0))) == "2"
        assert await store.read(lambda connection: task_cache.get(connection, "none", at(0))) is None


@pytest.mark.parametrize(("now", "there"), [(9.999999, True), (10, False), (11, False)])
async def test_a_result_is_gone_at_the_instant_it_expires(now: float, there: bool, tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(CACHE, cached("k", expires=10))
        found = await store.read(lambda connection: task_cache.get(connection, "k", at(now)))
        assert (found is not None) == there


async def test_retention_prunes_results_that_have_expired_or_are_too_old(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for each in (cached("old"), cached("expired", created=90, expires=95), cached("kept", created=90)):
            await store.write(CACHE, each)
        rules = Pruning(now=at(100), keep=at(100) - at(80))
        assert (await prune(store, rules))["cached results"] == 2
        assert not any((await prune(store, rules)).values())
        for key, there in (("old", False), ("expired", False), ("kept", True)):
            found = await store.read(lambda connection, key=key: task_cache.get(connection, key, at(0)))  # type: ignore[misc]
            assert (found is not None) == there, key


async def test_without_an_age_only_expired_results_go(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(CACHE, cached("old"))
        await store.write(CACHE, cached("expired", expires=1))
        assert (await prune(store, Pruning(now=at(10**8), keep=None)))["cached results"] == 1
        assert await store.read(lambda connection: task_cache.get(connection, "old", at(10**8))) == "1"


def document(number: int, text: str, run_id: str, description: str | None = None) -> Artifact:
    return Artifact(
        id=f"{UUID}{number}",
        key="p",
        version=0,
        type="progress",
        text=text,
        run_id=run_id,
        description=description,
        created=at(0),
    )


async def test_a_document_changes_in_place_for_its_own_run_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(artifacts.ARTIFACTS, document(1, "0.0", "mine", "as it began"))
        store.post(artifacts.UPDATE_ARTIFACTS, document(1, "50.0", "mine"))
        store.post(artifacts.UPDATE_ARTIFACTS, document(1, "99.0", "other"))
        await store.flush()
        found = await store.read(lambda connection: artifacts.latest(connection, "p"))
        assert found is not None
        assert (found.text, found.version, found.description) == ("50.0", 1, "as it began")


async def test_a_document_is_made_and_changed_in_one_group(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.post(artifacts.UPDATE_ARTIFACTS, document(1, "1.0", "mine"))
        store.post(artifacts.ARTIFACTS, document(1, "0.0", "mine"))
        store.post(artifacts.UPDATE_ARTIFACTS, document(1, "2.0", "mine", "now"))
        await store.flush()
        found = await store.read(lambda connection: artifacts.latest(connection, "p"))
        assert found is not None
        assert (found.text, found.description) == ("2.0", "now")


async def test_variables_of_the_file_hold_until_set_and_again_when_the_file_changes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        async def states(**values: object) -> None:
            await store.write(variables.STATE_VARIABLES, variables.Stated(values=values, at=at(1)))

        async def held() -> dict[str, object]:
            found = await store.read(variables.all_of)
            return {name: each.value for name, each in found.items()}

        def by_hand(name: str, value: object) -> variables.Variable:
            return variables.Variable(name=name, value=value, created=at(2), updated=at(2))

        await states(a=1, b=2)
        await store.write(variables.SET_VARIABLE, by_hand("a", "x"))
        await store.write(variables.SET_VARIABLE, by_hand("c", "y"))
        assert await held() == {"a": "x", "b": 2, "c": "y"}
        await states(a=1, b=2)
        assert await held() == {"a": "x", "b": 2, "c": "y"}, "the same file again changes nothing"
        await states(a=3)
        assert await held() == {"a": 3, "c": "y"}
        assert await store.write(variables.UNSET_VARIABLE, ("c", at(3)))
        assert not await store.write(variables.UNSET_VARIABLE, ("a", at(3))), "the file's is not unset"
        await store.write(variables.SET_VARIABLE, by_hand("a", 0))
        assert await store.write(variables.UNSET_VARIABLE, ("a", at(3)))
        assert await held() == {"a": 3}


async def test_unfinished_task_runs_end_with_their_flow_run_and_others_stay(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = [new_run(store.next_seq()) for _ in range(2)]
        for run in made:
            await store.write(runs.CREATE_RUNS, run)
        for number, (run, kind) in enumerate(
            [(made[0], StateType.RUNNING), (made[0], StateType.COMPLETED), (made[1], StateType.PENDING)]
        ):
            task = TaskRun(
                id=f"{UUID}{number}",
                run=run.seq,
                run_id=run.id,
                name="t",
                task_key="t",
                dynamic_key="0",
                state=state(kind),
                created=at(0),
            )
            await store.write(task_runs.TASK_RUNS, task)
        ending = task_runs.Ending(runs=(made[0].seq,), state=state(StateType.CRASHED, at(5), message="gone"))
        assert await store.write(task_runs.END_TASK_RUNS, ending) == 1
        first = await store.read(lambda connection: task_runs.of_run(connection, made[0].seq))
        assert [(each.state.name, each.state.message, each.state_number) for each in first] == [
            ("Crashed", "gone", 2),
            ("Completed", None, 1),
        ]
        (other,) = await store.read(lambda connection: task_runs.of_run(connection, made[1].seq))
        assert other.state.name == "Pending"


async def test_a_run_keeps_whose_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        parent = new_run(store.next_seq())
        child = new_run(store.next_seq(), parent_run_id=parent.id, parent_task_run_id=f"{UUID}1", deployment=None)
        for run in (parent, child):
            await store.write(runs.CREATE_RUNS, run)
        for transition in ended(child):
            assert await store.write(runs.TRANSITIONS, transition)
        (found,) = await store.read(lambda connection: runs.children_of(connection, parent.id))
        assert (found.parent_run_id, found.parent_task_run_id, found.state.name) == (parent.id, f"{UUID}1", "Completed")
        assert await store.read(lambda connection: runs.children_of(connection, child.id)) == []


async def test_a_paused_run_is_in_somebodys_hands_and_not_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        run = new_run(store.next_seq())
        await store.write(runs.CREATE_RUNS, run)
        started = begin(run)
        await store.write(runs.TRANSITIONS, started)
        await store.write(runs.TRANSITIONS, change(started.run, StateType.PAUSED))
        assert not await store.write(runs.DELETE_RUN, run.seq)
