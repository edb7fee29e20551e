"""A secret that a run uses appears nowhere that the daemon writes or answers (P14)."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import sqlite3
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon

from tidemill.cli.wire import Wire

pytestmark = [pytest.mark.slow, pytest.mark.network]
Make = Callable[..., Daemon]

# With what changes when it is quoted for an address, for JSON and for a shell.
SECRETS = {"env": 'can/ary+"one"&x', "credential": "canäry two%\\x", "file": "canary-three==/?#"}


def forms(secret: str) -> Iterator[bytes]:
    """Every spelling in which a secret could get out."""
    raw = secret.encode()
    yield raw
    yield urllib.parse.quote(secret, safe="").encode()
    yield urllib.parse.quote(secret).encode()
    yield urllib.parse.quote_plus(secret).encode()
    yield json.dumps(secret)[1:-1].encode()
    yield json.dumps(secret, ensure_ascii=False)[1:-1].encode()
    yield base64.b64encode(raw)
    yield base64.urlsafe_b64encode(raw)
    yield base64.b64encode(b"user:" + raw)


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with all that it was sent, as a careless API does; ``/fail`` refuses with it."""

    def do_GET(self) -> None:
        said = {"path": self.path, "headers": dict(self.headers)}
        if "Authorization" in self.headers:
            kind, _, what = self.headers["Authorization"].partition(" ")
            said["token"] = base64.b64decode(what).decode() if kind == "Basic" else what
        body = json.dumps(said).encode()
        self.send_response(500 if self.path.startswith("/fail") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def config(echo: str, secret_file: Path) -> str:
    return f"""
        [log]
        level = "debug"
        [deployments.bearer]
        url = "{echo}/ok"
        artifact = "bearer"
        auth = {{ bearer = {{ env = "CANARY" }} }}
        [deployments.basic]
        url = "{echo}/ok"
        artifact = "basic"
        auth = {{ basic = {{ username = "user", password = {{ credential = "canary" }} }} }}
        [deployments.refused]
        url = "{echo}/fail"
        artifact = "refused"
        params = {{ key = {{ file = "{secret_file}" }} }}
        headers = {{ X-Key = {{ file = "{secret_file}" }} }}
        [deployments.says-it]
        command = 'printf "%s\\n" "$ONE" "$TWO" "$THREE"; printf "%s" "$TWO" | base64; printf "%s" "$THREE" >&2; exit 3'
        env = {{ ONE = {{ env = "CANARY" }}, TWO = {{ credential = "canary" }}, THREE = {{ file = "{secret_file}" }} }}
        [deployments.says-it-in-pieces]
        command = 'a=${{ONE%????}}; printf "%s" "$a"; printf "%s\\n" "${{ONE#"$a"}}"'
        env = {{ ONE = {{ env = "CANARY" }} }}
        """


def test_no_secret_is_in_log_database_artifact_or_answer(make: Make, tmp_path: Path, echo: str) -> None:
    """P14: raw, URL-encoded, JSON-escaped, base64."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "canary").write_text(SECRETS["credential"] + "\n")
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRETS["file"] + "\n")
    secret_file.chmod(0o600)
    daemon = make(
        config(echo, secret_file), environ={"CANARY": SECRETS["env"], "CREDENTIALS_DIRECTORY": str(credentials)}
    ).start()
    names = ["bearer", "basic", "refused", "says-it", "says-it-in-pieces"]
    shown = [daemon.command("deployment", "run", name, "--watch") for name in names]
    assert [code for code, _, _ in shown] == [0, 0, 1, 1, 0], shown
    answers: list[Any] = [shown]
    runs = daemon.ask("flow-run", "ls")
    assert len(runs) == len(names)
    for run in runs:
        answers += [daemon.command("flow-run", "inspect", run["id"]), daemon.command("flow-run", "logs", run["id"])]
    answers += [daemon.command("artifact", "ls"), daemon.command("status"), daemon.command("deployment", "ls")]
    artifacts = [daemon.command("artifact", "get", key) for key in ("bearer", "basic")]
    assert all("authorization" in out.lower() for _, out, _ in artifacts), "the API did echo it"
    answers += artifacts
    answers += [daemon.command("deployment", "inspect", name, "-o", "json") for name in names]
    wire = Wire.to_socket(str(daemon.state / "control.sock"))
    for route in ("/api/flow_runs/filter", "/api/logs/filter", "/api/artifacts/filter", "/api/deployments/filter"):
        with contextlib.suppress(Exception):
            answers.append(wire.ask("POST", route, {}))
    wire.close()
    assert daemon.stop() == 0

    places: dict[str, bytes] = {"answers": str(answers).encode() + json.dumps(answers, ensure_ascii=False).encode()}
    for file in daemon.state.rglob("*"):
        if file.is_file():
            places[str(file.relative_to(daemon.state))] = file.read_bytes()
    places["log"] = daemon.log.encode()
    with contextlib.closing(sqlite3.connect(daemon.state / "tidemill.db")) as connection:
        places["dump"] = "\n".join(connection.iterdump()).encode()
    found = [
        (where, form)
        for where, content in places.items()
        for secret in SECRETS.values()
        for form in forms(secret)
        if form in content
    ]
    assert found == []
    assert b"says-it" in places["dump"]
    assert "***" in daemon.log or "redacted" in daemon.log.lower() or "●" in daemon.log, "that it was masked shows"


def test_a_missing_secret_is_a_fault_that_names_it(make: Make) -> None:
    """P14: the reference is told, there is nothing else to tell."""
    daemon = make("""
        [deployments.job]
        url = "http://127.0.0.1:1/"
        auth = { bearer = { env = "NO_SUCH_TOKEN" } }
        """)
    assert daemon.start(ready=False).ended() == 78
    assert "NO_SUCH_TOKEN" in daemon.log
