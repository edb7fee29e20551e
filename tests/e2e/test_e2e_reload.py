"""A real daemon, and somebody who edits its files in every way that editors, packages and accidents do."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon, until

from tidemill.cli.wire import Wire

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]
JOB = '[deployments.job]\ncommand = "echo one"\n'
SECONDLY = JOB + 'interval = "1s"\n'

EDITS = 500
SEED = 20261121


def in_force(daemon: Daemon) -> dict[str, Any]:
    """What the daemon runs by."""
    wire = Wire.to_socket(str(daemon.state / "control.sock"))
    try:
        found: dict[str, Any] = wire.ask("GET", "/configuration")["settings"]
        return found
    finally:
        wire.close()


# -- torture ---------------------------------------------------------------------------------------------------------


class Vandal:
    """Edits one file again and again, and knows which sets were good."""

    def __init__(self, daemon: Daemon, source: random.Random) -> None:
        self.daemon, self.file, self.source = daemon, daemon.file, source
        self.number = 0
        self.possible = {0}  # the numbers of the sets that may be in force
        self.broken = False  # what stands there now is no good set
        self.drop_in = daemon.folder / "more.d" / "extra.toml"
        self.drop_in.parent.mkdir()

    def text(self, number: int) -> str:
        """A good set. One schedule is always the same; two change with the number, one of them by name."""
        every = 1 + number % 2
        return (
            '[api]\nlisten = []\n[daemon]\ninclude = ["more.d/*.toml"]\n'
            f"[variables]\nnumber = {number}\n"
            '[deployments.steady]\ncommand = "true"\ninterval = "1s"\n'
            f'[deployments.fickle]\ncommand = "true"\ninterval = "{every}s"\n'
            '[deployments.named]\ncommand = "true"\n'
            f'[[deployments.named.schedules]]\nname = "n"\ninterval = "{every}s"\n'
            + (f'[deployments.guest-{number}]\ncommand = "true"\ncron = "0 0 1 1 *"\n' if number % 3 else "")
            + (f"[work_pools.guest]\nconcurrency_limit = {1 + number % 5}\n" if number % 4 else "")
        )

    def good(self) -> None:
        self.number += 1
        text = self.text(self.number)
        self.source.choice([self.in_place, self.in_pieces, self.renamed, self.swapped])(text)
        self.possible.add(self.number)
        self.broken = False

    def bad(self) -> None:
        text = self.text(self.number + 1_000_000)  # which must never be in force
        half = text[: self.source.randrange(20, len(text) - 80)].rstrip() + "\nx ="
        ways: list[Callable[[], None]] = [
            lambda: self.in_place(half),
            lambda: self.renamed(half),
            lambda: self.swapped(text.replace('"1s"', '"soon"')),
            lambda: self.in_place(text.replace("command", "comand")),
            lambda: self.renamed(text + "\n[deployments.steady]\n"),
            lambda: self.in_place(""),
            lambda: self.raw(text.encode() + b"\xff\xfe"),
            lambda: self.in_place(text + '[deployments.far]\nflow = "nowhere.py:flow"\n'),
            self.deleted,
            self.folder,
            self.dangling,
        ]
        self.source.choice(ways)()
        self.broken = True

    def neither(self) -> None:
        """What changes nothing of what the files say."""
        if not self.file.is_file():
            return
        ways: list[Callable[[], None]] = [
            lambda: self.file.chmod(self.source.choice([0o600, 0o644, 0o400])),
            lambda: os.utime(self.file),
            lambda: (self.file.parent / "tidemill.toml~").write_text("an editor's own"),
            lambda: self.daemon.process.send_signal(signal.SIGHUP),
            self.included,
        ]
        self.source.choice(ways)()

    def included(self) -> None:
        if self.drop_in.exists():
            self.drop_in.unlink()
        else:
            self.drop_in.write_text("[variables]\nextra = 1\n")

    def clear(self) -> None:
        if self.file.is_dir() and not self.file.is_symlink():
            self.file.rmdir()
        else:
            self.file.unlink(missing_ok=True)

    def in_place(self, text: str) -> None:
        self.raw(text.encode())

    def raw(self, data: bytes) -> None:
        if not self.file.is_file():
            self.clear()
        self.file.write_bytes(data)

    def in_pieces(self, text: str) -> None:
        if not self.file.is_file():
            self.clear()
        with self.file.open("w") as file:
            for start in range(0, len(text), 150):
                file.write(text[start : start + 150])
                file.flush()
                time.sleep(0.002)

    def renamed(self, text: str) -> None:
        beside = self.file.with_name(".tidemill.toml.swp")
        beside.write_text(text)
        if self.file.is_dir() and not self.file.is_symlink():
            self.file.rmdir()
        beside.rename(self.file)

    def swapped(self, text: str) -> None:
        releases = self.daemon.folder / "releases"
        releases.mkdir(exist_ok=True)
        target = releases / f"{self.number}-{self.source.random()}.toml"
        target.write_text(text)
        link = self.file.with_name(".link")
        link.symlink_to(target)
        if self.file.is_dir() and not self.file.is_symlink():
            self.file.rmdir()
        link.rename(self.file)

    def deleted(self) -> None:
        self.clear()

    def folder(self) -> None:
        self.clear()
        self.file.mkdir()

    def dangling(self) -> None:
        self.clear()
        self.file.symlink_to("nowhere.toml")

    def look(self) -> int:
        """The number of the set in force, which is a good one that can be meant."""
        settings = in_force(self.daemon)
        number = settings["variables"]["number"]
        assert number in self.possible, f"set {number} is in force; possible are {sorted(self.possible)}"
        assert settings["deployments"]["fickle"]["schedules"][0]["interval"] == f"PT{1 + number % 2}S"
        assert (f"guest-{number}" in settings["deployments"]) == bool(number % 3), "a set is whole or not at all"
        assert ("guest" in settings["work_pools"]) == bool(number % 4)
        return int(number)

    def settle(self) -> None:
        """Whatever was done before, in the end the daemon runs by the last good set."""
        if self.broken and len(self.possible) > 1:
            self.good()
        last = self.number
        if not self.broken:
            until(lambda: self.look() == last, f"set {last} is in force\n{self.daemon.log[-3000:]}")
            self.possible = {last}
        self.look()


def test_five_hundred_edits_of_a_live_file_lose_and_double_no_fire(make: Make) -> None:
    """P6, P8: the set in force is always the last good one; seeded."""
    source = random.Random(SEED)
    daemon = make("")
    vandal = Vandal(daemon, source)
    daemon.file.write_text(vandal.text(0))
    daemon.start()
    for number in range(EDITS):
        source.choices([vandal.good, vandal.bad, vandal.neither], weights=[5, 5, 2])[0]()
        time.sleep(source.choice([0, 0, 0.01, 0.05, 0.15]))
        if source.random() < 0.2:
            vandal.look()
        if number % 50 == 49:
            vandal.settle()
            assert daemon.process.poll() is None
    vandal.good()
    vandal.settle()
    vandal.bad()
    time.sleep(0.5)
    assert vandal.look() == vandal.number
    seen = len(daemon.completed("steady"))
    until(lambda: len(daemon.completed("steady")) > seen + 2, "it goes on")
    assert daemon.stop() == 0

    end = max(run["due"] for run in daemon.runs("steady") if run["state"] == "COMPLETED")
    for deployment, every in (("steady", 1), ("fickle", 2), ("named", 2)):
        runs = [run for run in daemon.runs(deployment) if run["due"] <= end]
        dues = [run["due"] // 1_000_000 for run in runs]
        assert len(dues) == len(set(dues)), f"{deployment}: a fire was doubled"
        wanted = set(range(dues[0] + dues[0] % every, dues[-1] + 1, every))
        assert wanted <= set(dues), f"{deployment}: a fire was lost: {sorted(wanted - set(dues))}"
        assert {run["state"] for run in runs} == {"COMPLETED"}, f"{deployment}: all of them ran"
    assert "Traceback" not in daemon.log

    daemon.start()  # with what the vandal has left
    assert vandal.look() == vandal.number, "the last good set is what a start with a broken file runs"
    assert daemon.stop() == 0


# -- one edit --------------------------------------------------------------------------------------------------------


def test_an_edit_is_seen_and_what_it_changed_is_told(make: Make) -> None:
    daemon = make(SECONDLY).start()
    daemon.configure(SECONDLY.replace("one", "two") + '[deployments.new]\ncommand = "true"\ncron = "0 9 * * *"\n')
    line = daemon.says("reloaded (the file was edited)")
    assert "~ deployment job: parameters (command)" in line
    assert "+ deployment new: shell, 0 9 * * *" in line
    until(lambda: "> two" in daemon.log, "the new command runs")
    code, out, _ = daemon.command("status", "--output", "json")
    assert code in (0, 1)
    assert json.loads(out)["reload"]["outcome"] == "ok"
    assert daemon.stop() == 0


def test_an_edit_made_while_it_starts_is_not_missed(make: Make) -> None:
    daemon = make(SECONDLY).start(ready=False)
    until((daemon.state / "daemon.lock").exists, "it has read its file")
    daemon.configure(SECONDLY.replace("one", "two"))
    until(lambda: "> two" in daemon.log, "the new command runs")
    assert daemon.stop() == 0


def test_sighup_and_the_command_wait_for_nobody_to_notice(make: Make) -> None:
    daemon = make(JOB).start()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("reloaded (SIGHUP): nothing has changed")
    daemon.file.write_text("[deployments.job]\ncomand = 1\n")
    code, out, err = daemon.command("reload")
    assert code == 1
    assert "comand: is no key of a deployment" in out
    assert "what was in force stays" in err
    daemon.configure(JOB + 'timeout = "5s"\n')
    code, out, _ = daemon.command("reload")
    assert (code, out) == (0, "~ deployment job: timeout not set → 5s\n") or "Nothing has changed" in out
    assert daemon.stop() == 0
    assert daemon.command("reload")[0] == 3


def test_systemd_is_told_of_each_reload(make: Make) -> None:
    """Type=notify-reload: RELOADING=1 with the monotonic time, and READY=1 after it, also where it is refused."""
    daemon = make(JOB)
    path = daemon.folder / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(20)
        daemon.environ["NOTIFY_SOCKET"] = str(path)
        daemon.start()

        def told(first: str) -> str:
            while not (message := heard.recv(4096).decode()).startswith(first):
                pass
            return message

        told("READY=1")
        for text in (JOB + 'timeout = "5s"\n', "nonsense"):
            before = time.monotonic()
            daemon.file.write_text(text)
            reloading = told("RELOADING=1")
            at = int(next(line for line in reloading.splitlines() if "MONOTONIC_USEC" in line).partition("=")[2])
            assert before * 1e6 <= at <= time.monotonic() * 1e6
            ready = told("READY=1")
        assert "nonsense" in ready or "configuration" in ready, "the status line says what is wrong"
        assert daemon.stop() == 0


# -- flow code -------------------------------------------------------------------------------------------------------

FLOW = """
from tidemill import flow
from helper import word


