"""Task runs, subflows, blocks, limits, variables and pauses over the API, in Prefect's field names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from test_api_routes import Client, serving

from fakes import FakeClock
from tidemill.core.events import TaskRunChanged
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.store import variables
from tidemill.store.runs import CREATE_RUNS


async def stocked(client: Client) -> tuple[FlowRun, FlowRun]:
    """Two runs: one with three task runs, one with one."""
    mill = client.mill
    first, second = await mill.begin(await mill.add()), await mill.begin(await mill.add())
    await mill.task(first, "fetch-1", tags=("api", "x"))
    await mill.task(first, "fetch-2", StateType.FAILED, tags=("api",))
    await mill.task(second, "store", StateType.RUNNING)
    await mill.task(first, "100%_sure")
    return first, second


# A filter -> the names of the task runs that fit, in order. "$1" and "$2" are the flow runs.
FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "of a flow run, in the order they were made": (
        {"task_runs": {"flow_run_id": {"any_": ["$1"]}}},
        ["fetch-1", "fetch-2", "100%_sure"],
    ),
    "the same by the flow run's filter": ({"flow_runs": {"id": {"any_": ["$2"]}}}, ["store"]),
    "of two": ({"task_runs": {"flow_run_id": {"any_": ["$1", "$2"]}}}, ["fetch-1", "fetch-2", "store", "100%_sure"]),
    "the newest first": (
        {"task_runs": {"flow_run_id": {"any_": ["$1"]}}, "sort": "EXPECTED_START_TIME_DESC"},
        ["100%_sure", "fetch-2", "fetch-1"],
    ),
    "a page": ({"task_runs": {"flow_run_id": {"any_": ["$1"]}}, "limit": 1, "offset": 1}, ["fetch-2"]),
    "of all, the newest first": ({}, ["100%_sure", "store", "fetch-2", "fetch-1"]),
    "a page of all": ({"limit": 2, "offset": 1}, ["store", "fetch-2"]),
    "by state type": ({"task_runs": {"state": {"type": {"any_": ["FAILED", "RUNNING"]}}}}, ["store", "fetch-2"]),
    "by state name": ({"task_runs": {"state": {"name": {"any_": ["Completed"]}}}}, ["100%_sure", "fetch-1"]),
    "by name": ({"task_runs": {"name": {"any_": ["store", "x"]}}}, ["store"]),
    "by a part of the name": ({"task_runs": {"name": {"like_": "FETCH"}}}, ["fetch-2", "fetch-1"]),
    "signs are themselves": ({"task_runs": {"name": {"like_": "0%_s"}}}, ["100%_sure"]),
    "no sign stands for another": ({"task_runs": {"name": {"like_": "f_tch"}}}, []),
    "by tags, all of them": ({"task_runs": {"tags": {"all_": ["api", "x"]}}}, ["fetch-1"]),
    "of no flow run": ({"task_runs": {"flow_run_id": {"any_": []}}}, []),
    "of one that is not there": ({"task_runs": {"flow_run_id": {"any_": ["x"]}}}, []),
}


@pytest.mark.parametrize("case", FILTERS)
async def test_task_runs_are_listed_and_counted_by_any_filter(case: str, tmp_path: Path, clock: FakeClock) -> None:
    body, names = FILTERS[case]
    async with serving(tmp_path, clock) as client:
        first, second = await stocked(client)
        filled = _filled(body, {"$1": first.id, "$2": second.id})
        assert [each["name"] for each in await client.post("/task_runs/filter", filled)] == names
        if "limit" not in body:
            assert await client.post("/task_runs/count", filled) == len(names)


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


async def test_a_task_run_is_found_by_its_id_or_the_beginning_of_it(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        run, _ = await stocked(client)
        (listed, *_) = await client.post("/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run.id]}}})
        found = await client.get(f"/task_runs/{listed['id']}")
        assert found == listed
        assert (found["flow_run_id"], found["state"]["data"], found["total_run_time"]) == (run.id, {"n": 1}, 0.5)
        assert (await client.get(f"/task_runs/{listed['id'][:35]}"))["id"] == listed["id"]
        several = await client.send("GET", f"/api/task_runs/{listed['id'][:9]}")
        assert several.status_code == 404
        assert "several task runs fit" in several.json()["detail"]
        assert (await client.send("GET", "/api/task_runs/xyz")).status_code == 404
        body = {"task_runs": {"id": {"any_": [listed["id"], "x"]}}}
        assert await client.post("/task_runs/filter", body) == [listed]


async def test_oldest_first_needs_flow_runs(tmp_path: Path, clock: FakeClock) -> None:
    """With a million task runs the oldest that fit are nowhere near."""
    async with serving(tmp_path, clock) as client:
        refused = await client.post("/task_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"}, 422)
        assert "give flow runs" in refused["detail"]


async def test_what_a_run_began_is_listed_and_names_its_parent(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        parent = await mill.add()
        child = replace(
            parent, seq=mill.store.next_seq(), id=mill.ids.new(clock.now()), parent_run_id=parent.id, deployment=None
        )
        await mill.store.write(CREATE_RUNS, child)
        (found,) = await client.get(f"/flow_runs/{parent.id}/children")
        assert (found["id"], found["parent_flow_run_id"], found["parent_task_run_id"]) == (child.id, parent.id, None)
        assert await client.get(f"/flow_runs/{child.id}/children") == []


async def test_a_paused_run_is_resumed_with_an_input(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        run = await mill.pause_run(await mill.begin(await mill.add()))
        result = await client.post(f"/flow_runs/{run.id}/resume", {"run_input": {"ok": True}}, 201)
        assert (result["status"], result["state"]["type"]) == ("ACCEPT", "RUNNING")
        assert mill.given == [{"ok": True}]
        result = await client.post(f"/flow_runs/{run.id}/resume", {})
        assert (result["status"], result["details"]["type"]) == ("REJECT", "reject_details")
        assert "only a paused run is resumed" in result["details"]["reason"]


async def test_concurrency_limits_tell_what_is_taken(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        client.mill.live_limits = [{"name": "database", "active_slots": 3.0, "waiting": 2}]
        api, database = await client.post("/v2/concurrency_limits/filter", {})
        assert (api["name"], api["limit"], api["slot_decay_per_second"], api["active_slots"]) == ("api", 10, 2.5, 0)
        assert (database["active_slots"], database["waiting"], database["active"]) == (3.0, 2, True)
        assert await client.get("/v2/concurrency_limits/database") == database
        assert await client.get(f"/v2/concurrency_limits/{api['id']}") == api
        missing = await client.send("GET", "/api/v2/concurrency_limits/databse")
        assert missing.json()["detail"] == 'no concurrency limit is called "databse"; did you mean database?'


async def test_blocks_are_told_without_their_secrets(tmp_path: Path, clock: FakeClock) -> None:
    """P14: not even where they are."""
    async with serving(tmp_path, clock) as client:
        api, settings = await client.post("/block_documents/filter", {})
        assert (api["name"], api["secrets"], api["data"]["auth"]) == (
            "orders-api", ["auth.bearer"], {"bearer": "********"}
        )  # fmt: skip
        assert settings["data"] == {"value": {"env": "x"}}, "data that looks like a reference is data"
        assert await client.get("/block_documents/orders_api") == api
        assert (await client.send("GET", "/api/block_documents/none")).status_code == 404


async def test_variables_tell_where_their_value_is_from(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        now = clock.now()
        stated = variables.Stated(values={"region": "fi", "size": 3}, at=now)
        await client.mill.store.write(variables.STATE_VARIABLES, stated)
        by_hand = variables.Variable(name="size", value=[4], created=now, updated=now)
        await client.mill.store.write(variables.SET_VARIABLE, by_hand)
        region, size = await client.post("/variables/filter", {})
        assert (region["value"], region["set_by_hand"], region["file_value"]) == ("fi", False, "fi")
        assert (size["value"], size["set_by_hand"], size["file_value"]) == ([4], True, 3)
        assert await client.post("/variables/filter", {"variables": {"name": {"any_": ["size"]}}}) == [size]


async def test_task_runs_are_told_to_who_asks_for_them_only(tmp_path: Path, clock: FakeClock) -> None:
    """Thousands a second would drown what happens to flow runs."""
    async with serving(tmp_path, clock) as client:
        bus = client.mill.events
        plain, all_of_it = bus.subscribe(), bus.subscribe(task_runs=True)
        run = await client.mill.begin(await client.mill.add())
        task = await client.mill.task(run, "t")
        assert bus.task_runs_wanted
        bus.publish_task_runs([TaskRunChanged(run, task)])
        heard = []
        for each in (plain, all_of_it):
            each.close()
            heard.append([type(event).__name__ async for event in each])
        assert heard == [["RunChanged"] * 2, ["RunChanged", "RunChanged", "TaskRunChanged"]]
        assert not bus.task_runs_wanted
