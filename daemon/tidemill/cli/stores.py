"""Which database a command means that works on the database itself."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from tidemill.api import places
from tidemill.cli import finding
from tidemill.cli.session import Session
from tidemill.cli.wire import Wire
from tidemill.errors import DaemonUnreachableError, TidemillError


def database(session: Session) -> Path:
    """Return the database of ``--state-dir``, else the one in the first usual place that has one.

    Raises DaemonUnreachableError naming each place, and TidemillError where two have one: what is copied, pruned or put
    back must not be guessed.
    """
    asked: Path | None = getattr(session.args, "state_dir", None)
    looked = finding.databases(session.environ, asked)
    there = [path for path in looked if _exists(path)]
    if not there:
        raise DaemonUnreachableError(
            "\n  ".join(["no database was found; looked at", *map(str, looked)]) + "\nsay where it is with --state-dir"
        )
    running = [path for path in there if is_running(path.parent)]
    if len(there) > 1 and len(running) != 1:
        raise TidemillError(f"there are {' and '.join(map(str, there))}; say which one with --state-dir")
    return (running or there)[0]


def state_dir(session: Session) -> Path:
    """Return the state directory that a database is to be put into; it need not have one."""
    asked: Path | None = getattr(session.args, "state_dir", None)
    if asked is None:
        try:
            return database(session).parent
        except DaemonUnreachableError:
            return places.state_dir(session.environ)
    return places.state_dir(session.environ, asked=asked)


def is_running(folder: Path) -> bool:
    """Say whether a daemon answers at the state directory's own socket."""
    try:
        with closing(Wire.to_socket(str(folder / places.SOCKET))):
            return True
    except OSError:
        return False


def require_owner(path: Path) -> None:
    """Raise TidemillError for who is neither the file's owner nor root.

    Another user's reading would leave files of their own beside it, which the daemon could not open.
    """
    if os.geteuid() not in (0, path.stat().st_uid):
        raise TidemillError(f"{path} belongs to another user; be that user, or root")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # in a folder that is another's
        raise TidemillError(f"{path}: {error.strerror}; be its owner, or root") from error
