"""``tidemill systemd install``: units that fit this machine, and that an edit of theirs is safe from it."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tidemill.cli import systemd, units
from tidemill.cli.main import main
from tidemill.errors import TidemillError

ME = pwd.getpwuid(os.getuid()).pw_name
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where systemd would look for units."""
    place = tmp_path / "units"
    place.mkdir()
    monkeypatch.setattr(systemd, "SYSTEM", place)
    monkeypatch.setattr(units, "SYSTEM_CONFIG", tmp_path / "etc")
    return place


def install(*options: str, home: Path = Path("/nonexistent")) -> int:
    return main(["systemd", "install", *options], environ={"TZ": "UTC", "HOME": str(home)})


def value(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


# --- the units as they are shipped ------------------------------------------------------------------------------------

SHIPPED = [units.SERVICE, units.INSTANCE, units.JOBS, units.OWN]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_unit_keeps_what_makes_it_a_good_service(name: str) -> None:
    text = units.template(name)
    for line in (
        "Type=notify",
        "NotifyAccess=main",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "WatchdogSec=30s",
        "Restart=on-failure",
        "RestartPreventExitStatus=78",
        "KillMode=mixed",
        "OOMPolicy=continue",
        "LogRateLimitIntervalSec=0",
    ):
        assert line in text.splitlines()


def test_an_instance_is_the_service_with_a_name_of_its_own() -> None:
    differs = {
        "Description=tidemill, workflow orchestrator": "Description=tidemill, workflow orchestrator (%i)",
        "ExecStart=/opt/tidemill/bin/tidemill start /etc/tidemill/tidemill.toml": (
            "ExecStart=/opt/tidemill/bin/tidemill start /etc/tidemill/%i.toml"
        ),
        "User=tidemill": "User=tidemill-%i",
        "StateDirectory=tidemill": "StateDirectory=tidemill-%i",
        "RuntimeDirectory=tidemill": "RuntimeDirectory=tidemill-%i",
    }

    def settings(name: str) -> list[str]:
        return [line for line in units.template(name).splitlines() if line and not line.startswith("#")]

    assert [differs.get(line, line) for line in settings(units.SERVICE)] == settings(units.INSTANCE)


def test_jobs_keep_what_would_take_rights_from_their_programs_out() -> None:
    """NoNewPrivileges= or what implies it (systemd.exec(5)); a mount namespace."""
    text = units.template(units.JOBS)
    for key in (
        "NoNewPrivileges SystemCallFilter SystemCallArchitectures RestrictAddressFamilies RestrictNamespaces"
        " PrivateDevices ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock ProtectHostname"
        " MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID DynamicUser LockPersonality PrivateUsers"
        " ProtectSystem ProtectHome PrivateTmp PrivateMounts ReadOnlyPaths TemporaryFileSystem"
    ).split():
        assert value(text, key) == []


analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="checking units needs systemd-analyze: apt-get install systemd"
)


@analyze
@pytest.mark.parametrize("name", [units.SERVICE, units.INSTANCE])
def test_the_services_are_closed_to_1_5_or_better(name: str, tmp_path: Path) -> None:
    """Also where the program lies below a home."""
    for text in (
        units.template(name),
        units.written(name, program=["/home/x/tidemill"], config="/etc/tidemill/%i.toml", show=[Path("/home/x")]),
    ):
        (tmp_path / name).write_text(text)
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert exposure is not None, said
        assert float(exposure[1]) <= 1.5


@analyze
@pytest.mark.parametrize("name", SHIPPED)
def test_systemd_has_nothing_to_say_against_a_unit(name: str, tmp_path: Path) -> None:
    """Of 252, systemd-analyze verify exits with 0 also for keys it does not know: nothing may be said at all."""
    unit = tmp_path / Path(name).name
    unit.write_text(units.written(name, program=["/bin/true"], config="/etc/tidemill/tidemill.toml", user=None))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(["--user"] if name == units.OWN else []), str(unit)],
        env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_units_run_this_very_program_and_may_be_read_by_everybody(folder: Path, capsys: Output) -> None:
    assert install() == 0
    text = (folder / units.SERVICE).read_text()
    (command,) = value(text, "ExecStart")
    program, verb, config = command.split()
    assert os.access(program, os.X_OK)
    assert (verb, config) == ("start", f"{folder.parent}/etc/tidemill.toml")
    assert value((folder / units.INSTANCE).read_text(), "ExecStart") == [f"{program} start {folder.parent}/etc/%i.toml"]
    assert {path.name for path in folder.iterdir()} == {units.SERVICE, units.INSTANCE}
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    out = capsys.readouterr().out
    assert f"Written: {folder / units.SERVICE}" in out
    for words in ("systemctl daemon-reload", "systemctl enable --now tidemill", "journalctl -u tidemill -f"):
        assert words in out


