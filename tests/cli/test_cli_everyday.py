"""Every day's commands against a daemon that answers: limits by hand, drain, changes of many runs, backfills, why."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from edges import Live, live
from tidemill.cli import status
from tidemill.cli.main import main
from tidemill.core.states import StateType


class Shell:
    """A person at a terminal in front of one daemon."""

    def __init__(self, daemon: Live, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon, self.mill, self.capsys = daemon, daemon.mill, capsys

    def run(self, *argv: str) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr of a command."""
        self.capsys.readouterr()
        where = [*argv, "--state-dir", str(self.daemon.folder)]
        code = main(where, environ={"HOME": "/nonexistent"}, now=self.daemon.clock.now)
        return (code, *self.capsys.readouterr())

    def text(self, *argv: str, code: int = 0) -> str:
        found, out, err = self.run(*argv)
        assert found == code, err
        return out

    def json(self, *argv: str, code: int = 0) -> Any:
        return json.loads(self.text(*argv, "--output", "json", code=code))

    def do(self, work: Any) -> Any:
        return self.daemon.do(work)

    def finished(self, type_: StateType = StateType.COMPLETED, **fields: Any) -> Any:
        return self.do(self.mill.finish(self.do(self.mill.begin(self.do(self.mill.add(**fields)))), type_))


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with live(tmp_path) as daemon:
        yield Shell(daemon, capsys)


# -- limits and priorities by hand -----------------------------------------------------------------------------------


def test_a_limit_is_set_by_hand_shown_and_cleared(shell: Shell) -> None:
    out = shell.text("work-queue", "set-concurrency-limit", "energy-usage", "7")
    assert out == (
        "energy_usage: concurrency_limit is 7 (the file says 2).\n"
        "It holds until the file says otherwise, or: tidemill work-queue clear-override energy_usage "
        "concurrency_limit\n"
    )
    assert "concurrency_limit is 7 by hand since" in shell.text("work-queue", "inspect", "energy_usage")
    assert shell.json("work-queue", "clear-concurrency-limit", "energy_usage")["concurrency_limit"] is None
    assert shell.json("work-queue", "set-priority", "energy_usage", "5")["priority"] == 5
    assert shell.text("work-queue", "clear-override", "energy_usage") == (
        "energy_usage: the file's word holds again: concurrency_limit is 2, priority is 2.\n"
    )
    assert shell.text("work-queue", "clear-override", "energy_usage") == "energy_usage: nothing was set by hand.\n"
    assert shell.json("work-pool", "set-concurrency-limit", "spare", "2")["concurrency_limit"] == 2
    assert shell.text("work-pool", "clear-concurrency-limit", "spare") == (
        "spare: concurrency_limit is 4, as the file says.\n"
    )
    assert shell.json("deployment", "set-concurrency-limit", "bored-daily", "3")["concurrency_limit"] == 3
    shell.text("deployment", "pause", "bored-daily")
    assert shell.text("deployment", "clear-override", "bored-daily", "paused") == (
        "bored-daily: the file's word holds again: not paused.\n"
    )


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5"])
def test_a_limit_is_a_number_from_one_up(shell: Shell, number: str) -> None:
    assert shell.run("work-queue", "set-concurrency-limit", "default", "--", number)[0] == 2


def test_status_says_what_was_set_by_hand_since_when_and_by_whom() -> None:
    held = {"kind": "work_queue", "name": "slow", "key": "paused", "by": "ada", "at": "2026-06-01T12:00:00Z"}
    table = [
        ({"value": True, "file_value": False}, "work queue slow: paused by hand since "),
        ({"value": False, "file_value": True}, "work queue slow: resumed by hand since "),
        ({"key": "priority", "value": 3, "file_value": 1}, "work queue slow: priority is 3 by hand since "),
    ]
    for given, begin in table:
        said = status.overrides.sentence(held | given)
        assert said.startswith(begin)
        assert "by ada" in said
        assert "True" not in said
        assert "False" not in said
    assert status.overrides.sentence(held | {"value": False, "file_value": True}).endswith("(the file pauses it)")


