"""tidemill under a real systemd: booted once, looked at in many ways. What is done there: inside_systemd.py."""

from __future__ import annotations

import fcntl
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nspawn import BootError, boot, missing

pytestmark = [pytest.mark.slow, pytest.mark.root]
Facts = dict[str, Any]
BOOT_S = 400.0


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of every step; booted once, whichever test process comes first."""
    if reason := missing():
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # which the test processes of this run share
    with (base / "systemd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = base / "systemd"
        if not place.exists():
            place.mkdir()
            try:
                boot(place, Path(__file__).with_name("inside_systemd.py"), deadline_s=BOOT_S)
            except BootError as error:
                (place / "refused").write_text(str(error))
        if (place / "refused").exists():
            pytest.skip(f"systemd-nspawn cannot boot here: {(place / 'refused').read_text()}")
        facts: Facts = json.loads((place / "out" / "seen.json").read_text())
        return facts


def step(seen: Facts, name: str) -> Facts:
    """The facts of one step, which was taken to its end."""
    facts: Facts = seen[name]
    assert "failed" not in facts, facts["failed"]
    return facts


def test_install_writes_units_that_systemd_has_nothing_to_say_against(seen: Facts) -> None:
    facts = step(seen, "installed")
    assert (facts["code"], facts["err"]) == (0, "")
    assert "Written: /etc/systemd/system/tidemill.service" in facts["out"]
    assert "systemctl enable --now tidemill" in facts["out"]
    assert "Up to date: /etc/systemd/system/tidemill.service" in facts["again"]
    # systemd-analyze verify of 252 exits with 0 also for keys it does not know.
    assert facts["verify"] == ""


def test_the_service_is_closed_to_1_5_or_better(seen: Facts) -> None:
    assert step(seen, "installed")["exposure"] <= 1.5


def test_systemctl_start_returns_when_the_daemon_is_ready(seen: Facts) -> None:
    facts = step(seen, "started")
    assert facts["code"] == 0, facts["err"]
    assert facts["ready"]["ActiveState"] == "active"
    assert re.search(r"next: tick at \d\d:\d\d:\d\d", facts["status_text"]), "it says what is next"


def test_a_run_on_schedule_stands_in_the_journal_with_fields_to_search_by(seen: Facts) -> None:
    """P2: and it is not early."""
    facts = step(seen, "started")
    completed = [each for each in facts["entries"] if each.get("TIDEMILL_STATE") == "Completed"]
    running = {e["TIDEMILL_RUN_ID"]: e for e in facts["entries"] if e.get("TIDEMILL_STATE") == "Running"}
    assert len(completed) >= 2
    for each in completed:
        assert each["SYSLOG_IDENTIFIER"] == "tidemill"
        assert each["_SYSTEMD_UNIT"] == "tidemill.service"
        assert each["PRIORITY"] == "6"
        assert each["MESSAGE"].startswith(f"tick {each['TIDEMILL_RUN']} ")
        due = datetime.fromisoformat(facts["due"][each["TIDEMILL_RUN_ID"]])
        began = datetime.fromtimestamp(int(running[each["TIDEMILL_RUN_ID"]]["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        assert due <= began


def test_an_event_is_one_line_of_the_journal(seen: Facts) -> None:
    lines = [line for line in step(seen, "started")["shown"] if "tick" in line]
    assert all(re.fullmatch(r"tick [a-z]+-[a-z]+ +(Running|Completed in .*)", line) for line in lines), lines
    assert not any("\n" in str(each["MESSAGE"]) for each in step(seen, "started")["unit"])


def test_credentials_are_read_and_stay_secret(seen: Facts) -> None:
    """P14: the installation found what the configuration names, and put it into the unit."""
    facts = step(seen, "told_secrets")
    assert facts["state"]["type"] == "COMPLETED"
    assert facts["lines"][0].split()[0] == facts["sha256"]
    assert "leak: ********" in facts["lines"]
    assert not facts["in_journal"]


def test_nothing_can_be_written_but_state_and_runtime_directory(seen: Facts) -> None:
    """What else takes a file is the service's own, and gone with it."""
    facts = step(seen, "confined")
    assert set(facts["shared"]) == {"/var/lib/tidemill", "/run/tidemill"}
    assert set(facts["wrote"]) - set(facts["shared"]) == {"/tmp", "/var/tmp", "/dev/shm"}


def test_the_service_has_a_user_of_its_own_and_no_rights(seen: Facts) -> None:
    lines = step(seen, "confined")["sandbox"]["lines"]
    assert "user tidemill tidemill" in lines
    assert "of root 0" in lines, "nobody else's processes are seen"
    for fact in ("NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Umask:\t0077", "Seccomp:\t2"):
        assert fact in lines


def test_process_runs_work_in_the_closed_service(seen: Facts) -> None:
    child = step(seen, "confined")["child"]
    assert child["state"]["type"] == "COMPLETED"
    assert "jit False" in child["lines"], "memory is not both writable and executable"


