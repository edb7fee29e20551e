"""What every runner does with flows and tasks: the second part of the conformance suite."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tidemill.core.reports import SecretQuestion, TaskReport
from tidemill.core.states import StateType

House = Any  # conftest's, which cannot be imported from here

COMPLETED, FAILED, CANCELLED = StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED

pytestmark = pytest.mark.asyncio(loop_scope="module")


def tasks(house: House) -> Counter[tuple[str, str]]:
    """How many task runs there are, by key and the state they ended in."""
    return Counter(
        (each.task_key.rpartition(".")[2].partition("-")[0], each.state.name) for each in house.recorder.tasks.values()
    )


# Results

RESULTS: list[tuple[str, dict[str, Any], Any]] = [
    ("sync_tasks", {}, [2, 4, 14]),
    ("async_tasks", {}, [2, 4, 6]),
    ("tries_again", {}, "in the end"),
    ("sync_subflow", {}, 8),
    ("async_subflow", {}, 8),
    ("caches", {}, [{"number": 1}, {"number": 1}, {"number": 2}]),
    ("typed", {"day": "2026-02-28"}, ["2026-02-28", "2026-03-01", 2]),
    ("typed", {"day": "2026-02-28", "factor": "1.5"}, ["2026-02-28", "2026-03-01", 1.5]),
    ("knows_who_it_is", {}, ["run-1", "brisk-otter", {}]),
    ("depends", {}, "NotReady"),
    ("has_many_tasks", {"count": 500}, 500),
]


@pytest.mark.parametrize(("flow", "parameters", "result"), RESULTS, ids=[f"{r[0]}-{len(r[1])}" for r in RESULTS])
async def test_a_flow_of_tasks_gives_its_result(
    house: House, flow: str, parameters: dict[str, Any], result: Any
) -> None:
    outcome = await house.run(f"engine.py:{flow}", **parameters)
    assert (outcome.type, outcome.data, outcome.message) == (COMPLETED, result, None)


async def test_parameters_that_do_not_fit_their_annotations_fail_the_run_for_good(house: House) -> None:
    outcome = await house.run("engine.py:typed", day="someday")
    assert (outcome.type, outcome.retriable) == (FAILED, False)
    assert "day" in outcome.message


# States

STATES = [
    ("returns_failed", FAILED, "Failed", "as I say"),
    ("returns_named", COMPLETED, "Skipped", "nothing to do"),
]


@pytest.mark.parametrize(("flow", "type_", "name", "message"), STATES)
async def test_a_returned_state_is_the_runs_state(
    house: House, flow: str, type_: StateType, name: str, message: str
) -> None:
    outcome = await house.run(f"engine.py:{flow}")
    assert (outcome.type, outcome.name, outcome.message) == (type_, name, message)


async def test_the_flows_own_retries_are_advice_to_the_daemon(house: House) -> None:
    outcome = await house.run("engine.py:advises")
    assert outcome.type is FAILED
    assert outcome.retry is not None
    assert (outcome.retry.retries, outcome.retry.delays[0].total_seconds()) == (4, 7)


async def test_a_flows_own_timeout_is_kept(house: House) -> None:
    outcome = await house.run("engine.py:async_out_of_time")
    assert (outcome.type, outcome.name) == (FAILED, "TimedOut")


# Task runs


async def test_task_runs_are_reported_with_every_state(house: House) -> None:
    await house.run("engine.py:sync_tasks")
    assert tasks(house) == {("double", "Completed"): 4}
    states = Counter(state for _, state in house.recorder.task_states)
    assert states["Running"] == states["Completed"] == 4


async def test_the_tries_of_a_task_are_reported(house: House) -> None:
    await house.run("engine.py:tries_again")
    assert tasks(house) == {("stumbles", "Completed"): 1}
    states = [state for _, state in house.recorder.task_states]
    assert states.count("AwaitingRetry") + states.count("Retrying") >= 2


async def test_a_failed_upstream_leaves_who_depends_on_it_not_ready(house: House) -> None:
    await house.run("engine.py:depends")
    assert tasks(house)["breaks", "Failed"] == 1
    assert tasks(house)["double", "NotReady"] == 1


async def test_a_cached_result_is_not_computed_again(house: House) -> None:
    await house.run("engine.py:caches")
    assert tasks(house) == {("costly", "Completed"): 2, ("costly", "Cached"): 1}
    assert house.recorder.messages == ["computed", "computed"]


async def test_the_lines_of_a_task_are_told_with_its_id(house: House) -> None:
    await house.run("engine.py:prints_in_a_task")
    logs = {log.message: log.task_run_id for log in house.recorder.logs if log.logger == "print"}
    (task,) = house.recorder.tasks.values()
    assert logs == {"from the flow": None, "from the task": task.id}


# Subflows


@pytest.mark.parametrize("flow", ["sync_subflow", "async_subflow"])
async def test_a_subflow_is_a_run_of_its_own(house: House, flow: str) -> None:
    await house.run(f"engine.py:{flow}")
    ((id_, question),) = house.recorder.subflows.items()
    assert (question.flow, question.parameters) == ("inner" if flow == "sync_subflow" else "ainner", {"number": 4})
    assert house.recorder.subflow_states[id_].type is COMPLETED
    inside = [each for each in house.recorder.tasks.values() if each.flow_run_id == id_]
    assert [each.state.name for each in inside] == ["Completed"]


async def test_a_subflow_that_fails_is_told_and_fails_its_parent(house: House) -> None:
    outcome = await house.run("engine.py:breaks_inside")
    assert outcome.type is FAILED
    (state,) = house.recorder.subflow_states.values()
    assert state.type is COMPLETED  # "aa": it is the parent that cannot add to it


# Hooks


@pytest.mark.parametrize(("how", "said"), [("", "completed: Completed"), ("fail", "failed: Failed")])
async def test_hooks_are_called_at_the_end(house: House, how: str, said: str) -> None:
    await house.run("engine.py:hooked", how=how)
    assert said in house.recorder.messages


async def test_hooks_are_called_on_cancellation(house: House) -> None:
    running = house.start("engine.py:ahooked")
    await house.recorder.said("started")
    house.cancellation.request("enough")
    assert (await running).type is CANCELLED
    assert "cancelled: Cancelling" in house.recorder.messages


# Questions


@pytest.mark.parametrize("flow", ["asks_for_a_secret", "asks_for_a_secret_async"])
async def test_a_secret_is_had_by_asking(house: House, flow: str) -> None:
    """P14: and in no other way."""
    house.recorder.secrets["TOKEN"] = "s3cret"
    assert (await house.run(f"engine.py:{flow}", name="TOKEN")).data == "s3cret"
    assert [type(each) for each in house.recorder.questions] == [SecretQuestion]


async def test_why_there_is_no_answer_is_raised_where_it_was_asked(house: House) -> None:
    outcome = await house.run("engine.py:hears_why_not", name="ABSENT")
    assert outcome.data == 'the secret "ABSENT" is not set'


async def test_blocks_variables_and_slots_are_had_by_asking(house: House) -> None:
    house.recorder.blocks["token"] = {"type": "secret", "value": "s3cret"}
    house.recorder.variables["region"] = "fi"
    outcome = await house.run("engine.py:asks_for_much")
    assert outcome.data == ["s3cret", "fi", "de"], outcome.message
    assert (await house.run("engine.py:asks_for_much_async")).data == [4]
    assert len(house.recorder.released) == 2


async def test_many_may_ask_at_once(house: House) -> None:
    house.recorder.secrets["TOKEN"] = "s3cret"
    assert (await house.run("engine.py:asks_at_once", count=200)).data == 1


async def test_reports_of_tasks_keep_their_order(house: House) -> None:
    await house.run("engine.py:has_many_tasks", count=300)
    numbers: dict[str, int] = {}
    for report in (each for each in house.recorder.others if isinstance(each, TaskReport)):
        assert report.state_number > numbers.get(report.id, 0)
        numbers[report.id] = report.state_number
    assert len(numbers) == 300
