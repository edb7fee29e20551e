"""Being told by the kernel that something happens in a folder: inotify(7), on the loop.

A few calls of libc instead of a package: watchfiles, which the field uses, looks at a flag twenty times a second as
long as it watches (0.047 CPU seconds a minute, as much as everything else of an idle daemon together may cost).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

_EVENT = struct.Struct("iIII")
_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_ISDIR, _ONLYDIR, _OVERFLOW, _IGNORED = 0x40000000, 0x01000000, 0x4000, 0x8000
# Attributes, closed after writing, moved from and to, made, deleted, and the folder itself deleted or moved. Not each
# write: a database that stands beside the file would wake us with every commit.
_WANTED = 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | _ONLYDIR

Hear = Callable[[Path, str, bool], None]  # folder, name in it (empty: the folder itself), whether that is a folder


class Inotify:
    """Watches folders, not what is below them. ``hear`` is called on the loop; it must not wait."""

    def __init__(self, hear: Hear) -> None:
        """Raises ``OSError`` where the kernel has no more to give."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._hear = hear
        self._fd = self._call("inotify_init1", _CLOEXEC_NONBLOCK)
        self._folders: dict[int, Path] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def watch(self, folders: Iterable[Path]) -> bool:
        """Watch these folders and no others; say whether some were not watched before. One that is gone is passed over.

        Raises ``OSError`` where the kernel has no more to give (fs.inotify.max_user_watches).
        """
        wanted: dict[int, Path] = {}
        for folder in folders:
            try:
                # The same folder gives the same number, under whatever name, and another one after it was replaced.
                wanted[self._call("inotify_add_watch", self._fd, os.fsencode(folder), _WANTED)] = folder
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG):
                    raise
        for number in self._folders.keys() - wanted.keys():
            with contextlib.suppress(OSError):  # the folder is gone, and with it its watch
                self._call("inotify_rm_watch", self._fd, number)
        new = bool(wanted.keys() - self._folders.keys())
        self._folders = wanted
        return new

    def close(self) -> None:
        """Hear no more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _call(self, name: str, *arguments: int | bytes) -> int:
        found: int = getattr(self._libc, name)(*arguments)
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return found

    def _read(self) -> None:
        try:
            raw = os.read(self._fd, 64 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        place = 0
        while place < len(raw):
            number, mask, _, length = _EVENT.unpack_from(raw, place)
            place += _EVENT.size
            name = os.fsdecode(raw[place : place + length].rstrip(b"\0"))
            place += length
            if mask & _OVERFLOW:  # so much has happened that some of it is lost
                for folder in self._folders.values():
                    self._hear(folder, "", True)
            elif number in self._folders and not mask & _IGNORED:
                self._hear(self._folders[number], name, not name or bool(mask & _ISDIR))