@flow(log_prints=True)
def say():
    print("say", word())
"""


@pytest.mark.parametrize("pool", ["default", "process"])
def test_edited_flow_code_is_what_the_next_run_runs(make: Make, pool: str) -> None:
    """Helpers, too; and code that does not import is refused, whatever is in force running on."""
    daemon = make(f'[deployments.say]\nflow = "say.py:say"\nwork_pool = "{pool}"\n')
    helper = daemon.flows / "helper.py"
    (daemon.flows / "say.py").write_text(FLOW)
    helper.write_text('def word():\n    return "one"\n')
    daemon.start()

    def said() -> str:
        code, out, err = daemon.command("deployment", "run", "say", "--watch")
        assert code == 0, (out, err)
        return out

    assert "say one" in said()
    helper.write_text('def word():\n    return "two!"\n')
    assert "flow code is imported anew" in daemon.says("reloaded (flow code was edited)")
    assert "say two!" in said()
    helper.write_text("def word(:\n")
    daemon.says("not reloaded (flow code was edited)")
    if pool == "default":
        assert "say two!" in said(), "what was imported before"
    helper.write_text('def word():\n    return "three!!"\n')
    until(lambda: not daemon.ask("status")["problems"], "all is well again")
    assert "say three!!" in said()
    assert daemon.stop() == 0


# -- plan, drop-ins --------------------------------------------------------------------------------------------------


def test_check_prints_what_the_running_daemon_would_change(make: Make) -> None:
    daemon = make(JOB + 'cron = "0 9 * * *"\n').start()
    assert "has it in force already" in daemon.command("check", str(daemon.file))[1]
    copy: Path = daemon.folder / "other.toml"
    copy.write_text(daemon.file.read_text())
    assert "The daemon" not in daemon.command("check", str(copy))[1], "it does not run by that one"
    daemon.process.send_signal(signal.SIGSTOP)  # so that it does not notice before we have asked
    daemon.configure(JOB + 'cron = "0 10 * * *"\n[deployments.new]\ncommand = "true"\ninterval = "1h"\n')
    daemon.process.send_signal(signal.SIGCONT)
    code, out, _ = daemon.command("check", str(daemon.file), "--output", "json")
    assert code == 0
    plan = json.loads(out)["plan"]
    texts = [change["text"] for change in plan["changes"]]
    if texts:  # else it was quicker than we were
        assert texts == [
            "~ deployment job: schedules 0 9 * * * Etc/UTC → 0 10 * * * Etc/UTC",
            "+ deployment new: shell, every 1h",
        ]
    assert daemon.stop() == 0


def test_what_commands_make_stands_beside_the_file_until_it_is_adopted(make: Make) -> None:
    daemon = make(JOB).start()
    flow = daemon.flows / "etl.py"
    flow.write_text("from tidemill import flow\n\n@flow\ndef nightly(region: str):\n    return region\n")
    before = daemon.file.read_text()
    code, out, err = daemon.command(
        "deploy", f"{flow}:nightly", "--name", "n1", "--cron", "0 3 * * *", "--timezone", "UTC", "-p", "region=fi"
    )
    assert code == 0, err
    assert out.startswith("deployment n1 is made: etl.py:nightly, 0 3 * * * UTC\nIt runs next at ")
    assert daemon.command("deploy", f"{flow}:nightly", "--name", "n2")[0] == 1, "its parameter is missing"
    assert daemon.command("work-queue", "create", "line", "--concurrency-limit", "2")[0] == 0
    assert daemon.command("variable", "set", "region", '{"a": 1}')[0] == 0
    assert daemon.command("variable", "get", "region")[1] == '{"a": 1}\n'
    assert daemon.file.read_text() == before, "a person's file is never rewritten"
    assert daemon.stop() == 0

    # While it is down: under its lock, checked as it would check it.
    assert daemon.command("variable", "set", "region", "se")[0] == 0
    code, _, err = daemon.command("deploy", "etl.py:nightly", "--name", "n3", "--cron", "61 * * * *")
    assert code == 1
    assert "deployments.n3.cron" in err
    assert daemon.command("work-queue", "delete", "line")[0] == 0
    daemon.start()
    assert {each["name"] for each in daemon.ask("deployment", "ls")} == {"job", "n1"}
    assert daemon.command("variable", "get", "region")[1] == "se\n"

    assert daemon.command("adopt", "n1", "--remove")[0] == 1, "nobody has pasted it yet"
    daemon.file.write_text(before + "\n" + daemon.command("adopt", "n1")[1])
    assert daemon.command("adopt", "n1", "--remove")[0] == 0
    assert {each["name"] for each in daemon.ask("deployment", "ls")} == {"job", "n1"}
    code, _, err = daemon.command("deployment", "delete", "n1")
    assert code == 4
    assert "delete it there" in err
    assert daemon.stop() == 0
