"""What is asked of automations over HTTP: to pause and resume one, to try out whom it tells, how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tidemill.api.asker import asker
from tidemill.api.ports import Control
from tidemill.api.writes import Answer, read_body


class _Patch(msgspec.Struct, forbid_unknown_fields=True):
    enabled: bool


async def patch(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Pause an automation or resume it; the rest of it is the configuration's."""
    asked: _Patch = read_body(body, _Patch)
    await control.automations.set_paused(path["id"], paused=not asked.enabled, by=asker.get())
    return Answer(204)


async def test(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Tell the people whom an automation tells, marked as a test; nothing else of it is done."""
    return Answer(200, control.automations.test(path["id"]))


async def standing(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Return how an automation's condition stands, which only the daemon knows."""
    return Answer(200, control.automations.standing(path["id"]))
