"""Being told, from end to end: a real daemon, a real receiver, kill -9 and restarts, and no secret anywhere."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon, until

pytestmark = [pytest.mark.slow, pytest.mark.network]
Make = Callable[..., Daemon]
HOOK_TOKEN = "c4n4ry-h00k"
JOB_TOKEN = "c4n4ry-j0b"


class Receiver:
    """Somebody with a web server: what arrived, and whether it works."""

    def __init__(self, port: int = 0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.pings: list[str] = []
        self.works = True
        self.together: threading.Barrier | None = None  # so many are answered when all are there
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.together is not None:
                    receiver.together.wait(120)
                if receiver.works and self.headers.get("authorization") == f"Bearer {HOOK_TOKEN}":
                    receiver.messages.append(json.loads(body))
                    self.send_response(204)
                else:
                    self.send_response(503)
                self.send_header("content-length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.pings.append(self.path)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def subjects(self) -> list[str]:
        return [each["subject"] for each in self.messages]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    with contextlib.closing(found):
        yield found


def config(port: int, more: str = "") -> str:
    return f"""
[notify.default]
url = "http://127.0.0.1:{port}/hook"
headers = {{ Authorization = {{ env = "HOOK_HEADER" }} }}
{more}
[deployments.job]
command = "echo I know $JOB_TOKEN; test -e {{good}}"
env = {{ JOB_TOKEN = {{ env = "JOB_TOKEN" }} }}
ping = "http://127.0.0.1:{port}/uuid"
"""


ENV = {"HOOK_HEADER": f"Bearer {HOOK_TOKEN}", "JOB_TOKEN": JOB_TOKEN}


def started(make: Make, receiver: Receiver, more: str = "") -> tuple[Daemon, Path]:
    daemon = make("", environ=ENV)
    good = daemon.folder / "good"
    daemon.configure(config(receiver.port, more).replace("{good}", str(good)))
    return daemon.start(), good


def test_a_failure_and_its_recovery_arrive_without_secrets(make: Make, receiver: Receiver) -> None:
    daemon, good = started(make, receiver)
    daemon.ask("deployment", "run", "job")
    until(lambda: receiver.messages, "the failure is told")
    good.touch()
    daemon.ask("deployment", "run", "job")
    until(lambda: receiver.messages[1:], "the recovery is told")
    failed, well = receiver.messages
    assert failed["subject"].startswith("job failed: exit code 1")
    assert "  | I know ********" in failed["text"]
    assert well["subject"].startswith("job is well again after ")
    assert receiver.pings == ["/uuid/start", "/uuid/fail", "/uuid/start", "/uuid"]
    (channel,) = daemon.ask("status")["notify"]["channels"]
    assert (channel["error"], channel["waiting"]) == (None, 0)
    assert channel["delivered"] is not None
    daemon.stop()
    written = [path.read_bytes() for path in daemon.state.rglob("*") if path.is_file()]
    everything = b"".join([*written, daemon.log_file.read_bytes(), json.dumps(receiver.messages).encode()])
    assert HOOK_TOKEN.encode() not in everything
    assert JOB_TOKEN.encode() not in everything


def test_what_could_not_be_told_survives_kill_9(make: Make, receiver: Receiver) -> None:
    daemon, _ = started(make, receiver)
    receiver.works = False
    daemon.ask("deployment", "run", "job")
    said = daemon.says("notify channel default: answered 503 Service Unavailable; 1 notice waits")
    assert HOOK_TOKEN not in said
    assert daemon.command("status")[0] == 1  # something is wrong, and it says what
    daemon.kill()
    receiver.works = True
    daemon.start()
    until(lambda: receiver.messages, "the failure is told after all")
    assert receiver.subjects[0].startswith("job failed: exit code 1")


def test_a_run_that_kill_9_cut_off_is_told_by_the_next_daemon(make: Make, receiver: Receiver) -> None:
    daemon, _ = started(make, receiver)
    daemon.configure(daemon.file.read_text().replace("echo I know", "sleep 60; echo I know"))
    daemon.stop()
    daemon.start()
    daemon.ask("deployment", "run", "job")
    until(lambda: daemon.ask("status")["running"], "it runs")
    daemon.kill()
    daemon.start()
    until(lambda: receiver.messages, "the crash is told")
    assert receiver.subjects[0].startswith("job crashed: the daemon ended while it ran")


def test_a_start_on_a_broken_file_says_whom_it_tells_by_the_last_good_one(make: Make, receiver: Receiver) -> None:
    daemon, _ = started(make, receiver)
    daemon.stop()
    daemon.file.write_text(daemon.file.read_text() + "\n[deployments.broken]\n")
    daemon.start()
    assert daemon.command("notify", "test")[0] == 0
    until(lambda: receiver.messages, "the test arrives")
    assert receiver.subjects == [f"tidemill can reach you from {socket.gethostname()}"]


def test_the_command_tests_a_channel_with_and_without_a_daemon(make: Make, receiver: Receiver) -> None:
    daemon, _ = started(make, receiver, '[notify]\nbroken = "http://127.0.0.1:1/"\n')
    code, out, err = daemon.command("notify", "test", "default")
    assert (code, err) == (0, "")
    assert out.startswith("default took it:")
    code, out, err = daemon.command("notify", "test")
    assert code == 1
    assert "notify channel broken: Connection refused" in err
    assert daemon.command("notify", "test", "nobody")[0] == 4
    rows = daemon.command("notify", "ls")[1].splitlines()
    assert [row.split()[0] for row in rows] == ["CHANNEL", "default", "broken"]
    assert "failing since" in rows[2]
    daemon.stop()
    before = len(receiver.messages)
    code, out, err = daemon.command("notify", "test", "default", "--config", str(daemon.file))
    assert (code, len(receiver.messages)) == (0, before + 1)
    assert "sent from here" in err


def test_all_channels_are_tested_at_once_and_told_in_their_order(make: Make, receiver: Receiver) -> None:
    """One that hangs costs its own time alone: here nobody is answered before everybody has asked."""
    daemon = make("", environ=ENV)
    names = ["default", "first", "second"]
    head = 'headers = { Authorization = { env = "HOOK_HEADER" } }\n'
    told = "".join(f'[notify.{name}]\nurl = "http://127.0.0.1:{receiver.port}/hook"\n{head}' for name in names)
    daemon.configure(told)
    receiver.together = threading.Barrier(len(names))
    daemon.start()
    for where in ((), ("--config", str(daemon.file))):
        code, out, err = daemon.command("notify", "test", *where)
        assert code == 0, err
        assert [line.split()[0] for line in out.splitlines()] == names
    daemon.stop()


def test_check_warns_while_nobody_is_told(make: Make) -> None:
    daemon = make('[deployments.job]\ncommand = "true"\n')
    code, out, _ = daemon.command("check", str(daemon.file))
    assert code == 0
    assert "warning: " in out
    assert "nobody is told when something fails" in out
    assert "nobody is told" in daemon.start().log
    assert "nobody, whatever goes wrong" in daemon.command("status")[1]
