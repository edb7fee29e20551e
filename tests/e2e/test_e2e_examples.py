"""The examples in config/examples do what they say, in a real daemon, against its own sample API."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from daemons import Daemon

from tidemill.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.network]

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(make: Callable[..., Daemon], example: str) -> tuple[Daemon, str]:
    """Start a daemon on an example, with its sample API on a port of its own; return it and the API's address."""
    port = free_port()
    daemon = make(f'[api]\nlisten = "127.0.0.1:{port}"\nsample = true\n' + (EXAMPLES / example).read_text())
    shutil.copytree(EXAMPLES / "flows", daemon.flows, dirs_exist_ok=True)
    return daemon.start(), f"http://127.0.0.1:{port}/sample/activity"


@pytest.mark.parametrize(
    "example", [path.name for path in sorted(EXAMPLES.glob("*.toml")) if path.name != "own-environment.toml"]
)
def test_every_example_is_in_order(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLES / example)], environ={}) == 0, capsys.readouterr().err


def test_an_api_is_asked_printed_and_kept_as_an_artifact(make: Callable[..., Daemon]) -> None:
    daemon, url = start(make, "bored.toml")
    code, out, err = daemon.command("deployment", "run", "bored-daily", "--param", f"url={url}", "--watch")
    assert code == 0, out + err
    artifact = daemon.ask("artifact", "get", "bored")
    assert artifact["activity"] in out
    assert daemon.stop() == 0


def test_a_map_over_many_requests_keeps_to_the_rate_limit(make: Callable[..., Daemon]) -> None:
    """Twelve tasks at five a second: the first five at once, the others at least 1.4 s later in all."""
    daemon, url = start(make, "many-requests.toml")
    code, out, err = daemon.command(
        "deployment", "run", "collect", "--param", f"url={url}", "--param", "count=12", "--watch"
    )
    assert code == 0, out + err
    assert "12 activities" in out
    assert len(daemon.ask("artifact", "get", "activities")) == 12
    run = daemon.ask("flow-run", "ls", "--deployment", "collect", "--state", "Completed")[0]
    assert run["total_run_time"] >= 1.3
    assert daemon.stop() == 0


def test_a_retried_flow_takes_up_what_was_finished(make: Callable[..., Daemon]) -> None:
    daemon, _ = start(make, "cached.toml")
    daemon.stop()
    daemon.configure(daemon.file.read_text().replace('["10s", "1m", "5m"]', '"0s"'))
    daemon.start()
    broken = daemon.folder / "broken"
    broken.touch()
    code, out, err = daemon.command("deployment", "run", "report", "--param", f"broken={broken}", "--watch")
    assert code == 0, out + err
    assert out.count("computing") == 1, "the second attempt found the first one's result"
    assert "AwaitingRetry" in out
    assert "Cached" in {task["state"]["name"] for task in daemon.ask("task-run", "ls")}
    assert daemon.stop() == 0


def test_a_flow_runs_in_its_own_virtual_environment(make: Callable[..., Daemon]) -> None:
    daemon = make((EXAMPLES / "own-environment.toml").read_text())
    shutil.copytree(EXAMPLES / "flows", daemon.flows, dirs_exist_ok=True)
    project = daemon.folder / "etl"
    venv.create(project / ".venv", with_pip=False, symlinks=True)
    # What `pip install msgspec` would put there, without asking a registry in a test.
    import msgspec

    packages = next((project / ".venv" / "lib").glob("python3.*")) / "site-packages"
    shutil.copytree(Path(msgspec.__file__).parent, packages / "msgspec")
    daemon.start()
    code, out, err = daemon.command("deployment", "run", "where", "--watch")
    assert code == 0, out + err
    assert f"running in {project / '.venv'}" in out
    assert sys.prefix != str(project / ".venv")
    assert daemon.stop() == 0


def test_the_example_flow_runs_as_a_plain_script(make: Callable[..., Daemon]) -> None:
    """A script that finds a daemon reports to it."""
    daemon, url = start(make, "bored.toml")
    code = f"import bored; print(bored.bored({url!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=daemon.flows,
        env={**daemon.environ, "TIDEMILL_API_URL": url.removesuffix("/sample/activity")},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert url.removesuffix("/sample/activity") in done.stderr, "it says where it reports to"
    runs = daemon.ask("flow-run", "ls", "--flow-name", "bored", "--state", "Completed")
    assert len(runs) == 1
    assert daemon.stop() == 0
