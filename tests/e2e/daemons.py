"""Real daemons in processes of their own, each with a state directory: ``from daemons import Daemon, until``."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tidemill.cli.main import main
from tidemill.flows import process_table

T = TypeVar("T")
DEADLINE_S = 60.0  # of whatever is waited for; on a busy machine everything takes its time
QUIET = "[api]\nlisten = []\n"


def until(look: Callable[[], T], what: str, *, deadline_s: float = DEADLINE_S) -> T:
    """Look again and again until something true is seen, and return it. The one place that waits here."""
    end = time.monotonic() + deadline_s
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.01)
    return seen


class Daemon:
    """One daemon and its folder; it can be started again and again."""

    def __init__(self, folder: Path, config: str, *, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.file = folder / "tidemill.toml"
        self.log_file = folder / "log"
        self.flows = folder / "flows"
        self.flows.mkdir(exist_ok=True)
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **(environ or {})}
        self.configure(config)
        self.process: subprocess.Popen[bytes]
        self._told = 0

    def configure(self, config: str) -> None:
        self.file.write_text(config if "[api]" in config else QUIET + config)

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self, *options: str, ready: bool = True, stdout: Any = None) -> Daemon:
        """Start it, and wait until it is ready."""
        self._told = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidemill.cli.main", *self.words(*options)],
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                env=self.environ,
                start_new_session=True,
            )
        if ready:
            if stdout is None:
                self.says("is ready")
            else:
                until(lambda: (self.state / "control.sock").exists() and self.answers(), "the daemon answers")
        return self

    def words(self, *options: str) -> list[str]:
        return ["start", str(self.file), "--state-dir", str(self.state), *options]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        return self.process.wait(DEADLINE_S)

    def clean_up(self) -> None:
        """End it and whatever its runs have left: all of it has this folder for its home."""
        if hasattr(self, "process") and self.process.poll() is None:
            self.kill()
        for each in process_table.processes():
            if process_table.variable(each.pid, "HOME") == str(self.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)

    # -- what it says ------------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """What this life of it has said so far."""
        with self.log_file.open("rb") as file:
            file.seek(self._told)
            return file.read().decode(errors="replace")

    def says(self, words: str) -> str:
        """Wait until the log has these words; return the line."""

        def look() -> str | None:
            ended = self.process.poll() is not None
            text = self.log
            if words in text:
                return next(line for line in text.splitlines() if words in line)
            assert not ended, f"it ended with {self.process.returncode} and never said {words!r}:\n{text}"
            return None

        try:
            return str(until(look, f"the log says {words!r}"))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    # -- asking it ---------------------------------------------------------------------------------------------------

    def command(self, *argv: str) -> tuple[int, str, str]:
        """Run a command as a person would; return exit code, stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*argv, "--state-dir", str(self.state)], environ=self.environ)
        return code, out.getvalue(), err.getvalue()

    def ask(self, *argv: str) -> Any:
        """Run a command that works, and return what it answers as JSON."""
        code, out, err = self.command(*argv, "--output", "json")
        assert code == 0 or argv == ("status",), (code, out, err)  # which is 1 where the daemon is not well
        return json.loads(out)

    def answers(self) -> bool:
        return self.command("status")[0] != 3

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read the database as it is on disk, also while it is in use."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state / 'tidemill.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def runs(self, deployment: str | None = None) -> list[dict[str, Any]]:
        """All runs: due, state, state_name, message, attempt, start_time, in the order they were expected."""
        found = self.rows(
            """
            SELECT flow_run.id, deployment, due, state, coalesce(state_name, ''), history.message, attempt, start_time
            FROM flow_run JOIN history ON history.run = flow_run.seq AND history.number = flow_run.state_number
            WHERE ?1 IS NULL OR deployment = ?1 ORDER BY expected_start, seq
            """,
            deployment,
        )
        names = ("id", "deployment", "due", "state", "state_name", "message", "attempt", "start_time")
        return [dict(zip(names, row, strict=True)) for row in found]

    def completed(self, deployment: str | None = None) -> list[dict[str, Any]]:
        return [run for run in self.runs(deployment) if run["state"] == "COMPLETED"]

    def run_in(self, state: str, deployment: str | None = None) -> dict[str, Any]:
        """Wait until a run is in that state, and return it."""
        return until(
            lambda: next((run for run in self.runs(deployment) if run["state"] == state), None), f"a run is {state}"
        )


@contextlib.contextmanager
def daemons(folder: Path) -> Iterator[Callable[..., Daemon]]:
    """Make daemons that are gone at the end."""
    made: list[Daemon] = []

    def make(config: str, **options: Any) -> Daemon:
        place = folder / f"d{len(made)}"
        place.mkdir()
        made.append(Daemon(place, config, **options))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.clean_up()


def alive(pid: int) -> bool:
    """Say whether a process is at work: one that has ended and is not reaped is not."""
    found = process_table.read(pid)
    return found is not None and not found.dead


def pids_in(file: Path) -> Sequence[int]:
    """The process ids that a script wrote into a file, a line each."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []
