"""Flows for the conformance suite: one for every way to end. They speak through their log, as any flow can."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import timedelta
from pathlib import Path

from tidemill.sdk import FlowFailed, create_json_artifact, get_run_logger, run_context


async def async_returns(value=None):
    return value


def sync_returns(value=None):
    return value


def gives_a_coroutine(value=None):
    return async_returns(value)


async def returns_object():
    return object()


async def returns_nan():
    return [float("nan")]


async def returns_much():
    return "x" * 100_000


class BrokenError(Exception):
    def __str__(self):
        raise ValueError("no text")


ERRORS = {
    "ValueError": lambda: ValueError("no such region"),
    "empty": ValueError,
    "long": lambda: ValueError("x" * 10_000),
    "BrokenError": BrokenError,
    "surrogate": lambda: ValueError("no file b\udcff"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": lambda: StopIteration(7),
    "GeneratorExit": GeneratorExit,
    "BaseException": lambda: BaseException("rare"),
    "group": lambda: ExceptionGroup("two", [ValueError("a"), OSError("b")]),
}


async def async_raises(error):
    raise ERRORS[error]()


def sync_raises(error):
    raise ERRORS[error]()


async def fails():
    raise FlowFailed("the API is closed on Sundays", data={"day": 7}, retriable=False, retry_after=timedelta(hours=1))


async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def waits():
    print("started")
    try:
        await asyncio.Event().wait()
    finally:
        print("put in order")


async def swallows(gate):
    """Does not heed its cancellation, until the gate opens."""
    opened = asyncio.ensure_future(asyncio.to_thread(Path(gate).read_text))
    print("started")
    while not opened.done():
        try:
            await asyncio.shield(opened)
        except asyncio.CancelledError:
            print("ignored")
    print("ended after all")


async def returns_when_cancelled():
    print("started")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "all the same"


async def raises_when_cancelled():
    print("started")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("in a hurry") from None


def blocks(gate):
    print("started")
    Path(gate).read_text()
    print("ended after all")


def heeds():
    """Sync code that looks whether it should end."""
    print("started")
    while not run_context().told_to_end:
        time.sleep(0.005)
    print("heard")


async def takes_its_time_when_cancelled(gate):
    print("started")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("told")
        await asyncio.to_thread(Path(gate).read_text)


def speaks():
    _speak()


async def speaks_async():
    _speak()


def _speak():
    print("one")
    print("two", file=sys.stderr)
    logging.getLogger("library").warning("three")
    get_run_logger().info("four")
    create_json_artifact("doc", {"run": run_context().job.run_id})
    print("five", end="")


async def asks_who(turns):
    """Say which run this is, giving way in between."""
    for _ in range(turns):
        print(run_context().job.run_id)
        await asyncio.sleep(0)
    return run_context().job.run_id


def asks_who_in_a_thread():
    print(run_context().job.run_id)
    return run_context().job.run_id


async def needs(day, limit=3):
    return [day, limit]


async def changes_its_parameters(rows, options):
    rows.append("more")
    options["deep"]["list"].clear()
