"""Blocks: named, typed configuration that flows ask for; a secret in one is a reference until it is asked for."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from tidemill.core.deployments import SecretRef

Place = tuple[str, ...]  # keys from the block's fields down


class BlockType(enum.StrEnum):
    SECRET = "secret"  # noqa: S105 - value
    JSON = "json"  # value
    WEBHOOK = "webhook"  # url, method, headers
    HTTP_API = "http_api"  # base_url, headers, auth


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block as the configuration states it. ``secrets`` are the places in ``fields`` where a reference stands.

    Such a reference is {"env": …}, {"credential": …} or {"file": …}; anywhere else a table like that is data.
    """

    name: str
    type: BlockType
    fields: dict[str, Any]
    secrets: tuple[Place, ...] = ()
    description: str | None = None


def resolved(block: Block, reveal: Callable[[SecretRef], str]) -> dict[str, Any]:
    """Return ``{"type": …, "name": …, **fields}`` with every secret in its place. Raises what ``reveal`` raises."""
    fields = dict(block.fields)
    for place in block.secrets:
        holder = fields
        for key in place[:-1]:
            holder[key] = dict(holder[key])
            holder = holder[key]
        holder[place[-1]] = reveal(msgspec.convert(holder[place[-1]], SecretRef))
    return {"type": block.type.value, "name": block.name, **fields}
