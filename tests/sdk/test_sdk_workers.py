"""Submitted tasks: bounded, never deadlocked, and done when their flow is."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tidemill import flow, task, unmapped
from tidemill.futures import as_completed, wait
from tidemill.sdk.context import NoRunError
from tidemill.sdk.harness import tidemill_test_harness
from tidemill.task_runners import ConcurrentTaskRunner, ThreadPoolTaskRunner


class Meter:
    """How many are inside at a time, at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner(max_workers=3), ConcurrentTaskRunner(max_workers=3)])
def test_no_more_than_max_workers_run_at_a_time(runner: ThreadPoolTaskRunner) -> None:
    meter = Meter()
    full = threading.Barrier(3)

    @task
    def inside(n: int) -> int:
        with meter:
            full.wait(120)  # three are needed for one to go on
        return n

    @flow(task_runner=runner)
    def main() -> list[int]:
        return inside.map(range(9)).result()

    with tidemill_test_harness():
        assert main() == list(range(9))
    assert meter.most == 3


def test_async_tasks_are_bounded_too() -> None:
    meter = Meter()

    @task
    async def inside(n: int) -> int:
        with meter:
            async with asyncio.timeout(120):
                while meter.most < 2:  # noqa: ASYNC110 - until there is company, on a loop of another thread
                    await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0)
        return n

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def main() -> list[int]:
        return inside.map(range(9)).result()

    with tidemill_test_harness():
        assert main() == list(range(9))
    assert meter.most == 2


def test_tasks_that_wait_for_tasks_need_no_thread_of_their_own() -> None:
    """Each waiting task lends its place: with one worker, ten deep, somebody still works."""

    @task
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + depth.submit(n - 1).result()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> int:
        return depth.submit(10).result()

    with tidemill_test_harness():
        assert main() == 10


def test_a_task_begins_when_its_inputs_have_ended_and_holds_no_thread_before() -> None:
    order: list[str] = []

    @task
    def first() -> str:
        order.append("first")
        return "first"

    @task
    def second(x: Any) -> str:
        order.append("second")
        return x + " second"

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> str:
        gate = threading.Event()

        @task
        def blocks() -> str:
            gate.wait(120)
            return "open"

        opened = blocks.submit()
        late = second.submit(opened)
        early = first.submit()
        gate.set()
        return late.result() + early.result()

    with tidemill_test_harness():
        assert main() == "open second" + "first"
    assert order == ["first", "second"] or order == ["second", "first"]


@pytest.mark.slow
def test_forty_sync_flows_that_each_map_forty_tasks_do_not_wait_for_each_other() -> None:
    """No limiter is shared: every run has threads of its own."""
    together = threading.Barrier(40)

    @task
    def times(x: int, y: int) -> int:
        return x * y

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
    def main(number: int) -> int:
        together.wait(60)
        return sum(times.map(range(40), number).result())

    with tidemill_test_harness():
        results: dict[int, int] = {}
        threads = [threading.Thread(target=lambda n=n: results.__setitem__(n, main(n)), daemon=True) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert results == {n: 780 * n for n in range(40)}


def test_a_map_over_ten_thousand_items_keeps_their_order() -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    @flow
    def main() -> list[int]:
        return double.map(range(10_000)).result()

    with tidemill_test_harness() as harness:
        assert main() == [2 * n for n in range(10_000)]
    assert len(harness.run.tasks) == 10_000


def test_what_was_submitted_is_done_before_its_flow_is() -> None:
    done: list[int] = []

    @task
    def late(n: int) -> None:
        done.append(n)

    @flow
    def main() -> str:
        late.map(range(50))
        return "returned"

    with tidemill_test_harness():
        assert main() == "returned"
    assert sorted(done) == list(range(50))


def test_what_has_not_begun_when_its_flow_fails_is_cancelled_and_told() -> None:
    begun, gate = threading.Event(), threading.Event()

    @task
    def blocks(n: int) -> None:
        begun.set()
        gate.wait(120)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> None:
        blocks.map(range(3))
        begun.wait(120)
        threading.Timer(0.05, gate.set).start()
        raise ValueError("no")

    with tidemill_test_harness() as harness, pytest.raises(ValueError, match="no"):
        main()
    assert sorted(run.state.name for run in harness.run.tasks) == ["Cancelled", "Cancelled", "Completed"]


def test_no_thread_outlives_its_run() -> None:
    @task
    def echo(x: int) -> int:
        return x

    @task
    async def aecho(x: int) -> int:
        return x

    @flow
    def main() -> list[int]:
        return echo.map(range(5)).result() + aecho.map(range(5)).result()

    with tidemill_test_harness() as harness:
        main()
    ours = [thread for thread in threading.enumerate() if thread.name.startswith(harness.run.name)]
    for thread in ours:
        thread.join(30)
    assert not any(thread.is_alive() for thread in ours)


# Futures


def test_futures_say_when_time_is_over() -> None:
    gate = threading.Event()

    @task
    def blocks() -> str:
        gate.wait(120)
        return "done"

    @flow
    def main() -> list[Any]:
        future = blocks.submit()
        found: list[Any] = [future.state.name, wait([future], timeout=0.01).not_done == {future}]
        for call in (lambda: future.result(timeout=0.01), lambda: list(as_completed([future], timeout=0.01))):
            with pytest.raises(TimeoutError):
                call()
        with pytest.raises(ValueError, match="at least 0"):
            wait([future], timeout=-1)
        gate.set()
        return [*found, future.result(timeout=30), future.state.name]

    with tidemill_test_harness():
        assert main() == ["Pending", True, "done", "Completed"]


def test_the_first_failure_of_a_map_is_raised_before_the_last_one_has_ended() -> None:
    gate = threading.Event()

    @task
    def odd(n: int) -> int:
        if n == 1:
            raise ValueError("one")
        gate.wait(120)
        return n

    @flow
    def main() -> str:
        futures = odd.map([0, 1])
        try:
            futures.result()
        except ValueError as error:
            return str(error)
        finally:
            gate.set()
        return "nothing"

    with tidemill_test_harness():
        assert main() == "one"


async def test_async_code_awaits_futures_without_stopping_its_loop() -> None:
    @task
    async def waits(gate: asyncio.Event | None) -> int:
        return 7

    @flow
    async def main() -> list[int]:
        future = waits.submit(None)
        return [await future, await future.result_async()]

    with tidemill_test_harness():
        assert await main() == [7, 7]


@pytest.mark.parametrize("call", ["submit", "map"])
def test_submitting_belongs_into_a_flow(call: str) -> None:
    @task
    def echo(x: Any) -> Any:
        return x

    with pytest.raises(NoRunError, match="belongs into a flow"):
        getattr(echo, call)([1])


@pytest.mark.parametrize("bound", [0, -1, True])
def test_a_bound_is_at_least_one(bound: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ThreadPoolTaskRunner(max_workers=bound)


def test_a_map_over_named_extras_gives_each_call_its_own() -> None:
    @task
    def named(x: int, **more: int) -> tuple[int, dict[str, int]]:
        return x, more

    @flow
    def each() -> Any:
        return named.map([1, 2], a=[3, 4], b=unmapped(5)).result()

    assert each() == [(1, {"a": 3, "b": 5}), (2, {"a": 4, "b": 5})]
