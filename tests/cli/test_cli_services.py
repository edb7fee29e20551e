"""What commands say and do for a service that is down."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tidemill.cli import status
from tidemill.cli.main import main


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("/var/lib/tidemill", "systemctl start tidemill"),
        ("/var/lib/tidemill-jobs", "systemctl start tidemill-jobs"),
        ("/var/lib/tidemill-web-shop", "systemctl start tidemill@web-shop"),
        ("/home/ada/.local/state/tidemill", "tidemill start"),
    ],
)
def test_a_service_that_is_down_is_started_as_a_service(folder: str, command: str) -> None:
    assert status.start_command(Path(folder) / "tidemill.db") == command


def test_a_built_in_flows_parameters_may_be_set_as_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tidemill.toml"
    file.write_text("# nothing yet\n")
    where = ("--state-dir", str(tmp_path / "state"))
    argv = ("deploy", "shell", "--name", "disk", "--set", "command=df -h", "--set", "late_after=1m")
    assert main([*argv, *where, "--config", str(file)], environ={}) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["adopt", "disk", *where, "--config", str(file)], environ={}) == 0
    assert tomllib.loads(capsys.readouterr().out)["deployments"]["disk"] == {
        "flow": "shell",
        "late_after": "1m",
        "parameters": {"command": "df -h"},
    }
