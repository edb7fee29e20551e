"""Tracebacks in a run's log show what its author wrote, and nothing of the engine's inside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tidemill import flow, task
from tidemill.sdk.harness import tidemill_test_harness
from tidemill.sdk.outcomes import traceback_text
from tidemill.transactions import transaction


@task
def breaks() -> None:
    raise ValueError("broken")


def a_broken_hook(*_: Any) -> None:
    raise RuntimeError("the hook broke")


@flow(on_completion=[a_broken_hook])
def with_a_hook() -> None:
    pass


@flow
def with_a_condition() -> None:
    breaks.with_options(retries=1, retry_condition_fn=a_broken_hook)(return_state=True)


@flow
def with_a_cache_key() -> None:
    @task(cache_key_fn=a_broken_hook, persist_result=True)
    def cached() -> None:
        pass

    cached()


@flow
def with_a_rollback() -> None:
    @task(on_rollback=[a_broken_hook])
    def undone() -> None:
        pass

    with transaction():
        undone()
        raise ValueError("the transaction broke")


@flow
def with_an_async_hang() -> None:
    @task(timeout_seconds=0.001)
    async def hangs() -> None:
        await asyncio.Event().wait()

    hangs.submit().wait()


@flow
def with_a_state_asked_for() -> None:
    breaks(return_state=True)


# A flow -> what its log says: the line that broke, and the error.
BROKEN: dict[str, tuple[Callable[[], None], tuple[str, str]]] = {
    "a hook": (with_a_hook, ("in a_broken_hook", "RuntimeError: the hook broke")),
    "a condition, and what was raised before": (with_a_condition, ("in breaks", "RuntimeError: the hook broke")),
    "a cache key": (with_a_cache_key, ("in a_broken_hook", "RuntimeError: the hook broke")),
    "a rollback": (with_a_rollback, ("in a_broken_hook", "RuntimeError: the hook broke")),
    "a hang that is cut": (with_an_async_hang, ("await asyncio.Event().wait()", "did not end within 0.001 s")),
    "a task whose state was asked for": (with_a_state_asked_for, ("in breaks", "ValueError: broken")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_traceback_shows_nothing_of_the_engine(case: str) -> None:
    called, expected = BROKEN[case]
    with tidemill_test_harness() as harness:
        state: Any = called(return_state=True)  # type: ignore[call-arg]
    assert state.is_final()
    logged = "\n".join(log.message for log in harness.run.logs)
    assert all(each in logged for each in expected), logged
    assert "tidemill/sdk" not in logged
    assert "CancelledError" not in logged


def test_the_members_of_a_group_are_told_without_the_engine() -> None:
    @flow
    def main() -> None:
        caught = []
        for _ in range(2):
            try:
                breaks()
            except ValueError as error:
                caught.append(error)
        raise ExceptionGroup("two", caught)

    with tidemill_test_harness() as harness:
        main(return_state=True)  # type: ignore[call-overload]
    logged = harness.run.logs[-1].message
    assert logged.count("in breaks") == 2
    assert "tidemill/sdk" not in logged


def test_an_error_that_comes_from_itself_is_told() -> None:
    error = ValueError("round")
    error.__cause__ = KeyError("and round")
    error.__cause__.__cause__ = error
    told = traceback_text(error)
    assert told is not None
    assert told.endswith("ValueError: round")


def test_the_daemons_own_frames_are_left_out_as_the_engines_are() -> None:
    """An inline run's reports are refused by the daemon's own code, in the run's own thread."""
    daemon: dict[str, Any] = {"__name__": "tidemill.services.recorder"}
    exec("def report(): raise ValueError('too large')", daemon)

    @flow
    def main() -> None:
        daemon["report"]()

    with tidemill_test_harness() as harness:
        main(return_state=True)  # type: ignore[call-overload]
    logged = harness.run.logs[-1].message
    assert "in main" in logged
    assert "in report" not in logged
