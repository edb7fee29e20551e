"""The lock on the state directory: one daemon, never two (P12)."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from store_making import T0

from tidemill.errors import EXIT_CONFIG, StateDirectoryBusyError
from tidemill.store.lock import Holder, StateLock, holder

HOLD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from tidemill.store.lock import StateLock
lock = StateLock(Path(sys.argv[1]))
lock.acquire(datetime(2026, 11, 21, 9, tzinfo=UTC))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_daemon_is_refused_and_told_who_has_the_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        lock = StateLock(tmp_path)
        says = rf"in use by process {first.pid}, started 2026-11-21 09:00:00Z; stop it, or choose another directory"
        with pytest.raises(StateDirectoryBusyError, match=says) as caught:
            lock.acquire(T0)
        assert caught.value.exit_code == EXIT_CONFIG == 78
        # However it ends, the directory is free at once.
        first.send_signal(signal.SIGKILL)
        first.wait()
        lock.acquire(T0)
        assert holder(tmp_path) == Holder(pid=os.getpid(), started=T0)
        lock.release()


def test_a_lock_that_was_given_back_names_nobody(tmp_path: Path) -> None:
    with StateLock(tmp_path) as lock:
        lock.acquire(T0)
        assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    assert holder(tmp_path) is None
    lock.release()  # a second time does nothing
    with StateLock(tmp_path) as again:
        again.acquire(T0)


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """Flow code that outlives the daemon must not keep the next one out."""
    lock = StateLock(tmp_path)
    lock.acquire(T0)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        with StateLock(tmp_path) as next_one:
            next_one.acquire(T0)
        assert child.stdin is not None
        child.stdin.close()


def test_of_a_holder_whose_note_cannot_be_read_it_is_said_that_there_is_one(tmp_path: Path) -> None:
    first = StateLock(tmp_path)
    first.acquire(T0)
    first.path.write_text("garbage")
    with pytest.raises(StateDirectoryBusyError, match="in use by another process"):
        StateLock(tmp_path).acquire(T0)
    first.release()


def test_a_directory_that_is_not_there_is_no_lock(tmp_path: Path) -> None:
    assert holder(tmp_path / "gone") is None
    with pytest.raises(FileNotFoundError):
        StateLock(tmp_path / "gone").acquire(T0)
