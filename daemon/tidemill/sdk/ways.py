"""The two ways through the one engine: awaiting on a loop, or blocking in the thread that calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from tidemill.core.reports import Question
from tidemill.sdk.context import RunContext
from tidemill.sdk.deadline import Deadline


class Way(Protocol):
    """How the engine waits, asks and calls."""

    blocking: bool

    async def ask(self, context: RunContext, question: Question) -> Any: ...

    async def flush(self, context: RunContext) -> None: ...

    async def sleep(self, context: RunContext, seconds: float) -> None: ...

    async def call(self, function: Callable[[], Any], timeout_s: float | None, error: type[BaseException]) -> Any:
        """Call user code; raises ``error`` when its time is over."""
        ...

    async def finish(self, value: Any) -> Any:
        """Return what a hook or condition gave, awaited where it has to be."""
        ...


class Awaiting:
    """For async code."""

    blocking = False

    async def ask(self, context: RunContext, question: Question) -> Any:
        return await context.ask(question)

    async def flush(self, context: RunContext) -> None:
        await context.flush()

    async def sleep(self, context: RunContext, seconds: float) -> None:
        await context.clock.sleep(seconds)

    async def call(self, function: Callable[[], Any], timeout_s: float | None, error: type[BaseException]) -> Any:
        if timeout_s is None:
            result = function()
            return await result if inspect.isawaitable(result) else result
        try:
            async with asyncio.timeout(timeout_s) as limit:
                result = function()
                return await result if inspect.isawaitable(result) else result
        except TimeoutError as raised:
            if not limit.expired():
                raise
            waited = raised.__cause__ or raised  # the cancellation: its frames say what was waited for
            raise error(f"did not end within {timeout_s:g} s").with_traceback(waited.__traceback__) from None

    async def finish(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value


class Blocking:
    """For sync code: nothing here ever suspends, so the engine's coroutine is driven in one step."""

    blocking = True

    async def ask(self, context: RunContext, question: Question) -> Any:
        return context.ask_now(question)

    async def flush(self, context: RunContext) -> None:
        context.flush_now()

    async def sleep(self, context: RunContext, seconds: float) -> None:
        context.wait(seconds)

    async def call(self, function: Callable[[], Any], timeout_s: float | None, error: type[BaseException]) -> Any:
        if timeout_s is None:
            return function()
        with Deadline(timeout_s, error):
            return function()

    async def finish(self, value: Any) -> Any:
        return finished(value) if inspect.iscoroutine(value) else value


def finished(coroutine: Any) -> Any:
    """Run a coroutine that sync code has got hold of to its end, on a loop of its own."""
    if asyncio._get_running_loop() is None:
        return asyncio.run(coroutine)
    # Sync code called from async code: this thread has a loop already.
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()


AWAITING = Awaiting()
BLOCKING = Blocking()
