"""What systemd hears of a daemon's life, on a machine that needs no systemd: start, watchdog, reload, stop."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemons import DEADLINE_S, Daemon

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]
CONFIG = """
    [daemon]
    grace_period = "7s"
    [deployments.tick]
    command = "true"
    cron = "0 9 * * *"
    timezone = "UTC"
    [deployments.slow]
    command = "sleep 3"
    """


class Systemd:
    """systemd's end of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(DEADLINE_S)
        self.heard: list[dict[str, str]] = []

    def hears(self, name: str, value: str = "") -> dict[str, str]:
        """Wait for a message with ``name``, and these words in its value; return the whole of it."""
        while True:
            lines = self._socket.recv(1 << 16).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            self.heard.append(message)
            if name in message and value in message[name]:
                return message

    def heard_all(self) -> list[dict[str, str]]:
        """Everything that was heard until nobody says anything any more."""
        self._socket.setblocking(False)
        try:
            while True:
                self.hears("no such name")
        except BlockingIOError:
            self._socket.settimeout(DEADLINE_S)
            return self.heard

    def hears_within(self, seconds: float, name: str) -> bool:
        """Say whether a message with ``name`` comes within the time."""
        self._socket.settimeout(seconds)
        try:
            self.hears(name)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    found = Systemd(tmp_path / "notify")
    yield found
    found.close()


def watched(systemd: Systemd, seconds: float) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": str(int(seconds * 1_000_000))}


def test_ready_is_said_once_everything_runs_with_what_is_next(make: Make, systemd: Systemd) -> None:
    daemon = make(CONFIG, environ={"NOTIFY_SOCKET": str(systemd.path)}).start(ready=False)
    assert systemd.hears("READY", "1")["STATUS"].startswith("nothing runs")
    assert daemon.answers(), "ready means that it answers"
    told = systemd.hears("STATUS", "next")["STATUS"]
    assert re.fullmatch(r"nothing runs; next: tick (at|on \w+) 09:00:00", told)
    assert daemon.stop() == 0


def test_the_status_names_what_runs(make: Make, systemd: Systemd) -> None:
    daemon = make(CONFIG, environ={"NOTIFY_SOCKET": str(systemd.path)}).start(ready=False)
    systemd.hears("READY")
    daemon.ask("deployment", "run", "slow")
    systemd.hears("STATUS", "1 running (slow)")
    systemd.hears("STATUS", "nothing runs")
    assert daemon.stop() == 0


def test_a_daemon_that_is_well_feeds_the_watchdog_in_time(make: Make, systemd: Systemd) -> None:
    daemon = make(CONFIG, environ=watched(systemd, 1.5)).start(ready=False)
    systemd.hears("READY")
    last = time.monotonic()
    for _ in range(4):
        systemd.hears("WATCHDOG", "1")
        now = time.monotonic()
        assert now - last < 1.5
        last = now
    assert daemon.stop() == 0


def test_a_reload_is_said_from_its_begin_to_its_end(make: Make, systemd: Systemd) -> None:
    """sd_notify(3): RELOADING=1 carries the instant of CLOCK_MONOTONIC, and READY=1 ends it."""
    daemon = make(CONFIG, environ={"NOTIFY_SOCKET": str(systemd.path)}).start(ready=False)
    systemd.hears("READY")
    before = time.monotonic()
    daemon.process.send_signal(signal.SIGHUP)
    began = systemd.hears("RELOADING", "1")
    assert before <= int(began["MONOTONIC_USEC"]) / 1e6 <= time.monotonic()
    assert "reloaded" in systemd.hears("READY", "1")["STATUS"]
    daemon.configure(CONFIG.replace("command", "comand"))
    daemon.process.send_signal(signal.SIGHUP)
    systemd.hears("RELOADING", "1")
    refused = systemd.hears("READY", "1")["STATUS"]
    assert refused.startswith("degraded: configuration: "), "what was in force goes on"
    assert "reload refused" in refused
    assert daemon.stop() == 0


FREEZE = """
import time
from tidemill import flow

@flow
async def freeze():
    time.sleep(3600)
"""


def test_a_frozen_loop_feeds_no_watchdog_and_its_abort_leaves_every_thread_s_stack(
    make: Make, systemd: Systemd
) -> None:
    """P10: systemd ends it by SIGABRT; the log then names the line that it stood at."""
    daemon = make(CONFIG + '[deployments.freeze]\nflow = "freeze.py:freeze"\n', environ=watched(systemd, 1.5))
    (daemon.flows / "freeze.py").write_text(FREEZE)
    daemon.start(ready=False)
    systemd.hears("WATCHDOG")
    daemon.ask("deployment", "run", "freeze")
    daemon.says("blocks the event loop")
    systemd.heard_all()
    assert not systemd.hears_within(1.5, "WATCHDOG")
    daemon.process.send_signal(signal.SIGABRT)
    assert daemon.ended() == -signal.SIGABRT
    assert re.search(r'File ".*/freeze.py", line 7 in freeze', daemon.log)


def test_a_stop_is_said_with_the_time_it_may_take_and_ends_with_a_last_word(make: Make, systemd: Systemd) -> None:
    daemon = make(CONFIG, environ={"NOTIFY_SOCKET": str(systemd.path)}).start(ready=False)
    systemd.hears("READY")
    assert daemon.stop() == 0
    heard = systemd.heard_all()
    stopping = next(message for message in heard if "STOPPING" in message)
    assert "7 s" in stopping["STATUS"]
    assert any(int(message.get("EXTEND_TIMEOUT_USEC", 0)) > 7_000_000 for message in heard), "beyond the grace period"
    assert heard[-1] == {"STATUS": "stopped"}


def test_a_refused_start_says_why_where_systemctl_status_shows_it(make: Make, systemd: Systemd) -> None:
    daemon = make("[deployments.tick]\ncomand = 'true'\n", environ={"NOTIFY_SOCKET": str(systemd.path)})
    assert daemon.start(ready=False).ended() == 78
    heard = systemd.heard_all()
    assert re.search(r"not started: .*tidemill.toml:3:14 deployments.tick: .*and 1 more", heard[-1]["STATUS"])
    assert not any("READY" in message for message in heard)
