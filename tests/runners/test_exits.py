"""How a process ended, in words that a user can act on."""

from __future__ import annotations

import signal

import pytest

from tidemill.runners import exits

# Wait status -> words. An exit code stands in the higher byte.
ENDS = [
    (0, "exited with exit code 0"),
    (3 << 8, "exited with exit code 3"),
    (int(signal.SIGSEGV), "was killed by SIGSEGV (signal 11): it touched memory that is not its own"),
    (int(signal.SIGSEGV) | 0x80, "was killed by SIGSEGV (signal 11): it touched memory that is not its own"),  # core
    (int(signal.SIGTERM), "was killed by SIGTERM (signal 15)"),
    (40, "was killed by signal 40"),
]


@pytest.mark.parametrize(("status", "words"), ENDS)
def test_an_end_has_words(status: int, words: str) -> None:
    assert exits.in_words(status) == words


def test_what_happened_stands_before_what_it_may_mean() -> None:
    words = exits.in_words(int(signal.SIGABRT), " at noon")
    assert words == "was killed by SIGABRT (signal 6) at noon: it gave up, as C code does that finds itself broken"


def test_a_signal_is_told_from_an_exit_code() -> None:
    assert exits.by_signal(int(signal.SIGXCPU), signal.SIGXCPU)
    assert not exits.by_signal(int(signal.SIGXCPU) << 8, signal.SIGXCPU)
    assert not exits.by_signal(None, signal.SIGXCPU)
