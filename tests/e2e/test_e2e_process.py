"""Runs in processes of their own, in a real daemon: crashes, kills, stops, secrets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from daemons import Daemon, alive, pids_in, until

from tidemill.flows import process_table

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]

FLOWS = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from tidemill.sdk.flows import flow
from tidemill.sdk.tasks import task
from tidemill.sdk.blocks import Secret

@task
def double(number):
    return number * 2

@flow(log_prints=True)
def adds(numbers):
    print("adding in", os.getpid())
    return sum(double.map(numbers).result())

def crashes():
    print("about to")
    ctypes.string_at(0)

def crashes_once(marker):
    if not os.path.exists(marker):
        Path(marker).write_text("")
        os._exit(7)
    return "the second time"

def tells(told):
    return subprocess.Popen(["/bin/sh", "-c", "trap : TERM; echo $$ >> %s; while :; do sleep 1000; done" % told])

def waits(told):
    tells(told)
    with open(told, "a") as file:
        print(os.getpid(), file=file)
    time.sleep(1000)

def leaks():
    token = Secret.load("token").get()
    print("the token is", token)
    print("in the environment:", os.environ.get("TOKEN"))
    os.write(1, b"past python: " + token.encode() + b"\\n")
    raise ValueError("it is " + token)
"""


def made(make: Make, config: str, **options: object) -> Daemon:
    daemon = make(config, **options)
    (daemon.flows / "jobs.py").write_text(FLOWS)
    return daemon


def test_a_flow_of_tasks_runs_in_a_process_of_its_own(make: Make) -> None:
    daemon = made(
        make,
        """
        [deployments.adds]
        flow = "jobs.py:adds"
        work_pool = "process"
        parameters = { numbers = [1, 2, 3] }
        """,
    ).start()
    assert daemon.command("deployment", "run", "adds", "--watch")[0] == 0
    (run,) = daemon.completed()
    document = daemon.ask("flow-run", "inspect", run["id"])
    assert document["state"]["type"] == "COMPLETED"
    line = daemon.says("adding in ")
    assert int(line.split()[-1]) != daemon.process.pid
    assert daemon.rows("SELECT count(*) FROM task_run") == [(3,)]
    assert daemon.rows("SELECT count(*) FROM process") == [(0,)]
    assert daemon.stop() == 0


def test_a_crash_costs_the_run_that_crashes_and_nobody_else(make: Make) -> None:
    """P10."""
    daemon = made(
        make,
        """
        [deployments.crashes]
        flow = "jobs.py:crashes"
        work_pool = "process"
        interval = "1s"
        [deployments.tick]
        command = "true"
        interval = "1s"
        """,
    ).start()
    run = daemon.run_in("CRASHED", "crashes")
    assert run["message"] == (
        "its process was killed by SIGSEGV (signal 11) before the flow had ended: it touched memory that is not its own"
    )
    daemon.says("about to")
    daemon.says("in crashes")
    ticks = len(daemon.completed("tick"))
    until(lambda: len(daemon.completed("tick")) >= ticks + 2, "the others run on")
    assert daemon.stop() == 0


def test_a_crashed_run_is_tried_again_where_its_deployment_says_so(make: Make, tmp_path: Path) -> None:
    daemon = made(
        make,
        f"""
        [deployments.once]
        flow = "jobs.py:crashes_once"
        work_pool = "process"
        on_crash = "retry"
        parameters = {{ marker = "{tmp_path}/marker" }}
        """,
    ).start()
    assert daemon.command("deployment", "run", "once", "--watch")[0] == 0
    (run,) = daemon.completed()
    assert run["attempt"] == 2
    assert daemon.stop() == 0


