"""Events: flow code says that something happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidemill.core.reports import EventReport
from tidemill.sdk.context import run_context
from tidemill.sdk.identity import new_id

ID, ROLE = "prefect.resource.id", "prefect.resource.role"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What was told."""

    id: str
    event: str
    resource: dict[str, Any]
    occurred: datetime
    payload: dict[str, Any] | None = None
    related: tuple[dict[str, Any], ...] = ()


def emit_event(
    event: str,
    resource: Mapping[str, Any],
    occurred: datetime | None = None,
    related: Sequence[Mapping[str, Any]] | None = None,
    payload: Mapping[str, Any] | None = None,
    id: str | None = None,
    **_others: Any,
) -> Event:
    """Tell that ``event`` happened to ``resource``, now or at ``occurred`` (aware). ``payload`` is JSON.

    ``related`` resources go with the payload. Never waits. Raises ``NoRunError`` outside a run, ``ValueError`` for a
    resource without ``prefect.resource.id``, or a related one without that or ``prefect.resource.role``.

    >>> emit_event("orders.loaded", {"prefect.resource.id": "orders.eu"}, payload={"rows": 3})  # doctest: +SKIP
    """
    context = run_context()
    _require(resource, f"the resource of event {event!r}", ID)
    for each in related or ():
        _require(each, f"a related resource of event {event!r}", ID, ROLE)
    now = context.clock.now()
    told = Event(
        id=id or new_id(now),
        event=event,
        resource=dict(resource),
        occurred=occurred or now,
        payload=None if payload is None else dict(payload),
        related=tuple(dict(each) for each in related or ()),
    )
    carried = dict(told.payload or {})
    if told.related:
        carried["related"] = list(told.related)
    context.recorder.report(
        EventReport(event=event, resource=told.resource, payload=carried or None, occurred=told.occurred)
    )
    return told


def _require(resource: Mapping[str, Any], what: str, *labels: str) -> None:
    for label in labels:
        if not resource.get(label):
            known = ", ".join(map(str, resource)) or "nothing"
            raise ValueError(f'{what} has no "{label}" (it has {known}); add it: {{"{label}": "…"}}')
