"""What the kernel does for the containment of a run's processes: prctl(2), the order it kills in, who has whom."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Collection, Iterable
from pathlib import Path

from tidemill.flows import process_table
from tidemill.flows.process_table import Process

_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36
_OOM_SCORE = "500"  # of 1000: when the machine runs out of memory, runs go before the daemon
_CHILDREN = Path("/proc/thread-self/children")

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have this process killed when ``parent`` dies; ends it at once where that has happened already."""
    _libc.prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def keep_orphans() -> None:
    """Become the parent of whatever this process's descendants leave behind: nobody gets away by forking twice."""
    _libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def go_first() -> None:
    """Be killed before others when the machine has no memory left."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def children() -> set[int]:
    """Return the pids of this process's children (it has one thread), reaped or not."""
    try:
        return {int(pid) for pid in _CHILDREN.read_text().split()}
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        own = os.getpid()
        return {each.pid for each in process_table.processes() if each.parent == own}


def family(roots: Collection[int]) -> list[Process]:
    """Return the processes at work among ``roots`` and all that descends from them."""
    table = {each.pid: each for each in process_table.processes()}
    offspring: dict[int, list[int]] = {}
    for each in table.values():
        offspring.setdefault(each.parent, []).append(each.pid)
    found: dict[int, Process] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid in table and pid not in found:
            found[pid] = table[pid]
            waiting += offspring.get(pid, ())
    return [each for each in found.values() if not each.dead]


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to each; those that are gone, or are another user's by now, do not hear it."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def tasks_of_user() -> int:
    """Return how many processes and threads this user has."""
    own, count = os.getuid(), 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == own:
                count += entry.joinpath("task").stat().st_nlink - 2
    return count


def is_single_threaded() -> bool:
    """Say whether this process has one thread, of Python's at least."""
    return threading.active_count() == 1
