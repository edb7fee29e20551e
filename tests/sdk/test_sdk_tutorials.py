"""Flows after Prefect's public tutorials come to the same states and results, with only the import line changed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidemill.sdk.harness import tidemill_test_harness

PROGRAM = Path(__file__).parent / "tutorials" / "cases.py"

EXPECTED: dict[str, Any] = {
    "hello_world": ["COMPLETED", "Completed", "Hello, Arthur!"],
    "tasks_pass_data": [
        "COMPLETED",
        "Completed",
        ["Processed customer0", "Processed customer1", "Processed customer2"],
    ],
    "a_flow_without_a_return": ["COMPLETED", "Completed", None],
    "an_exception_fails_the_flow": [["FAILED", "Failed", "ValueError: oh no!"], "raised ValueError: oh no!"],
    "an_unhandled_task_failure_fails_the_flow": [
        ["FAILED", "Failed", "ValueError: task says no"],
        "raised ValueError: task says no",
    ],
    "a_caught_task_failure_does_not": ["COMPLETED", "Completed", "went on"],
    "a_failed_task_nobody_asks_does_not_decide": ["COMPLETED", "Completed", "done"],
    "returned_states_decide": [
        ["COMPLETED", "Completed", "fine"],
        ["FAILED", "Failed", "not fine"],
        ["CANCELLED", "Cancelled", "called off"],
        ["CRASHED", "Crashed", "fell over"],
        ["COMPLETED", "Skipped", "x"],
        ["FAILED", "Failed", None],
    ],
    "a_returned_failure_is_raised": "raised FailedRun: it said so",
    "a_returned_future_decides": ["FAILED", "raised ValueError: in the task", "COMPLETED", "<COMPLETED Completed>"],
    "returned_lists_are_aggregated": [
        ["FAILED", "1/3 states failed."],
        ["COMPLETED", "All states completed."],
        ["COMPLETED", None],
        ["FAILED", "1/2 states failed."],
        ["<COMPLETED Completed>", "<FAILED Failed>", "<COMPLETED Completed>"],
        ["<FAILED Failed>", "data beside it"],
    ],
    "cancelled_beats_failed": ["CANCELLED", "1/2 states cancelled."],
    "tasks_that_return_states": [
        [["FAILED", "Failed", "b"], ["COMPLETED", "Completed", "a"]],
        ["raised FailedRun: b", 3],
        ["<FAILED Failed>"],
    ],
    "a_returned_state_of_a_task_decides": ["FAILED", "raised ValueError: kept as a state"],
    "none_in_a_list_is_data": ["COMPLETED", "Completed", [None, 1]],
    "a_failed_upstream_leaves_dependants_not_ready": [
        ["FAILED", "Failed"],
        ["PENDING", "NotReady"],
        ["PENDING", "NotReady"],
        ["PENDING", "NotReady"],
    ],
    "allow_failure_passes_the_exception_on": ["ValueError: passed on", "str: own"],
    "futures_stand_for_results_in_collections": 13,
    "states_stand_for_results": 2,
    "a_call_with_a_failed_input": ["PENDING", "NotReady"],
    "retries_until_it_works": [3, [1, 2, 3]],
    "retries_run_out": ["raised ValueError: never", 2],
    "a_returned_failure_is_retried": ["fine", 3],
    "a_condition_decides_about_retries": [
        ["raised ValueError: x", "raised KeyError: 'x'"],
        ["ValueError", "ValueError", "ValueError", "ValueError", "KeyError"],
    ],
    "a_flow_is_retried": [["COMPLETED", "Completed", "fine"], 3],
    "backoff_doubles": [10.0, 20.0, 40.0, 80.0],
    "map_over_lists": [[11, 22], [6, 7], [8, 9], [1, 2, 3]],
    "map_over_a_future": [1, 16, 81],
    "a_list_is_kept_whole_by_unmapped": [16, 26],
    "maps_that_make_no_sense": ["MappingLengthMismatch", "MappingMissingIterable"],
    "a_map_with_failures": [["COMPLETED", 1], ["FAILED", "ValueError: 2 is even"], ["COMPLETED", 3]],
    "submitted_tasks_overlap": [[0, 1, 2, 3], True],
    "waiting_for_several": [3, 0, [1, 2, 3]],
    "callbacks_hear_of_the_end": [5, [5]],
    "nested_submissions": [20, 30, 40],
    "async_all_the_way": [2, [1, 2, 3]],
    "async_flows_call_sync_tasks": [8, 10, 2, [2, 3]],
    "async_states": ["FAILED", "Failed"],
    "subflows": [2, "FAILED", "raised ValueError: child"],
    "a_subflow_failure_fails_its_parent": [["FAILED", "Failed", "ValueError: child"]],
    "subflows_take_futures": 2,
    "parameters_are_coerced": [[5, 1.0, None], [2, 2.5, ["a"]], "FAILED"],
    "bad_parameters_fail_the_run": "ParameterTypeError",
    "unvalidated_parameters_are_as_given": "5",
    "dataclasses_are_made_of_dicts": ["Point", 3],
    "calls_that_do_not_fit": ["TypeError", "TypeError", "TypeError", "TypeError"],
    "names_by_template": [["report-fi", "load-fi"], "on-by-function"],
    "runtime_tells_of_the_run": ["main", {"n": 2}, ["inside", {"x": 2}, 1, ["a", "t"]], True],
    "contexts": [True, True, [True, True]],
    "inputs_are_cached": [
        [["Completed", 2], ["Cached", 2], ["Completed", 4]],
        [["Cached", 2], ["Cached", 2], ["Cached", 4]],
        [1, 2],
    ],
    "no_cache_runs_again": [None, 2],
    "a_key_function": [[1, 1, 2], [1, 3]],
    "caches_expire_and_are_refreshed": ["expires", "expires", "fresh", "fresh"],
    "less_of_the_inputs_counts": [True],
    "a_retried_flow_finds_cached_tasks": [1, [1]],
    "hooks_are_called": [
        ["flow begins", "main", "Running"],
        ["task begins", "works", "Running"],
        ["task done", "works", "Completed"],
        ["flow done", "main", "Completed"],
        ["flow begins", "main", "Running"],
        ["task begins", "works", "Running"],
        ["task failed", "works", "Failed"],
        ["flow failed", "main", "Failed"],
    ],
    "hooks_as_decorators": [1, ["first", "second"]],
    "failure_hooks_come_after_the_last_retry": [3, "flow"],
    "tasks_time_out": [["FAILED", "TimedOut"], ["FAILED", "TimedOut"]],
    "flows_time_out": [["FAILED", "TimedOut"], ["FAILED", "TimedOut"]],
    "a_failure_rolls_back": ["raised ValueError: bad data", ["write", "remove a.txt"]],
    "a_success_commits": [None, ["write", "inside", "commit", "after"]],
    "rollbacks_go_backwards": ["raised ValueError: after both", ["one", "two", "undo two", "undo one"]],
    "options_are_changed": [["other", 3, "echo", 1, 5, 6], "renamed", "main"],
    "methods": [12, "Worker", "A"],
    "tasks_outside_flows": [3, "raised ValueError: alone", "FAILED"],
    "variadic_tasks": [6, 9],
    "artifacts_and_logs": "kept",
    "a_file_is_written": 2,
    "a_task_is_never_a_plain_exception": "exit 3",
}

# What differs from Prefect on purpose, with the reason; docs/prefect.md tells it too.
DIFFERS: dict[str, str] = {}


def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tidemill_tutorial_cases", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


CASES = program().CASES


def test_every_case_stands_in_the_table() -> None:
    assert set(CASES) == set(EXPECTED)
    assert len(EXPECTED) >= 25


@pytest.mark.parametrize("name", CASES)
def test_a_flow_comes_to(name: str) -> None:
    with tidemill_test_harness(skip_waits=False):
        assert json.loads(json.dumps(CASES[name]())) == EXPECTED[name]


@pytest.mark.slow
@pytest.mark.network
def test_prefect_comes_to_the_same(tmp_path: Path) -> None:
    """The table is Prefect's own: the program runs on the real package, with only the name of it changed."""
    python = os.environ.get("TIDEMILL_PREFECT_PYTHON")
    if not python:
        pytest.skip(
            "Prefect itself was not asked: TIDEMILL_PREFECT_PYTHON names no Python that has it "
            "(tests/sdk/tutorials/prefect_venv.py makes one)"
        )
    copy = tmp_path / "cases.py"
    copy.write_text(PROGRAM.read_text().replace("from tidemill", "from prefect"))
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path / "home"),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    ran = subprocess.run([python, str(copy)], capture_output=True, text=True, env=environ, timeout=1500)
    assert ran.returncode == 0, ran.stderr[-4000:]
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("RESULTS ")]
    found = json.loads(line.removeprefix("RESULTS "))
    assert {name: found[name] for name in found if name not in DIFFERS} == {
        name: EXPECTED[name] for name in EXPECTED if name not in DIFFERS
    }
    assert all(found[name] != EXPECTED[name] for name in DIFFERS)  # what has come to agree leaves the list
