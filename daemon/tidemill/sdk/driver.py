"""Stepping a coroutine in the thread that calls: how sync code uses the one async engine.

In sync code everything the engine waits for blocks inside and never suspends, so one step is the whole way.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Suspended(RuntimeError):  # noqa: N818 - what happened, not an error of the caller's
    """A coroutine that was driven from sync code wanted to wait for a loop."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end, in this thread, and return what it returns.

    Raises :class:`Suspended` where it does suspend after all.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise Suspended("sync code cannot wait for an event loop")
