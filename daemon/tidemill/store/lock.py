"""The lock on the state directory: one daemon, never two (P12)."""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from pathlib import Path
from types import TracebackType

import msgspec

from tidemill.errors import StateDirectoryBusyError

FILE = "daemon.lock"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that holds a state directory."""

    pid: int
    started: datetime


class StateLock:
    """An exclusive flock on ``DIRECTORY/daemon.lock``, which says who holds it.

    It belongs to the open file: it ends with the process however that ends, and it is not handed on to children.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._descriptor: int | None = None

    def acquire(self, started: datetime) -> None:
        """Take the lock. Raises StateDirectoryBusyError naming the process that has it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            first = holder(self.path.parent)
            who = f"process {first.pid}, started {first.started:%Y-%m-%d %H:%M:%SZ}" if first else "another process"
            raise StateDirectoryBusyError(
                f"{self.path.parent}: in use by {who}; stop it, or choose another directory with --state-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(Holder(pid=os.getpid(), started=started)) + b"\n", 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays, empty. A second call does nothing."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(directory: Path) -> Holder | None:
    """Return who wrote the lock file last; None: nobody, or it cannot be read. It may have died since."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None
