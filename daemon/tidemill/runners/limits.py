"""What a run may use: resource limits (getrlimit(2)) where no cgroup holds it, and what it means to run into one."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterable

from tidemill.core.deployments import Limits
from tidemill.durations import format_duration, format_size

# Kept back of the memory limit, so that code that ran into it can still say so.
RESERVE = 16 * 1024 * 1024


def apply(limits: Limits, tasks_of_user: int) -> None:
    """Limit this process and what it starts.

    Memory is counted as private data (RLIMIT_DATA) of each process, processor time of each process. The kernel counts
    processes of the user, so those that there are, ``tasks_of_user``, come on top; it does not limit root's at all.
    """
    if limits.memory is not None:
        _lower(resource.RLIMIT_DATA, limits.memory, limits.memory + RESERVE)
    if limits.cpu is not None:
        seconds = max(1, math.ceil(limits.cpu.total_seconds()))
        _lower(resource.RLIMIT_CPU, seconds, seconds + 1)
    if limits.open_files is not None:
        _lower(resource.RLIMIT_NOFILE, limits.open_files, limits.open_files)
    if limits.processes is not None:
        _lower(resource.RLIMIT_NPROC, tasks_of_user + limits.processes, tasks_of_user + limits.processes)


def use_reserve() -> None:
    """Give code that ran out of memory what was kept back."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit, unless there is a tighter one already."""
    _, present = resource.getrlimit(kind)
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    resource.setrlimit(kind, (soft, hard))


def out_of_memory(limits: Limits) -> str:
    """Return what happened to a run that wanted more memory than it may have."""
    assert limits.memory is not None
    return f"ran out of its memory limit, {format_size(limits.memory)}"


def out_of_cpu(limits: Limits) -> str:
    """Return what happened to a run that used up its processor time."""
    assert limits.cpu is not None
    return f"used up its CPU limit, {format_duration(limits.cpu)}"


def without(limits: Limits, held: Iterable[str]) -> Limits:
    """Return the limits that something else does not hold already."""
    names = set(held)
    return Limits(
        memory=None if "memory" in names else limits.memory,
        cpu=limits.cpu,
        open_files=limits.open_files,
        processes=None if "pids" in names else limits.processes,
    )
