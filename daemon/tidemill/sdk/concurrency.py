"""Slots of the limits that ``[concurrency_limits.NAME]`` states: held for a while, or used up by a rate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tidemill.core.reports import SlotsQuestion, SlotsReleased
from tidemill.errors import TidemillError
from tidemill.sdk.asking import timed_out
from tidemill.sdk.context import run_context
from tidemill.sdk.exceptions import BlockingInLoopError, ConcurrencySlotAcquisitionError

Names = str | Sequence[str]


@contextmanager
def concurrency(
    names: Names, occupy: int = 1, timeout_seconds: float | None = None, *, strict: bool = False, **_others: Any
) -> Iterator[None]:
    """Hold ``occupy`` slots of each limit while the code inside runs; for sync code.

    Waits for them, at most ``timeout_seconds``: then ``TimeoutError``. A name without a limit is free, or raises
    ``ConcurrencySlotAcquisitionError`` with ``strict``. The slots follow the run: none outlives it.
    """
    question = _question(names, occupy, timeout_seconds, strict, rate=False)
    if question is None:
        yield
        return
    context = run_context()
    try:
        lease = context.ask_now(question)
    except BlockingInLoopError:
        raise
    except TidemillError as error:
        raise _refused(error) from None
    try:
        yield
    finally:
        if lease:
            context.recorder.report(SlotsReleased(lease=lease))


@asynccontextmanager
async def aconcurrency(
    names: Names, occupy: int = 1, timeout_seconds: float | None = None, *, strict: bool = False, **_others: Any
) -> AsyncIterator[None]:
    """Hold slots while the code inside runs; for async code. As :func:`concurrency`."""
    question = _question(names, occupy, timeout_seconds, strict, rate=False)
    if question is None:
        yield
        return
    context = run_context()
    try:
        lease = await context.ask(question)
    except TidemillError as error:
        raise _refused(error) from None
    try:
        yield
    finally:
        if lease:
            context.recorder.report(SlotsReleased(lease=lease))


def rate_limit(names: Names, occupy: int = 1, timeout_seconds: float | None = None, *, strict: bool = False) -> None:
    """Wait until the rate of each limit (``slot_decay_per_second``) lets ``occupy`` more through; for sync code.

    Raises as :func:`concurrency` does.
    """
    question = _question(names, occupy, timeout_seconds, strict, rate=True)
    if question is None:
        return
    try:
        run_context().ask_now(question)
    except BlockingInLoopError:
        raise
    except TidemillError as error:
        raise _refused(error) from None


async def arate_limit(
    names: Names, occupy: int = 1, timeout_seconds: float | None = None, *, strict: bool = False
) -> None:
    """Wait for a rate; for async code. As :func:`rate_limit`."""
    question = _question(names, occupy, timeout_seconds, strict, rate=True)
    if question is None:
        return
    try:
        await run_context().ask(question)
    except TidemillError as error:
        raise _refused(error) from None


# An async flow that uses one of these gets a loop of its own (sdk/blocking.py).
concurrency.blocks_a_loop = True  # type: ignore[attr-defined]
rate_limit.blocks_a_loop = True  # type: ignore[attr-defined]


def _question(names: Names, occupy: int, timeout_s: float | None, strict: bool, *, rate: bool) -> SlotsQuestion | None:
    listed = (names,) if isinstance(names, str) else tuple(names)
    if occupy < 1:
        raise ValueError(f"occupy is at least 1, not {occupy}")
    if not listed:
        return None
    return SlotsQuestion(names=listed, occupy=occupy, timeout_s=timeout_s, strict=strict, rate=rate)


def _refused(error: TidemillError) -> Exception:
    if timed_out(error):
        return TimeoutError(str(error))
    return ConcurrencySlotAcquisitionError(str(error))
