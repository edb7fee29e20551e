"""Which configuration a command means where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tidemill.api import places
from tidemill.errors import EXIT_CONFIG, TidemillError

FILE = "tidemill.toml"


class NoConfigurationError(TidemillError):
    """There is no configuration file. The text names each place that was looked at."""

    exit_code = EXIT_CONFIG


def find(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the file to read: the one named, else the first of ``./tidemill.toml``, the user's and ``/etc``'s."""
    if given is not None:
        return given.expanduser().absolute()
    candidates = [Path.cwd() / FILE, _user(environ), Path("/etc/tidemill") / FILE]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise NoConfigurationError(
        "no configuration was found; looked at\n  "
        + "\n  ".join(str(each) for each in candidates)
        + "\nname one, or write one with `tidemill init`"
    )


def _user(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else places.home(environ) / ".config"
    return folder / "tidemill" / FILE
