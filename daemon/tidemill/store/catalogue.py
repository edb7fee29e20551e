"""The catalogue: what the configuration last stated, for whoever reads the database alone, and what holds over it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.automations import Automation
from tidemill.core.blocks import Block
from tidemill.core.deployments import Deployment, WorkPool, WorkQueue
from tidemill.core.overrides import Override
from tidemill.core.slots import SlotLimit
from tidemill.ids import stable_id
from tidemill.store import instance
from tidemill.store.ops import Op, instant, rows, scalar
from tidemill.store.statements import load

_SQL = load("catalogue")
KEEP_PAST = 10  # earlier forms of a deployment
V = TypeVar("V", Deployment, WorkQueue, WorkPool, SlotLimit, Block, Automation)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All that the configuration states. Nothing left out: what is not here counts as gone."""

    deployments: tuple[Deployment, ...]
    work_queues: tuple[WorkQueue, ...]
    work_pools: tuple[WorkPool, ...]
    concurrency_limits: tuple[SlotLimit, ...] = ()
    blocks: tuple[Block, ...] = ()
    automations: tuple[Automation, ...] = ()
    at: datetime


class Entry(msgspec.Struct, Generic[V], frozen=True, kw_only=True):
    """A configured thing as the database has it. ``gone``: since when the configuration no longer states it."""

    id: str
    value: V
    created: datetime
    updated: datetime
    gone: datetime | None


_Row = tuple[str, str, msgspec.Raw, int, int, int | None]
_rows = msgspec.json.Decoder(list[_Row])
# Made here and not where they are used, which is in the readers' threads: two threads that make msgspec work out a type
# at the same time take the process down (seen with 0.22).
_decoders: Mapping[Any, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Deployment, WorkQueue, WorkPool, SlotLimit, Block, Automation)
}
_pasts = msgspec.json.Decoder(list[tuple[msgspec.Raw, int, int]])
_overrides = msgspec.json.Decoder(list[tuple[str, str, str, Any, Any, int, str]])


def _sync(connection: sqlite3.Connection, items: Sequence[Listing]) -> list[None]:
    listing = items[-1]  # each states all: the last one holds
    owner = instance.id(connection)
    stated: list[tuple[str, Sequence[Deployment | WorkQueue | WorkPool | SlotLimit | Block | Automation]]] = [
        ("deployment", listing.deployments),
        ("work_queue", listing.work_queues),
        ("work_pool", listing.work_pools),
        ("concurrency_limit", listing.concurrency_limits),
        ("block", listing.blocks),
        ("automation", listing.automations),
    ]
    parameters = {
        "rows": rows(
            [
                (kind, thing.name, stable_id(owner, kind, thing.name), msgspec.json.encode(thing).decode())
                for kind, things in stated
                for thing in things
            ]
        ),
        "at": to_us(listing.at),
    }
    if connection.execute(_SQL["keep_past"], parameters).rowcount:
        connection.execute(_SQL["forget_past"], {"at": parameters["at"], "keep": KEEP_PAST})
    connection.execute(_SQL["put"], parameters)
    connection.execute(_SQL["mark_gone"], parameters)
    return [None] * len(items)


SYNC_CATALOGUE: Op[Listing, None] = Op(name="sync_catalogue", rank=5, apply=_sync)
"""Take over what the configuration states; what it no longer does is marked gone, never forgotten."""


def _of_kind(
    connection: sqlite3.Connection, kind: str, value: type[V], *, gone: bool, limit: int | None, offset: int
) -> list[Entry[V]]:
    parameters = {"kind": kind, "gone": gone, "limit": -1 if limit is None else limit, "offset": offset}
    return _entries(str(scalar(connection, _SQL["of_kind"], parameters)), value)


def _entries(text: str, value: type[V]) -> list[Entry[V]]:
    decoder: msgspec.json.Decoder[V] = _decoders[value]
    return [
        Entry(
            id=own_id,
            value=decoder.decode(document),
            created=from_us(created),
            updated=from_us(updated),
            gone=instant(gone_at),
        )
        for _, own_id, document, created, updated, gone_at in _rows.decode(text)
    ]


_KINDS: Mapping[type[Any], str] = {Deployment: "deployment", WorkQueue: "work_queue", WorkPool: "work_pool"}


