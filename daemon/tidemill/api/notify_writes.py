"""What is asked of notify channels over HTTP: whether one works, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.api.ports import Control
from tidemill.api.writes import Answer


async def test(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Send a test message by a channel now; an answer means that it was taken."""
    return Answer(200, {"channel": path["name"], "subject": await control.notices.test(path["name"])})
