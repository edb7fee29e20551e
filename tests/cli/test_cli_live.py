"""Commands against a daemon that answers on its control socket, and against the database of one that is down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edges import DEPLOYMENTS, LONG, Live, live
from tidemill.cli.main import main
from tidemill.core.states import StateType


class Shell:
    """A person at a terminal in front of one daemon."""

    def __init__(self, daemon: Live, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon, self.capsys = daemon, capsys

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


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.delenv("COLUMNS", raising=False)
    with live(tmp_path) as daemon:
        yield Shell(daemon, capsys)


def finished(shell: Shell, **fields: Any) -> Any:
    mill = shell.daemon.mill
    return shell.do(mill.finish(shell.do(mill.begin(shell.do(mill.add(**fields))))))


# -- flow-run --------------------------------------------------------------------------------------------------------


def test_an_empty_list_says_so_and_what_comes_next(shell: Shell) -> None:
    assert shell.text("flow-run", "ls") == f"No flow runs yet. Start one: tidemill deployment run {LONG}\n"
    assert shell.json("flow-run", "ls") == []
    assert "No flow runs match" in shell.text("flow-run", "ls", "--state", "Failed")
    assert shell.text("artifact", "ls") == "No artifacts yet.\n"
    shell.do(shell.daemon.mill.add(at=shell.daemon.clock.now() + timedelta(hours=1)))
    assert "No artifacts yet. Next run: bored-daily at " in shell.text("artifact", "ls")
    assert "No runs are to come" not in shell.text("flow-run", "ls", "--upcoming")


def test_a_run_that_ended_without_a_start_is_not_late(shell: Shell) -> None:
    mill, clock = shell.daemon.mill, shell.daemon.clock
    shell.do(mill.add(name="waits", at=clock.now()))
    clock.advance(60)
    assert "late" in shell.text("flow-run", "ls")
    assert shell.run("flow-run", "cancel", "waits")[0] == 0
    listed = shell.text("flow-run", "ls")
    assert ("never" in listed, "late" in listed) == (True, False)


def test_a_list_shows_the_newest_and_the_few_that_come_next(shell: Shell) -> None:
    mill, clock = shell.daemon.mill, shell.daemon.clock
    finished(shell, name="old")
    clock.advance(60)
    finished(shell, name="new")
    for hours in range(1, 9):
        shell.do(mill.add(name=f"in-{hours}h", at=clock.now() + timedelta(hours=hours)))
    names = [run["name"] for run in shell.json("flow-run", "ls")]
    assert names == ["in-5h", "in-4h", "in-3h", "in-2h", "in-1h", "new", "old"]
    assert [run["name"] for run in shell.json("flow-run", "ls", "--limit", "1")] == ["new"]
    assert len(shell.json("flow-run", "ls", "--upcoming")) == 8
    assert [run["name"] for run in shell.json("flow-run", "ls", "--state", "completed")] == ["new", "old"]
    assert [run["name"] for run in shell.json("flow-run", "ls", "--state", "Completed")] == ["new", "old"]
    assert [run["name"] for run in shell.json("flow-run", "ls", "--state", "COMPLETED", "--state", "timedout")] == [
        "new", "old"
    ]  # fmt: skip
    assert shell.json("flow-run", "ls", "--state", "late") == []
    out = shell.text("flow-run", "ls")
    assert out.splitlines()[0].split() == ["ID", "NAME", "DEPLOYMENT", "STATE", "START", "TOOK"]
    assert "in 5h00m" in out


def test_a_table_in_eighty_columns_cuts_no_name(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(shell, of=DEPLOYMENTS[2], name="brisk-otter")
    monkeypatch.setenv("COLUMNS", "80")
    for command in (("flow-run", "ls"), ("deployment", "ls"), ("work-queue", "ls"), ("work-pool", "ls")):
        lines = shell.text(*command).splitlines()
        assert max(map(len, lines)) <= 80, command
        if command[0] in ("flow-run", "deployment"):
            assert any(LONG in line for line in lines)


def test_a_run_is_inspected_with_its_history(shell: Shell) -> None:
    run = finished(shell, name="brisk-otter", tags=("a",), parameters={"x": 1})
    found = shell.json("flow-run", "inspect", run.id)
    assert found["state"]["type"] == "COMPLETED"
    assert [state["name"] for state in found["states"]] == ["Scheduled", "Pending", "Running", "Completed"]
    out = shell.text("flow-run", "inspect", "brisk_otter".replace("_", "-"))
    for words in ("brisk-otter", run.id, "Completed", '{"x": 1}', "History", "Pending"):
        assert words in out


def test_the_short_id_of_a_list_leads_to_the_run(shell: Shell) -> None:
    run = finished(shell)
    short = shell.text("flow-run", "ls").splitlines()[1].split()[0]
    assert shell.json("flow-run", "inspect", short)["id"] == run.id


def test_what_is_not_there_is_exit_4_with_near_names(shell: Shell) -> None:
    finished(shell, name="brisk-otter")
    for argv, words in (
        (("flow-run", "inspect", "nobody"), "nobody"),
        (("flow-run", "inspect", "brisk-oter"), "did you mean brisk-otter?"),
        (("deployment", "inspect", "bored-dayly"), "did you mean bored-daily?"),
        (("deployment", "run", "bored-dayly"), "did you mean bored-daily?"),
        (("work-queue", "pause", "enery_usage"), "did you mean energy_usage?"),
        (("artifact", "get", "nothing"), "none yet"),
        (("flow-run", "ls", "--deployment", "zzz"), "there are"),
    ):
        code, out, err = shell.run(*argv)
        assert code == 4, argv
        assert out == ""
        assert words in err


def test_logs_show_lines_with_time_and_level(shell: Shell) -> None:
    mill = shell.daemon.mill
    run = shell.do(mill.begin(shell.do(mill.add())))
    shell.do(mill.print(run, "hello", "two\nlines", "\x1b[31mred\x1b[0m \x1b]0;title\x07"))
    shell.do(mill.print(run, "bad", level=40))
    out = shell.text("flow-run", "logs", run.id)
    assert "INFO     hello" in out
    assert "ERROR    bad" in out
    assert "\x1b" not in out
    assert shell.text("flow-run", "logs", run.id, "--head", "1").endswith("hello\n")
    assert shell.text("flow-run", "logs", run.id, "--tail", "1").endswith("bad\n")
    errors = shell.json("flow-run", "logs", run.id, "--level", "error")
    assert [line["message"] for line in errors] == ["bad"]
    assert shell.run("flow-run", "logs", run.id, "--tail", "1001")[0] == 2


def test_logs_of_more_than_a_page_come_whole(shell: Shell) -> None:
    mill = shell.daemon.mill
    run = shell.do(mill.begin(shell.do(mill.add())))
    shell.do(mill.print(run, *(f"line {number}" for number in range(1203))))
    assert len(shell.text("flow-run", "logs", run.id).splitlines()) == 1203
    assert len(shell.text("flow-run", "logs", run.id, "--head", "700").splitlines()) == 700


def test_following_a_log_ends_with_the_run(shell: Shell) -> None:
    mill = shell.daemon.mill
    run = shell.do(mill.begin(shell.do(mill.add())))
    shell.do(mill.print(run, "before"))

    async def later() -> None:
        await mill.events.until(1)
        await mill.print(run, "after")
        await mill.finish(run)

    ending = shell.daemon.begin(later())
    out = shell.text("flow-run", "logs", "-f", run.id)
    ending.result(10)
    assert [line.split()[-1] for line in out.splitlines()] == ["before", "after"]


def test_a_run_is_cancelled_retried_and_deleted(shell: Shell) -> None:
    mill = shell.daemon.mill
    run = shell.do(mill.begin(shell.do(mill.add(name="brisk-otter"))))
    assert "is Cancelling" in shell.text("flow-run", "cancel", "brisk-otter", "--reason", "enough")
    assert shell.json("flow-run", "inspect", run.id)["state"]["message"] == "enough"
    code, _, err = shell.run("flow-run", "retry", run.id)
    assert code == 1
    assert "only a finished run is retried" in err
    shell.do(mill.finish(shell.do(mill.get(run.id)), StateType.CANCELLED))
    assert shell.json("flow-run", "retry", run.id)["state_name"] == "AwaitingRetry"
    assert "is deleted" in shell.text("flow-run", "delete", run.id)
    assert shell.run("flow-run", "inspect", run.id)[0] == 4


# -- deployment ------------------------------------------------------------------------------------------------------


def test_deployments_are_listed_with_what_comes_next(shell: Shell) -> None:
    finished(shell)
    shell.daemon.clock.advance(60)
    shell.do(shell.daemon.mill.add(at=shell.daemon.clock.now() + timedelta(hours=2)))
    out = shell.text("deployment", "ls")
    assert "0 9 * * * Europe/Helsinki" in out
    assert "in 2h00m" in out
    assert "Completed 1m00s ago" in out
    assert {each["name"] for each in shell.json("deployment", "ls")} == {each.name for each in DEPLOYMENTS}


def test_a_deployment_is_inspected_with_what_made_no_run(shell: Shell) -> None:
    shell.do(shell.daemon.mill.skip("the daemon was down"))
    finished(shell, name="brisk-otter")
    out = shell.text("deployment", "inspect", "http_request/bored-daily")
    for words in ("bored-daily", "0 9 * * * Europe/Helsinki", "url", "the daemon was down", "brisk-otter"):
        assert words in out


def test_a_run_is_started_with_parameters(shell: Shell) -> None:
    made = shell.json("deployment", "run", "bored_daily", "--param", "url=http://x", "--name", "mine", "--tag", "t")
    assert (made["name"], made["parameters"], made["tags"]) == ("mine", {"url": "http://x"}, ["t"])
    made = shell.json(
        "deployment", "run", "report-weekly", "-p", "n=3", "-p", 'l=["a"]', "--params", '{"n": 1, "m": null}'
    )
    assert made["parameters"] == {"n": 3, "l": ["a"], "m": None}
    made = shell.json("deployment", "run", "bored-daily", "--at", "2026-12-24T18:00:00+02:00")
    assert made["expected_start_time"] == "2026-12-24T16:00:00Z"
    assert "tidemill flow-run logs -f" in shell.text("deployment", "run", "bored-daily")


def test_a_parameter_that_may_not_be_given_is_refused(shell: Shell) -> None:
    """P15"""
    code, out, err = shell.run("deployment", "run", "bored-daily", "--param", "method=DELETE")
    assert (code, out) == (1, "")
    assert "method" in err
    assert shell.run("deployment", "run", "bored-daily", "--param", "method")[0] == 2
    assert shell.run("deployment", "run", "bored-daily", "--params", "[1]")[0] == 2
    assert shell.run("deployment", "run", "bored-daily", "--at", "2026-12-24T18:00:00")[0] == 2


@pytest.mark.parametrize(("ends_as", "code"), [(StateType.COMPLETED, 0), (StateType.FAILED, 1)])
def test_watching_a_run_ends_as_the_run_ends(shell: Shell, ends_as: StateType, code: int) -> None:
    mill = shell.daemon.mill

    async def carry() -> None:
        await mill.events.until(1)
        (run,) = [await mill.get(each) for each in mill.made]
        run = await mill.begin(run)
        await mill.print(run, "working")
        await mill.finish(run, ends_as, "so it ended")

    ending = shell.daemon.begin(carry())
    found, out, err = shell.run("deployment", "run", "bored-daily", "--watch")
    ending.result(10)
    assert found == code, err
    for words in ("Scheduled", "Running", "working", f"{ends_as.value.title()}: so it ended"):
        assert words in out


def test_watching_with_json_answers_the_run_as_it_ended(shell: Shell) -> None:
    mill = shell.daemon.mill

    async def carry() -> None:
        await mill.events.until(1)
        await mill.finish(await mill.begin(await mill.get(mill.made[0])))

    ending = shell.daemon.begin(carry())
    found = shell.json("deployment", "run", "bored-daily", "--watch")
    ending.result(10)
    assert found["state"]["type"] == "COMPLETED"


def test_watching_a_daemon_that_stops_is_no_success(shell: Shell) -> None:
    mill = shell.daemon.mill

    async def stop() -> None:
        await mill.events.until(1)
        shell.daemon.tell_to_stop()

    ending = shell.daemon.begin(stop())
    code, _, err = shell.run("deployment", "run", "bored-daily", "--watch")
    ending.result(10)
    assert code == 1
    assert "before the run ended" in err


def test_a_deployment_is_paused_and_resumed(shell: Shell) -> None:
    assert "bored-daily is paused" in shell.text("deployment", "pause", "bored-daily")
    assert "paused" in shell.text("deployment", "ls")
    assert shell.json("deployment", "resume", "bored-daily")["paused"] is False


# -- queues, pools, artifacts, status --------------------------------------------------------------------------------


def test_queues_and_pools_are_shown_paused_and_resumed(shell: Shell) -> None:
    shell.do(shell.daemon.mill.add(name="brisk-otter"))
    assert [each["name"] for each in shell.json("work-queue", "ls")] == ["default", "energy_usage"]
    assert "brisk-otter" in shell.text("work-queue", "inspect", "default")
    assert "is paused" in shell.text("work-queue", "pause", "energy-usage")
    assert shell.json("work-queue", "inspect", "energy_usage")["is_paused"] is True
    assert "is resumed" in shell.text("work-queue", "resume", "energy_usage")
    assert shell.json("work-pool", "pause", "spare")["status"] == "PAUSED"
    assert "paused" in shell.text("work-pool", "ls")
    assert "energy_usage" in shell.text("work-pool", "inspect", "default")
    assert "is resumed" in shell.text("work-pool", "resume", "spare")


def test_an_artifact_is_listed_inspected_compared_and_piped(shell: Shell) -> None:
    mill = shell.daemon.mill
    run = finished(shell)
    texts = ['{"activity":"bake","price":0.1}', '{"activity":"walk ☂","price":0}']
    for each in texts:
        shell.do(mill.keep("activity", each, run=run))
    assert [each["version"] for each in shell.json("artifact", "ls")] == [2]
    assert "activity" in shell.text("artifact", "ls")
    out = shell.text("artifact", "inspect", "activity")
    assert "2 (kept: 1-2)" in out
    assert '"activity": "walk ☂"' in out
    assert shell.json("artifact", "inspect", "activity", "--version", "1")["data"] == json.loads(texts[0])
    # The stored text itself, for jq and the like.
    assert shell.text("artifact", "get", "activity", "--raw") == texts[1] + "\n"
    assert shell.text("artifact", "get", "activity", "--raw", "--version", "1") == texts[0] + "\n"
    assert shell.json("artifact", "get", "activity") == json.loads(texts[1])
    out = shell.text("artifact", "diff", "activity", "1", "2", code=1)
    assert '-  "activity": "bake",' in out
    assert '+  "activity": "walk ☂",' in out
    assert "are equal" in shell.text("artifact", "diff", "activity", "2", "2")
    assert shell.json("artifact", "diff", "activity", "1", "2", code=1)["equal"] is False


def test_markdown_and_tables_are_shown_as_such(shell: Shell) -> None:
    mill = shell.daemon.mill
    shell.do(mill.keep("note", '"# Title\\n\\ntext"', type_="markdown"))
    shell.do(mill.keep("rows", '[{"a":1,"b":"x"},{"a":2,"c":null}]', type_="table"))
    assert shell.text("artifact", "get", "note") == "# Title\n\ntext\n"
    assert shell.text("artifact", "get", "rows").splitlines() == ["a  b  c", "1  x", "2"]


def test_status_tells_what_runs_what_is_late_and_what_was_set_by_hand(shell: Shell) -> None:
    out = shell.text("status")
    for words in (
        "ok, version 0.1.0, process 4711",
        "127.0.0.1:4200",
        "bored-daily  brisk-otter",
        "by 1m15s: the queue is paused",
        "default: paused, 1 of 2 running, 1 waiting",
        "work queue default: paused by hand since ",
        "by api",
    ):
        assert words in out
    assert shell.json("status")["state"] == "ok"


# -- while the daemon is down ----------------------------------------------------------------------------------------


def test_reads_of_a_daemon_that_is_down_come_from_its_database(shell: Shell) -> None:
    run = finished(shell, name="brisk-otter")
    shell.do(shell.daemon.mill.print(run, "hello"))
    shell.do(shell.daemon.mill.keep("activity", '{"a":1}', run=run))
    commands = (
        ("flow-run", "ls"),
        ("flow-run", "inspect", "brisk-otter"),
        ("flow-run", "logs", "brisk-otter"),
        ("deployment", "ls"),
        ("deployment", "inspect", "bored-daily"),
        ("work-queue", "ls"),
        ("work-pool", "inspect", "default"),
        ("artifact", "ls"),
        ("artifact", "inspect", "activity"),
    )
    before = [shell.text(*command, "--output", "json") for command in commands]
    shell.daemon.stop()
    for command, answer in zip(commands, before, strict=True):
        code, out, err = shell.run(*command, "--output", "json")
        assert code == 0
        assert out == answer, command
        assert f"the daemon is down; reading {shell.daemon.folder}/tidemill.db" in err
    code, out, err = shell.run("flow-run", "logs", "-f", "brisk-otter")
    assert (code, "hello" in out) == (0, True)


def test_changes_need_the_daemon(shell: Shell) -> None:
    run = finished(shell)
    shell.daemon.stop()
    for argv in (
        ("flow-run", "retry", run.id),
        ("flow-run", "delete", run.id),
        ("deployment", "run", "bored-daily"),
        ("deployment", "pause", "bored-daily"),
        ("work-queue", "pause", "default"),
    ):
        code, out, err = shell.run(*argv)
        assert (code, out) == (3, ""), argv
        assert "changes need it" in err
        assert f"{shell.daemon.folder}/control.sock: not there" in err


def test_status_of_a_daemon_that_is_down(shell: Shell) -> None:
    finished(shell)
    shell.daemon.stop()
    out = shell.text("status", code=3)
    assert "The daemon is down; never ran here." in out
    assert "Start it: tidemill start\n" in out
    assert "1 Completed" in out
    assert shell.json("status", code=3)["state"] == "down"


def test_another_users_database_is_not_read(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.daemon.stop()
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    code, out, err = shell.run("flow-run", "ls")
    assert (code, out) == (3, "")
    assert "belongs to another user" in err


def test_a_run_whose_name_would_steer_the_terminal_is_started_with_it_spelt_out(shell: Shell) -> None:
    out = shell.text("deployment", "run", "bored-daily", "--name", "a\x1b]0;title\x07")
    assert out.startswith(r"a\x1b]0;title\x07 (")


def test_a_file_that_is_no_database_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tidemill.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    assert main(["flow-run", "ls", "--state-dir", str(tmp_path)], environ={}) == 3
    assert "cannot be read: file is not a database; restore a copy, or name another" in capsys.readouterr().err


def test_a_daemon_that_says_nonsense_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket
    import threading

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control.sock"))
        listening.listen()

        def answer() -> None:
            for text in (
                b"SSH-2.0-OpenSSH\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>",
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",  # a server of something else
            ):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        for words in ("does not answer as a tidemill daemon does", "ended in the middle", "does not answer as a"):
            assert main(["status", "--state-dir", str(tmp_path)], environ={}) == 3
            assert words in capsys.readouterr().err
        thread.join()


@pytest.mark.network
def test_a_daemon_is_reached_by_its_address(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    port = shell.daemon.do(shell.daemon.listen())
    for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/api", f"http://localhost:{port}/api/"):
        assert main(["work-pool", "ls", "-o", "json"], environ={"TIDEMILL_API_URL": url}) == 0
        assert json.loads(capsys.readouterr().out)[0]["name"] == "default"
    # Through the control socket, named as an address.
    url = f"unix://{shell.daemon.folder}/control.sock"
    assert main(["work-pool", "ls", "--api", url], environ={}) == 0
