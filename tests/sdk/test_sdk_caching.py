"""Which results stand for running a task again, under what key, and for whom."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tidemill import flow, task
from tidemill.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CachePolicy,
    CompoundCachePolicy,
)
from tidemill.sdk.caching import hash_objects
from tidemill.sdk.harness import tidemill_test_harness
from tidemill.tasks import task_input_hash
from tidemill.transactions import IsolationLevel, transaction


@dataclasses.dataclass
class Point:
    x: int
    y: int


@dataclasses.dataclass
class _Task:
    fn: Callable[..., Any] = print
    source_code: str | None = "def f(): ..."
    bound_to: Any = None


@dataclasses.dataclass
class _Run:
    id: str = "task-run"
    flow_run_id: str | None = "flow-run"


@dataclasses.dataclass
class _Context:
    task: _Task = dataclasses.field(default_factory=_Task)
    task_run: _Run = dataclasses.field(default_factory=_Run)


def key(policy: CachePolicy, inputs: Any = None, parameters: Any = None, context: Any = None) -> str | None:
    return policy.compute_key(context or _Context(), {"x": 1} if inputs is None else inputs, parameters or {})


# (policy, what is changed, whether that makes another key)
SENSITIVITY: list[tuple[CachePolicy, dict[str, Any], bool]] = [
    (INPUTS, {"inputs": {"x": 2}}, True),
    (INPUTS, {"inputs": {"x": 1.5}}, True),
    (INPUTS, {"parameters": {"p": 1}}, False),
    (INPUTS - "x", {"inputs": {"x": 2}}, False),
    (TASK_SOURCE, {"inputs": {"x": 2}}, False),
    (TASK_SOURCE, {"context": _Context(task=_Task(source_code="def f(): return 1"))}, True),
    (FLOW_PARAMETERS + INPUTS, {"parameters": {"p": 1}}, True),
    (RUN_ID, {"context": _Context(task_run=_Run(flow_run_id="another"))}, True),
    (RUN_ID, {"inputs": {"x": 2}}, False),
    (DEFAULT, {"inputs": {"x": 2}}, True),
    (DEFAULT, {"context": _Context(task_run=_Run(flow_run_id="another"))}, True),
    (DEFAULT - "x", {"inputs": {"x": 2}}, False),
    (INPUTS + TASK_SOURCE, {"context": _Context(task_run=_Run(flow_run_id="another"))}, False),
]


@pytest.mark.parametrize(("policy", "changed", "another"), SENSITIVITY)
def test_a_key_changes_with_what_its_policy_looks_at(
    policy: CachePolicy, changed: dict[str, Any], another: bool
) -> None:
    assert key(policy) is not None
    assert (key(policy, **changed) != key(policy)) is another


@pytest.mark.parametrize("policy", [NO_CACHE, FLOW_PARAMETERS])
def test_no_key_means_no_cache(policy: CachePolicy) -> None:
    assert key(policy) is None


def test_a_task_without_inputs_has_no_key_by_its_inputs_and_one_outside_flows_is_its_own() -> None:
    assert key(INPUTS, inputs={}) is None
    assert key(RUN_ID, context=_Context(task_run=_Run(flow_run_id=None))) == "task-run"


def test_policies_add_up_without_order_or_doubles() -> None:
    assert INPUTS + NO_CACHE == INPUTS == NO_CACHE + INPUTS
    assert CompoundCachePolicy([INPUTS - "a" - "b"]) == (INPUTS - "a") + (INPUTS - "b")
    assert (TASK_SOURCE + RUN_ID) + INPUTS == TASK_SOURCE + (RUN_ID + INPUTS)
    with pytest.raises(TypeError):
        INPUTS - INPUTS  # type: ignore[operator]


VALUES = [1, 1.0, True, None, "1", [1], {"a": 1}, {"a": [1, {"b": None}]}, Point(1, 2), b"bytes", {1, 2}]


def test_equal_values_have_equal_hashes_and_others_have_others() -> None:
    hashes = [hash_objects(value) for value in VALUES]
    assert len(set(hashes)) == len(VALUES)
    assert hash_objects({"a": 1, "b": 2}) == hash_objects({"b": 2, "a": 1})
    assert hash_objects({3, 1, 2}) == hash_objects({1, 2, 3})


def test_a_hash_is_the_same_in_another_process() -> None:
    code = (
        "from tidemill.sdk.caching import hash_objects; print(hash_objects({'a': {'x', 'y', 'z'}, 'b': [1.5, None]}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == hash_objects({"a": {"x", "y", "z"}, "b": [1.5, None]})


def test_inputs_without_a_hash_are_told_and_the_task_runs() -> None:
    @task(cache_policy=INPUTS)
    def takes(lock: Any) -> str:
        return "ran"

    @flow
    def main() -> str:
        return takes(threading.Lock())

    with tidemill_test_harness() as harness:
        assert main() == "ran"
    assert any("no cache key could be made" in message for message in harness.run.recorder.messages)


# What is kept


def twice(made: Any, *arguments: Any) -> tuple[list[str], list[Any], Any]:
    """Run a task in two flow runs; return the names of its states, its results, and the harness."""

    @flow
    def main() -> Any:
        state = made(*arguments, return_state=True)
        return [state.name, state.result()]

    with tidemill_test_harness() as harness:
        found = [main(), main()]
    return [name for name, _ in found], [result for _, result in found], harness


def test_json_is_kept_for_everybody() -> None:
    names, results, harness = twice(task(cache_policy=INPUTS)(lambda x: {"x": [x, None, 1.5]}), 1)
    assert (names, results[0]) == (["Completed", "Cached"], results[1])
    assert len(harness.cache) == 1


def test_what_is_declared_comes_back_as_its_type() -> None:
    @task(cache_policy=INPUTS)
    def made(x: int) -> Point:
        return Point(x, x)

    @task(cache_policy=INPUTS)
    def pair(x: int) -> tuple[int, str]:
        return x, "b"

    assert twice(made, 1)[:2] == (["Completed", "Cached"], [Point(1, 1), Point(1, 1)])
    assert twice(pair, 1)[:2] == (["Completed", "Cached"], [(1, "b"), (1, "b")])


@pytest.mark.parametrize("result", [Point(1, 2), (1, 2), {1, 2}, {1: "a"}, float("nan"), object()])
def test_what_json_would_not_give_back_is_kept_for_its_own_run_alone_and_told_once(result: Any) -> None:
    made = task(name="undeclared", cache_policy=INPUTS)(lambda x: result)

    @flow
    def main() -> list[str]:
        return [made(1, return_state=True).name for _ in range(2)]

    with tidemill_test_harness() as harness:
        assert main() == ["Completed", "Cached"]
        assert main() == ["Completed", "Cached"]
    assert harness.cache == {}


def test_a_cached_result_expires() -> None:
    made = task(cache_policy=INPUTS, cache_expiration=timedelta(minutes=1))(lambda x: x)

    @flow
    def main() -> str:
        return made(1, return_state=True).name

    with tidemill_test_harness() as harness:
        assert [main(), main()] == ["Completed", "Cached"]
        harness.clock.pass_time(61)  # type: ignore[attr-defined]
        assert main() == "Completed"


def test_a_failure_is_not_kept() -> None:
    calls: list[int] = []

    @task(cache_policy=INPUTS)
    def fails(x: int) -> None:
        calls.append(x)
        raise ValueError("no")

    @flow
    def main() -> None:
        fails(1, return_state=True)
        fails(1, return_state=True)

    with tidemill_test_harness() as harness:
        main()
    assert (calls, harness.cache) == ([1, 1], {})


def test_a_flow_decides_for_its_tasks_that_say_nothing() -> None:
    calls: list[str] = []

    @task
    def default(x: int) -> int:
        calls.append("default")
        return x

    @task(persist_result=False)
    def never(x: int) -> int:
        calls.append("never")
        return x

    @flow(persist_result=True)
    def main() -> None:
        for each in (default, default, never, never):
            each(1)

    with tidemill_test_harness():
        main()
    assert calls == ["default", "never", "never"]


def test_a_key_of_source_and_inputs_is_at_hand() -> None:
    names, _, _ = twice(task(cache_key_fn=task_input_hash)(lambda x: x), 1)
    assert names == ["Completed", "Cached"]


def test_a_method_s_own_object_counts_among_its_inputs() -> None:
    calls: list[int] = []

    class Worker:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __reduce__(self) -> Any:
            return (Worker, (self.factor,))

        @task(cache_policy=INPUTS)
        def times(self, x: int) -> int:
            calls.append(self.factor)
            return self.factor * x

    globals()["Worker"] = Worker  # pickle looks it up there
    Worker.__qualname__ = "Worker"

    @flow
    def main() -> list[int]:
        return [Worker(2).times(1), Worker(3).times(1), Worker(2).times(1)]

    with tidemill_test_harness():
        assert main() == [2, 3, 2]
    assert calls == [2, 3]


# Transactions and keys


def test_a_transaction_publishes_at_its_end_and_nothing_when_it_fails() -> None:
    made = task(cache_policy=INPUTS)(lambda x: x)

    @flow
    def main(fail: bool) -> int:
        with transaction():
            made(1)
            kept_inside = len(harness.cache)
            if fail:
                raise ValueError("no")
        return kept_inside

    with tidemill_test_harness() as harness:
        with pytest.raises(ValueError, match="no"):
            main(True)
        assert harness.cache == {}
        assert main(False) == 0
        assert len(harness.cache) == 1


def test_a_transaction_with_a_key_is_done_once() -> None:
    done: list[str] = []

    @flow
    def main() -> Any:
        with transaction(key="load") as txn:
            if txn.is_committed():
                return txn.read()
            done.append("work")
            txn.stage({"rows": 3})
        return None

    with tidemill_test_harness():
        assert [main(), main()] == [None, {"rows": 3}]
    assert done == ["work"]


def test_serializable_transactions_of_a_key_do_not_overlap() -> None:
    inside = 0
    most = 0
    begun = threading.Barrier(4)

    @flow
    def main() -> None:
        nonlocal inside, most
        begun.wait(120)
        with transaction(key="one", isolation_level=IsolationLevel.SERIALIZABLE, overwrite=True):
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.01)
            inside -= 1

    with tidemill_test_harness():
        threads = [threading.Thread(target=main, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert (inside, most) == (0, 1)


def test_a_nested_failure_rolls_back_what_is_around_it_unless_it_is_caught_inside() -> None:
    done: list[str] = []

    @task
    def write(name: str) -> None:
        done.append(name)

    @write.on_rollback
    def undo(txn: Any) -> None:
        done.append("undo")

    @flow
    def main() -> None:
        with transaction():
            write("outer")
            with transaction():
                write("inner")
                raise ValueError("no")

    with tidemill_test_harness() as harness, pytest.raises(ValueError, match="no"):
        main()
    assert done == ["outer", "inner", "undo", "undo"]
    assert [run.state.name for run in harness.run.tasks] == ["RolledBack", "RolledBack"]


def test_a_storage_key_is_a_key_beyond_the_run_and_may_name_parameters() -> None:
    done: list[int] = []

    @task(result_storage_key="load-{parameters[day]}-{flow_run.flow_name}")
    def load(day: int) -> int:
        done.append(day)
        return day

    @flow
    def main() -> list[str]:
        return [load(day, return_state=True).name for day in (1, 2, 1)]

    with tidemill_test_harness() as harness:
        assert main() == ["Completed", "Completed", "Cached"]
        assert main() == ["Cached", "Cached", "Cached"]
    assert done == [1, 2]
    assert harness.run.tasks[0].cache_key == "load-1-main"


def test_an_argument_without_a_hash_is_named_without_the_inside() -> None:
    @task(cache_policy=INPUTS)
    def reads(path: str, guard: Any) -> str:
        return path

    @flow
    def main() -> str:
        return reads("a", threading.Lock())

    with tidemill_test_harness() as harness:
        assert main() == "a"
    (line,) = harness.run.logs
    assert line.message.startswith("no cache key could be made: the result will not be kept: no stable hash")
    assert "INPUTS - 'guard'" in line.message
    assert "\n" not in line.message


def test_a_rollback_that_fails_in_a_transaction_without_a_key_says_so() -> None:
    @task
    def write() -> None: ...

    @write.on_rollback
    def undo(txn: Any) -> None:
        raise RuntimeError("undo broke")

    @flow
    def main() -> None:
        with transaction():
            write()
            raise ValueError("no")

    with tidemill_test_harness() as harness, pytest.raises(ValueError, match="no"):
        main()
    logged = [line.message.splitlines()[0] for line in harness.run.logs]
    assert "An error was encountered while rolling back a transaction without a key" in logged
