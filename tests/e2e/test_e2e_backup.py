"""A copy made beside a daemon that works, and the way back to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from daemons import Daemon, until
from prometheus_client import parser

from tidemill.cli.wire import Wire

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]
BUSY = """
    [daemon]
    grace_period = "1s"
    [deployments.busy]
    command = "echo hello"
    interval = "1s"
    catch_up = "skip"
    [deployments.long]
    command = "sleep 1000"
    """


def test_what_was_copied_beside_a_working_daemon_is_what_it_goes_on_from(make: Make, tmp_path: Path) -> None:
    """What ran at that moment has crashed, what came later is kept aside, and nothing of it is lost."""
    copy = tmp_path / "copy.db"
    daemon = make(BUSY).start()
    daemon.command("deployment", "run", "long")
    daemon.run_in("RUNNING", "long")
    until(lambda: len(daemon.completed("busy")) >= 2, "something has been done")
    code, out, err = daemon.command("db", "backup", str(copy))
    assert code == 0, err
    assert "the copy is whole" in out
    before = len(daemon.completed("busy"))
    until(lambda: len(daemon.completed("busy")) > before, "the daemon goes on")
    code, _, err = daemon.command("db", "restore", str(copy))
    assert (code, "in use by process" in err) == (78, True)
    assert daemon.stop() == 0
    later = len(daemon.completed("busy"))

    code, out, err = daemon.command("db", "restore", str(copy))
    assert code == 0, err
    aside = out.split("what stood there before: ")[1].split()[0]
    assert len(daemon.completed("busy")) <= before < later
    daemon.start()
    long = daemon.run_in("CRASHED", "long")
    assert "the daemon ended while it ran" in long["message"]
    restored = len(daemon.completed("busy"))
    until(lambda: len(daemon.completed("busy")) > restored, "schedules go on")
    assert daemon.ask("db", "check", "--full")["ok"]
    assert daemon.ask("db", "check", aside)["flow_runs"]["Completed"] == later
    assert daemon.stop() == 0


def test_a_working_daemon_answers_the_official_parser(make: Make) -> None:
    daemon = make(BUSY).start()
    until(lambda: len(daemon.completed("busy")) >= 2, "something has been done")
    text = Wire.to_socket(str(daemon.state / "control.sock")).text("/metrics")
    found = {family.name: family for family in parser.text_string_to_metric_families(text)}
    finished = {tuple(each.labels.values()): each.value for each in found["tidemill_flow_runs_finished"].samples}
    assert finished["busy", "Completed"] >= 2
    late = {each.labels.get("le"): each.value for each in found["tidemill_flow_run_start_lateness_seconds"].samples}
    assert late["60.0"] == late["+Inf"] >= 2
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6
    assert daemon.stop() == 0
