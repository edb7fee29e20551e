"""A script's flow reports to a daemon that is found, whatever happens to the line between them."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidemill import flow, get_run_logger, task
from tidemill.clock import SystemClock
from tidemill.core.reports import LogReport, TaskReport, VariableQuestion
from tidemill.core.script_runs import (
    ScriptAnswer,
    ScriptAsks,
    ScriptBegins,
    ScriptBegun,
    ScriptEnds,
    ScriptHeard,
    ScriptReports,
)
from tidemill.core.states import StateType
from tidemill.errors import DaemonUnreachableError
from tidemill.exceptions import TerminationSignal
from tidemill.sdk import connect
from tidemill.sdk.scripts import wire_to_daemon
from tidemill.sdk.wire import Wire, control_sockets
from tidemill.variables import Variable

pytestmark = pytest.mark.network


class FakeDaemon:
    """Takes what scripts say by the rules of the protocol, and does what a test tells it to do wrong."""

    def __init__(self) -> None:
        self.begun: list[ScriptBegins] = []
        self.reports: list[Any] = []
        self.ended: list[ScriptEnds] = []
        self.numbers: list[int] = []
        self.paths: list[str] = []
        self.cancel: str | None = None
        self.lose: set[int] = set()  # the numbers of bodies that are taken, and whose answer is lost once
        self.refuse: dict[str, list[int]] = {}  # statuses to answer with, by the path's last part
        self.variable: Any = "fi"
        self.answers_later = 0
        self.kept: dict[str, Any] = {}  # a flow run's document at its end

    def take(self, what: str, body: bytes) -> tuple[int, Any]:
        """Return a status and an answer; status 0: the connection breaks."""
        if self.refuse.get(what):
            status = self.refuse[what].pop(0)
            return status, {"detail": "refused for a test"}
        if what == "script_runs":
            self.begun.append(msgspec.json.decode(body, type=ScriptBegins))
            return 201, ScriptBegun(
                id="01a1fd55-0000-7000-8000-000000000001",
                name="brisk-otter",
                session="s",
                attempt=1,
                start_time=SystemClock().now(),
                lease_s=2.0,
                heartbeat_s=0.2,
            )
        if what == "reports":
            said = msgspec.json.decode(body, type=ScriptReports)
            if said.number not in self.numbers:
                assert said.number == len(self.numbers) + 1  # one body at a time, without gaps
                self.numbers.append(said.number)
                self.reports += said.reports
            if said.number in self.lose:
                self.lose.discard(said.number)
                return 0, None
            return 200, ScriptHeard(cancel=self.cancel)
        if what == "ask":
            asked = msgspec.json.decode(body, type=ScriptAsks)
            if self.answers_later:
                self.answers_later -= 1
                return 200, ScriptAnswer(answered=False)
            if isinstance(asked.question, VariableQuestion):
                return 200, ScriptAnswer(answer=self.variable)
            return 200, ScriptAnswer(error="not to be had here")
        self.ended.append(msgspec.json.decode(body, type=ScriptEnds))
        return 200, self.kept


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    fake = FakeDaemon()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            fake.paths.append(self.path)
            status, answer = fake.take(self.path.rstrip("/").rpartition("/")[2], body)
            if status == 0:
                self.close_connection = True
                return
            text = msgspec.json.encode(answer)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def address_string(self) -> str:
            return "a script"

        def log_message(self, *_: Any) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def get_request(self) -> Any:
            accepted, _ = super().get_request()
            return accepted, ("script", 0)

    path = tmp_path / "control.sock"
    with Server(str(path), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        monkeypatch.setenv("TIDEMILL_API_URL", f"unix://{path}")
        before = connect.begin_with(None)
        try:
            yield fake
        finally:
            connect.begin_with(before)
            server.shutdown()
            serving.join()


@task
def double(x: int) -> int:
    return 2 * x


@flow(flow_run_name="report-{n}")
def report(n: int) -> int:
    get_run_logger().info("at work")
    return double(n)


def test_a_run_is_begun_told_and_ended(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(3) == 6
    (begun,), (ended,) = daemon.begun, daemon.ended
    assert (begun.flow, begun.name, begun.parameters) == ("report", "report-3", {"n": 3})
    assert [each.message for each in daemon.reports if isinstance(each, LogReport)] == ["at work"]
    assert [each.state.name for each in daemon.reports if isinstance(each, TaskReport)] == ["Running", "Completed"]
    assert (ended.state.type, ended.state.data) == (StateType.COMPLETED, 6)
    assert ended.number == len(daemon.numbers) + 1
    assert daemon.paths[0] == "/api/script_runs/"
    told = capsys.readouterr().err
    assert "reporting to the daemon at unix://" in told and "at work" in told and "Finished in state" in told


async def test_an_async_flow_reports_too(daemon: FakeDaemon) -> None:
    @flow
    async def main() -> str:
        await asyncio.sleep(0)
        return await Variable.get("region")

    assert await main() == "fi"
    assert daemon.ended[0].state.type is StateType.COMPLETED


def test_a_failure_is_told_and_raised(daemon: FakeDaemon) -> None:
    @flow
    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert daemon.ended[0].state.type is StateType.FAILED
    assert "ValueError: no" in str(daemon.ended[0].state.message)


def test_a_lost_answer_is_asked_for_again_and_nothing_is_taken_twice(daemon: FakeDaemon) -> None:
    daemon.lose = {1}
    assert report(3) == 6
    assert [each.message for each in daemon.reports if isinstance(each, LogReport)] == ["at work"]
    assert len(daemon.ended) == 1


@pytest.mark.parametrize("what", ["script_runs", "reports", "ask", "end"])
def test_a_daemon_that_cannot_write_for_now_is_insisted_upon(daemon: FakeDaemon, what: str) -> None:
    daemon.refuse[what] = [503]

    @flow
    def main() -> str:
        get_run_logger().info("at work")
        return Variable.get("region")

    assert main() == "fi"
    assert len(daemon.begun) == len(daemon.ended) == 1


def test_an_answer_that_is_not_there_yet_is_asked_for_again(daemon: FakeDaemon) -> None:
    daemon.answers_later = 3

    @flow
    def main() -> str:
        return Variable.get("region")

    assert main() == "fi"


def test_a_run_that_the_daemon_has_ended_goes_on_by_itself(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.refuse["reports"] = [409]
    assert report(3) == 6
    assert daemon.ended == []
    assert "takes nothing more of this run" in capsys.readouterr().err


def test_a_wish_to_cancel_ends_the_script_s_run(daemon: FakeDaemon) -> None:
    daemon.cancel = "cancelled by a person"
    stopped = threading.Event()

    @flow(on_cancellation=[lambda flow, run, state: stopped.set()])
    def main() -> None:
        get_run_logger().info("at work")
        while True:
            double(1)

    with pytest.raises(TerminationSignal):
        main()
    assert stopped.is_set()
    assert daemon.ended[0].state.type is StateType.CANCELLED


def test_code_that_does_not_heed_a_cancellation_is_interrupted(daemon: FakeDaemon) -> None:
    daemon.cancel = "cancelled by a person"
    nothing = threading.Event()

    @flow
    def main() -> None:
        for _ in range(10_000):  # which ends, should nobody interrupt it
            nothing.wait(0.01)

    with pytest.raises(TerminationSignal):
        main()
    assert daemon.ended[0].state.type is StateType.CANCELLED


def test_an_end_that_the_daemon_has_otherwise_is_told_so(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script had ended before it could hear that it was cancelled."""
    daemon.kept = {"state": {"type": "CANCELLED", "name": "Cancelled", "message": "by a person"}}

    @flow
    def main() -> None: ...

    main()
    assert daemon.ended[0].state.type is StateType.COMPLETED
    assert "Finished in state Completed(); the daemon has it as Cancelled: by a person" in capsys.readouterr().err