def test_kill_9_takes_the_runs_along_and_the_next_daemon_says_so(make: Make, tmp_path: Path) -> None:
    """P4: the fork server hears of it at once, whatever its runs do about being told."""
    told = tmp_path / "pids"
    daemon = made(
        make,
        f"""
        [deployments.waits]
        flow = "jobs.py:waits"
        work_pool = "process"
        parameters = {{ told = "{told}" }}
        """,
    ).start()
    assert daemon.command("deployment", "run", "waits")[0] == 0
    pids = until(lambda: len(pids_in(told)) == 2 and pids_in(told), "the flow and its command run")
    until(lambda: daemon.rows("SELECT pid FROM process"), "the process is on record")
    daemon.kill()
    until(lambda: not any(map(alive, pids)), "they are gone with it")
    daemon.start()
    (run,) = daemon.runs()
    assert run["state"] == "CRASHED"
    assert run["message"].startswith("the daemon ended while it ran")
    assert daemon.stop() == 0


def test_what_outlived_both_daemon_and_fork_server_is_ended_at_the_next_start(make: Make, tmp_path: Path) -> None:
    """P4: before anything new starts."""
    told = tmp_path / "pids"
    daemon = made(
        make,
        f"""
        [deployments.waits]
        flow = "jobs.py:waits"
        work_pool = "process"
        parameters = {{ told = "{told}" }}
        """,
    ).start()
    assert daemon.command("deployment", "run", "waits")[0] == 0
    pids = until(lambda: len(pids_in(told)) == 2 and pids_in(told), "the flow and its command run")
    until(lambda: daemon.rows("SELECT pid FROM process"), "the process is on record")
    (leader,) = [row[0] for row in daemon.rows("SELECT pid FROM process")]
    server = process_table.read(leader)
    assert server is not None
    daemon.process.send_signal(19)  # stopped, it sees nothing of what comes
    os.kill(server.parent, 9)
    daemon.kill()
    until(lambda: not alive(leader), "the run's process goes with its fork server")
    daemon.start()
    assert not any(map(alive, pids))
    assert daemon.runs()[0]["state"] == "CRASHED"
    assert daemon.stop() == 0


def test_a_stop_cuts_off_what_does_not_end_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    """P9."""
    told = tmp_path / "pids"
    daemon = made(
        make,
        f"""
        [daemon]
        grace_period = "1s"
        [deployments.waits]
        flow = "jobs.py:waits"
        work_pool = "process"
        parameters = {{ told = "{told}" }}
        """,
    ).start()
    assert daemon.command("deployment", "run", "waits")[0] == 0
    pids = until(lambda: len(pids_in(told)) == 2 and pids_in(told), "the flow and its command run")
    assert daemon.stop() == 0
    assert not any(map(alive, pids))
    (run,) = daemon.runs()
    assert (run["state"], run["message"]) == ("CRASHED", "the daemon stopped")


def test_a_secret_is_had_by_asking_and_told_nowhere(make: Make) -> None:
    """P14."""
    daemon = made(
        make,
        """
        [blocks.token]
        type = "secret"
        value = { env = "TOKEN" }
        [deployments.leaks]
        flow = "jobs.py:leaks"
        work_pool = "process"
        """,
        environ={"TOKEN": "hunter2-and-more"},
    ).start()
    assert daemon.command("deployment", "run", "leaks")[0] == 0
    daemon.run_in("FAILED")
    daemon.says("in the environment: None")
    daemon.says("past python: ")
    assert daemon.stop() == 0
    assert "hunter2" not in daemon.log
    assert b"hunter2" not in (daemon.state / "tidemill.db").read_bytes()


def test_an_interpreter_that_cannot_run_flows_is_told_by_check_and_start(make: Make) -> None:
    daemon = made(
        make,
        """
        [work_pools.process]
        project = "elsewhere"
        [deployments.adds]
        flow = "jobs.py:adds"
        work_pool = "process"
        """,
    )
    code, out, _ = daemon.command("check", str(daemon.file))
    python = daemon.folder / "elsewhere" / ".venv" / "bin" / "python"
    assert code == 78
    assert f"{python} cannot be started (No such file or directory)" in out
    daemon.start()
    daemon.says(f"{python} cannot be started")
    assert daemon.stop() == 0
