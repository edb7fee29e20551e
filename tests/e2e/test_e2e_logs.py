"""The log of a real daemon, as commands read and follow it, and in a file."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemons import Daemon, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]

BUSY = """
[deployments.hello]
command = "echo hello; echo careful >&2"
interval = "1s"
[deployments.bad]
command = "echo trying; exit 3"
interval = "2s"
retries = 1
retry_delay = "100ms"
"""


@contextlib.contextmanager
def following(daemon: Daemon, *options: str) -> Iterator[Path]:
    """``tidemill logs -f`` as somebody's terminal has it; its output."""
    out = daemon.folder / "followed"
    words = ["-m", "tidemill.cli.main", "logs", "-f", "--state-dir", str(daemon.state), *options]
    with out.open("wb") as file:
        process = subprocess.Popen([sys.executable, *words], stdout=file, stderr=file, env=daemon.environ)
        try:
            yield out
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130


def test_logs_are_what_the_daemon_said_live_and_after_it(make: Make) -> None:
    """The states of history, the lines, and the diary make up the daemon's own output, line for line."""
    daemon = make(BUSY).start()
    until(lambda: len(daemon.completed("hello")) >= 3 and "Failed after" in daemon.log, "some runs have ended")
    assert daemon.stop() == 0
    code, out, _ = daemon.command("logs", "-n", "all")
    assert code == 0
    assert sorted(out.splitlines()) == sorted(daemon.log.splitlines())
    code, tail, _ = daemon.command("logs", "-n", "5")
    assert tail.splitlines() == out.splitlines()[-5:]


TELLING = """
from tidemill import flow
from tidemill.events import emit_event

@flow
def order():
    emit_event("order.placed", {"prefect.resource.id": "orders.eu"}, payload={"rows": 3})
    emit_event("nothing.else", {"prefect.resource.id": "orders.eu"})
"""


def test_what_flows_emit_is_in_the_log_live_and_after_it(make: Make) -> None:
    daemon = make("")
    (daemon.flows / "orders.py").write_text(TELLING)
    daemon.configure('[deployments.orders]\nflow = "orders.py:order"\ninterval = "1s"\n')
    daemon.start()
    with following(daemon, "-n", "all") as out:
        until(lambda: out.read_text().count("Completed in") >= 2, "two runs are told")
        daemon.says("Event order.placed of orders.eu")
        assert daemon.stop() == 0
        until(lambda: "stopped\n" in out.read_text(), "the end is told")
    told = sorted(daemon.log.splitlines())
    assert [line for line in told if line.endswith("Event nothing.else of orders.eu")]
    assert sorted(line for line in out.read_text().splitlines() if not line.startswith("tidemill:")) == told
    assert sorted(daemon.command("logs", "-n", "all")[1].splitlines()) == told


def test_who_follows_misses_nothing_over_kills_and_restarts(make: Make) -> None:
    daemon = make(BUSY).start()
    with following(daemon, "-n", "all") as out:
        until(lambda: "Completed in" in out.read_text(), "the first run is told")
        daemon.kill()
        daemon.start()
        until(lambda: out.read_text().count("is ready") == 2, "the second life is told")
        daemon.says("Completed in")
        assert daemon.stop() == 0
        until(lambda: "stopped\n" in out.read_text(), "the stop is told, by the database")
        daemon.start()
        daemon.says("Completed in")
        assert daemon.stop() == 0
        until(lambda: out.read_text().count("stopped\n") == 2, "the end is told")
    told = out.read_text().splitlines()
    assert told.count("tidemill: the daemon is down; waiting for it") >= 1
    lines = [line for line in told if not line.startswith("tidemill:")]
    _, kept, _ = daemon.command("logs", "-n", "all")
    assert sorted(lines) == sorted(kept.splitlines()), "nothing twice, nothing lost"


def test_an_edit_is_seen_in_the_followed_log_within_a_second(make: Make) -> None:
    daemon = make(BUSY).start()
    with following(daemon, "-n", "1") as out:
        until(lambda: out.stat().st_size, "it is followed")
        daemon.configure(BUSY + '[deployments.new]\ncommand = "true"\ncron = "@yearly"\n')
        until(lambda: "reloaded" in out.read_text(), "the reload is told", deadline_s=30)
        assert "new" in next(line for line in out.read_text().splitlines() if "reloaded" in line)
    daemon.stop()


def test_the_log_file_is_the_daemons_output_through_a_rotation_and_moves_with_the_configuration(make: Make) -> None:
    daemon = make(BUSY)
    file, other = daemon.folder / "mill.log", daemon.folder / "other.log"
    daemon.configure(f'[log]\nfile = "{file}"\n{BUSY}')
    daemon.start()
    daemon.says("Completed in")
    rotated = file.rename(daemon.folder / "mill.log.1")
    until(lambda: file.exists() and "Completed in" in file.read_text(), "the file is there again")
    daemon.configure(f'[log]\nfile = "{other}"\n{BUSY}')
    until(lambda: other.exists() and "Completed in" in other.read_text(), "the file has moved")
    assert daemon.stop() == 0
    whole = rotated.read_text() + file.read_text() + other.read_text()
    assert sorted(whole.splitlines()) == sorted(daemon.log.splitlines())


def test_a_log_file_that_cannot_be_is_told_until_a_reload_finds_that_it_can(make: Make) -> None:
    daemon = make(BUSY)
    folder = daemon.folder / "later"
    daemon.start()
    daemon.configure(f'[log]\nfile = "{folder}/mill.log"\n{BUSY}')
    daemon.says("the log goes on where it was")
    code, out, _ = daemon.command("status")
    assert (code, f"{folder}/mill.log cannot be opened" in out, "then: tidemill reload" in out) == (1, True, True)
    folder.mkdir()
    daemon.command("reload")
    until(lambda: "Completed in" in (folder / "mill.log").read_text(), "the file is there")
    assert daemon.command("status")[0] == 0
    daemon.stop()


def test_a_log_file_that_cannot_be_is_refused_before_anything_runs(make: Make) -> None:
    daemon = make(f'[log]\nfile = "/nowhere/mill.log"\n{BUSY}')
    daemon.start(ready=False)
    assert daemon.ended() == 78
    assert "/nowhere/mill.log cannot be opened: its folder is not there" in daemon.log
    assert not (daemon.state / "tidemill.db").exists()
