"""What is taken for an orphan, and what never is; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill.clock import SystemClock
from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType
from tidemill.flows import process_table
from tidemill.ids import Ids
from tidemill.services.orphans import MARK, Ended, Orphans, belonging
from tidemill.store import Store, inline_doors, processes
from tidemill.store.processes import RunProcess

pytestmark = pytest.mark.slow
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def run(run_id: str, seq: int = 1) -> FlowRun:
    state = State(type=StateType.RUNNING, name="Running", timestamp=NOON)
    return FlowRun(seq=seq, id=run_id, name="brisk-otter", flow="shell", expected_start=NOON, state=state, created=NOON)


@contextmanager
def sleeper(mark: str | None = None, *, deaf: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which has said that it is there."""
    code = "import signal, sys, time\n"
    code += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else ""
    code += "print('here', flush=True)\ntime.sleep(1000)"
    environ = {**os.environ, **({MARK: mark} if mark else {})}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def leader(process: subprocess.Popen[bytes], *, older: int = 0) -> RunProcess:
    found = process_table.read(process.pid)
    assert found is not None
    return RunProcess(1, 1, process.pid, found.birth - older, process_table.boot_id())


def pids(runs: list[FlowRun], leaders: dict[int, list[RunProcess]]) -> set[int]:
    return {process.pid for group in belonging(runs, leaders).values() for process in group}


def test_the_process_table_knows_this_process() -> None:
    found = process_table.read(os.getpid())
    assert found is not None
    assert (found.parent, found.group, found.session) == (os.getppid(), os.getpgrp(), os.getsid(0))
    assert not found.dead
    assert found in list(process_table.processes())
    assert process_table.read(2**22 + 1) is None
    assert len(process_table.boot_id()) == 36


def test_a_process_is_known_by_its_record() -> None:
    """P4: pid and start time."""
    with sleeper() as process:
        assert pids([run("r")], {1: [leader(process)]}) == {process.pid}


def test_a_pid_that_was_given_out_again_is_a_stranger() -> None:
    """P4: the start time is another."""
    with sleeper() as process:
        assert pids([run("r")], {1: [leader(process, older=100)]}) == set()


def test_a_process_is_known_by_its_mark() -> None:
    """P4: where the daemon died before it could be put on record; only of the runs asked for."""
    with sleeper("r") as process, sleeper("other") as other:
        assert pids([run("r")], {}) == {process.pid}
        assert other.pid not in pids([run("r")], {})


def test_neither_this_process_nor_what_it_descends_from_is_an_orphan() -> None:
    """A run may have started this very daemon."""
    ours = process_table.read(os.getpid())
    assert ours is not None
    above = process_table.read(os.getppid())
    assert above is not None
    for each in (ours, above):
        found = RunProcess(1, 1, each.pid, each.birth, process_table.boot_id())
        assert not {os.getpid(), os.getppid()} & pids([run("r")], {1: [found]})


@pytest.mark.parametrize("deaf", [False, True])
async def test_orphans_are_ended_and_their_record_with_them(tmp_path: Path, deaf: bool) -> None:
    """P4: SIGTERM, and SIGKILL for what ignores it."""
    clock = SystemClock()
    store = await Store.open(tmp_path / "db", clock=clock, ids=Ids(), doors=inline_doors)
    with sleeper(deaf=deaf) as process:
        await store.write(processes.PROCESS_STARTED, leader(process))
        ended = await Orphans(store=store, clock=clock, term_s=0.3).end([run("r")])
        assert ended == {"r": Ended(1, ())}
        assert process.wait(120) == -(signal.SIGKILL if deaf else signal.SIGTERM)
    assert await store.read(processes.of_unfinished) == []
    await store.aclose()


async def test_records_of_another_boot_name_nobody(tmp_path: Path) -> None:
    """P4: after a power cut every pid is a stranger's."""
    clock = SystemClock()
    store = await Store.open(tmp_path / "db", clock=clock, ids=Ids(), doors=inline_doors)
    with sleeper() as process:
        found = leader(process)
        await store.write(processes.PROCESS_STARTED, RunProcess(1, 1, found.pid, found.birth, "another-boot"))
        assert await Orphans(store=store, clock=clock).end([run("r")]) == {}
        assert process.poll() is None
    assert await store.read(processes.of_unfinished) == []
    await store.aclose()