def exactly(connection: sqlite3.Connection, value: type[V], text: str, *, gone: bool = False) -> Entry[V] | None:
    """Return the deployment, queue or pool whose name or id is ``text``: among many, at the price of one."""
    parameters = {"kind": _KINDS[value], "text": text, "gone": gone}
    found = connection.execute(_SQL["exactly"], parameters).fetchone()
    return None if found is None else _entries(str(found[0]), value)[0]


def deployments(
    connection: sqlite3.Connection, *, gone: bool = False, limit: int | None = None, offset: int = 0
) -> list[Entry[Deployment]]:
    """Return the deployments by name; with ``gone`` also those that are no longer configured."""
    return _of_kind(connection, "deployment", Deployment, gone=gone, limit=limit, offset=offset)


class Past(msgspec.Struct, frozen=True):
    """What a deployment was stated as from ``since`` until ``until``."""

    value: Deployment
    since: datetime
    until: datetime


def past_of(connection: sqlite3.Connection, name: str) -> list[Past]:
    """Return the earlier forms of a deployment that are on record, oldest first."""
    decoder: msgspec.json.Decoder[Deployment] = _decoders[Deployment]
    found = _pasts.decode(str(scalar(connection, _SQL["past_of"], {"name": name})))
    return [Past(decoder.decode(document), from_us(since), from_us(until)) for document, since, until in found]


def work_queues(
    connection: sqlite3.Connection, *, gone: bool = False, limit: int | None = None, offset: int = 0
) -> list[Entry[WorkQueue]]:
    """Return the work queues by name; with ``gone`` also those that are no longer configured."""
    return _of_kind(connection, "work_queue", WorkQueue, gone=gone, limit=limit, offset=offset)


def work_pools(
    connection: sqlite3.Connection, *, gone: bool = False, limit: int | None = None, offset: int = 0
) -> list[Entry[WorkPool]]:
    """Return the work pools by name; with ``gone`` also those that are no longer configured."""
    return _of_kind(connection, "work_pool", WorkPool, gone=gone, limit=limit, offset=offset)


def concurrency_limits(connection: sqlite3.Connection) -> list[Entry[SlotLimit]]:
    """Return the concurrency limits by name."""
    return _of_kind(connection, "concurrency_limit", SlotLimit, gone=False, limit=None, offset=0)


def blocks(connection: sqlite3.Connection) -> list[Entry[Block]]:
    """Return the blocks by name, secrets as references."""
    return _of_kind(connection, "block", Block, gone=False, limit=None, offset=0)


def automations(connection: sqlite3.Connection) -> list[Entry[Automation]]:
    """Return the automations by name."""
    return _of_kind(connection, "automation", Automation, gone=False, limit=None, offset=0)


# -- overrides by hand -----------------------------------------------------------------------------------------------


def _set_override(connection: sqlite3.Connection, items: Sequence[Override]) -> list[None]:
    for item in items:  # a person's doing: never many
        connection.execute(
            _SQL["set_override"],
            {
                "kind": item.kind,
                "name": item.name,
                "key": item.key,
                "value": msgspec.json.encode(item.value).decode(),
                "file_value": msgspec.json.encode(item.file_value).decode(),
                "at": to_us(item.at),
                "by": item.by,
            },
        )
    return [None] * len(items)


def _clear_override(connection: sqlite3.Connection, items: Sequence[tuple[str, str, str]]) -> list[bool]:
    return [
        connection.execute(_SQL["clear_override"], {"kind": kind, "name": name, "key": key}).rowcount == 1
        for kind, name, key in items
    ]


SET_OVERRIDE: Op[Override, None] = Op(name="set_override", rank=6, apply=_set_override)
"""Set a value by hand over the configuration's; it replaces an earlier one."""

CLEAR_OVERRIDE: Op[tuple[str, str, str], bool] = Op(name="clear_override", rank=7, apply=_clear_override)
"""Take back the override of (kind, name, key); False: there was none."""


def overrides(connection: sqlite3.Connection) -> list[Override]:
    """Return all overrides, by kind, name and key."""
    found = _overrides.decode(str(scalar(connection, _SQL["overrides"], {})))
    return [
        Override(kind=kind, name=name, key=key, value=value, file_value=file_value, at=from_us(at), by=by)
        for kind, name, key, value, file_value, at, by in found
    ]