def test_reload_and_an_edit_that_is_noticed_take_over_what_changed(seen: Facts) -> None:
    facts = step(seen, "reloaded")
    assert facts["code"] == 0, facts["err"]
    assert facts["after"]["MainPID"] == facts["before"]["MainPID"], "it is the same daemon"
    assert {name for each in facts["events"] for name in added(each)} == {"asked", "noticed"}
    assert any(each.get("TIDEMILL_REASON") == "SIGHUP" for each in facts["events"])
    assert "reloaded at" in facts["after"]["StatusText"]


def added(event: Facts) -> list[str]:
    found = event.get("TIDEMILL_ADDED", [])
    return [found] if isinstance(found, str) else found


def test_a_broken_edit_changes_nothing_and_is_said(seen: Facts) -> None:
    """P8."""
    facts = step(seen, "broken_edit")
    assert facts["after"]["MainPID"] == facts["before"]["MainPID"]
    assert facts["state"] == "degraded"
    assert 'did you mean "interval"' in facts["refused"][0]["MESSAGE"]
    assert facts["refused"][0]["PRIORITY"] == "3"
    assert "intervall" in facts["after"]["StatusText"]
    assert "reload refused at" in facts["after"]["StatusText"]


def test_a_file_that_is_broken_at_boot_runs_the_last_good_set_until_it_is_mended(seen: Facts) -> None:
    """P8."""
    facts = step(seen, "broken_at_boot")
    assert facts["code"] == 0, facts["err"]
    assert facts["ready"]["ActiveState"] == "active"
    assert facts["ready"]["StatusText"].startswith("degraded: configuration: ")
    assert facts["state"] == "degraded"
    assert not facts["after"]["StatusText"].startswith("degraded")


def test_a_stop_lets_what_runs_end(seen: Facts) -> None:
    """P9."""
    facts = step(seen, "stopped")
    assert facts["code"] == 0, facts["err"]
    assert facts["run"]["type"] == "COMPLETED"
    after = facts["after"]
    assert (after["ActiveState"], after["Result"], after["ExecMainStatus"]) == ("inactive", "success", "0")
    assert after["StatusText"] == "stopped"


def test_a_killed_daemon_is_started_again_and_calls_the_orphan_crashed(seen: Facts) -> None:
    """P4."""
    facts = step(seen, "killed")
    assert int(facts["after"]["NRestarts"]) == int(facts["before"]["NRestarts"]) + 1
    assert facts["run"]["type"] == "CRASHED"
    assert "the daemon ended while it ran" in facts["run"]["message"]
    assert facts["left"] == [], "what it had started is gone"


def test_a_frozen_loop_is_ended_by_the_watchdog_with_its_stack_and_started_again(seen: Facts) -> None:
    """P10."""
    facts = step(seen, "frozen")
    assert facts["well"]["MainPID"] == facts["before"]["MainPID"], "a daemon that is well is left alone"
    assert int(facts["after"]["NRestarts"]) == int(facts["well"]["NRestarts"]) + 1
    assert facts["run"]["type"] == "CRASHED"
    text = "\n".join(facts["shown"])
    assert "Watchdog timeout" in text
    assert re.search(r'File ".*machine.py", line \d+ in freeze', text), "where it stood"


def test_what_no_restart_would_mend_is_not_restarted(seen: Facts) -> None:
    """P8: exit 78, and the reason where systemctl status shows it."""
    facts = step(seen, "broken_from_the_start")
    after = facts["after"]
    assert facts["code"] != 0
    assert (after["ActiveState"], after["ExecMainStatus"], after["NRestarts"]) == ("failed", "78", "0")
    assert after["StatusText"].startswith("not started: /etc/tidemill/broken.toml:1:14 deployments.tick: ")
    faults = [each for each in facts["entries"] if "broken.toml" in each["MESSAGE"]]
    assert len(faults) == 2
    assert {each["PRIORITY"] for each in faults} == {"3"}


def test_jobs_of_a_user_may_do_what_the_user_may(seen: Facts) -> None:
    facts = step(seen, "jobs_of_a_user")
    assert (facts["code"], facts["verify"]) == (0, ""), facts["err"]
    assert facts["can"]["state"]["type"] == "COMPLETED"
    lines = facts["can"]["lines"]
    for fact in (
        "user worker",
        "folder /home/worker",
        "umask 0022",
        "NoNewPrivs:\t0",
        "group of a setgid program: mail",
        f"mounts {facts['own_mounts']}",  # what a job mounts, everybody sees
        "made 644",
        "made code",
    ):
        assert fact in lines
    assert facts["stop"]["code"] == 0


def test_a_user_s_process_runs_have_control_groups_of_their_own(seen: Facts) -> None:
    contained = step(seen, "jobs_of_a_user")["contained"]
    assert contained["state"]["type"] == "COMPLETED"
    assert any(re.search(r"/tidemill-jobs.service/runs/", line) for line in contained["lines"]), contained["lines"]


def test_a_service_of_one_s_own_needs_no_root(seen: Facts) -> None:
    """Its commands find it with no word said."""
    facts = step(seen, "service_of_one_s_own")
    for what in ("install", "load", "start", "run", "status", "stop"):
        assert facts[what]["code"] == 0, (what, facts[what])
    assert "ActiveState=active" in facts["status"]["out"]
    assert "StatusText=nothing runs" in facts["status"]["out"]
    assert "Completed" in {each.get("TIDEMILL_STATE") for each in facts["entries"]}
