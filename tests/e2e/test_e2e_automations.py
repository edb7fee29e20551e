"""A real daemon, a real receiver: what fails is dealt with and told once, over a kill -9 and a restart."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from daemons import Daemon, until

pytestmark = [pytest.mark.slow, pytest.mark.network]
Make = Callable[..., Daemon]


class Receiver(http.server.ThreadingHTTPServer):
    """Takes what it is sent at ``/hook``; answers ``/prices`` with a document that changes when it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, Any]] = []
        self.price = 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def subjects(self) -> list[str]:
        """What people were told, one by one."""
        return [notice["subject"] for message in self.messages for notice in message["notices"]]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        body = json.dumps({"price": self.server.price}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with contextlib.closing(server.socket):
            yield server
    finally:
        server.shutdown()
        thread.join()


CONFIG = """
[notify]
pager = "{url}/hook"

[deployments.flaky]
command = "echo looking; test -e {home}/repaired"
interval = "1s"
notify = false
[deployments.prices]
url = "{url}/prices"
artifact = "prices"
notify = false
[deployments.repair]
command = "echo $CAUSE"
notify = false

[automations.strikes]
when = {{ deployment = "flaky", failures = 2 }}
then = [
    {{ notify = "pager", message = "{{deployment}} broke: {{message}}" }},
    {{ run = "repair", tags = ["for-{{deployment}}"] }},
    {{ pause = "{{deployment}}" }},
]
[automations.cheaper]
when = {{ artifact = "prices" }}
then = {{ run = "repair", parameters = {{ stdin = "{{artifact}} {{version}}" }} }}
"""


def test_what_fails_is_dealt_with_and_told_once(make: Make, receiver: Receiver) -> None:
    daemon = make("")
    daemon.configure(CONFIG.format(url=receiver.url, home=daemon.folder))
    daemon.start()
    daemon.says("automation strikes fires")
    daemon.says("deployment flaky was paused by hand (automation strikes)")
    daemon.kill()  # before anybody was told

    daemon.start()
    until(receiver.subjects, "somebody is told")
    (fire,) = daemon.ask("automation", "inspect", "strikes")["last_fires"]
    assert [step["state"] for step in fire["steps"]] == ["done", "done", "done"]
    assert len(daemon.runs("flaky")) == 2
    # One, whatever became of it: where the kill hit while it ran, it is Crashed.
    (made,) = daemon.ask("flow-run", "ls", "--deployment", "repair")
    assert made["created_by"]["display_value"] == "automation"

    (daemon.folder / "repaired").touch()
    assert daemon.command("deployment", "resume", "flaky")[0] == 0
    until(lambda: len(receiver.subjects()) == 2, "somebody is told that it is well")
    assert daemon.stop() == 0
    assert receiver.subjects() == ["flaky broke: exit code 1: looking", "flaky is Completed again"]
    (message, _) = receiver.messages
    assert "looking" in message["text"]


def test_a_run_follows_every_version_of_an_artifact_and_only_those(make: Make, receiver: Receiver) -> None:
    daemon = make("")
    daemon.configure(CONFIG.format(url=receiver.url, home=daemon.folder))
    (daemon.folder / "repaired").touch()
    daemon.start()
    for price, versions in ((1, 1), (1, 1), (2, 2)):
        receiver.price = price
        assert daemon.command("deployment", "run", "prices", "--watch")[0] == 0
        until(lambda versions=versions: len(daemon.completed("repair")) == versions, "a run for each version")
    runs = daemon.ask("flow-run", "ls", "--deployment", "repair")
    assert sorted(run["parameters"]["stdin"] for run in runs) == ["prices 1", "prices 2"]
    assert daemon.stop() == 0
