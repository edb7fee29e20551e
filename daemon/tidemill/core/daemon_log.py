"""The daemon's diary: what it said of itself, as a value. What runs went through stands in their histories."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class DaemonLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the diary. ``level`` is logging's number; ``fields`` are JSON values, without event and deployment.

    ``event`` names what happened where that has a name ("config-reloaded"); programs go by it, never by the sentence.
    """

    at: datetime
    level: int
    event: str | None = None
    deployment: str | None = None
    message: str
    fields: dict[str, Any] = {}
    logger: str = "tidemill"
