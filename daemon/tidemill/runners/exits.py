"""How a process ended, in words."""

from __future__ import annotations

import os
import signal

# What a signal that nobody sent by hand most often means.
_HINTS = {
    signal.SIGSEGV: "it touched memory that is not its own",
    signal.SIGBUS: "it touched memory that is not there",
    signal.SIGABRT: "it gave up, as C code does that finds itself broken",
    signal.SIGILL: "it met an instruction that this processor does not have",
    signal.SIGFPE: "it divided by zero, or the like",
    signal.SIGKILL: "not by tidemill; perhaps the machine ran out of memory",
    signal.SIGXCPU: "it used up its CPU limit",
    signal.SIGSYS: "it asked the system for something that is forbidden to it",
    signal.SIGPIPE: "it wrote to a pipe that nobody reads",
}


def in_words(status: int, when: str = "") -> str:
    """Return how a process ended, from its wait status: ``was killed by SIGSEGV (signal 11): it touched …``.

    ``when`` stands behind what happened, before what it may mean.
    """
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with exit code {code}{when}"
    number = -code
    try:
        name = signal.Signals(number)
    except ValueError:
        return f"was killed by signal {number}{when}"
    hint = _HINTS.get(name)
    return f"was killed by {name.name} (signal {number}){when}" + (f": {hint}" if hint else "")


def by_signal(status: int | None, number: signal.Signals) -> bool:
    """Say whether a wait status tells of the end by that signal."""
    return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == number
