"""The log file, kept across whatever logrotate does with it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from tidemill.errors import LogFileError
from tidemill.telemetry.sink import LIMIT_BYTES, DescriptorSink

MODE = 0o640


class FileSink(DescriptorSink):
    """Appends to a file, by its name: one that was moved away or deleted is made anew at the next line.

    What was cut to nothing in its place (``copytruncate``) goes on from its beginning. Where the file cannot be opened
    or has no room, lines are dropped and counted, and the next ones are tried again.
    """

    def __init__(self, path: Path, *, notice: Callable[[int], str], limit: int = LIMIT_BYTES) -> None:
        super().__init__(_open(path), notice=notice, limit=limit)
        self.path = path
        self.problem: str | None = None  # why lines are dropped now
        self._torn = False  # the last line in the file has no end

    def _put(self, data: bytes) -> bool:
        """Write, and look before whether the name still means the file that is open."""
        if not self._current():
            try:
                descriptor = _open(self.path)
            except LogFileError as error:
                self.problem = str(error)
                return False
            self._give_back()
            self._descriptor, self._torn = descriptor, False
        before = b"\n" if self._torn else b""
        left = memoryview(before + data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except OSError as error:
                self.problem = f"[log] file: {self.path} cannot be written: {error.strerror}"
                self._torn = self._torn or len(left) < len(before) + len(data)
                return False
        self._torn, self.problem = False, None
        return True

    def close(self, timeout_s: float = 2.0) -> None:
        super().close(timeout_s)
        self._give_back()

    def _current(self) -> bool:
        if self._descriptor < 0:
            return False
        try:
            named, held = self.path.stat(), os.fstat(self._descriptor)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # not known
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def _give_back(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _open(path: Path) -> int:
    """Return the file, made where it is not there. Raises LogFileError."""
    try:
        # Without waiting: at a pipe that nobody reads the daemon would hang.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
    except OSError as error:
        why = "its folder is not there" if isinstance(error, FileNotFoundError) else error.strerror
        raise LogFileError(
            f"[log] file: {path} cannot be opened: {why}; make the folder, or name another file"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LogFileError(f"[log] file: {path} is no file; name one, and leave the output to whoever starts tidemill")
    return descriptor
