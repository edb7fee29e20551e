"""An async flow that would stop the loop it runs on is told beforehand, by its code."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from tidemill import flow, task
from tidemill.concurrency.sync import rate_limit
from tidemill.sdk.blocking import may_block
from tidemill.sdk.context import RunContext
from tidemill.sdk.exceptions import BlockingInLoopError
from tidemill.sdk.flows import as_flow


@task
def sync_task() -> int:
    return 1


@task
async def async_task() -> int:
    return 1


@flow
def sync_flow() -> int:
    return 1


def helper() -> int:
    return sync_task()


async def awaits() -> int:
    return await async_task()


async def calls_a_task() -> int:
    return sync_task()


async def calls_a_subflow() -> int:
    return sync_flow()


async def calls_through_a_helper() -> int:
    return helper()


async def submits() -> int:
    return async_task.submit().result()


async def inside_a_comprehension() -> list[int]:
    return [sync_task() for _ in range(3)]


async def limits_its_rate() -> None:
    rate_limit("api")


@task
async def async_task_that_blocks() -> int:
    return sync_task()


async def awaits_what_blocks() -> int:
    return await async_task_that_blocks()


def plain_function() -> int:
    return sync_task()


class Holder:
    task = sync_task

    async def through_self(self) -> Any:
        return self.task()


BLOCKS = {
    awaits: False,
    calls_a_task: True,
    calls_a_subflow: True,
    calls_through_a_helper: True,
    submits: True,
    inside_a_comprehension: True,
    limits_its_rate: True,
    awaits_what_blocks: True,
    plain_function: False,  # a sync flow has a thread of its own anyway
}


@pytest.mark.parametrize(("function", "blocks"), BLOCKS.items(), ids=lambda each: getattr(each, "__name__", None))
def test_a_flow_may_block_a_loop(function: Any, blocks: bool) -> None:
    assert may_block(flow(function)) is blocks
    assert may_block(as_flow(function)) is blocks
    assert may_block(as_flow(functools.partial(function))) is blocks


def test_what_a_flow_closes_over_counts_and_what_is_not_bound_yet_does_not() -> None:
    @task
    def later() -> int:
        return 1

    @flow
    async def main() -> int:
        return later()

    assert may_block(main)


def test_a_method_s_own_class_counts() -> None:
    assert may_block(as_flow(Holder().through_self)) is False  # a plain bound method says nothing about its object
    assert may_block(flow(Holder.through_self)._bound(Holder()))


async def test_what_would_stop_the_daemons_loop_is_refused_with_the_remedy() -> None:
    """The last resort, for what the code did not tell: an error instead of a daemon that stands still."""

    class Slow:
        async def ask(self, question: Any) -> Any:
            await asyncio.sleep(10)

    context = RunContext(None, Slow(), None, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
    from tidemill.core.reports import VariableQuestion

    with pytest.raises(BlockingInLoopError, match="process pool"):
        context.ask_now(VariableQuestion(name="a"))
