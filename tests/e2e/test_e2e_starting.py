"""What a start refuses, and what it makes do with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable

import pytest
from daemons import Daemon, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]
JOB = '[deployments.job]\ncommand = "true"\n'


def test_a_second_daemon_on_the_same_state_directory_exits_78_naming_the_first(make: Make) -> None:
    """P12: and the first does not notice."""
    first, second = make(JOB).start(), make(JOB)
    second.state = first.state
    assert second.start(ready=False).ended() == 78
    assert f"in use by process {first.process.pid}" in second.log
    assert first.command("deployment", "run", "job", "--watch")[0] == 0
    assert first.stop() == 0


def test_the_lock_of_a_killed_daemon_is_no_lock(make: Make) -> None:
    """P12: nobody has to remove a file."""
    daemon = make(JOB).start()
    daemon.kill()
    assert daemon.start().stop() == 0


@pytest.mark.network
def test_a_taken_port_exits_1_naming_it_before_anything_runs(make: Make) -> None:
    """P12."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = make(f'[api]\nlisten = "{address}"\n{JOB}cron = "@reboot"\n')
        assert daemon.start(ready=False).ended() == 1
        assert f"{address} is taken" in daemon.log
    assert not (daemon.state / "tidemill.db").exists(), "nothing has run"
    assert daemon.start().stop() == 0, "the same start works when the port is free"
    assert len(daemon.runs()) == 1


def test_a_broken_file_runs_the_last_good_set_and_says_so(make: Make) -> None:
    """P8."""
    daemon = make(JOB + 'interval = "1s"\n').start()
    assert daemon.stop() == 0
    daemon.configure(JOB.replace("command", "comand") + 'cron = "0 25 * * *"\n')
    daemon.start()
    done = len(daemon.completed())
    until(lambda: len(daemon.completed()) > done, "the last good schedule fires")
    assert "comand" in daemon.log
    assert "is broken: running the last good configuration instead" in daemon.log
    status = daemon.ask("status")
    assert status["state"] == "degraded"
    assert any("comand" in problem for problem in status["problems"])
    assert any("hour 25" in problem or "0 25" in problem for problem in status["problems"]), "every fault"
    assert "comand" in daemon.command("status")[1]
    assert daemon.stop() == 0
    daemon.configure(JOB + 'interval = "1s"\n')
    daemon.start()
    assert daemon.ask("status")["state"] == "ok"


def test_another_file_that_is_not_there_is_refused_and_not_passed_over(make: Make) -> None:
    """P8 is for a file that breaks; a slip in its name must not run the file before."""
    daemon = make(JOB).start()
    assert daemon.stop() == 0
    ran_by = daemon.file
    daemon.file = ran_by.with_name("tidemil.toml")
    assert daemon.start(ready=False).ended() == 78
    assert "tidemil.toml: is missing" in daemon.log
    daemon.file = ran_by
    ran_by.unlink()
    assert daemon.start().stop() == 0, "the file that it ran by is gone: that is a breakage"


def test_strict_refuses_a_broken_file_with_78(make: Make) -> None:
    """P8."""
    daemon = make(JOB).start()
    assert daemon.stop() == 0
    daemon.configure(JOB.replace("command", "comand"))
    assert daemon.start("--strict", ready=False).ended() == 78
    assert "did you mean" in daemon.log


def test_with_no_last_good_set_a_broken_file_is_78_with_all_faults(make: Make) -> None:
    """P8."""
    daemon = make("""
        [deployments.one]
        comand = "true"
        [deployments.two]
        command = "true"
        cron = "0 25 * * *"
        [deployments.three]
        command = "true"
        cron = "0 12 * * *"
        timezone = "Europe/Helsinky"
        """)
    assert daemon.start(ready=False).ended() == 78
    for words in ("comand", "25", "Helsinky", "tidemill.toml:"):
        assert words in daemon.log
    assert not (daemon.state / "tidemill.db").exists()


def test_a_missing_file_is_never_no_deployments(make: Make) -> None:
    """P8."""
    daemon = make(JOB + 'interval = "1s"\n').start()
    assert daemon.stop() == 0
    daemon.file.unlink()
    daemon.start()
    assert daemon.ask("status")["deployments"] == 1
    assert daemon.ask("status")["state"] == "degraded"


# -- the database ----------------------------------------------------------------------------------------------------


def test_a_database_deleted_while_it_runs_ends_the_daemon_and_not_well(make: Make) -> None:
    """P3: it would write into a file that nobody can find."""
    daemon = make(JOB + 'interval = "1s"\n').start()
    daemon.run_in("COMPLETED")
    (daemon.state / "tidemill.db").unlink()
    assert daemon.ended() not in (0, None)
    assert "the file was deleted while in use" in daemon.log


