"""``tidemill db``: copies, the way back, whether the database is whole, and what may go."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from edges import Live, live
from tidemill.cli import inspections, progress
from tidemill.cli.main import main
from tidemill.store import schema
from tidemill.store.lock import StateLock


class Shell:
    """A person at a terminal, in front of a state directory whose daemon may be down."""

    def __init__(self, daemon: Live, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon, self.capsys = daemon, capsys
        self.folder = daemon.folder
        self.database = daemon.folder / "tidemill.db"

    def run(self, *argv: str, folder: Path | None = None) -> tuple[int, str, str]:
        self.capsys.readouterr()
        where = ["--state-dir", str(folder or self.folder)]
        code = main([*argv, *where], environ={"HOME": "/nonexistent", "TZ": "UTC"}, now=self.daemon.clock.now)
        return (code, *self.capsys.readouterr())

    def text(self, *argv: str, code: int = 0, folder: Path | None = None) -> str:
        found, out, err = self.run(*argv, folder=folder)
        assert found == code, err
        return out

    def json(self, *argv: str, code: int = 0, folder: Path | None = None) -> Any:
        return json.loads(self.text(*argv, "--output", "json", code=code, folder=folder))

    def finish(self, days_ago: float, **fields: Any) -> Any:
        """A run that was to start so many days ago and has completed."""
        mill = self.daemon.mill
        at = self.daemon.clock.now() - timedelta(days=days_ago)
        return self.daemon.do(mill.finish(self.daemon.do(mill.begin(self.daemon.do(mill.add(at=at, **fields))))))


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.delenv("COLUMNS", raising=False)
    folder = tmp_path / "state"
    folder.mkdir()
    with live(folder) as daemon:
        yield Shell(daemon, capsys)


@pytest.fixture
def stopped(shell: Shell) -> Shell:
    """With two runs, and the daemon gone."""
    shell.finish(1)
    shell.finish(2)
    shell.daemon.stop()
    return shell


# -- backup and restore ----------------------------------------------------------------------------------------------


def test_a_backup_beside_a_running_daemon_holds_what_it_has_done(shell: Shell, tmp_path: Path) -> None:
    shell.finish(1)
    out = shell.text("db", "backup", str(tmp_path / "copy.db"))
    assert f"{shell.database} is copied to {tmp_path}/copy.db" in out
    assert "in it: 1 flow run," in out
    shell.finish(2)  # the daemon goes on
    assert shell.json("db", "check", str(tmp_path / "copy.db"))["flow_runs"] == {"Completed": 1}


def test_in_a_folder_a_backup_is_named_by_the_time(shell: Shell, tmp_path: Path) -> None:
    found = shell.json("db", "backup", str(tmp_path))
    assert found["file"] == f"{tmp_path}/tidemill-20261121T090000Z.db"
    assert found["flow_runs"] == 0


def test_a_backup_overwrites_only_when_told_to(shell: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    code, _, err = shell.run("db", "backup", str(copy))
    assert code == 1
    assert "is there already; --force replaces it" in err
    assert copy.read_text() == "precious"
    shell.text("db", "backup", "--force", str(copy))
    assert shell.json("db", "check", str(copy))["ok"]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_backup_never_replaces_a_database_in_use(shell: Shell, force: tuple[str, ...]) -> None:
    before = shell.database.stat().st_ino
    code, _, err = shell.run("db", "backup", *force, str(shell.folder / "tidemill.db"))
    assert code == 1
    assert "tidemill.db" in err
    assert shell.database.stat().st_ino == before


@pytest.mark.parametrize("name", ["tidemill.db-wal", "tidemill.db-shm", "tidemill.db-journal", "daemon.lock"])
def test_a_backup_never_replaces_a_part_of_a_database(stopped: Shell, name: str) -> None:
    """SQLite would read the copy as the log of the database, and the daemon's work would be lost."""
    (stopped.folder / "daemon.lock").touch()
    (stopped.folder / name).write_bytes(b"")
    code, _, err = stopped.run("db", "backup", "--force", str(stopped.folder / name))
    assert (code, "belongs to the database beside it" in err) == (1, True)
    assert (stopped.folder / name).read_bytes() == b""


