"""What every runner does, whatever it runs flows with. A new implementation is added to RUNNERS in conftest.py."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from datetime import timedelta
from typing import Any

import pytest

from tidemill.core.ports import Cancellation, Outcome
from tidemill.core.states import StateType

House = Any  # conftest's, which cannot be imported from here
Gate = Any

COMPLETED, FAILED = StateType.COMPLETED, StateType.FAILED

pytestmark = pytest.mark.asyncio(loop_scope="module")


# Results


@pytest.mark.parametrize("flow", ["async_returns", "sync_returns", "gives_a_coroutine"])
@pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", [1, {"a": None}], {"b": [], "a": {}}])
async def test_a_json_result_is_kept(house: House, flow: str, value: Any) -> None:
    assert await house.run(f"endings.py:{flow}", value=value) == Outcome(type=COMPLETED, name="Completed", data=value)


@pytest.mark.parametrize(
    ("flow", "data"),
    [
        ("returns_nan", {"type": "builtins.list", "repr": "[nan]"}),
        ("returns_much", {"type": "builtins.str", "repr": "100000 characters"}),
    ],
)
async def test_a_result_that_cannot_be_kept_leaves_its_type_and_a_short_repr(
    house: House, flow: str, data: dict[str, str]
) -> None:
    outcome = await house.run(f"endings.py:{flow}")
    assert (outcome.type, outcome.data) == (COMPLETED, data)


async def test_an_object_leaves_its_type(house: House) -> None:
    outcome = await house.run("endings.py:returns_object")
    assert outcome.data["type"] == "builtins.object"
    assert outcome.data["repr"].startswith("<object object at")


# Failures


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ValueError", "ValueError: no such region"),
        ("empty", "ValueError"),
        ("long", "ValueError: " + "x" * 1988 + " … [8012 more characters cut]"),
        ("BrokenError", "BrokenError: <its text raised ValueError>"),
        ("surrogate", "ValueError: no file b\\udcff"),
        ("SystemExit", "SystemExit: 3"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("BaseException", "BaseException: rare"),
        ("GeneratorExit", "GeneratorExit"),
        ("group", "ExceptionGroup: two (2 sub-exceptions)"),
    ],
)
async def test_whatever_the_code_raises_fails_its_run_and_nothing_else(
    house: House, kind: str, error: str, message: str
) -> None:
    """P10: not even SystemExit ends the daemon."""
    outcome = await house.run(f"endings.py:{kind}_raises", error=error)
    assert (outcome.type, outcome.name, outcome.message) == (FAILED, "Failed", message)
    assert outcome.retriable
    assert await house.run("endings.py:async_returns", value=1)


@pytest.mark.parametrize("flow", ["async_raises", "sync_raises"])
@pytest.mark.parametrize("error", ["CancelledError", "StopIteration"])
async def test_exceptions_that_mean_something_to_a_loop_are_failures_of_the_code(
    house: House, flow: str, error: str
) -> None:
    """Cancelled is what somebody asked for; nobody did."""
    outcome = await house.run(f"endings.py:{flow}", error=error)
    assert (outcome.type, outcome.name) == (FAILED, "Failed")
    assert error in str(outcome.message)


async def test_code_that_cancels_itself_has_failed(house: House) -> None:
    outcome = await house.run("endings.py:cancels_itself")
    assert outcome.type is FAILED
    assert outcome.message == "CancelledError: raised by the flow's own code; nobody asked for it"


async def test_a_failure_that_needs_no_traceback_is_told_as_it_is(house: House) -> None:
    assert await house.run("endings.py:fails") == Outcome(
        type=FAILED,
        name="Failed",
        message="the API is closed on Sundays",
        data={"day": 7},
        retriable=False,
        retry_after=timedelta(hours=1),
    )
    assert house.recorder.logs == []


@pytest.mark.parametrize("flow", ["async_raises", "sync_raises"])
async def test_the_traceback_stands_in_the_log_and_begins_in_the_flows_code(house: House, flow: str) -> None:
    await house.run(f"endings.py:{flow}", error="ValueError")
    (log,) = house.recorder.logs
    first, place, *_, last = log.message.split("\n")
    assert (log.level, log.logger) == (logging.ERROR, "flow")
    assert first == "Traceback (most recent call last):"
    assert place.strip().startswith("File ")
    assert 'endings.py", line' in place and place.endswith(f"in {flow}")
    assert last == "ValueError: no such region"


@pytest.mark.parametrize(
    ("entrypoint", "parameters", "says"),
    [
        ("endings.py:nonesuch", {}, 'has no "nonesuch"'),
        ("nonesuch.py:flow", {}, "there is no file"),
        ("endings.py:needs", {}, "day: the flow needs this parameter"),
        ("endings.py:needs", {"day": 1, "limt": 2}, 'did you mean "limit"?'),
    ],
)
async def test_code_that_is_not_there_or_does_not_fit_fails_without_a_retry(
    house: House, entrypoint: str, parameters: dict[str, Any], says: str
) -> None:
    outcome = await house.run(entrypoint, **parameters)
    assert (outcome.type, outcome.retriable) == (FAILED, False)
    assert says in str(outcome.message)
    assert house.recorder.logs == []


async def test_every_attempt_gets_the_parameters_as_they_were(house: House) -> None:
    parameters = {"rows": [1], "options": {"deep": {"list": [2]}}}
    await house.run("endings.py:changes_its_parameters", **parameters)
    assert parameters == {"rows": [1], "options": {"deep": {"list": [2]}}}


# Time


async def test_code_that_ends_in_time_is_not_disturbed(house: House) -> None:
    outcome = await house.run("endings.py:async_returns", timeout=60, value=1)
    assert outcome.type is COMPLETED


async def test_code_that_takes_too_long_is_told_to_end(house: House) -> None:
    outcome = await house.run("endings.py:waits", timeout=0.2)
    assert (outcome.type, outcome.name, outcome.abandoned) == (FAILED, "TimedOut", False)
    assert outcome.message == "did not end within its timeout, 200ms"
    assert outcome.retriable
    assert house.recorder.messages == ["started", "put in order"]


@pytest.mark.parametrize("flow", ["returns_when_cancelled", "raises_when_cancelled"])
async def test_out_of_time_is_out_of_time_whatever_the_code_does_then(house: House, flow: str) -> None:
    outcome = await house.run(f"endings.py:{flow}", timeout=0.2)
    assert (outcome.type, outcome.name) == (FAILED, "TimedOut")


# Cancellation


@pytest.mark.parametrize(
    ("crashed", "type_", "name"), [(False, StateType.CANCELLED, "Cancelled"), (True, StateType.CRASHED, "Crashed")]
)
async def test_a_cancelled_run_is_cancelled_and_one_cut_off_by_a_stop_has_crashed(
    house: House, crashed: bool, type_: StateType, name: str
) -> None:
    running = house.start("endings.py:waits")
    await house.recorder.said("started")
    house.cancellation.request("because I say so", crashed=crashed)
    assert await running == Outcome(type=type_, name=name, message="because I say so")
    assert house.recorder.messages == ["started", "put in order"]


@pytest.mark.parametrize("flow", ["returns_when_cancelled", "raises_when_cancelled"])
async def test_a_cancelled_run_is_cancelled_whatever_the_code_does_then(house: House, flow: str) -> None:
    running = house.start(f"endings.py:{flow}")
    await house.recorder.said("started")
    house.cancellation.request("stop")
    assert (await running).type is StateType.CANCELLED


async def test_a_run_cancelled_before_it_starts_runs_no_code(house: House) -> None:
    house.cancellation.request("too late")
    assert (await house.run("endings.py:waits")).type is StateType.CANCELLED
    assert house.recorder.messages == []


async def test_a_cancellation_after_the_end_changes_nothing(house: House) -> None:
    outcome = await house.run("endings.py:async_returns", value=1)
    house.cancellation.request("too late")
    assert outcome.type is COMPLETED
    assert house.runner.abandoned == 0


async def test_the_first_reason_to_end_counts(house: House, gate: Gate) -> None:
    running = house.start("endings.py:takes_its_time_when_cancelled", timeout=0.2, gate=gate.path)
    await house.recorder.said("told")  # that its time is over
    house.cancellation.request("stop")
    await gate.open()
    assert (await running).name == "TimedOut"


# What the code says


@pytest.mark.parametrize("flow", ["speaks", "speaks_async"])
async def test_what_the_code_says_and_keeps_is_its_runs(house: House, flow: str) -> None:
    await house.run(f"endings.py:{flow}")
    assert [(log.level, log.logger, log.message) for log in house.recorder.logs] == [
        (logging.INFO, "print", "one"),
        (logging.WARNING, "stderr", "two"),
        (logging.WARNING, "library", "three"),
        (logging.INFO, "tidemill.flow_runs", "four"),
        (logging.INFO, "print", "five"),  # without an end of line: told at the end
    ]
    assert [(kept.key, kept.data) for kept in house.recorder.artifacts] == [("doc", {"run": "run-1"})]


@pytest.mark.parametrize("flow", ["asks_who", "asks_who_in_a_thread"])
async def test_runs_at_the_same_time_are_told_apart(house: House, flow: str) -> None:
    recorders = {f"run-{number}": type(house.recorder)() for number in range(10)}
    parameters = {"turns": 5} if flow == "asks_who" else {}
    outcomes = await asyncio.gather(
        *(
            house.runner.run(house.job(f"endings.py:{flow}", parameters, run_id=run_id), recorder, Cancellation())
            for run_id, recorder in recorders.items()
        )
    )
    assert [outcome.data for outcome in outcomes] == list(recorders)


async def test_the_callers_own_context_stays_as_it_was(house: House) -> None:
    before = dict(contextvars.copy_context())
    await house.run("endings.py:async_returns")
    assert dict(contextvars.copy_context()) == before


# Built-in flows


async def test_a_builtin_flow_runs_by_its_name(house: House) -> None:
    outcome = await house.run("shell", command="echo hello")
    assert (outcome.type, outcome.data["exit_code"]) == (StateType.COMPLETED, 0)
    assert house.recorder.messages == ["hello"]


async def test_a_builtin_flow_that_fails_says_so_without_a_traceback(house: House) -> None:
    outcome = await house.run("shell", command="exit 3")
    assert (outcome.type, outcome.message, outcome.data) == (StateType.FAILED, "exit code 3", {"exit_code": 3})
    assert house.recorder.messages == []


async def test_a_builtin_flow_that_is_not_there_is_named(house: House) -> None:
    outcome = await house.run("http_requests")
    assert outcome.message == '"http_requests": there is no such built-in flow; there are: http_request, shell'


async def test_a_secret_that_is_not_there_is_told_in_its_own_words(house: House) -> None:
    outcome = await house.run("shell", command="true", env={"X": {"env": "ABSENT"}})
    assert (outcome.type, outcome.message) == (StateType.FAILED, 'the secret "ABSENT" is not set')
    assert house.recorder.messages == []
