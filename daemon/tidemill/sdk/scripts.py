"""A script's flow run with a daemon, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def found_daemon(environ: Mapping[str, str]) -> Any:
    """Return the daemon that scripts of this process report to, or None."""
    return None
