"""Where a daemon keeps its state and its control socket: one answer for the daemon and for the commands that look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

DATABASE = "tidemill.db"
SOCKET = "control.sock"
MADE = "made.d"  # what the API and the commands have written, as files of the configuration
SYSTEM_RUNTIME = Path("/run/tidemill")
SYSTEM_STATE = Path("/var/lib/tidemill")


def state_dir(environ: Mapping[str, str], *, asked: Path | None = None) -> Path:
    """Return the state directory: ``--state-dir``, else systemd's, else the user's own.

    The configuration does not name it: a broken file must not hide the last good one, which is kept there.
    """
    if asked is not None:
        return asked.expanduser().absolute()
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0])  # systemd lists several with colons
    return user_state(environ)


def user_state(environ: Mapping[str, str]) -> Path:
    """Return the state directory of a daemon that a person starts: the XDG state folder."""
    return _xdg(environ, "XDG_STATE_HOME") or home(environ) / ".local" / "state" / "tidemill"


def user_runtime(environ: Mapping[str, str]) -> Path | None:
    """Return where a daemon that a person starts keeps its socket; None where the session has no such folder."""
    return _xdg(environ, "XDG_RUNTIME_DIR")


def control_socket(environ: Mapping[str, str], state: Path, *, asked: bool) -> Path:
    """Return where the daemon listens for commands. ``asked``: the state directory was named on the command line.

    A daemon with a state directory of its own keeps its socket there, so that several can run side by side.
    """
    if environ.get("RUNTIME_DIRECTORY"):
        return Path(environ["RUNTIME_DIRECTORY"].split(":")[0]) / SOCKET
    runtime = user_runtime(environ)
    if asked or runtime is None:
        return state / SOCKET
    return runtime / SOCKET


def home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def _xdg(environ: Mapping[str, str], key: str) -> Path | None:
    value = environ.get(key, "")
    # The XDG specification: a relative path is invalid and to be ignored.
    return Path(value) / "tidemill" if value.startswith("/") else None