def test_a_backup_that_is_told_to_end_leaves_no_half_copy(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    there = set(tmp_path.iterdir())
    monkeypatch.setattr(progress.Progress, "share", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert shell.run("db", "backup", str(tmp_path / "copy.db"))[0] == 143
    assert set(tmp_path.iterdir()) == there
    assert signal.getsignal(signal.SIGTERM) == before


def test_two_restores_in_one_second_keep_both_old_databases(stopped: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    stopped.text("db", "backup", str(copy))
    stopped.text("db", "restore", str(copy))
    found = stopped.json("db", "restore", str(copy))["aside"]
    assert found == f"{stopped.folder}/tidemill.db.20261121T090000Z-2.aside"
    assert len(list(stopped.folder.glob("*.aside"))) == 2


def test_a_check_that_is_interrupted_finds_no_damage(stopped: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspections, "STEPS", 1)
    monkeypatch.setattr(progress.Progress, "say", ctrl_c)
    code, out, err = stopped.run("db", "check")
    assert (code, out, "damaged" in err) == (130, "", False)


def test_a_restore_brings_back_what_was_and_keeps_what_is(stopped: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    stopped.text("db", "backup", str(copy))
    with closing(sqlite3.connect(stopped.database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM run")
    out = stopped.text("db", "restore", str(copy))
    assert f"{stopped.database} is the copy {copy} now" in out
    aside = stopped.folder / "tidemill.db.20261121T090000Z.aside"
    assert f"what stood there before: {aside}" in out
    assert stopped.json("db", "check")["flow_runs"] == {"Completed": 2}
    assert stopped.json("db", "check", str(aside))["flow_runs"] == {}


def test_nothing_is_restored_under_a_running_daemon(shell: Shell, tmp_path: Path) -> None:
    shell.text("db", "backup", str(tmp_path / "copy.db"))
    before = shell.database.stat().st_ino
    lock = StateLock(shell.folder)
    lock.acquire(shell.daemon.clock.now())
    with lock:
        code, _, err = shell.run("db", "restore", str(tmp_path / "copy.db"))
    assert code == 78
    assert "in use by process" in err
    assert shell.database.stat().st_ino == before


def test_a_copy_is_put_into_a_state_directory_that_has_no_database(stopped: Shell, tmp_path: Path) -> None:
    stopped.text("db", "backup", str(tmp_path / "copy.db"))
    new = tmp_path / "new"
    code, _, err = stopped.run("db", "restore", str(tmp_path / "copy.db"), folder=new)
    assert (code, "there is no such state directory" in err) == (1, True)
    new.mkdir()
    assert "what stood there before" not in stopped.text("db", "restore", str(tmp_path / "copy.db"), folder=new)
    assert stopped.json("db", "check", folder=new)["flow_runs"] == {"Completed": 2}


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("restore", "nowhere.db"), 4, "there is no such file"),
        (("restore", "tidemill.db"), 1, "is the database itself"),
        (("backup", "no/such/folder/copy.db"), 1, "there is no such folder"),
        (("backup", "no-such-folder/"), 1, "there is no such folder"),
        (("check", "."), 78, "is a folder"),
        (("check", "nowhere.db"), 4, "there is no such file"),
    ],
)
def test_what_cannot_be_meant_is_told(
    stopped: Shell, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(stopped.folder)
    found, out, err = stopped.run("db", *argv)
    assert (found, out) == (code, "")
    assert words in err


def test_where_there_is_no_database_each_place_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (("db", "check"), ("db", "backup", str(tmp_path / "x.db")), ("db", "prune", "--dry-run")):
        assert main(argv, environ={"HOME": str(tmp_path)}) == 3
        assert f"{tmp_path}/.local/state/tidemill/tidemill.db" in capsys.readouterr().err


# -- check -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_a_database_that_is_well_is_told_so_with_what_is_in_it(stopped: Shell, options: tuple[str, ...]) -> None:
    out = stopped.text("db", "check", *options)
    for words in ("The file is whole", "What it holds agrees with itself.", "2 Completed", sqlite3.sqlite_version):
        assert words in out
    found = stopped.json("db", "check", *options)
    assert (found["ok"], found["full"], found["damage"], found["broken"]) == (True, bool(options), [], [])


def test_what_does_not_agree_with_itself_is_exit_1(stopped: Shell) -> None:
    with closing(sqlite3.connect(stopped.database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM history WHERE number = 1")
    assert "agrees with itself" in stopped.text("db", "check")  # the quick check looks at what has not ended
    out = stopped.text("db", "check", "--full", code=1)
    assert "Not so: a state follows the one before it (2 times)" in out
    assert stopped.json("db", "check", "--full", code=1)["broken"][0]["count"] == 2


def test_a_damaged_file_is_exit_78_and_stays_as_it_is(stopped: Shell) -> None:
    with stopped.database.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 4096 * 5)
    before = stopped.database.read_bytes()
    out = stopped.text("db", "check", code=78)
    assert "is damaged; stop the daemon and restore a copy" in out
    assert stopped.database.read_bytes() == before


def test_an_empty_database_is_told_so_and_not_by_a_missing_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tidemill.db").touch()
    assert main(["flow-run", "ls", "--state-dir", str(tmp_path)], environ={"HOME": str(tmp_path)}) == 3
    err = capsys.readouterr().err
    assert "tidemill.db: is empty; a daemon that starts on it fills it" in err
    assert "no such table" not in err


def test_an_older_database_is_told_so(stopped: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = len(schema.migrations())
    monkeypatch.setattr("tidemill.store.schema.migrations", lambda: ("",) * (newest + 1))
    code, _, err = stopped.run("flow-run", "ls")
    assert code == 3
    assert f"schema version {newest}, older than this program's {newest + 1}; start the daemon once" in err


# -- prune -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_and_changes_nothing(shell: Shell) -> None:
    for days in (1, 95, 100):
        shell.finish(days)
    out = shell.text("db", "prune", "--dry-run")
    assert "keep = 90d" in out
    assert "2  flow runs" in out
    assert shell.json("db", "prune", "--dry-run")["would_delete"]["runs"] == 2
    assert len(shell.json("flow-run", "ls")) == 3


def test_the_daemon_prunes_by_its_own_rules_or_by_those_given(shell: Shell) -> None:
    for days in (1, 2, 10, 95, 100):
        shell.finish(days)
    assert "Deleted 2 runs" in shell.text("db", "prune")
    assert shell.json("db", "prune", "--keep", "5d")["deleted"]["runs"] == 1
    assert shell.json("db", "prune", "--keep-runs", "1")["deleted"]["runs"] == 1
    assert shell.text("db", "prune") == "Nothing is to go.\n"
    assert len(shell.json("flow-run", "ls")) == 1


def test_while_the_daemon_is_down_the_configuration_says_what_goes(stopped: Shell, tmp_path: Path) -> None:
    config = tmp_path / "mill.toml"
    config.write_text('[retention]\nkeep = "36h"\n')
    assert stopped.json("db", "prune", "--dry-run", "--config", str(config))["would_delete"]["runs"] == 1
    assert "Deleted 1 run" in stopped.text("db", "prune", "--config", str(config))
    assert stopped.json("db", "check", "--full")["flow_runs"] == {"Completed": 1}


def test_a_fault_elsewhere_in_the_file_does_not_keep_from_pruning_but_one_in_retention_does(
    stopped: Shell, tmp_path: Path
) -> None:
    """A secret that only the daemon is given is missing wherever the command runs."""
    config = tmp_path / "mill.toml"
    config.write_text(
        '[retention]\nkeep = "36h"\n[deployments.a]\nurl = "http://h/"\nauth = { bearer = { env = "NONE" } }\n'
    )
    assert stopped.json("db", "prune", "--dry-run", "--config", str(config))["would_delete"]["runs"] == 1
    config.write_text('[retention]\nkeep = "soon"\n')
    code, _, err = stopped.run("db", "prune", "--config", str(config))
    assert (code, "mill.toml:2:8 retention.keep" in err) == (78, True)
    config.write_text('[retention\nkeep = "36h"\n')
    assert stopped.run("db", "prune", "--config", str(config))[0] == 78
    assert stopped.json("db", "check")["flow_runs"] == {"Completed": 2}


def test_pruning_without_a_daemon_takes_the_lock(stopped: Shell, tmp_path: Path) -> None:
    config = tmp_path / "mill.toml"
    config.write_text('[retention]\nkeep = "36h"\n')
    lock = StateLock(stopped.folder)
    lock.acquire(stopped.daemon.clock.now())
    with lock:
        code, _, err = stopped.run("db", "prune", "--config", str(config))
    assert code == 78
    assert "in use by process" in err
    assert stopped.json("db", "check")["flow_runs"] == {"Completed": 2}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--keep", "soon", 'keep: "soon"'),
        ("--keep-runs", "0", "keep_runs_per_deployment: 0 is not in 1"),
        ("--max-size", "1B", "max_database_size: "),
    ],
)
def test_a_rule_that_is_none_deletes_nothing(shell: Shell, option: str, value: str, words: str) -> None:
    shell.finish(1000)
    code, _, err = shell.run("db", "prune", option, value)
    assert code == 2
    assert words in err
    assert len(shell.json("flow-run", "ls")) == 1


# -- progress --------------------------------------------------------------------------------------------------------


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_that_is_gone_at_the_end() -> None:
    terminal, now = Terminal(), [0.0]
    with progress.Progress(terminal, lambda: now[0]) as told:
        told.share("copied", 0, 400_000_000, size=True)
        told.share("copied", 1, 400_000_000, size=True)  # too soon after the one before
        now[0] += 1
        told.share("copied", 200_000_000, 400_000_000, size=True)
    shown = terminal.getvalue()
    assert "\n" not in shown
    assert shown.split("\r\x1b[2K") == ["", "copied: 0 %, 0 B of 381 MiB", "copied: 50 %, 191 MiB of 381 MiB", ""]


def test_progress_says_nothing_in_a_pipe() -> None:
    pipe = StringIO()
    with progress.Progress(pipe, lambda: 0.0) as told:
        told.share("copied", 1, 2)
        told.say("done", last=True)
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("count", "plural", "words"),
    [
        (1, "runs", "1 run"),
        (1, "lines of the daemon", "1 line of the daemon"),
        (1, "skipped fires", "1 skipped fire"),
        (0, "runs", "0 runs"),
        (1200, "cached results", "1,200 cached results"),
    ],
)
def test_one_is_no_plural(count: int, plural: str, words: str) -> None:
    assert progress.counted(count, plural) == words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (812, "812 B"), (4300, "4.2 KiB"), (446_000_000, "425 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes_are_rounded_for_reading(size: int, words: str) -> None:
    assert progress.size_text(size) == words
