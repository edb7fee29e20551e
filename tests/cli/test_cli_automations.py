"""``tidemill automation``, against a daemon that answers and against the database of one that is down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_cli_live import Shell

from edges import live
from tidemill.cli.automations import summary
from tidemill.cli.main import main
from tidemill.core.automations import Cause, Fire, Run, Step, StepState, Tell
from tidemill.store.automations import CARRY, FIRE


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.delenv("COLUMNS", raising=False)
    with live(tmp_path) as daemon:
        yield Shell(daemon, capsys)


def fired(shell: Shell, *, state: StepState = StepState.DONE, told: str = "made run brisk-otter") -> None:
    """Let the first automation have fired."""
    store, now = shell.daemon.mill.store, shell.daemon.clock.now()
    cause = Cause(key="k", at=now, reason="nothing good for 25h", deployment="bored-daily")
    steps = (
        Step(action=Tell(channel="default"), state=StepState.DONE, tries=1, told="told default"),
        Step(action=Run(deployment="report_weekly"), state=state, tries=3, told=told),
    )
    fire = Fire(automation="must-succeed", cause=cause, at=now, steps=steps)

    async def write() -> None:
        number = await store.write(FIRE, fire)
        finished = None if state is StepState.WAITING else now
        kept = Fire(number=number or 0, automation=fire.automation, cause=cause, at=now, steps=steps, finished=finished)
        await store.write(CARRY, kept)

    shell.do(write())


def test_the_list_tells_what_each_waits_for_and_does(shell: Shell) -> None:
    lines = shell.text("automation", "ls").splitlines()
    assert lines[0].split() == ["NAME", "WHEN", "THEN", "FIRED", "LAST", "STATUS"]
    assert "no Completed run of bored-daily for 1d1h" in lines[1]
    assert lines[1].endswith("0  never  active")
    assert lines[2].endswith("0  never  paused")
    assert [each["name"] for each in shell.json("automation", "ls")] == ["must-succeed", "three_strikes"]


def test_one_is_shown_with_how_it_stands_and_what_it_did(shell: Shell) -> None:
    fired(shell)
    text = shell.text("automation", "inspect", "must_succeed")
    for words in (
        "When         no Completed run of bored-daily for 1d1h",
        "At most      60 in 1m, 3 rounds from its own doing",
        "Stands\n  must-succeed waits",
        "nothing good for 25h\n    told default\n    made run brisk-otter",
    ):
        assert words in text
    found = shell.json("automation", "inspect", "must-succeed")
    assert found["standing"] == ["must-succeed waits"]
    assert len(found["last_fires"]) == 1


@pytest.mark.parametrize(
    ("state", "words", "status"),
    [
        (StepState.FAILED, "could not run report_weekly: no luck", "failed"),
        (StepState.WAITING, "could not run report_weekly so far: no luck", "active"),
    ],
)
def test_what_could_not_be_done_is_shown(state: StepState, words: str, status: str, shell: Shell) -> None:
    fired(shell, state=state, told="no luck")
    assert words in shell.text("automation", "inspect", "must-succeed")
    assert shell.text("automation", "ls").splitlines()[1].endswith(status)


def test_one_is_paused_and_resumed(shell: Shell) -> None:
    assert shell.text("automation", "pause", "must-succeed") == "must-succeed is paused: it does nothing\n"
    assert shell.json("automation", "inspect", "must-succeed")["enabled"] is False
    assert shell.text("automation", "resume", "must-succeed") == "must-succeed is resumed: it counts from now\n"
    assert shell.json("automation", "resume", "must-succeed")["enabled"] is True


def test_who_tells_somebody_is_tried_out_and_who_tells_nobody_says_so(shell: Shell) -> None:
    text = shell.text("automation", "test", "must-succeed")
    assert text == "must-succeed: a test is on its way to default\n  not done, as this is a test: the rest\n"
    assert "three_strikes tells nobody" in shell.text("automation", "test", "three_strikes", code=1)


def test_a_name_that_is_none_is_answered_with_near_ones(shell: Shell) -> None:
    code, _, err = shell.run("automation", "inspect", "must-sucseed")
    assert code == 4
    assert "did you mean must-succeed?" in err


def test_a_daemon_that_is_down_is_read_and_not_changed(shell: Shell) -> None:
    fired(shell)
    shell.daemon.stop()
    assert "must-succeed" in shell.text("automation", "ls")
    found = shell.json("automation", "inspect", "must-succeed")
    assert (found["standing"], found["fires"]) == ([], 1)
    code, _, err = shell.run("automation", "pause", "must-succeed")
    assert code == 3
    assert "changes need it" in err


# How each automation does -> what status says.
SUMMARIES: dict[str, tuple[list[dict[str, object]], str | None]] = {
    "none": ([], None),
    "nothing to tell": ([{}], "1"),
    "some fired": (
        [{"name": f"a{n}", "last_fired": f"2026-11-21T08:5{n}:00Z"} for n in range(4)] + [{"paused": True}],
        "5, 1 paused\nlast fired: a3 7m00s ago, a2 8m00s ago, a1 9m00s ago, …",
    ),
    "held back": ([{"held_back": 7}], "1\nx was held back 7 times by its limit"),
}


@pytest.mark.parametrize(("given", "said"), SUMMARIES.values(), ids=SUMMARIES)
def test_status_says_how_they_do(given: list[dict[str, object]], said: str | None) -> None:
    plain = {"name": "x", "paused": False, "last_fired": None, "held_back": 0}
    now = datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert summary([plain | each for each in given], now) == said


CHECKED = """
[notify]
default = "mailto:me@example.org"
[deployments.report]
flow = "reports.py:daily"
parameters = { region = "fi" }
work_pool = "process"
[deployments.job]
command = "true"
[automations.x]
when = { deployment = "job", failures = 2 }
then = [{ run = "report", parameters = { regoin = "{run}", regio = "x" } }, { run = "job", parameters = { UMASK } }]
"""


@pytest.mark.parametrize(
    ("umask", "code", "told"),
    [('umask = "022"', 0, ""), ('umask = "9"', 78, '"9" is not a mask'), ('umask = "{version}"', 0, "")],
)
def test_what_an_automation_gives_is_held_against_the_flow(
    umask: str, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What holds a placeholder is known when something has happened, and not before."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "reports.py").write_text("def daily(region): ...\n")
    file = tmp_path / "tidemill.toml"
    file.write_text(CHECKED.replace("UMASK", umask))
    assert main(["check", str(file)], environ={"TZ": "UTC", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}) == code
    out = capsys.readouterr().out
    words = 'gives report the parameter regio: the flow has no such parameter; did you mean "region"?'
    assert f"tidemill.toml:12:8 automations.x.then: {words}" in out
    assert "regoin" not in out
    assert told in out
    assert ("gives job the parameter umask" in out) is bool(told)
