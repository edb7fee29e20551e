"""Backfills: beginning one, trying what it would make, ending it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from tidemill.api import lookup
from tidemill.api.asker import asker
from tidemill.api.backfill_reads import document
from tidemill.api.bodies import BadRequestError
from tidemill.api.ports import Control
from tidemill.api.writes import Answer, read_body
from tidemill.core.deployments import Deployment
from tidemill.core.when import read


class _Begin(msgspec.Struct, forbid_unknown_fields=True):
    """``first`` and ``last`` are times as people say them, both included; a day is all of it."""

    first: str
    last: str = "now"
    at_a_time: int = 1
    again: bool = False
    parameters: dict[str, Any] | None = None
    dry_run: bool = False


async def begin(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Make runs for a deployment's fires in the past, or with ``dry_run`` say which there are."""
    asked: _Begin = read_body(body, _Begin)
    found = await control.store.read(lambda connection: lookup.deployment(connection, path["id"]).value)
    info, now = zone_of(found), control.clock.now()
    try:
        first, last = read(asked.first, info, now), read(asked.last, info, now)
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    # A day that is not over yet is meant as far as it has come.
    end = min(last.last, now) if last.first <= now else last.last
    if asked.dry_run:
        preview = await control.backfills.preview(found.name, first.first, end, again=asked.again)
        return Answer(200, preview | {"timezone": info.key})
    made = await control.backfills.begin(
        found.name,
        first.first,
        end,
        by=asker.get(),
        at_a_time=asked.at_a_time,
        again=asked.again,
        parameters=asked.parameters,
    )
    return Answer(201, document(made, running=control.backfills.running(made)))


async def cancel(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Make no further runs of a backfill; those that run go on."""
    ended = await control.backfills.cancel(path["id"], by=asker.get())
    return Answer(200, document(ended))


def zone_of(deployment: Deployment) -> ZoneInfo:
    """Return the zone in which people mean a deployment's times: that of its first schedule."""
    return ZoneInfo(deployment.schedules[0].timezone if deployment.schedules else "UTC")
