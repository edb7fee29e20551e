"""Every day's commands against a real daemon: drain and restart, backfill, why, and who did it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from daemons import Daemon, pids_in, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]


def test_draining_waits_for_what_runs_and_the_next_daemon_starts_what_waited(make: Make, tmp_path: Path) -> None:
    go, told = tmp_path / "go", tmp_path / "pids"
    daemon = make(f"""
        [deployments.long]
        command = "echo $$ > {told}; while [ ! -e {go} ]; do sleep 0.05; done"
        [deployments.other]
        command = "true"
        """).start()
    assert daemon.command("deployment", "run", "long")[0] == 0
    until(lambda: pids_in(told), "the command runs")
    code, out, _ = daemon.command("drain", "--timeout", "1s")
    assert code == 1
    assert "Waiting for 1 run:\n  long  " in out
    assert "After 1s there still run:" in out
    assert daemon.command("deployment", "run", "other")[0] == 0
    code, out, _ = daemon.command("why", "other")
    assert code == 0
    assert "the daemon drains since" in out
    go.touch()
    code, out, _ = daemon.command("drain", "--timeout", "20s")
    assert code == 0
    assert "1 wait for the next daemon" in out
    assert daemon.stop() == 0
    daemon.start()
    until(lambda: daemon.runs("other")[0]["state"] == "COMPLETED", "what waited has run")
    assert daemon.ask("drain", "--undo")["draining"] is False


def test_a_backfill_makes_the_runs_of_the_past_and_tells_how_far_it_is(make: Make, tmp_path: Path) -> None:
    told = tmp_path / "told"
    daemon = make(f"""
        [daemon]
        timezone = "Europe/Helsinki"
        [deployments.job]
        command = "echo $TIDEMILL_SCHEDULED_TIME >> {told}"
        cron = "0 9 * * *"
        """).start()
    asked = ("deployment", "backfill", "job", "--from", "2026-03-27", "--to", "2026-03-30")
    preview = daemon.ask(*asked, "--dry-run")
    assert (preview["total"], preview["runs"]) == (4, 4)
    assert not told.exists()
    code, out, err = daemon.command(*asked)
    assert code == 0, err
    assert out.splitlines()[-1] == "4 runs made, 0 fires had one already: 4 Completed."
    assert told.read_text().split() == [
        "2026-03-27T07:00:00Z", "2026-03-28T07:00:00Z", "2026-03-29T06:00:00Z", "2026-03-30T06:00:00Z"
    ]  # fmt: skip
    assert daemon.command(*asked)[1].splitlines()[-1] == "0 runs made, 4 fires had one already."
    assert [each["outcome"] for each in daemon.ask("deployment", "backfill", "job")] == ["completed", "completed"]


def test_who_paused_it_is_the_user_at_the_other_end_of_the_socket(make: Make) -> None:
    daemon = make("""
        [deployments.job]
        command = "true"
        cron = "0 9 * * *"
        """).start()
    me = pwd.getpwuid(os.getuid()).pw_name
    assert daemon.command("deployment", "pause", "job")[0] == 0
    (held,) = daemon.ask("status")["overrides"]
    assert held["by"] == me
    daemon.kill()
    code, out, err = daemon.command("why", "job")
    assert code == 0, err
    assert f"is paused by hand since {held['at'][:10]}" in out
    assert f" by {me}." in out
    assert out.splitlines()[1].startswith("  The daemon is down, last alive at ")
