"""Commands that need no daemon, and how every command ends."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidemill import __version__
from tidemill.cli import run_filters
from tidemill.cli.main import COMMANDS, main
from tidemill.errors import ConfigError, Fault, TidemillError

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def run(*argv: str, environ: dict[str, str] | None = None) -> int:
    return main(argv, environ={"TZ": "UTC", "HOME": "/nonexistent"} | (environ or {}), now=lambda: NOW)


# -- how commands end ------------------------------------------------------------------------------------------------


def test_no_daemon_and_no_database_is_exit_3_naming_each_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("flow-run", "ls", environ={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")})
    out, err = capsys.readouterr()
    assert code == 3
    assert out == ""  # never an empty list
    for place in (
        "/run/tidemill/control.sock",
        f"{tmp_path}/run/tidemill/control.sock",
        f"{tmp_path}/.local/state/tidemill/control.sock",
        "/var/lib/tidemill/tidemill.db",
        f"{tmp_path}/.local/state/tidemill/tidemill.db",
    ):
        assert f"{place}: not there" in err


def test_output_that_nobody_wants_is_no_fault(tmp_path: Path) -> None:
    """As a script's ``>&-`` and ``2>&-`` do."""
    command = f"{sys.executable} -m tidemill.cli.main logs --state-dir {tmp_path} >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False, timeout=180).returncode == 3


