"""Code in a thread that another thread may end: the exception comes up inside, or not at all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tidemill.sdk.deadline import Interruptible


class StopError(BaseException):
    """Set from outside."""


def in_thread(work: Callable[[], object]) -> list[object]:
    """Return what ``work`` returned in a thread, or the exception that it raised; nothing where it hangs."""
    told: list[object] = []

    def run() -> None:
        try:
            told.append(work())
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    return told


def test_code_that_was_left_alone_leaves_no_trace_in_the_interpreter() -> None:
    """Python 3.11 never forgets an exception that was taken back: traced calls then never return."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return trace

    def work() -> int:
        with Interruptible():
            pass
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return sum(abs(number) for number in range(100))
        finally:
            sys.settrace(before)

    assert in_thread(work) == [4950]


def test_an_interruption_comes_up_inside() -> None:
    ready, inside = threading.Event(), Interruptible()

    def work() -> None:
        with inside:
            ready.set()
            while True:
                pass

    told: list[list[object]] = []
    waiting = threading.Thread(target=lambda: told.append(in_thread(work)))
    waiting.start()
    assert ready.wait(120)
    assert inside.interrupt(StopError)
    waiting.join(20)
    assert [type(each) for each in told[0]] == [StopError]


def test_an_interruption_at_the_last_moment_does_not_come_up_afterwards() -> None:
    """It comes up inside, on the way out, or not at all; what the thread does next is not disturbed."""

    def work() -> int:
        inside = Interruptible()
        try:
            with inside:
                assert inside.interrupt(StopError)
        except StopError:
            pass
        return sum(number for number in range(1000))

    assert in_thread(work) == [499500]


def test_what_has_left_hears_nothing() -> None:
    inside = Interruptible()
    with inside:
        pass
    assert not inside.interrupt(StopError)
