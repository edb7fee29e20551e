"""One call for sync and async code: an answer at once, or something to await."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidemill.core.reports import Question
from tidemill.sdk.context import RunContext, run_context


def answer(question: Question, shape: Callable[[Any], Any], *, awaited: bool) -> Any:
    """Ask for the running code: the shaped answer, or with ``awaited`` a coroutine that gives it.

    Raises ``NoRunError`` outside a run, and what ``shape`` or the recorder raises.
    """
    context = run_context()
    if awaited:
        return _awaited(context, question, shape)
    return shape(context.ask_now(question))


async def _awaited(context: RunContext, question: Question, shape: Callable[[Any], Any]) -> Any:
    return shape(await context.ask(question))


async def value(given: Any) -> Any:
    """Return a value; for calls that may be awaited and have nothing to wait for."""
    return given


def timed_out(error: BaseException) -> bool:
    """Whether an error says that the time for an answer was over."""
    return str(error).startswith("timed out")
