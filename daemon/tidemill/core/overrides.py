"""Overrides by hand: what a person set at runtime on top of the file."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one configured thing, set by hand. It holds until cleared or until the file's own value changes."""

    kind: str  # deployment, work_queue, work_pool
    name: str
    key: str  # paused, concurrency_limit
    value: Any
    file_value: Any  # what the file said when it was set
    by: str = "api"
    at: datetime