def test_status_shows_the_last_reload_who_is_told_what_failed_and_what_goes_on(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = shell.daemon.clock.now().isoformat()
    brief = {"id": "0" * 36, "name": "calm-heron", "deployment": "report"}
    channel = {"name": "default", "type": "mail", "waiting": 2, "error": "refused", "delivered": None,
               "failing_since": now}  # fmt: skip
    later = (shell.daemon.clock.now() + timedelta(minutes=4)).isoformat()
    paced = channel | {"name": "chat", "error": None, "delivered": now, "failing_since": None, "next": later}
    backfill = {
        "id": "1" * 36,
        "deployment": "report",
        "by": "ada",
        "made": 3,
        "passed_over": 1,
        "total": 9,
        "running": 2,
    }
    parts = {
        "state": "draining",
        "reload": {"at": now, "outcome": "refused", "summary": "2 faults", "faults": ["a", "b"]},
        "notify": {"channels": [channel, paced]},
        "lately": {"ended": {"Completed": 281, "Failed": 4, "TimedOut": 1},
                   "failed": [brief | {"state_name": "TimedOut", "at": now, "message": "no answer"},
                              brief | {"state_name": "Failed", "at": now, "message": "x" * 2000}]},
        "drain": {"draining": True, "since": now, "by": "ada", "waits_for": [brief]},
        "backfills": [backfill],
        "paused": [{"name": "old", "by_hand": False, "since": None, "by": None}],
        "shadow": ["a", "b"],
    }  # fmt: skip
    usual = shell.do(shell.mill.status())

    async def told() -> dict[str, Any]:
        return usual | parts

    monkeypatch.setattr(shell.mill, "status", told)
    out = shell.text("status")
    for words in (
        "Daemon         draining, version",
        "last reload refused now: 2 faults, below; what was in force before goes on",
        "Deployments    3; in shadow mode: a, b",
        "Last day       281 Completed, 4 Failed, 1 TimedOut",
        "default (mail): failing for now: refused; 2 wait",
        "chat (mail): last told now; 2 wait, the next goes in 4m00s",
        "Failed now: " + "x" * 300 + "…\n  … and 3 more\n",
        "by ada: waits for 1 run. Undo: tidemill drain --undo",
        "report  calm-heron (00000000), TimedOut now: no answer",
        "report (11111111) by ada: 4 of 9 fires, 2 running",
        "Paused by the file\n  deployment old\n",
        "work queue default: paused by hand since",
        "Why? tidemill why RUN",
    ):
        assert words in out, out
    parts["reload"] = {"at": now, "outcome": "ok", "summary": "1 added", "restart": ["api.listen"]}
    parts["notify"] = {"channels": []}
    out = shell.text("status")
    assert "reloaded now: 1 added\n" in out
    assert "only a restart takes over: api.listen" in out
    assert "Told           nobody, whatever goes wrong" in out


# -- drain -----------------------------------------------------------------------------------------------------------


def waited(name: str, state: str = "Running") -> dict[str, Any]:
    return {"id": "0" * 28 + "12345678", "name": name, "deployment": "job", "state_name": state, "since": None,
            "seconds": 63.0}  # fmt: skip


def test_draining_with_nothing_running_is_done_at_once(shell: Shell) -> None:
    out = shell.text("drain")
    assert out == "Nothing new starts.\nNothing runs. Stop it now, or start runs again: tidemill drain --undo\n"
    assert shell.text("drain", "--undo") == "The daemon starts runs again; 0 were waiting.\n"


def test_draining_says_what_it_waits_for_until_that_has_ended(shell: Shell) -> None:
    shell.mill.draining.waits_for = [waited("brisk-otter"), waited("calm-heron", "Paused")]
    shell.daemon.loop.call_soon_threadsafe(lambda: shell.daemon.loop.call_later(0.2, shell.mill.draining.end_all))
    out = shell.text("drain")
    assert "Waiting for 2 runs:\n  job  brisk-otter (12345678), for 1m03s\n" in out
    assert "calm-heron (12345678), paused for 1m03s: tidemill flow-run resume 12345678" in out
    assert out.splitlines()[-1].startswith("Nothing runs.")


def test_draining_waits_no_longer_than_told(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.mill.draining.waits_for = [waited("brisk-otter")]
    began = shell.daemon.clock.now()
    times = iter([began, began, began + timedelta(seconds=5)])
    monkeypatch.setattr(shell.daemon.clock, "now", lambda: next(times, began + timedelta(seconds=5)))
    monkeypatch.setattr("tidemill.cli.drain.LOOK_S", 0.01)
    out = shell.text("drain", "--timeout", "3s", code=1)
    assert "After 3s there still run:\n  job  brisk-otter" in out
    assert shell.run("drain", "--timeout", "soon")[0] == 2


# -- many runs -------------------------------------------------------------------------------------------------------


def test_several_runs_are_cancelled_by_name(shell: Shell) -> None:
    for name in ("one", "two", "three"):
        shell.do(shell.mill.add(name=name))
    assert shell.text("flow-run", "cancel", "one", "two") == "2 runs cancelled.\n"
    states = {run["name"]: run["state_name"] for run in shell.json("flow-run", "ls")}
    assert states == {"one": "Cancelled", "two": "Cancelled", "three": "Scheduled"}
    code, out, err = shell.run("flow-run", "cancel", "one", "three")
    assert (code, out) == (1, "1 run cancelled.\n")
    assert "one" in err
    assert "already" in err


def test_all_runs_that_fit_are_cancelled_but_not_those_to_come(shell: Shell) -> None:
    shell.do(shell.mill.begin(shell.do(shell.mill.add(name="running"))))
    shell.do(shell.mill.add(name="waiting"))
    shell.do(shell.mill.add(name="to-come", at=shell.daemon.clock.now() + timedelta(hours=1)))
    shell.finished(name="done")
    out = shell.text("flow-run", "cancel", "--deployment", "bored_daily", "--dry-run")
    assert out.startswith("2 runs would be cancelled:\n")
    assert "to-come" not in out
    code, _, err = shell.run("flow-run", "cancel", "--deployment", "bored-daily")
    assert code == 2
    assert "2 runs would be cancelled; say --yes, or look first with --dry-run" in err
    found = shell.json("flow-run", "cancel", "--deployment", "bored-daily", "--yes", "--reason", "enough")
    assert (len(found["cancelled"]), found["refused"]) == (2, [])
    states = {run["name"]: run["state_name"] for run in shell.json("flow-run", "ls")}
    assert states == {"running": "Cancelling", "waiting": "Cancelled", "to-come": "Scheduled", "done": "Completed"}


def test_a_person_is_asked_before_many_are_deleted(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("one", "two"):
        shell.finished(name=name)
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    code, _, err = shell.run("flow-run", "delete", "--state", "completed")
    assert code == 1
    assert "Nothing was changed." in err
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "y")
    assert shell.text("flow-run", "delete", "--state", "completed") == "2 runs deleted.\n"
    assert asked == ["Delete 2 runs? [y/N] "] * 2
    assert shell.json("flow-run", "ls") == []


def test_what_failed_is_retried_and_what_completed_is_not(shell: Shell) -> None:
    shell.finished(StateType.FAILED, name="failed")
    shell.finished(StateType.CRASHED, name="crashed")
    shell.finished(name="done")
    assert shell.text("flow-run", "retry", "--deployment", "bored-daily", "--yes") == "2 runs retried.\n"
    states = {run["name"]: run["state_name"] for run in shell.json("flow-run", "ls", "--state", "SCHEDULED")}
    assert states == {"failed": "AwaitingRetry", "crashed": "AwaitingRetry"}
    assert shell.text("flow-run", "retry", "--state", "failed", "--yes") == "No runs fit, so none is retried.\n"


def test_a_command_that_names_no_runs_changes_none(shell: Shell) -> None:
    for argv in (("flow-run", "delete"), ("flow-run", "delete", "one", "--state", "failed")):
        code, _, err = shell.run(*argv)
        assert code == 2
        assert "name runs, or say which by --deployment" in err


def test_more_runs_than_one_request_takes(shell: Shell) -> None:
    for number in range(230):
        shell.do(shell.mill.add(name=f"run-{number}", tags=("many",)))
    assert shell.text("flow-run", "cancel", "--tag", "many", "--yes") == "230 runs cancelled.\n"


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_run_with_a_slash_in_its_name_is_found_by_it(shell: Shell) -> None:
    """Also while the daemon is down."""
    run = shell.finished(name="a/b c?d#e%2F")
    assert shell.json("flow-run", "inspect", "a/b c?d#e%2F")["id"] == run.id
    assert shell.text("flow-run", "delete", "a/b c?d#e%2F").endswith("is deleted\n")
    assert shell.run("flow-run", "inspect", "no/such")[0] == 4
    shell.finished(name="x/y")
    shell.daemon.stop()
    assert shell.json("flow-run", "inspect", "x/y")["name"] == "x/y"


def test_runs_of_a_deployment_that_is_gone_are_listed_by_its_name(shell: Shell) -> None:
    from edges import deployment

    shell.finished(of=deployment("old-job"), name="brisk-otter")
    assert [run["name"] for run in shell.json("flow-run", "ls", "--deployment", "old_job")] == ["brisk-otter"]
    assert shell.run("flow-run", "ls", "--deployment", "older-job")[0] == 4


def test_an_option_that_names_nothing_is_refused_and_not_passed_over(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--state-dir "$UNSET"`` must not mean another daemon's."""
    monkeypatch.chdir(tmp_path)
    for argv, code in (
        (("status", "--state-dir", ""), 2),
        (("status", "--api", ""), 2),
        (("schedule", "preview", "--cron", "0 9 * * *", "--tz", ""), 2),
        (("init", "--tz", ""), 1),
    ):
        assert main(list(argv), environ={"HOME": str(tmp_path)}) == code, argv
        err = capsys.readouterr().err
        assert "nothing is named" in err or "time zone" in err
    assert not (tmp_path / "tidemill.toml").exists()


# -- why -------------------------------------------------------------------------------------------------------------


def test_why_explains_a_run_or_a_deployment(shell: Shell) -> None:
    run = shell.finished(StateType.FAILED, name="brisk-otter")
    assert shell.text("why", "brisk-otter").startswith("Flow run brisk-otter\n  It failed at 20")
    assert shell.json("why", run.id[-8:])["findings"][0]["kind"] == "failed"
    out = shell.text("why", "bored-daily")
    assert out.startswith("Deployment bored-daily\n  Its last run, brisk-otter")
    assert f"-> tidemill flow-run logs {run.id[-8:]}" in out
    found = shell.json("why", "bored-daily", "--at", "2020-01-01 09:00")
    assert found["findings"][0]["kind"] == "not-there-yet"
    assert found["timezone"] == "Europe/Helsinki"
    assert shell.text("why", "bored-daily", "--at", "2020-01-01").startswith(
        "Deployment bored-daily at 2020-01-01 (Europe/Helsinki)\n"
    )
    day = datetime.fromisoformat(shell.json("why", "bored-daily", "--at", "09:00")["first"])
    assert shell.text("why", "bored-daily", "--at", "09:00").startswith(
        f"Deployment bored-daily at 09:00, {day.astimezone(ZoneInfo('Europe/Helsinki')):%Y-%m-%d} (Europe/Helsinki)\n"
    )
    assert shell.run("why", "nobody")[0] == 4
    code, _, err = shell.run("why", "bored-daily", "--at", "soon")
    assert code == 2
    assert '"soon" is no time; write for example "2026-03-29"' in err


def test_why_answers_while_the_daemon_is_down(shell: Shell) -> None:
    shell.do(shell.mill.add(name="brisk-otter"))
    shell.daemon.stop()
    code, out, err = shell.run("why", "brisk-otter")
    assert code == 0
    assert "the daemon is down" in out
    assert "the daemon is down; reading" in err


# -- backfill --------------------------------------------------------------------------------------------------------


def test_a_backfill_that_was_never_begun_is_told_so(shell: Shell) -> None:
    out = shell.text("deployment", "backfill", "bored-daily")
    assert out.startswith("bored-daily was never backfilled. Begin: tidemill deployment backfill bored-daily --from")
    assert shell.json("deployment", "backfill", "bored-daily") == []


def test_a_backfill_from_a_time_that_is_none_is_wrong_usage(shell: Shell) -> None:
    code, _, err = shell.run("deployment", "backfill", "bored-daily", "--from", "banana")
    assert code == 2
    assert '"banana" is no time; write for example "2026-03-29"' in err