def test_a_damaged_database_is_78_and_kept_as_it_is(make: Make) -> None:
    """P16."""
    daemon = make(JOB).start()
    assert daemon.command("deployment", "run", "job", "--watch")[0] == 0
    assert daemon.stop() == 0
    database = daemon.state / "tidemill.db"
    content = bytearray(database.read_bytes())
    content[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
    database.write_bytes(content)
    assert daemon.start(ready=False).ended() == 78
    assert str(database) in daemon.log
    assert database.read_bytes() == content


def test_what_is_no_database_is_78_and_kept(make: Make) -> None:
    daemon = make(JOB)
    daemon.state.mkdir(mode=0o700)
    database = daemon.state / "tidemill.db"
    database.write_text("my shopping list\n" * 1000)
    assert daemon.start(ready=False).ended() == 78
    assert database.read_text().startswith("my shopping list")


def test_a_newer_database_is_refused_and_kept(make: Make) -> None:
    """P16: with what to do about it."""
    daemon = make(JOB).start()
    assert daemon.stop() == 0
    database = daemon.state / "tidemill.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = database.read_bytes()
    assert daemon.start(ready=False).ended() == 78
    assert "newer than this program's" in daemon.log
    assert database.read_bytes() == before


def test_a_state_directory_that_cannot_be_written_is_an_error_with_a_remedy(make: Make) -> None:
    daemon = make(JOB)
    daemon.state.write_text("a file")
    assert daemon.start(ready=False).ended() == 78  # a restart would find the same
    assert str(daemon.state) in daemon.log


# -- what the commands answer ----------------------------------------------------------------------------------------


def test_exit_codes_of_commands_with_a_daemon_and_without(make: Make) -> None:
    """Reads go to the database of a daemon that is down; changes need the daemon."""
    daemon = make(JOB)
    code, _, err = daemon.command("flow-run", "ls")
    assert code == 3
    assert str(daemon.state / "control.sock") in err
    assert str(daemon.state / "tidemill.db") in err
    daemon.start()
    assert daemon.command("deployment", "run", "job", "--watch")[0] == 0
    (run,) = daemon.ask("flow-run", "ls")
    for up in (True, False):
        assert daemon.command("flow-run", "inspect", run["id"])[0] == 0
        assert daemon.command("flow-run", "inspect", "nobody")[0] == 4
        assert daemon.command("flow-run", "ls")[0] == 0
        assert daemon.ask("deployment", "ls")[0]["name"] == "job"
        assert daemon.command("deployment", "run", "job")[0] == (0 if up else 3)
        assert daemon.command("deployment", "pause", "job")[0] == (0 if up else 3)
        assert daemon.command("status")[0] == (0 if up else 3)
        assert daemon.command("flow-run", "frob")[0] == 2
        if up:
            assert daemon.stop() == 0


def test_a_run_that_fails_while_it_is_watched_is_exit_1(make: Make) -> None:
    daemon = make('[deployments.bad]\ncommand = "echo no luck >&2; exit 3"\n').start()
    code, out, err = daemon.command("deployment", "run", "bad", "--watch")
    assert code == 1
    assert "no luck" in out + err


@pytest.mark.network
def test_the_daemon_is_found_by_its_address_too(make: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    daemon = make(f'[api]\nlisten = "127.0.0.1:{port}"\n{JOB}').start()
    import io
    from contextlib import redirect_stdout

    from tidemill.cli.main import main

    with redirect_stdout(io.StringIO()) as out:
        assert main(["status", "-o", "json", "--api", f"http://127.0.0.1:{port}"], environ=daemon.environ) == 0
    assert json.loads(out.getvalue())["pid"] == daemon.process.pid


def test_a_pause_by_hand_is_kept_until_the_files_value_changes(make: Make) -> None:
    """An override holds over restarts; the file's new word ends it, and that is said."""
    daemon = make(JOB + 'interval = "1s"\n').start()
    assert daemon.command("deployment", "pause", "job")[0] == 0
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.ask("status")["overrides"][0]["name"] == "job"
    assert daemon.stop() == 0
    daemon.configure(JOB + 'interval = "1s"\npaused = true\n')
    daemon.start()
    assert daemon.ask("status")["overrides"] == []
    assert "paused set by hand no longer holds" in daemon.log
    assert daemon.stop() == 0


def test_the_state_directory_can_be_moved(make: Make) -> None:
    """P3: all that is durable is in it."""
    daemon = make(JOB).start()
    assert daemon.command("deployment", "run", "job", "--watch")[0] == 0
    assert daemon.stop() == 0
    moved = daemon.folder / "elsewhere"
    shutil.move(daemon.state, moved)
    daemon.state = moved
    daemon.start()
    assert [run["state"] for run in daemon.runs()] == ["COMPLETED"]
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.ended() == 0
