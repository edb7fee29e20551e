"""kill -9, and the start after it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from daemons import Daemon, alive, pids_in, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]
SECOND = 1_000_000  # microseconds


def test_a_run_cut_off_by_kill_9_is_crashed_with_the_reason_and_its_processes_are_gone(
    make: Make, tmp_path: Path
) -> None:
    """P4: the whole tree of the command, before anything new starts."""
    told, after = tmp_path / "pids", tmp_path / "after"
    daemon = make(
        f"""
        [deployments.long]
        command = "sleep 1000 & echo $$ $! >> {told}; wait"
        [deployments.at-start]
        command = "pgrep -f 'sleep 1000' > {after} || true"
        cron = "@reboot"
        """
    ).start()
    assert daemon.command("deployment", "run", "long")[0] == 0
    pids = until(lambda: pids_in(told), "the command runs")
    daemon.run_in("RUNNING", "long")
    until(lambda: daemon.rows("SELECT pid FROM process"), "the process is on record")
    daemon.kill()
    assert all(map(alive, pids)), "nobody has ended them yet: that is what this is about"
    after.unlink(missing_ok=True)
    daemon.start()
    run = next(run for run in daemon.runs("long"))
    assert run["state"] == "CRASHED"
    assert "the daemon ended while it ran" in run["message"]
    assert "it left 2 processes behind, ended before anything new started" in run["message"]
    assert not any(map(alive, pids))
    until(after.exists, "the run at the start has run")
    daemon.run_in("COMPLETED", "at-start")
    assert not set(map(str, pids)) & set(after.read_text().split())
    assert daemon.rows("SELECT count(*) FROM process WHERE run = (SELECT seq FROM run WHERE id = ?)", run["id"]) == [
        (0,)
    ]
    assert daemon.stop() == 0


def test_a_process_that_ignores_sigterm_and_left_its_session_is_gone_too(make: Make, tmp_path: Path) -> None:
    """P4: it is known by the run's id in its environment."""
    told = tmp_path / "pids"
    inner = f"trap : TERM; echo $$ >> {told}; while :; do sleep 1000; done"
    daemon = make(
        f"""
        [deployments.wait]
        argv = ["/bin/sh", "-c", "setsid /bin/sh -c '{inner}' & wait"]
        """
    ).start()
    assert daemon.command("deployment", "run", "wait")[0] == 0
    (pid,) = until(lambda: pids_in(told), "the command runs")
    daemon.kill()
    daemon.start()
    assert daemon.runs("wait")[0]["state"] == "CRASHED"
    assert not alive(pid)


def test_what_a_command_that_ended_well_left_behind_is_left_alone(make: Make, tmp_path: Path) -> None:
    """P4: only what belongs to an unfinished attempt is ended."""
    told = tmp_path / "pids"
    daemon = make(f"""
        [deployments.starts-a-service]
        command = "sleep 1000 > /dev/null 2>&1 & echo $! >> {told}"
        """).start()
    assert daemon.command("deployment", "run", "starts-a-service", "--watch")[0] == 0
    (pid,) = pids_in(told)
    daemon.kill()
    daemon.start()
    assert alive(pid)


def test_a_run_is_tried_again_where_its_deployment_says_so(make: Make, tmp_path: Path) -> None:
    """P4: on_crash = "retry", never two attempts at a time."""
    told = tmp_path / "pids"
    daemon = make(f"""
        [deployments.long]
        command = "echo $$ >> {told}; exec sleep 1000"
        on_crash = "retry"
        """).start()
    assert daemon.command("deployment", "run", "long")[0] == 0
    (first,) = until(lambda: pids_in(told), "the first attempt runs")
    daemon.kill()
    daemon.start()
    assert not alive(first)
    _, second = until(lambda: len(pids_in(told)) == 2 and pids_in(told), "the second attempt runs")
    assert alive(second)
    run = daemon.run_in("RUNNING")
    assert run["attempt"] == 2


def test_over_kills_the_schedule_is_neither_doubled_nor_lost(make: Make, tmp_path: Path) -> None:
    """P1, P5, P6: every fire of every second, over three deaths, is one run or accounted for."""
    daemon = make("""
        [deployments.tick]
        command = "true"
        interval = "1s"
        catch_up = "all"
        """)
    for _ in range(3):
        daemon.start()
        wanted = len(daemon.completed()) + 2
        until(lambda: len(daemon.completed()) >= wanted, "two more have run")  # noqa: B023
        daemon.kill()
    daemon.start()
    wanted = len(daemon.completed()) + 2
    until(lambda: len(daemon.completed()) >= wanted, "two more have run")
    assert daemon.stop() == 0
    ended = [run for run in daemon.runs() if run["state"] in ("COMPLETED", "CRASHED")]
    dues = [run["due"] for run in ended]
    assert all(after - before == SECOND for before, after in pairwise(dues))
    assert all(run["start_time"] >= run["due"] for run in ended), "never early"
    assert all(run["message"] for run in ended if run["state"] == "CRASHED")
