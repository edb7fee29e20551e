"""Sync code that takes too long is ended where it can be, and nobody else's."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any

import pytest

from tidemill.sdk.deadline import Deadline


class OverError(TimeoutError):
    pass


def in_thread(work: Any) -> Any:
    """Run in a thread that is not the main one; return what it gave or raised."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return found[0]


def spin() -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        pass


def test_in_the_main_thread_even_a_blocking_call_is_interrupted() -> None:
    began = time.monotonic()
    with pytest.raises(OverError, match=r"did not end within 0\.05 s"), Deadline(0.05, OverError):
        time.sleep(20)
    assert time.monotonic() - began < 10
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_in_another_thread_code_is_ended_at_its_next_step() -> None:
    def work() -> None:
        with Deadline(0.05, OverError):
            spin()

    assert isinstance(in_thread(work), OverError)


def test_code_that_ends_in_time_hears_nothing_later() -> None:
    def work() -> str:
        for _ in range(200):
            with contextlib.suppress(OverError), Deadline(0.002, OverError):  # on a busy machine it is over at once
                pass
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        return "undisturbed"

    assert work() == "undisturbed"
    assert in_thread(work) == "undisturbed"


def test_a_deadline_that_is_over_before_it_begins_leaves_the_one_around_it() -> None:
    def work() -> str:
        try:
            with Deadline(0.2, ValueError):
                for _ in range(100):
                    with contextlib.suppress(OverError), Deadline(0, OverError):
                        spin()
                spin()
        except ValueError:
            return "outer"
        return "neither"

    assert work() == "outer"


@pytest.mark.parametrize("main", [True, False])
def test_the_nearer_of_two_deadlines_counts(main: bool) -> None:
    def inner_is_nearer() -> str:
        with Deadline(20, ValueError):
            try:
                with Deadline(0.05, OverError):
                    spin()
            except OverError:
                return "inner"
        return "neither"

    def outer_is_nearer() -> str:
        try:
            with Deadline(0.1, ValueError), Deadline(20, OverError):
                spin()
        except ValueError:
            return "outer"
        return "neither"

    for work, expected in ((inner_is_nearer, "inner"), (outer_is_nearer, "outer")):
        assert (work() if main else in_thread(work)) == expected


def test_another_s_alarm_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(OverError), Deadline(0.05, OverError):
            spin()
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == [signal.SIGALRM]


def test_an_error_of_the_code_s_own_passes() -> None:
    with pytest.raises(ZeroDivisionError), Deadline(20, OverError):
        1 / 0  # noqa: B018
