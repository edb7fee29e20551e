"""The keys of a block, by its type. What may be a secret is a reference here; a value in plain text is warned of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill.config import kinds
from tidemill.config.faults import Wrong
from tidemill.config.keys import Key, Keys
from tidemill.config.kinds import Kind, of_type
from tidemill.config.web_kinds import headers, method, secret, text_or_secret, url
from tidemill.core.blocks import BlockType


def _auth() -> Kind:
    write = 'write { bearer = { env = "TOKEN" } } or { basic = { username = "me", password = { env = "PASSWORD" } } }'
    item_kind = text_or_secret("write text, or a secret's reference")

    def convert(value: Any, base: Path) -> dict[str, Any]:
        table = of_type(value, dict, "a table", write)
        if len(table) != 1 or not set(table) <= {"bearer", "basic"}:
            raise Wrong("needs exactly one of bearer and basic", write)
        if "bearer" in table:
            return {"bearer": _below(item_kind, table["bearer"], base, "bearer")}
        basic = table["basic"]
        if not isinstance(basic, dict) or set(basic) != {"username", "password"}:
            raise Wrong("basic needs username and password, and nothing else", write, ("basic",))
        return {"basic": {name: _below(item_kind, basic[name], base, "basic", name) for name in basic}}

    return Kind("table of bearer or basic", write, convert)


def _below(kind: Kind, value: Any, base: Path, *at: str) -> Any:
    try:
        return kind.convert(value, base)
    except Wrong as wrong:
        raise Wrong(wrong.problem, wrong.remedy, (*at, *wrong.at)) from None


def _type(kind: BlockType) -> Key:
    return Key(name="type", kind=kinds.choice(BlockType), example=f'"{kind}"', help=f"one of {', '.join(BlockType)}")


_DESCRIPTION = Key(name="description", kind=kinds.text(empty=True), example='"What it is for"', help="for people")
_HEADERS = Key(
    name="headers", kind=headers(), default="{}", help="sent with every request; a value may be a secret's reference"
)

BLOCKS: Mapping[BlockType, Keys] = {
    kind: {key.name: key for key in (_type(kind), *own, _DESCRIPTION)}
    for kind, own in {
        BlockType.SECRET: (
            Key(
                name="value",
                kind=secret(),
                example='{ env = "API_TOKEN" }',
                help="where the secret is; it is read when a flow asks for it",
                required=True,
            ),
        ),
        BlockType.JSON: (
            Key(
                name="value", kind=kinds.json_value(), example='{ region = "fi" }', help="any JSON value", required=True
            ),
        ),
        BlockType.WEBHOOK: (
            Key(
                name="url",
                kind=url(or_secret=True),
                example='{ env = "HOOK_URL" }',
                help="where to; it may be a secret's reference",
                required=True,
            ),
            Key(name="method", kind=method(), default='"POST"', help="GET, POST, PUT, PATCH or DELETE"),
            _HEADERS,
        ),
        BlockType.HTTP_API: (
            Key(
                name="base_url",
                kind=url(),
                example='"https://api.example.org/v1"',
                help="what the paths of requests begin with",
                required=True,
            ),
            _HEADERS,
            Key(
                name="auth",
                kind=_auth(),
                example='{ bearer = { env = "API_TOKEN" } }',
                help="bearer = token, or basic = { username, password }; secrets by reference",
            ),
        ),
    }.items()
}
