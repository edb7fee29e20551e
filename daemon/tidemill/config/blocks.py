"""Reading blocks: what flows ask for by name. Secrets are looked for at load and kept as references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.config.block_keys import BLOCKS
from tidemill.config.faults import Faults, Wrong, did_you_mean, show
from tidemill.config.secrets import (
    SecretError,
    Secrets,
    looks_like_password,
    plain_values,
    resolve_secret,
    take_references_in,
)
from tidemill.config.tables import Entry, read_keys
from tidemill.core.blocks import Block, BlockType

# Where a reference may stand, by type; that of "headers" is the value of each.
_PLACES = {
    BlockType.SECRET: frozenset({"value"}),
    BlockType.JSON: frozenset[str](),
    BlockType.WEBHOOK: frozenset({"url", "headers"}),
    BlockType.HTTP_API: frozenset({"headers", "auth"}),
}
_DEFAULTS: Mapping[BlockType, Mapping[str, Any]] = {
    BlockType.SECRET: {},
    BlockType.JSON: {},
    BlockType.WEBHOOK: {"method": "POST", "headers": {}},
    BlockType.HTTP_API: {"headers": {}, "auth": None},
}
_URLS = ("base_url", "url")


def read_block(name: str, entry: Entry, secrets: Secrets, faults: Faults) -> Block | None:
    """Return the block in ``entry``; None where it is not clear what it is. Faults go to ``faults``."""
    if not isinstance(entry.value, dict):
        read_keys(entry, BLOCKS[BlockType.JSON], faults)
        return None
    kind = _type(entry, faults)
    if kind is None:
        return None
    keys = BLOCKS[kind]
    fields = read_keys(entry, keys, faults)
    for key in keys.values():
        if key.required and key.name not in entry.value:
            remedy = f"write {key.name} = {key.example}"
            faults.add(entry.document, entry.path, f"a {kind} block needs {key.name}", remedy, at_key=True)
    fields.pop("type", None)
    description = fields.pop("description", None)
    wrongs: list[Wrong] = []
    fields, references = take_references_in(_PLACES[kind], fields, entry.folder, wrongs)
    for wrong in wrongs:
        faults.add(entry.document, (*entry.path, *wrong.at), wrong.problem, wrong.remedy)
    for at, ref in references:
        try:
            resolve_secret(ref, secrets.environ, secrets.credentials_dir)
        except SecretError as error:
            tell = faults.warn if secrets.forgives(ref) else faults.add
            tell(entry.document, (*entry.path, *at), error.problem, error.remedy)
    _warn_of_plain_secrets(entry, fields, faults)
    places = tuple(tuple(str(part) for part in at) for at, _ in references)
    return Block(name=name, type=kind, fields={**_DEFAULTS[kind], **fields}, secrets=places, description=description)


def _type(entry: Entry, faults: Faults) -> BlockType | None:
    types = [each.value for each in BlockType]
    written = entry.value.get("type")
    if written is None:
        remedy = f"add type = {', '.join(show(each) for each in types[:-1])} or {show(types[-1])}"
        faults.add(entry.document, entry.path, "does not say what kind of block it is", remedy, at_key=True)
        return None
    if written not in types:
        remedy = (did_you_mean(written, types) if isinstance(written, str) else "") or f"there are {', '.join(types)}"
        faults.add(entry.document, (*entry.path, "type"), f"{show(written)} is no type of block", remedy)
        return None
    return BlockType(written)


def _warn_of_plain_secrets(entry: Entry, fields: dict[str, Any], faults: Faults) -> None:
    remedy = 'keep it out of the file: { credential = "name" }, { env = "NAME" } or { file = "/path" }'
    found = [
        (name, *at[1:]) for name in ("headers", "auth") if name in fields for at in plain_values(fields[name], (name,))
    ]
    found += [(name,) for name in _URLS if isinstance(url := fields.get(name), str) and looks_like_password(url)]
    for at in found:
        faults.warn(entry.document, (*entry.path, *at), "looks like a secret in plain text", remedy)
