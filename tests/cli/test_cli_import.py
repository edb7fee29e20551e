"""``tidemill import crontab``: where crontabs are found, and what is said of them."""

from __future__ import annotations

import io
import json
import os
import tomllib
from pathlib import Path

import pytest

from tidemill.cli import import_crontab
from tidemill.cli.main import main


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's crontabs: the system's, a folder of packages' and two users'."""
    (tmp_path / "crontab").write_text("17 * * * * root hourly\n")
    folder = tmp_path / "cron.d"
    folder.mkdir()
    (folder / "package").write_text("0 3 * * * www-data clean\n")
    (folder / "package.dpkg-old").write_text("0 3 * * * root never\n")
    spool = tmp_path / "crontabs"
    spool.mkdir()
    (spool / "alice").write_text("0 9 * * * greet\n0 25 * * * wrong\n")
    (spool / "root").write_text("@daily tidy\n")
    monkeypatch.setattr(import_crontab, "SYSTEM", tmp_path / "crontab")
    monkeypatch.setattr(import_crontab, "SYSTEM_FOLDER", folder)
    monkeypatch.setattr(import_crontab, "SPOOL", spool)
    return tmp_path


def run(*argv: str) -> int:
    return main(["import", "crontab", *argv], environ={})


def test_a_file_is_printed_as_toml_and_what_is_left_out_is_said(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(machine / "crontabs" / "alice")) == 0
    out, err = capsys.readouterr()
    assert tomllib.loads(out)["deployments"]["greet"]["cron"] == "0 9 * * *"
    assert "1 job carried over, 1 left out" in err
    assert "alice:2: " in err


def test_a_users_crontab_is_for_that_users_daemon(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-u", "alice") == 0
    assert "tidemill systemd install --jobs alice" in capsys.readouterr().out


def test_all_of_the_machine_is_for_a_daemon_of_root(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--all", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["deployments"] == ["hourly", "clean", "greet", "tidy"]
    assert [each["source"] for each in found["left_out"]] == ["crontab of alice"]
    toml = tomllib.loads(found["toml"])["deployments"]
    assert toml["hourly"]["command"] == "hourly"
    assert toml["tidy"]["command"] == "tidy"
    assert toml["clean"]["argv"][:3] == ["runuser", "-u", "www-data"]
    assert toml["greet"]["argv"][:3] == ["runuser", "-u", "alice"]


def test_files_of_the_system_name_users(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([str(machine / "crontab")], [str(machine / "cron.d" / "package")]):
        assert run(*argv) == 0
    copy = machine / "copy"
    copy.write_text("17 * * * * root hourly\n")
    assert run(str(copy), "--system") == 0
    out = capsys.readouterr().out
    assert out.count('command = "hourly"') == 2
    assert 'argv = ["runuser", "-u", "www-data", "--", "/bin/sh", "-c", "clean"]' in out


def test_a_crontab_comes_by_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("0 9 * * * greet\n"))
    assert run("-") == 0
    assert "[deployments.greet]" in capsys.readouterr().out


def test_without_a_file_it_is_ones_own_by_crontab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "crontab"
    program.write_text('#!/bin/sh\n[ "$*" = -l ] && echo "0 9 * * * mine"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run() == 0
    assert 'command = "mine"' in capsys.readouterr().out
    program.write_text("#!/bin/sh\necho no crontab for me >&2; exit 1\n")
    assert run() == 4
    assert "no crontab for me" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (("-u", "nobody"), 4, "nobody has no crontab"),
        (("-u", "../crontab"), 4, "is no user's name"),
        (("/nonexistent",), 1, "/nonexistent: No such file"),
        (("--all", "/x"), 2, "not allowed with"),
    ],
)
def test_what_cannot_be_read_says_why(
    machine: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], code: int, told: str
) -> None:
    assert run(*argv) == code
    out, err = capsys.readouterr()
    assert told in err
    assert out == ""


def test_what_is_too_large_is_no_crontab(
    machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_crontab, "LARGEST", 10)
    assert run("-u", "alice") == 1
    assert "that is no crontab" in capsys.readouterr().err
