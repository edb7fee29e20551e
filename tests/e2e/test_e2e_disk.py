"""A real disk that is full, and a database that may not be written (P11)."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemons import Daemon, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]
CONFIG = """
    [deployments.tick]
    command = "true"
    interval = "1s"
    catch_up = "all"
    [deployments.job]
    command = "true"
    """


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with three megabytes."""
    if os.geteuid() != 0:
        pytest.skip("a full disk needs a tmpfs, and mounting one needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a full disk needs a tmpfs, and none can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take all the room there is."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return ballast


@pytest.mark.root
def test_a_full_disk_is_said_stops_nothing_for_good_and_loses_nothing_told(make: Make, small_disk: Path) -> None:
    """P3, P11: degraded, refused with the reason, and well again by itself."""
    daemon = make(CONFIG)
    daemon.state = small_disk
    daemon.start()
    told = [daemon.ask("deployment", "run", "job")["id"] for _ in range(5)]
    until(lambda: len(daemon.completed("job")) == 5, "what was asked for has run")
    until(lambda: daemon.completed("tick"), "the schedule has fired before the disk is full")
    ballast = fill(small_disk)

    def refused() -> bool:
        code, out, err = daemon.command("deployment", "run", "job", "--output", "json")
        if code == 0:
            told.append(json.loads(out)["id"])
            fill(small_disk.parent / "disk")  # what room was left is taken
            return False
        assert "full" in out + err, (code, out, err)
        return True

    until(refused, "a run is refused because the disk is full")
    status = until(lambda: (found := daemon.ask("status"))["state"] == "degraded" and found, "the status says so")
    assert "full" in " ".join(status["problems"])
    daemon.says("The database cannot be written")
    assert daemon.process.poll() is None
    ballast.unlink()
    daemon.says("The database can be written again")
    until(lambda: daemon.ask("status")["state"] == "ok", "it is well again by itself")
    told.append(daemon.ask("deployment", "run", "job")["id"])
    until(lambda: {run["id"] for run in daemon.completed("job")} >= set(told), "all that was told has run")
    assert daemon.log.count("The database cannot be written") <= 3
    assert daemon.stop() == 0
    ticks = [run["due"] for run in daemon.runs("tick") if run["state"] in ("COMPLETED", "CRASHED", "CANCELLED")]
    assert len(ticks) == len(set(ticks))
    skipped = daemon.rows("SELECT coalesce(sum(count), 0) FROM skipped_fire")[0][0]
    wanted = (max(ticks) - min(ticks)) // 1_000_000 + 1
    assert len(ticks) + skipped >= wanted, "each second is accounted for"


@pytest.mark.root
def test_a_stop_on_a_full_disk_ends_and_the_next_start_finds_all_that_was_told(make: Make, small_disk: Path) -> None:
    """P9, P11."""
    daemon = make(CONFIG)
    daemon.state = small_disk
    daemon.start()
    run_id = daemon.ask("deployment", "run", "job")["id"]
    until(lambda: daemon.completed("job"), "it has run")
    ballast = fill(small_disk)
    until(lambda: daemon.ask("status")["state"] == "degraded", "the disk is full")
    assert daemon.stop() == 0
    ballast.unlink()
    daemon.start()
    assert [run["id"] for run in daemon.completed("job")] == [run_id]


@pytest.mark.root
def test_a_start_on_a_full_disk_fails_and_says_why(make: Make, small_disk: Path) -> None:
    """P11: the service manager tries again."""
    daemon = make(CONFIG)
    daemon.state = small_disk
    daemon.start()
    assert daemon.stop() == 0
    ballast = fill(small_disk)
    daemon.start(ready=False)
    try:
        code = daemon.process.wait(3)
    except subprocess.TimeoutExpired:
        assert daemon.ask("status")["state"] == "degraded"
    else:
        assert code not in (0, 78), "it may go better next time"
        assert "full" in daemon.log or "No space" in daemon.log
    ballast.unlink()
    daemon.clean_up()
    daemon.start()
    until(lambda: daemon.completed("tick"), "it runs")


def test_a_database_that_another_process_holds_is_said_and_heals(make: Make) -> None:
    """P11: a person in the sqlite3 shell, in the middle of a transaction."""
    daemon = make(CONFIG).start()
    until(lambda: daemon.completed("tick"), "it runs")
    with contextlib.closing(sqlite3.connect(daemon.state / "tidemill.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        daemon.says("The database cannot be written")
        assert "locked" in " ".join(daemon.ask("status")["problems"])
        other.execute("ROLLBACK")
    daemon.says("The database can be written again")
    code, out, err = daemon.command("deployment", "run", "job", "--watch")
    assert code == 0, (out, err)
    assert daemon.stop() == 0


@pytest.mark.root
def test_a_read_only_file_system_at_start_is_refused_with_the_reason(make: Make, small_disk: Path) -> None:
    """P11: and all is there when it can be written again."""
    daemon = make(CONFIG)
    daemon.state = small_disk
    daemon.start()
    until(lambda: daemon.completed("tick"), "it runs")
    assert daemon.stop() == 0
    before = len(daemon.completed("tick"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        assert daemon.start(ready=False).ended() not in (0, None)
        assert str(small_disk) in daemon.log
        assert "not writable" in daemon.log or "Read-only" in daemon.log
        assert daemon.command("flow-run", "ls")[0] in (0, 3)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    daemon.start()
    until(lambda: len(daemon.completed("tick")) > before, "it goes on")


@pytest.mark.root
def test_a_read_only_database_at_start_is_refused_with_the_reason(make: Make) -> None:
    """P11: as another user, for whom the file's mode counts."""
    if os.geteuid() != 0:
        pytest.skip("a read-only database needs root: to become somebody for whom a file's mode counts")
    daemon = make(CONFIG).start()
    assert daemon.stop() == 0
    os.chown(daemon.state, 65534, 65534)  # the directory is theirs, the database is not
    daemon.folder.chmod(0o755)
    subprocess.run(["chmod", "a+rx", *map(str, daemon.folder.parents[:3])], check=True)
    log = daemon.log_file.open("ab")
    daemon._told = daemon.log_file.stat().st_size
    daemon.process = subprocess.Popen(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", sys.executable,
         "-m", "tidemill.cli.main", *daemon.words()],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=daemon.environ, start_new_session=True,
    )  # fmt: skip
    log.close()
    assert daemon.ended() not in (0, None)
    assert "tidemill.db" in daemon.log or "Permission denied" in daemon.log
