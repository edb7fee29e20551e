"""The machine's processes as /proc shows them (proc(5)): which there are, and that one is still the one it was.

A pid alone names nobody: it is given out again. With the time of its start, and the boot that time is counted from, it
names one process for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_DEAD = frozenset({b"Z", b"X"})


class Process(NamedTuple):
    """A process. ``birth``: clock ticks from the machine's boot to its start."""

    pid: int
    parent: int
    group: int
    session: int
    birth: int
    dead: bool  # ended, and not yet reaped by its parent


def boot_id(proc: Path = PROC) -> str:
    """Return the id of this boot of the machine; empty where the system tells none."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def read(pid: int, proc: Path = PROC) -> Process | None:
    """Return the process of that number; None: there is none."""
    try:
        # The name in brackets may hold anything; what follows its last bracket is state, parent, group, session, …
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        state, parent, group, session = fields[:4]
        return Process(pid, int(parent), int(group), int(session), int(fields[19]), state in _DEAD)
    except (OSError, ValueError, IndexError):
        return None


def processes(proc: Path = PROC) -> Iterator[Process]:
    """Return all processes. Raises OSError where there is no /proc."""
    for entry in proc.iterdir():
        if entry.name.isdecimal() and (found := read(int(entry.name), proc)) is not None:
            yield found


def variable(pid: int, name: str, proc: Path = PROC) -> str | None:
    """Return a variable of the environment that a process was started with; None: not set, or not to be read."""
    try:
        environment = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    start = f"{name}=".encode()
    for entry in environment.split(b"\0"):
        if entry.startswith(start):
            return entry[len(start) :].decode(errors="replace")
    return None