@pytest.mark.parametrize("option", ["--api", "TIDEMILL_API_URL"])
def test_an_address_that_was_named_is_the_only_one_looked_at(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = "unix:///nonexistent/control.sock"
    code = run("status", "--api", url) if option == "--api" else run("status", environ={option: url})
    err = capsys.readouterr().err
    assert code == 3
    assert f"no daemon answers at {url} ({option}): not there" in err
    assert "/run/tidemill" not in err


@pytest.mark.parametrize("url", ["127.0.0.1:4200", "ftp://x", "http://", "http://localhost:99999"])
def test_an_address_that_is_none_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--api", url) == 1
    assert "is not the address of a daemon" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (("flow-runs",), "flow-run"),
        (("flow-run", "list"), "ls"),
        (("deployment", "resum", "x"), "resume"),
    ],
)
def test_a_word_that_is_none_is_answered_with_near_ones(
    argv: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 2
    err = capsys.readouterr().err
    assert hint in err
    assert "Traceback" not in err


def test_underscores_in_a_commands_name_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("flow_run", "ls", "--help") == 0
    assert "tidemill flow-run ls" in capsys.readouterr().out


def test_the_exit_codes_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    for code in ("0   ", "1   ", "2   ", "3   ", "4   ", "78  "):
        assert f"\n  {code}" in out
    for command in COMMANDS:
        assert f"\n    {command} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"usage: tidemill {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [("--output", "json", "version"), ("version", "--output", "json"), ("version", "-o", "json")]
)
def test_options_of_all_commands_stand_before_or_after(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__


def test_a_reader_that_has_seen_enough_ends_the_command_in_silence() -> None:
    command = "from tidemill.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
    argv = ["schedule", "preview", "--interval", "1s", "--timezone", "UTC", "--count", "9999"]
    with subprocess.Popen(
        [sys.executable, "-c", command, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()  # as head does
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_ctrl_c_ends_a_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(session: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tidemill.cli.version.show", interrupted)
    assert run("version") == 130
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_told_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(session: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tidemill.cli.version.show", full)
    assert run("version") == 1
    assert capsys.readouterr().err == "tidemill: No space left on device\n"


# -- start -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A daemon that only notes how it was started."""
    calls: list[tuple[Any, ...]] = []
    module = ModuleType("tidemill.daemon")

    def started(config: Path, state_dir: Path | None, strict: bool) -> int:
        calls.append((config, state_dir, strict))
        return 0

    module.run = started  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tidemill.daemon", module)
    return calls


def test_start_hands_over_what_was_given(tmp_path: Path, daemon: list[tuple[Any, ...]]) -> None:
    config = tmp_path / "mill.toml"
    assert run("start", str(config), "--state-dir", str(tmp_path), "--strict") == 0
    assert run("start", str(config)) == 0
    assert daemon == [(config, tmp_path, True), (config, None, False)]


def test_start_takes_the_file_of_this_folder_then_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemon: list[tuple[Any, ...]]
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    users = home / ".config" / "tidemill" / "tidemill.toml"
    users.parent.mkdir(parents=True)
    users.touch()
    monkeypatch.chdir(here)
    assert run("start", environ={"HOME": str(home)}) == 0
    (here / "tidemill.toml").touch()
    assert run("start", environ={"HOME": str(home)}) == 0
    assert [call[0] for call in daemon] == [users, here / "tidemill.toml"]


def test_start_without_a_configuration_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemon: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("start", environ={"HOME": str(tmp_path)}) == 78
    err = capsys.readouterr().err
    assert f"{tmp_path}/tidemill.toml" in err
    assert "tidemill init" in err
    assert daemon == []


def test_a_daemon_that_refuses_to_start_ends_with_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], daemon: list[tuple[Any, ...]]
) -> None:
    def refused(*args: Any) -> int:
        raise ConfigError([Fault(file="a.toml", line=3, column=1, key="deployments.x", problem="is wrong")])

    monkeypatch.setattr(sys.modules["tidemill.daemon"], "run", refused)
    assert run("start", "a.toml") == 78
    assert "a.toml:3:1 deployments.x: is wrong" in capsys.readouterr().err


# -- init ------------------------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_is_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", environ={"TZ": "Europe/Helsinki"}) == 0
    assert "Europe/Helsinki" in (tmp_path / "tidemill.toml").read_text()
    assert "Next: tidemill check && tidemill start" in capsys.readouterr().out
    assert run("check", "--no-import") == 0


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    assert run("init", str(path)) == 1
    assert path.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


def test_init_refuses_a_zone_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", str(tmp_path / "x.toml"), "--timezone", "Mars/Olympus") == 1
    assert not (tmp_path / "x.toml").exists()
    assert "there is no time zone" in capsys.readouterr().err


# -- schedule preview ------------------------------------------------------------------------------------------------


def test_a_preview_tells_what_the_change_of_the_clocks_does(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["schedule", "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin"]
    assert run(*argv, "--after", "2026-03-28T12:00:00Z", "--count", "2", "--output", "json") == 0
    fires = json.loads(capsys.readouterr().out)["fires"]
    assert [fire["utc"] for fire in fires] == ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    assert [fire["local"] for fire in fires] == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert "does not exist that day" in fires[0]["note"]
    assert fires[1]["note"] is None


@pytest.mark.parametrize(
    ("kind", "value", "first"),
    [
        ("--interval", "15m", "2026-11-21T09:15:00Z"),
        ("--rrule", "FREQ=DAILY;BYHOUR=10;BYMINUTE=0;BYSECOND=0", "2026-11-21T10:00:00Z"),
        ("--at", "2026-12-24T18:00", "2026-12-24T18:00:00Z"),
        ("--cron", "@hourly", "2026-11-21T10:00:00Z"),
    ],
)
def test_every_kind_of_schedule_is_previewed(
    kind: str, value: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schedule", "preview", kind, value, "--timezone", "UTC", "--count", "1", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["fires"][0]["utc"] == first


def test_an_instant_without_offset_is_local_to_the_schedules_zone(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["schedule", "preview", "--cron", "0 9 * * *", "--timezone", "Asia/Tokyo", "--count", "1"]
    assert run(*argv, "--after", "2026-11-21T08:59") == 0
    assert capsys.readouterr().out == "Sat 2026-11-21 09:00:00 +0900\n"


def test_a_schedule_that_is_over_says_since_when_as_people_write_it(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["schedule", "preview", "--at", "2020-01-01T00:00", "--timezone", "Asia/Tokyo"]
    assert run(*argv, "--after", "2026-11-21T09:00:00.5Z") == 0
    assert capsys.readouterr().out == "Does not fire after Sat 2026-11-21 18:00:00 +0900.\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--cron", "0 25 * * *"), "25"),
        (("--cron", "0 9 * * *", "--timezone", "Mars/Olympus"), "Mars/Olympus"),
        (("--interval", "soon"), "duration"),
        (("--at", "tomorrow"), "tomorrow"),
        (("--cron", "0 9 * * *", "--after", "2026-13-01"), '--after: "2026-13-01" is no date with time; write for'),
        (
            ("--rrule", "DTSTART=20260101T090000;FREQ=DAILY"),
            'DTSTART is not a part of a rule; put "DTSTART:20260101T090000" on a line before it',
        ),
        (("--cron", "0 9 * * *", "--after", "0001-01-01T00:00:00+14:00"), "out of range"),
        (("--cron", "0 9 * * *", "--count", "0"), "not a number from 1"),
        (("--cron", "0 9 * * *", "--interval", "1h"), "not allowed with"),
        ((), "required"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_exit_2(
    argv: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schedule", "preview", *argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("state", ["Skipped", "Shadow", "late"])
def test_every_state_that_a_run_can_have_may_be_asked_for(state: str) -> None:
    assert run_filters.state(state).lower() == state.lower()


def test_a_state_that_is_none_is_exit_2_and_no_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("flow-run", "ls", "--state", "Faild") == 2
    assert "'Faild' is no state; there are Scheduled, " in capsys.readouterr().err


def test_reboot_is_no_matter_of_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schedule", "preview", "--cron", "@reboot", "--timezone", "UTC") == 0
    assert "each time the daemon starts" in capsys.readouterr().out


# -- check -----------------------------------------------------------------------------------------------------------

GOOD = """
[daemon]
timezone = "Europe/Berlin"

[deployments.bored-daily]
url = "https://bored-api.appbrewery.com/random"
cron = "30 2 * * *"

[deployments.by-hand]
command = "true"
"""


def configuration(folder: Path, text: str) -> str:
    path = folder / "tidemill.toml"
    path.write_text(text)
    return str(path)


def test_check_shows_the_next_five_fires_in_local_time_with_offset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configuration(tmp_path, GOOD)
    assert main(["check", path], environ={"HOME": str(tmp_path)}, now=lambda: datetime(2026, 3, 27, tzinfo=UTC)) == 0
    out = capsys.readouterr().out
    assert "bored-daily: http_request in pool default, queue default" in out
    assert "30 2 * * * Europe/Berlin" in out
    assert out.count(":30:00 +") == 4
    assert "Sun 2026-03-29 03:00:00 +0200  02:30 does not exist that day" in out
    assert "no schedule: runs are made by hand" in out
    assert "in order: 2 deployments" in out


def test_check_prints_every_fault_on_a_line_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, '[deployments.a]\ncron = "0 25 * * *"\nurl = "http://x"\ncolour = 1\n')
    assert run("check", path) == 78
    out, err = capsys.readouterr()
    assert f"{path}:2:" in out
    assert "colour" in out
    assert len(out.splitlines()) == 2
    assert "2 faults" in err
    assert run("check", path, "--output", "json") == 78
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert {fault["key"] for fault in found["faults"]} == {"deployments.a.cron", "deployments.a.colour"}
    assert {fault["line"] for fault in found["faults"]} == {2, 4}


def test_check_says_which_entrypoint_does_not_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, '[deployments.a]\nflow = "gone.py:daily"\n')
    assert run("check", path) == 78
    out = capsys.readouterr().out
    assert "deployments.a.flow" in out
    assert "gone.py" in out
    assert run("check", path, "--no-import") == 0


def test_check_compares_parameters_with_the_functions_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "reports.py").write_text("async def daily(region): return region\ndef plain(): pass\n")
    (tmp_path / "flows").chmod(0o755)
    (tmp_path / "flows" / "reports.py").chmod(0o644)
    path = configuration(
        tmp_path,
        '[deployments.a]\nflow = "reports.py:daily"\nparameters = { regoin = "fi" }\n'
        '[deployments.b]\nflow = "reports.py:plain"\n[deployments.c]\nflow = "reports.py:plain"\n',
    )
    assert run("check", path, "--output", "json") == 78
    found = json.loads(capsys.readouterr().out)
    assert {fault["key"] for fault in found["faults"]} == {
        "deployments.a.parameters.regoin",
        "deployments.a.parameters.region",
    }
    # Inline is for code that waits: a plain function is said to hold a thread, once for all its deployments.
    (threaded,) = [warning for warning in found["warnings"] if "it gets a thread" in warning["problem"]]
    assert threaded["key"] == "deployments.b.flow"
    assert threaded["problem"].endswith("it gets a thread (also of c)")


def test_check_compares_the_parameters_of_built_in_flows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, '[deployments.a]\nurl = "ftp://example.org/x"\n')
    assert run("check", path) == 78
    assert f"{path}:2:7 deployments.a.url: begins with" in capsys.readouterr().out  # the key as it is written


# What is wrong in more than one way of looking -> the keys of the faults.
ONCE = {
    '[deployments.a]\ncommand = "x"\nargv = ["y"]\n': ["deployments.a.argv"],
    '[deployments.a]\nflow = "shell"\ncommand = "x"\n': ["deployments.a.command"],
    '[deployments.a]\nflow = "http_request"\nparameters = { url = "http://h/", param = {} }\n': [
        "deployments.a.parameters.param"
    ],
    '[deployments.a]\nurl = "http://h/"\nauth = { bearer = { env = "" } }\n': ["deployments.a.auth.bearer.env"],
    '[deployments.a]\ncommand = "x"\numask = "9"\nenv = { A = { env = "B", file = "c" } }\n': [
        "deployments.a.umask",
        "deployments.a.env.A",
    ],
}


@pytest.mark.parametrize("text", ONCE)
def test_check_tells_each_fault_once(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text and the built-in flow both look at parameters; what the one has said the other does not repeat."""
    assert run("check", configuration(tmp_path, text), "--output", "json") == 78
    assert [fault["key"] for fault in json.loads(capsys.readouterr().out)["faults"]] == ONCE[text]


def test_a_missing_file_is_a_fault_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(tmp_path / "none.toml")) == 78
    assert "none.toml" in capsys.readouterr().out


def test_errors_never_show_escape_sequences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(session: Any) -> None:
        raise TidemillError("\x1b]0;title\x07 is no name")

    monkeypatch.setattr("tidemill.cli.version.show", shown)
    assert run("version") == 1
    assert "\x1b" not in capsys.readouterr().err