def test_a_quiet_run_gives_signs_of_life(daemon: FakeDaemon) -> None:
    alive = threading.Event()
    take = daemon.take

    def watched(what: str, body: bytes) -> tuple[int, Any]:
        if what == "reports" and not msgspec.json.decode(body, type=ScriptReports).reports:
            alive.set()
        return take(what, body)

    daemon.take = watched  # type: ignore[method-assign]

    @flow
    def main() -> bool:
        return alive.wait(120)

    assert main()


# Finding


def test_nobody_answers_at_an_address_that_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wire = wire_to_daemon({"TIDEMILL_API_URL": f"unix://{tmp_path / 'absent.sock'}"})
    assert wire is not None
    with pytest.raises(DaemonUnreachableError, match="does not answer"):
        wire.ask("GET", "/health")


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(DaemonUnreachableError, match="no address"):
        Wire(url)


def test_sockets_are_looked_for_where_the_commands_look() -> None:
    """One answer for both, though the rooms do not know each other."""
    from tidemill.cli.finding import sockets

    for environ in (
        {"HOME": "/home/a"},
        {"HOME": "/home/a", "XDG_RUNTIME_DIR": "/run/user/1"},
        {"HOME": "/home/a", "XDG_STATE_HOME": "/var/s", "XDG_RUNTIME_DIR": "relative"},
    ):
        assert control_sockets(environ) == sockets(environ, None)


def test_without_a_daemon_it_says_so_and_tells_what_happens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TIDEMILL_API_URL", raising=False)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(connect, "_said", set())
    monkeypatch.setattr("tidemill.sdk.wire.Path", lambda given: tmp_path / given.lstrip("/"))
    assert report(1) == 2
    assert report(2) == 4
    told = capsys.readouterr().err
    assert told.count("no daemon found") == 1
    assert "at work" in told and "Finished in state Completed" in told
