"""Signals: what the daemon lets end, what it cuts off, and how it goes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from daemons import Daemon, alive, pids_in, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]


def test_sigterm_drains_what_runs_and_exits_0(make: Make, tmp_path: Path) -> None:
    """P9: the run ends by itself, nothing new starts, and the socket and the lock are gone."""
    go, told = tmp_path / "go", tmp_path / "pids"
    daemon = make(f"""
        [deployments.long]
        command = "echo $$ > {told}; while [ ! -e {go} ]; do sleep 0.05; done; echo well done"
        [deployments.tick]
        command = "true"
        interval = "1s"
        """).start()
    assert daemon.command("deployment", "run", "long")[0] == 0
    until(lambda: pids_in(told), "the command runs")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.says("SIGTERM: stopping; a second one cuts off what still runs")
    stopping = int(daemon.rows("SELECT max(start_time) FROM run")[0][0])
    assert daemon.process.poll() is None
    code, _, err = daemon.command("deployment", "run", "tick")
    assert code in (0, 1, 3), err
    go.touch()
    assert daemon.ended() == 0
    assert not (daemon.state / "tidemill.db-wal").exists(), "the database file alone is whole"
    assert daemon.runs("long")[0]["state"] == "COMPLETED"
    assert "well done" in daemon.log
    assert daemon.log.rstrip().endswith("stopped") or "stopped" in daemon.log.splitlines()[-1]
    assert not (daemon.state / "control.sock").exists()
    assert all(run["start_time"] <= stopping + 1_000_000 for run in daemon.runs("tick") if run["start_time"])


def test_what_outlasts_the_grace_is_cut_off_with_its_whole_group(make: Make, tmp_path: Path) -> None:
    """P4, P9: CRASHED because the daemon stopped, exit 0."""
    told = tmp_path / "pids"
    daemon = make(f"""
        [daemon]
        grace_period = "300ms"
        [deployments.long]
        command = "sleep 1000 & echo $$ $! > {told}; wait"
        """).start()
    assert daemon.command("deployment", "run", "long")[0] == 0
    pids = until(lambda: pids_in(told), "the command runs")
    assert daemon.stop() == 0
    run = daemon.runs()[0]
    assert run["state"] == "CRASHED"
    assert "the daemon stopped" in run["message"]
    assert "1 run was cut off" in daemon.log
    until(lambda: not any(map(alive, pids)), "its processes are gone")


def test_a_second_signal_cuts_off_what_still_runs(make: Make, tmp_path: Path) -> None:
    """P9: no grace of minutes for a person who means it."""
    told = tmp_path / "pids"
    daemon = make(f"""
        [daemon]
        grace_period = "10m"
        [deployments.long]
        command = "echo $$ > {told}; exec sleep 1000"
        """).start()
    assert daemon.command("deployment", "run", "long")[0] == 0
    (pid,) = until(lambda: pids_in(told), "the command runs")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.says("stopping")
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.ended() == 0
    assert daemon.runs()[0]["state"] == "CRASHED"
    assert not alive(pid)


def test_sighup_ends_nothing(make: Make) -> None:
    """P9: an editor's or a package's habit."""
    daemon = make('[deployments.job]\ncommand = "true"\n').start()
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.command("deployment", "run", "job", "--watch")[0] == 0
    assert daemon.stop() == 0


STUCK = """
import threading, time
def for_ever():
    open(r"{told}", "w").write("1")
    while True:
        time.sleep(3600)
def swallows():
    open(r"{told}", "w").write("1")
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
async def async_swallows():
    import asyncio
    open(r"{told}", "w").write("1")
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("flow", ["for_ever", "swallows", "async_swallows"])
def test_code_that_never_ends_does_not_keep_the_process(make: Make, tmp_path: Path, flow: str) -> None:
    """P9, P10: recorded, closed, and gone with the right exit code."""
    told = tmp_path / "told"
    daemon = make(f"""
        [daemon]
        grace_period = "300ms"
        [deployments.stuck]
        flow = "stuck.py:{flow}"
        """)
    (daemon.flows / "stuck.py").write_text(STUCK.format(told=told))
    daemon.start()
    assert daemon.command("deployment", "run", "stuck")[0] == 0
    until(told.exists, "the flow runs")
    assert daemon.stop() == 0
    run = daemon.runs()[0]
    assert run["state"] == "CRASHED"
    assert "the daemon stopped" in run["message"]
    assert "still runs" in run["message"]


def test_a_thread_left_behind_by_a_timeout_holds_its_slot_and_is_shown(make: Make, tmp_path: Path) -> None:
    """P10: counted, said, its slot not handed out; the stop does not wait for it."""
    told = tmp_path / "told"
    daemon = make("""
        [daemon]
        grace_period = "400ms"
        [deployments.stuck]
        flow = "stuck.py:for_ever"
        timeout = "300ms"
        concurrency_limit = 1
        """)
    (daemon.flows / "stuck.py").write_text(STUCK.format(told=told))
    daemon.start()
    for _ in range(2):
        assert daemon.command("deployment", "run", "stuck")[0] == 0
    run = daemon.run_in("FAILED")
    assert run["state_name"] == "TimedOut"
    status = daemon.ask("status")
    assert status["state"] == "degraded"
    assert "1 runs were abandoned" in " ".join(status["problems"])
    assert [each["state"] for each in daemon.runs()] == ["FAILED", "SCHEDULED"]
    assert daemon.stop() == 0


def test_an_error_is_told_and_its_exit_code_kept_though_a_thread_is_stuck(make: Make, tmp_path: Path) -> None:
    """P10: the database goes away while code hangs: the exit is not 0 for that."""
    told = tmp_path / "told"
    daemon = make("""
        [daemon]
        grace_period = "300ms"
        [deployments.stuck]
        flow = "stuck.py:for_ever"
        [deployments.tick]
        command = "true"
        interval = "1s"
        """)
    (daemon.flows / "stuck.py").write_text(STUCK.format(told=told))
    daemon.start()
    assert daemon.command("deployment", "run", "stuck")[0] == 0
    until(told.exists, "the flow runs")
    (daemon.state / "tidemill.db").unlink()
    assert daemon.ended() not in (0, None)
    assert "deleted while in use" in daemon.log


def test_a_stdout_that_nobody_reads_holds_up_no_run(make: Make) -> None:
    """P10, P13: lines are dropped and counted, runs go on."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, True)
    daemon = make("""
        [log]
        max_lines_per_second = 1000000
        [deployments.chatty]
        command = "seq -f 'a line that is long enough to fill any pipe and whatever stands before it: %g' 10000"
        """)
    try:
        daemon.start(stdout=write_end)
        for _ in range(3):
            code, out, err = daemon.command("deployment", "run", "chatty", "--watch")
            assert code == 0, (out, err)
        status = until(
            lambda: (found := daemon.ask("status"))["dropped_log_lines"] and found, "dropped lines are counted"
        )
        assert status["dropped_log_lines"] > 0
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.ended() == 0
    finally:
        os.close(read_end)
        os.close(write_end)


def test_sigterm_while_it_starts_ends_it_in_good_order(make: Make) -> None:
    """P9: whatever it was doing; the next start finds all well."""
    daemon = make('[deployments.job]\ncommand = "true"\ninterval = "1s"\n')
    daemon.start(ready=False)
    until((daemon.state / "tidemill.db").exists, "it has begun")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.ended() in (0, -signal.SIGTERM)
    daemon.start()
    assert daemon.stop() == 0
    assert re.search(r"ready", daemon.log)