def test_installing_again_changes_nothing(folder: Path, capsys: Output) -> None:
    assert install() == 0
    before = (folder / units.SERVICE).stat().st_mtime_ns
    assert install() == 0
    assert (folder / units.SERVICE).stat().st_mtime_ns == before
    assert f"Up to date: {folder / units.SERVICE}" in capsys.readouterr().out


def test_a_dry_run_prints_the_units_and_writes_nothing(folder: Path, capsys: Output) -> None:
    assert install("--dry-run") == 0
    out = capsys.readouterr().out
    assert f"# {folder / units.SERVICE}\n" in out
    assert "DynamicUser=yes" in out
    assert list(folder.iterdir()) == []


def test_what_is_done_is_told_as_json(folder: Path, capsys: Output) -> None:
    assert install("--output", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["units"][0] == {"path": str(folder / units.SERVICE), "action": "written"}
    assert install("--dry-run", "--output", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "DynamicUser=yes" in told["units"][0]["text"]


def test_an_older_unit_that_nobody_edited_is_replaced(folder: Path, capsys: Output) -> None:
    unit = folder / units.SERVICE
    unit.write_text(units.signed(units.template(units.SERVICE).replace("WatchdogSec=30s", "WatchdogSec=10s")))
    assert install() == 0
    assert "WatchdogSec=30s" in unit.read_text()
    out = capsys.readouterr().out
    assert f"Replaced: {unit}" in out
    assert "  systemctl enable tidemill\n  systemctl restart tidemill\n" in out, (
        "the one that runs goes by the old unit"
    )


EDITS = [
    pytest.param(lambda text: text.replace("WatchdogSec=30s", "WatchdogSec=5min"), id="a value"),
    pytest.param(lambda text: text + "\n# mine\n", id="a comment"),
    pytest.param(lambda text: text.split("\n", 1)[1] + "Nice=5\n", id="the mark taken off"),
    pytest.param(lambda text: "[Service]\nExecStart=/usr/bin/mine\n", id="written by hand"),
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_unit_stays_and_what_differs_is_told(folder: Path, capsys: Output, edit: object) -> None:
    assert install() == 0
    unit = folder / units.SERVICE
    unit.write_text(edit(unit.read_text()))  # type: ignore[operator]
    mine = unit.read_text()
    (folder / units.INSTANCE).unlink()
    assert install() == 1
    assert unit.read_text() == mine
    assert not (folder / units.INSTANCE).exists(), "all or nothing"
    err = capsys.readouterr().err
    assert "stays as it is" in err
    assert "--force" in err
    assert "\n+" in err, "what differs"
    assert install("--force") == 0
    assert value(unit.read_text(), "WatchdogSec") == ["30s"]
    assert unit.with_name(f"{units.SERVICE}.edited").read_text() == mine


def test_a_unit_that_was_copied_from_the_project_by_hand_is_ours(folder: Path) -> None:
    (folder / units.SERVICE).write_text(units.template(units.SERVICE))
    assert install() == 0


def test_a_masked_unit_stays(folder: Path, capsys: Output) -> None:
    (folder / units.SERVICE).symlink_to("/dev/null")
    assert install("--force") == 1
    assert "is a link to /dev/null" in capsys.readouterr().err


def test_who_may_not_write_is_told_what_else_there_is(
    folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(systemd, "_put", refuse)
    assert install() == 1
    err = capsys.readouterr().err
    for words in (str(folder / units.SERVICE), "sudo", "--user", "--dry-run"):
        assert words in err


# --- the kinds --------------------------------------------------------------------------------------------------------


def test_jobs_run_as_their_user(folder: Path, capsys: Output) -> None:
    assert install("--jobs", ME) == 0
    text = (folder / units.JOBS).read_text()
    assert value(text, "User") == [ME]
    assert {path.name for path in folder.iterdir()} == {units.JOBS}
    out = capsys.readouterr().out
    assert f"as {ME}" in out
    assert "setgid" in out, "it says what its jobs can touch"
    assert "systemctl enable --now tidemill-jobs" in out


def test_a_user_that_is_not_there_is_told(folder: Path, capsys: Output) -> None:
    assert install("--jobs", "nobody-of-that-name") == 4
    assert 'there is no user "nobody-of-that-name"' in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_service_of_one_s_own_needs_no_root(folder: Path, tmp_path: Path, capsys: Output) -> None:
    assert install("--user", home=tmp_path) == 0
    text = (tmp_path / ".config" / "systemd" / "user" / "tidemill.service").read_text()
    assert value(text, "ExecStart")[0].endswith(f"start {tmp_path}/.config/tidemill/tidemill.toml")
    assert value(text, "WantedBy") == ["default.target"]
    assert value(text, "User") == value(text, "DynamicUser") == []
    assert list(folder.iterdir()) == []
    out = capsys.readouterr().out
    assert "systemctl --user enable --now tidemill" in out
    assert "loginctl enable-linger" in out


def test_a_unit_is_for_a_user_or_for_jobs(capsys: Output) -> None:
    assert install("--user", "--jobs", ME) == 2


# --- what a unit is told of its configuration -------------------------------------------------------------------------

SECRETS = """
[deployments.a]
url = "https://api.example.org/"
auth = { bearer = { credential = "orders-token" } }
[blocks.alarm]
type = "secret"
value = { credential = "alarm-token" }
"""


def test_credentials_that_the_configuration_names_are_loaded_and_missing_ones_told(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    """P14: by name; what is in them is not looked at."""
    config = tmp_path / "etc" / "tidemill.toml"
    (config.parent / "credentials").mkdir(parents=True)
    config.write_text(SECRETS)
    token = config.parent / "credentials" / "orders-token"
    token.write_text("correct-horse")
    assert install() == 0
    text = (folder / units.SERVICE).read_text()
    assert value(text, "LoadCredential") == [f"orders-token:{token}"]
    out = capsys.readouterr().out
    assert (
        f'blocks.alarm wants the credential "alarm-token": put it into {config.parent}/credentials/alarm-token' in out
    )
    assert "correct-horse" not in out + text
    assert "fault" not in out, "a credential that is there for the service only is no fault"


def test_a_broken_configuration_is_told_with_the_command_to_look(tmp_path: Path, capsys: Output) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[deployments.a]\ncomand = 'true'\n")
    assert install("--config", str(config)) == 0
    assert f"Note: {config} has 2 faults: tidemill check {config}" in capsys.readouterr().out


def test_a_configuration_that_is_not_there_yet_is_the_first_thing_to_do(tmp_path: Path, capsys: Output) -> None:
    assert install() == 0
    next_steps = capsys.readouterr().out.split("Next:\n")[1].splitlines()
    assert next_steps[0] == f"  mkdir -p {tmp_path}/etc"
    assert next_steps[1].startswith(f"  tidemill init {tmp_path}/etc/tidemill.toml")


def test_what_lies_below_a_home_is_shown_and_nothing_else_of_it() -> None:
    text = units.written(
        units.SERVICE, program=["/home/ada/venv/bin/tidemill"], config="/x", show=[Path("/home/ada/venv")]
    )
    assert value(text, "ProtectHome") == ["tmpfs"]
    assert value(text, "TemporaryFileSystem") == ["/home:ro /root:ro /run/user:ro", "/dev/shm:mode=1777"]
    assert value(text, "BindReadOnlyPaths") == ["/home/ada/venv"]
    plain = units.written(units.SERVICE, program=["/opt/tidemill/bin/tidemill"], config="/x")
    assert value(plain, "ProtectHome") == ["yes"]
    assert value(plain, "BindReadOnlyPaths") == []


def test_what_lies_in_a_temporary_folder_is_shown_though_the_service_has_its_own() -> None:
    text = units.written(units.SERVICE, program=["/opt/x"], config="/tmp/t.toml", show=[Path("/tmp/here")])
    assert value(text, "BindReadOnlyPaths") == ["/tmp/here"]
    assert value(text, "ProtectHome") == ["yes"]


@pytest.mark.parametrize(
    ("paths", "hidden"),
    [
        (["/opt/tidemill", "/usr", "/etc/tidemill"], []),
        (["/home/a/venv", "/home/a/venv/lib", "/opt/x"], ["/home/a/venv"]),  # one inside of another
        (["/root/x", "/tmp/y", "/var/tmp/z", "/run/user/5/w"], ["/root/x", "/run/user/5/w", "/tmp/y", "/var/tmp/z"]),
        (["/homely/x"], []),
    ],
)
def test_only_what_a_closed_service_would_not_see_is_shown(paths: list[str], hidden: list[str]) -> None:
    assert [str(path) for path in units.hidden(map(Path, paths))] == hidden


WORDS = [
    ("/opt/tidemill/bin/tidemill", "/opt/tidemill/bin/tidemill"),
    ("/srv/100% $HOME/x", '"/srv/100%% $$HOME/x"'),
    ('/srv/a"b\\c', '"/srv/a\\"b\\\\c"'),
]


@pytest.mark.parametrize(("path", "word"), WORDS)
def test_a_path_is_written_as_systemd_reads_it(path: str, word: str) -> None:
    assert units.word(path) == word


def test_a_path_that_no_unit_can_bind_is_refused() -> None:
    with pytest.raises(TidemillError, match="install elsewhere"):
        units.written(units.SERVICE, program=["/x"], config="/x", show=[Path("/home/a b")])


def test_a_folder_that_the_user_may_not_enter_is_found(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "below").mkdir(parents=True)
    closed.chmod(0o700)
    tops = [*tmp_path.parents, tmp_path]
    nobody = units.barred(closed / "below", uid=None, groups=frozenset())
    assert nobody in [*tops, closed]
    assert units.barred(closed / "below", uid=0, groups=frozenset()) is None
    assert units.barred(Path("/usr/bin"), uid=None, groups=frozenset()) is None
