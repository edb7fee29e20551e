"""A cgroup for each run: only where it was handed over, and gone with its run."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.clock import SystemClock
from tidemill.core.deployments import Limits, WorkPool
from tidemill.core.ports import Cancellation
from tidemill.core.states import StateType
from tidemill.runners import limits
from tidemill.runners.cgroups import Cgroup, Cgroups, delegated
from tidemill.runners.process import ProcessRunner

House = Any  # conftest's, which cannot be imported from here
MIB = 1024 * 1024


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder that looks like a delegated cgroup."""
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    return tmp_path


def test_the_daemon_moves_into_a_leaf_and_hands_the_controllers_on(tree: Path) -> None:
    (tree / "cgroup.procs").write_text("17\n")
    found = Cgroups(tree)
    assert found.controllers == {"memory", "pids"}
    assert (tree / "daemon" / "cgroup.procs").read_text() == "17"
    for parent in (tree, tree / "runs"):
        assert (parent / "cgroup.subtree_control").exists()


def test_a_run_s_cgroup_holds_its_limits(tree: Path) -> None:
    cgroup = Cgroups(tree).make("1")
    for name in ("memory.max", "memory.swap.max", "pids.max", "memory.oom.group"):
        (cgroup.path / name).write_text("max")
    cgroup.limit(Limits(memory=64 * MIB, processes=5))
    found = {name: (cgroup.path / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")}
    assert found == {"memory.max": str(64 * MIB), "memory.swap.max": "0", "pids.max": "5"}


def test_limits_that_a_cgroup_holds_are_not_set_twice() -> None:
    asked = Limits(memory=1, cpu=timedelta(seconds=1), open_files=2, processes=3)
    assert limits.without(asked, {"memory", "pids"}) == Limits(cpu=timedelta(seconds=1), open_files=2)
    assert limits.without(asked, {"memory"}) == Limits(cpu=timedelta(seconds=1), open_files=2, processes=3)
    assert limits.without(asked, ()) == asked


@pytest.mark.parametrize(
    ("events", "out"),
    [("low 0\nmax 9\noom 1\noom_kill 1\n", True), ("low 0\noom 0\noom_kill 0\n", False), (None, False)],
)
def test_the_kernel_says_who_ran_out_of_memory(events: str | None, out: bool, tmp_path: Path) -> None:
    if events is not None:
        (tmp_path / "memory.events").write_text(events)
    assert Cgroup(tmp_path).out_of_memory is out


def test_nothing_is_touched_that_was_not_handed_over(tmp_path: Path) -> None:
    """The cgroup of a shell may be writable, for root it always is; it is somebody else's all the same."""
    mount, own = tmp_path / "mount", "/user.slice/shell"
    (mount / own.lstrip("/")).mkdir(parents=True)
    (mount / own.lstrip("/") / "cgroup.procs").write_text("")
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(f"1:cpu:/\n0::{own}\n")
    (proc / "mountinfo").write_text(f"30 24 0:26 / {mount} rw,nosuid - cgroup2 cgroup2 rw\n")
    assert delegated(proc) is None
    try:
        os.setxattr(mount / own.lstrip("/"), "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes of users")
    assert delegated(proc) == mount / own.lstrip("/")


def test_a_machine_without_cgroups_has_none(tmp_path: Path) -> None:
    assert delegated(tmp_path) is None


# With the kernel's own


def _mounted() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return Path(fields[1])
    return None


@pytest.fixture
def real() -> Iterator[Path]:
    mounted = _mounted()
    root = mounted / f"tidemill-test-{os.getpid()}" if mounted is not None else None
    if root is None:
        pytest.skip("no cgroup v2 is mounted")
    try:
        root.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    yield root
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    root.rmdir()


@pytest.mark.root
def test_a_cgroup_ends_everything_in_it_at_one_blow(real: Path) -> None:
    cgroup = Cgroups(real).make("1")
    process = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    (cgroup.path / "cgroup.procs").write_text(str(process.pid))
    cgroup.remove()  # killed now; whether it is gone already is the kernel's affair
    assert process.wait(120) == -signal.SIGKILL
    assert cgroup.remove()
    assert not cgroup.path.exists()


@pytest.mark.root
async def test_a_run_has_a_cgroup_while_it_runs_and_leaves_none(real: Path, apart: House, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("def flow():\n    return open('/proc/self/cgroup').read()\n")
    runner = ProcessRunner(
        pool=WorkPool(name="process", type="process", spares=1),
        flows_dir=tmp_path,
        clock=SystemClock(),
        grace=timedelta(seconds=10),
        environ={"PATH": "/usr/bin:/bin"},
        cgroups=Cgroups(real),
    )
    outcome = await runner.run(apart.job("flows.py:flow", {}), apart.recorder, Cancellation())
    assert outcome.type is StateType.COMPLETED, outcome.message
    assert f"{real.name}/runs/{os.getpid()}-" in outcome.data
    await runner.aclose()
    assert not any(path.is_dir() for path in (real / "runs").iterdir())


@pytest.mark.root
async def test_the_kernel_ends_a_run_that_wants_too_much_memory(real: Path, apart: House) -> None:
    if "memory" not in (real / "cgroup.controllers").read_text():
        pytest.skip("the memory controller is not with cgroup v2 here")
    runner = ProcessRunner(
        pool=WorkPool(name="process", type="process", spares=1),
        flows_dir=Path(__file__).parent / "cases",
        clock=SystemClock(),
        grace=timedelta(seconds=10),
        environ={"PATH": "/usr/bin:/bin"},
        cgroups=Cgroups(real),
    )
    job = apart.job("hostile.py:hogs_memory", {"mib": 400}, limits=Limits(memory=128 * MIB))
    outcome = await runner.run(job, apart.recorder, Cancellation())
    await runner.aclose()
    assert (outcome.type, outcome.message) == (StateType.CRASHED, "ran out of its memory limit, 128MiB")
