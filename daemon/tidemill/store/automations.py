"""Automations: since when each counts, what it acted on, and what became of that."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.automations import Fire, Past
from tidemill.store.ops import Op, instant, microseconds, rows, scalar
from tidemill.store.statements import load

_SQL = load("automations")
KEEP_FIRES = 2000  # of one automation
KEEP_GONE = timedelta(days=90)  # the fires of automations that the configuration no longer states
MAX_FIRES = 200  # in one answer
MAX_DESCENT = 1000  # forebears of a run that are looked at


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """All automations that the configuration states: a digest of each one's condition, by name."""

    digests: Mapping[str, str]
    at: datetime


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How many fires of an automation are kept, and the last one."""

    fires: int
    last: Fire


_sinces = msgspec.json.Decoder(list[tuple[str, int]])
_fires = msgspec.json.Decoder(list[tuple[int, Fire]])
_past = msgspec.json.Decoder(list[tuple[str | None, int | None, int | None, int | None]])
_times = msgspec.json.Decoder(list[int])
_summary = msgspec.json.Decoder(list[tuple[str, int, int, Fire]])
_keys = msgspec.json.Decoder(list[str | None])


def _state(connection: sqlite3.Connection, items: Sequence[Stated]) -> list[None]:
    stated = items[-1]  # each states all: the last one holds
    given = {"rows": rows(list(stated.digests.items())), "at": to_us(stated.at)}
    connection.execute(_SQL["state"], given)
    connection.execute(_SQL["forget"], given)
    connection.execute(_SQL["forget_fires"], given | {"before": to_us(stated.at - KEEP_GONE)})
    return [None] * len(items)


def _count_from(connection: sqlite3.Connection, items: Sequence[tuple[str, datetime]]) -> list[None]:
    for name, at in items:  # a person's doing: never many
        connection.execute(_SQL["count_from"], {"name": name, "at": to_us(at)})
    return [None] * len(items)


def _document(fire: Fire) -> str:
    return msgspec.json.encode(fire).decode()


def _fire(connection: sqlite3.Connection, items: Sequence[Fire]) -> list[int | None]:
    numbers: list[int | None] = []
    for item in items:  # a few a second: they are bounded
        found = connection.execute(
            _SQL["fire"],
            {
                "automation": item.automation,
                "cause": item.cause.key,
                "deployment": item.cause.deployment,
                "occurred": to_us(item.cause.at),
                "at": to_us(item.at),
                "finished": microseconds(item.finished),
                "document": _document(item),
            },
        ).fetchall()
        numbers.append(found[0][0] if found else None)
    for name in {item.automation for item, number in zip(items, numbers, strict=True) if number is not None}:
        connection.execute(_SQL["prune"], {"automation": name, "keep": KEEP_FIRES})
    return numbers


def _carry(connection: sqlite3.Connection, items: Sequence[Fire]) -> list[None]:
    for item in items:
        given = {"number": item.number, "document": _document(item), "finished": microseconds(item.finished)}
        connection.execute(_SQL["carry"], given)
    return [None] * len(items)


STATE_AUTOMATIONS: Op[Stated, None] = Op(name="state_automations", rank=5, apply=_state)
"""Take over what the configuration states; one that is new, or has another condition, counts from now."""

COUNT_FROM: Op[tuple[str, datetime], None] = Op(name="count_from", rank=6, apply=_count_from)
"""Let the automation of (name, now) count from now."""

FIRE: Op[Fire, int | None] = Op(name="fire", rank=50, apply=_fire)
"""Record that an automation acts on a cause; returns the fire's number. None: it has acted on that cause before."""

CARRY: Op[Fire, None] = Op(name="carry", rank=51, apply=_carry)
"""Record what became of a fire."""


def _numbered(found: Sequence[tuple[int, Fire]]) -> list[Fire]:
    return [msgspec.structs.replace(fire, number=number) for number, fire in found]


def since(connection: sqlite3.Connection) -> dict[str, datetime]:
    """Return since when each automation counts."""
    return {name: from_us(us) for name, us in _sinces.decode(str(scalar(connection, _SQL["since"], {})))}


def unfinished(connection: sqlite3.Connection) -> list[Fire]:
    """Return the fires of which something is still to be done, oldest first."""
    return _numbered(_fires.decode(str(scalar(connection, _SQL["open"], {}))))


def fires(connection: sqlite3.Connection, name: str, *, limit: int = MAX_FIRES, offset: int = 0) -> list[Fire]:
    """Return an automation's fires, newest first, at most 200."""
    given = {"automation": name, "limit": min(limit, MAX_FIRES), "offset": offset}
    return _numbered(_fires.decode(str(scalar(connection, _SQL["of_automation"], given))))


def past(connection: sqlite3.Connection, name: str) -> dict[str | None, Past]:
    """Return when an automation fired last, by deployment."""
    found = _past.decode(str(scalar(connection, _SQL["past"], {"automation": name})))
    return {
        deployment: Past(at=from_us(at), occurred=from_us(occurred), over=instant(over))
        for deployment, at, occurred, over in found
        if at is not None and occurred is not None
    }


def times(connection: sqlite3.Connection, name: str, limit: int) -> list[datetime]:
    """Return when an automation fired the last times, oldest first."""
    given = {"automation": name, "limit": limit}
    return [from_us(us) for us in reversed(_times.decode(str(scalar(connection, _SQL["times"], given))))]


def summaries(connection: sqlite3.Connection) -> dict[str, Summary]:
    """Return how often each automation has fired, as far as that is kept, and its last fire."""
    found = _summary.decode(str(scalar(connection, _SQL["summary"], {})))
    return {
        name: Summary(fires=count, last=msgspec.structs.replace(fire, number=number))
        for name, count, number, fire in found
    }


def descent(connection: sqlite3.Connection, run_id: str) -> list[str | None]:
    """Return the idempotency keys of a run and of the runs that it follows from, at most 1,000."""
    return _keys.decode(str(scalar(connection, _SQL["descent"], {"run": run_id, "most": MAX_DESCENT})))
