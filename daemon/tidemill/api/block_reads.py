"""Reads of blocks. A secret is told by where it is, never by what it is."""

from __future__ import annotations

from typing import Any

from tidemill.api import documents, lookup
from tidemill.api.ask import Ask, names_of
from tidemill.api.bodies import query
from tidemill.api.documents import Document
from tidemill.core.blocks import Block
from tidemill.errors import NotFoundError
from tidemill.store import catalogue
from tidemill.store.catalogue import Entry

MASK = "********"


def filter_blocks(ask: Ask) -> list[Document]:
    """List blocks by name, their secrets masked."""
    asked = query(ask.body, "block_documents", sorts=("NAME_ASC",))
    entries = catalogue.blocks(ask.connection)
    names = names_of(asked.block_documents, lambda: entries)
    found = [entry for entry in entries if names is None or entry.value.name in names]
    return [_block(ask, entry) for entry in found[asked.offset : asked.offset + asked.most]]


def block(ask: Ask) -> Document:
    """Return one block by its name or id, its secrets masked."""
    text, entries = ask.path["id"], catalogue.blocks(ask.connection)
    for entry in entries:
        if text == entry.id or lookup.alike(text) == lookup.alike(entry.value.name):
            return _block(ask, entry)
    raise NotFoundError(lookup.not_found("block", text, [entry.value.name for entry in entries]))


def _block(ask: Ask, entry: Entry[Block]) -> Document:
    value = entry.value
    return {
        "id": entry.id,
        "name": value.name,
        "created": documents.instant(entry.created),
        "updated": documents.instant(entry.updated),
        "description": value.description,
        "block_type_name": value.type.value,
        "block_type": {"name": value.type.value, "slug": value.type.value},
        "data": masked(value),
        "secrets": [".".join(place) for place in value.secrets],
        "is_anonymous": False,
    }


def masked(value: Block) -> dict[str, Any]:
    """Return a block's fields with a mask in place of every secret's reference."""
    fields: dict[str, Any] = dict(value.fields)
    for place in value.secrets:
        holder = fields
        for key in place[:-1]:
            holder[key] = dict(holder[key])
            holder = holder[key]
        holder[place[-1]] = MASK
    return fields
