"""What systemd and a service tell each other: sd_notify(3), sd_watchdog_enabled(3), credentials, the journal's stream.

Everything is read from the environment that systemd sets, and does nothing where it does not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

# What a stop may take beyond the time that runs have to end: recording it, closing the database.
MARGIN = timedelta(seconds=30)
# The journal's priorities by logging's levels (sd-daemon(3)).
PRIORITIES = ((50, 2), (40, 3), (30, 4), (20, 6), (0, 7))


class Notifier:
    """Tells systemd how the daemon is. Never waits and never raises: where nobody listens, nothing is sent.

    Every method returns whether systemd's socket took the message.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is complete."""
        return self.send("READY=1", *_status(status))

    def reloading(self, monotonic_s: float, status: str = "") -> bool:
        """A reload begins at ``monotonic_s`` of CLOCK_MONOTONIC; it ends with :meth:`ready`."""
        return self.send("RELOADING=1", f"MONOTONIC_USEC={int(monotonic_s * 1_000_000)}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """The daemon has begun to stop."""
        return self.send("STOPPING=1", *_status(status))

    def status(self, text: str) -> bool:
        """Set the line that ``systemctl status`` shows."""
        return self.send(*_status(text))

    def watchdog(self) -> bool:
        """Say that the daemon lives; due more often than :func:`watchdog_interval`."""
        return self.send("WATCHDOG=1")

    def extend_timeout(self, by: timedelta) -> bool:
        """Ask for more time to start, reload or stop, counted from now."""
        return self.send(f"EXTEND_TIMEOUT_USEC={by // timedelta(microseconds=1)}")

    def send(self, *assignments: str) -> bool:
        """Send ``NAME=value`` lines as one message."""
        if self._address is None or not assignments:
            return False
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # A full socket drops the message rather than hold up the loop.
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            self._socket.sendto("\n".join(assignments).encode(errors="replace"), flags, self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the socket back; a later message opens it anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(text: str) -> str | None:
    if text.startswith("@"):
        return "\0" + text[1:]  # the abstract namespace
    return text if text.startswith("/") else None  # vsock: is for virtual machines


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def watchdog_interval(environ: Mapping[str, str] = os.environ, *, pid: int | None = None) -> timedelta | None:
    """Return how long systemd waits for a :meth:`Notifier.watchdog` before it kills; None: it does not watch us."""
    try:
        usec = int(environ.get("WATCHDOG_USEC", "0"))
        watched = int(environ.get("WATCHDOG_PID") or (os.getpid() if pid is None else pid))
    except ValueError:
        return None
    if usec <= 0 or watched != (os.getpid() if pid is None else pid):
        return None
    return timedelta(microseconds=usec)


def under_systemd(environ: Mapping[str, str] = os.environ, *, pid: int | None = None) -> bool:
    """Say whether systemd started this very process as a service (a shell inside a service does not count)."""
    started = environ.get("SYSTEMD_EXEC_PID")
    if started is not None:
        return started == str(os.getpid() if pid is None else pid)
    return bool(environ.get("NOTIFY_SOCKET"))  # systemd before 248


def credentials_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder with the files of ``LoadCredential=``; None: there is none."""
    text = environ.get("CREDENTIALS_DIRECTORY", "")
    return Path(text) if text.startswith("/") else None


def is_journal(descriptor: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether an open file is the journal's stream (JOURNAL_STREAM, systemd.exec(5)), not redirected since."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        opened = os.fstat(descriptor)
        return (opened.st_dev, opened.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


def priority(level: int) -> int:
    """Return the journal's priority of a logging level."""
    return next(number for least, number in PRIORITIES if level >= least or least == 0)
