"""Completion: what a real bash completes, and where names come from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edges import DEPLOYMENTS, live
from tidemill.cli.completion import KINDS, SHELLS, script
from tidemill.cli.main import COMMANDS, main

COMPLETE = """
source "$1"; shift
tidemill() { echo "names-of-$3"; [ "$4 $5" = "--line ${COMP_LINE}" ] && echo told-the-line; }
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"
_shtab_tidemill tidemill "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bash") / "tidemill"
    path.write_text(script("bash"))
    return path


def completed(path: Path, *words: str) -> set[str]:
    bash = shutil.which("bash")
    assert bash is not None
    found = subprocess.run([bash, "-c", COMPLETE, "x", path, *words], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    return set(found.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tidemill", "dep"), {"deployment"}),
        (("tidemill", "db", ""), {"backup", "restore", "check", "prune"}),
        (("tidemill", "db", "prune", "--dr"), {"--dry-run"}),
        (("tidemill", "deployment", "run", ""), {"names-of-deployment", "told-the-line"}),
        (("tidemill", "flow-run", "inspect", ""), {"names-of-flow-run"}),
        (("tidemill", "work-queue", "pause", ""), {"names-of-work-queue"}),
        (("tidemill", "artifact", "get", ""), {"names-of-artifact"}),
        (("tidemill", "flow-run", "ls", "--deployment", ""), {"names-of-deployment"}),
        (("tidemill", "completion", ""), set(SHELLS)),
    ],
)
def test_bash_completes_commands_options_and_names(
    bash_script: Path, words: tuple[str, ...], expected: set[str]
) -> None:
    assert expected <= completed(bash_script, *words)


def test_bash_completes_every_command(bash_script: Path) -> None:
    assert COMMANDS.keys() <= completed(bash_script, "tidemill", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell_names_every_command_and_asks_for_names(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)
    line = {"bash": ' --line "$COMP_LINE"', "zsh": "", "fish": " --line (commandline | string collect)"}[shell]
    assert f"tidemill completion --names deployment{line} 2>/dev/null" in out


def test_names_come_from_the_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live(tmp_path) as daemon:
        run = daemon.do(daemon.mill.add(name="brisk-otter"))
        daemon.do(daemon.mill.keep("report", "{}", run=run))
        found = {}
        for kind in KINDS:
            assert main(["completion", "--names", kind, "--state-dir", str(tmp_path)], environ={"HOME": "/x"}) == 0
            found[kind] = capsys.readouterr().out.split()
    assert found["deployment"] == sorted(each.name for each in DEPLOYMENTS)
    assert found["flow-run"] == ["brisk-otter"]
    assert found["artifact"] == ["report"]
    assert found["work-queue"] == ["default", "energy_usage"]
    assert "database" in found["concurrency-limit"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tidemill --state-dir {} deployment run ", True),
        ("tidemill deployment run --state-dir={} --watch bor", True),
        ("tidemill --state-dir /nowhere deployment run --state-dir '{}' ", True),  # the last one counts
        ("tidemill --state-dir $HERE deployment run 'bor", True),  # as the shell would read it; a quote is still open
        ("tidemill --state-dir ~ deployment run ", False),
        ("tidemill deployment run --state-dir", False),
        ("tidemill --api http://127.0.0.1:1 --state-dir {} deployment run ", False),
        ("$(touch pwned) `touch pwned`", False),
    ],
)
def test_names_are_those_of_the_daemon_that_the_line_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, found: bool
) -> None:
    with live(tmp_path):
        environ = {"HOME": "/nowhere", "HERE": str(tmp_path)}
        assert main(["completion", "--names", "deployment", "--line", line.format(tmp_path)], environ=environ) == 0
        assert ("bored-daily" in capsys.readouterr().out.split()) is found


@pytest.mark.parametrize(
    "name", ["$(touch pwned)", "$(touch${IFS}pwned)", "`touch`", "a;b", "--help", "two words", "~"]
)
def test_a_name_that_a_shell_would_make_something_of_is_not_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with live(tmp_path) as daemon:
        daemon.do(daemon.mill.add(name=name))
        daemon.do(daemon.mill.add(name="Übung_7.1/b"))
        assert main(["completion", "--names", "flow-run", "--state-dir", str(tmp_path)], environ={"HOME": "/x"}) == 0
        assert capsys.readouterr().out.splitlines() == ["Übung_7.1/b"]


def test_where_nobody_can_be_asked_there_are_no_names_and_no_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "--names", "flow-run", "--state-dir", str(tmp_path)], environ={"HOME": "/x"}) == 0
    assert capsys.readouterr() == ("", "")
