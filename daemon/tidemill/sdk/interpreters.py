"""The interpreters that run flow code: tidemill's own, or one with packages of its own."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path

from tidemill.sdk.boot import REFUSED

__all__ = ["INHERITED", "REFUSED", "argv", "environment", "own"]

_BOOT = str(Path(__file__).with_name("boot.py"))
# All that a run gets of the daemon's environment: enough to be at home, nothing to give away.
INHERITED = ("PATH", "HOME", "LANG", "TZ", "USER")
_PATH = "/usr/local/bin:/usr/bin:/bin"


def own() -> str:
    """Return the path of the interpreter that runs tidemill itself."""
    return sys.executable


def argv(python: str, module: str, *arguments: str) -> list[str]:
    """Return the command by which ``python`` calls ``module.main(arguments)`` of this very tidemill.

    It ends with status :data:`REFUSED`, and the reason on standard error, where ``python`` cannot do that.
    """
    return [python, _BOOT, module, *arguments]


def environment(
    environ: Mapping[str, str], python: str | None = None, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of flow code: a few of the daemon's variables, and ``more``.

    The commands that were installed beside ``python`` are found first, as in an activated virtual environment.
    """
    env = {name: environ[name] for name in INHERITED if environ.get(name)}
    env.setdefault("PATH", _PATH)
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:  # a user that the system has no entry for
        env.setdefault("HOME", "/")
    else:
        env.setdefault("HOME", user.pw_dir)
        env.setdefault("USER", user.pw_name)
    if python is not None:
        folder = Path(python).parent
        env["PATH"] = f"{folder}:{env['PATH']}"
        if (folder.parent / "pyvenv.cfg").is_file():
            env["VIRTUAL_ENV"] = str(folder.parent)
    return env | dict(more or {})
