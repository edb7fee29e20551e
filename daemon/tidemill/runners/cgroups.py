"""A cgroup for each run, where systemd (or whoever) has delegated a part of the tree to the daemon: cgroups(7), v2.

A cgroup bounds a run as a whole, with all that it starts, and ends it at one blow. Nothing is done to a cgroup that was
not expressly handed over: on a machine without, runs are bounded by resource limits, each process by itself.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tidemill.core.deployments import Limits

CONTROLLERS = ("memory", "pids")
_DELEGATED = ("user.delegate", "trusted.delegate")  # extended attributes that systemd sets, systemd.resource-control(5)


def delegated(proc: Path = Path("/proc/self")) -> Path | None:
    """Return the daemon's own cgroup, if it was delegated to the daemon; None: there is none."""
    try:
        own = next(line[3:] for line in (proc / "cgroup").read_text().splitlines() if line.startswith("0::"))
        mounts = (line.split() for line in (proc / "mountinfo").read_text().splitlines())
        mount = next(Path(fields[4]) for fields in mounts if fields[fields.index("-") + 1] == "cgroup2")
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    place = mount / own.lstrip("/")
    if own == "/" or not os.access(place, os.W_OK) or not os.access(place / "cgroup.procs", os.W_OK):
        return None
    for attribute in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(place, attribute) == b"1":
                return place
    return None


class Cgroups:
    """The part of the tree below a delegated cgroup: the daemon in one leaf, every run in one of its own."""

    def __init__(self, root: Path) -> None:
        """Arrange ``root``, which is ours. Raises ``OSError`` where that is refused."""
        self._runs = root / "runs"
        leaf = root / "daemon"
        leaf.mkdir(exist_ok=True)
        self._runs.mkdir(exist_ok=True)
        # Processes may stand in leaves only, where a controller is to be passed on.
        for pid in (root / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
        present = (root / "cgroup.controllers").read_text().split()
        self.controllers: frozenset[str] = frozenset(name for name in CONTROLLERS if name in present)
        for parent in (root, self._runs):
            for name in self.controllers:
                (parent / "cgroup.subtree_control").write_text(f"+{name}")
        for old in self._runs.iterdir():
            if old.is_dir():
                Cgroup(old).remove()

    def make(self, name: str) -> Cgroup:
        """Make the cgroup of one run."""
        path = self._runs / name
        path.mkdir(exist_ok=True)
        return Cgroup(path)


class Cgroup:
    """The cgroup of one run."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def limit(self, limits: Limits) -> None:
        """Bound the run as a whole."""
        if limits.memory is not None and (self.path / "memory.max").exists():
            (self.path / "memory.max").write_text(str(limits.memory))
            with contextlib.suppress(OSError):  # a kernel without swap has no such file
                (self.path / "memory.swap.max").write_text("0")
            (self.path / "memory.oom.group").write_text("1")
        if limits.processes is not None and (self.path / "pids.max").exists():
            (self.path / "pids.max").write_text(str(limits.processes))

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel ended something of the run because it wanted more memory than it may have."""
        try:
            events = (self.path / "memory.events").read_text().split()
        except OSError:
            return False
        counts = dict(zip(events[::2], events[1::2], strict=False))
        return counts.get("oom_kill", "0") != "0"

    def remove(self) -> bool:
        """End whatever is left in it and remove it; False: the kernel is not done with it yet."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True
