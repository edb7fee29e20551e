"""The keys of a block, by its type. What may be a secret is a reference here; a value in plain text is warned of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidemill.config import kinds
from tidemill.config.faults import Wrong, show
from tidemill.config.keys import Key, Keys
from tidemill.config.kinds import Kind, of_type
from tidemill.config.secrets import SOURCES
from tidemill.core.blocks import BlockType

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_WRITE = 'write { env = "NAME" }, { credential = "name" } or { file = "/path" }'


def _is_reference(value: Any) -> bool:
    """Say whether a value has the form of a secret's reference; what is wrong with it is told by who takes it."""
    return isinstance(value, dict) and bool(value) and set(value) <= set(SOURCES)


def _text_or_secret(write: str) -> Kind:
    plain = kinds.text(write)

    def convert(value: Any, base: Path) -> Any:
        return value if _is_reference(value) else plain.convert(value, base)

    return Kind("text or a secret's reference", write, convert)


def _secret() -> Kind:
    def convert(value: Any, _: Path) -> Any:
        if isinstance(value, str):
            raise Wrong("a secret is named, never written", _WRITE)
        if not _is_reference(value):
            raise Wrong(f"{show(value)} is no secret's reference", _WRITE)
        return value

    return Kind("secret's reference", _WRITE, convert)


def _url(*, secret: bool = False) -> Kind:
    write = 'write it as "https://host/path"'

    def convert(value: Any, base: Path) -> Any:
        if secret and _is_reference(value):
            return value
        found = str(kinds.text(write).convert(value, base))
        try:
            parts = urlsplit(found)
            _ = parts.port
        except ValueError as error:
            raise Wrong(f"{show(found)} is not a URL: {error}", write) from None
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname or re.search(r"\s", found):
            raise Wrong(f"{show(found)} is not the URL of a web address", write)
        return found

    return Kind("URL", write, convert)


def _method() -> Kind:
    write = f"write {', '.join(_METHODS[:-1])} or {_METHODS[-1]}"

    def convert(value: Any, _: Path) -> str:
        found = of_type(value, str, "text", write).upper()
        if found not in _METHODS:
            raise Wrong(f"{show(value)} is no method of a webhook", write)
        return found

    return Kind("HTTP method", write, convert)


def _headers() -> Kind:
    write = 'write a table: { Accept = "application/json" }'
    item_kind = _text_or_secret("write text, or a secret's reference")

    def convert(value: Any, base: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in of_type(value, dict, "a table", write).items():
            if not _HEADER_NAME.fullmatch(name):
                raise Wrong(f"{show(name)} is no name of a header", write, (name,))
            try:
                found[name] = item_kind.convert(item, base)
            except Wrong as wrong:
                raise Wrong(wrong.problem, wrong.remedy, (name, *wrong.at)) from None
        return found

    return Kind("table of headers", write, convert)


def _auth() -> Kind:
    write = 'write { bearer = { env = "TOKEN" } } or { basic = { username = "me", password = { env = "PASSWORD" } } }'
    item_kind = _text_or_secret("write text, or a secret's reference")

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
    name="headers", kind=_headers(), default="{}", help="sent with every request; a value may be a secret's reference"
)

BLOCKS: Mapping[BlockType, Keys] = {
    kind: {key.name: key for key in (_type(kind), *own, _DESCRIPTION)}
    for kind, own in {
        BlockType.SECRET: (
            Key(
                name="value",
                kind=_secret(),
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
                kind=_url(secret=True),
                example='{ env = "HOOK_URL" }',
                help="where to; it may be a secret's reference",
                required=True,
            ),
            Key(name="method", kind=_method(), default='"POST"', help="GET, POST, PUT, PATCH or DELETE"),
            _HEADERS,
        ),
        BlockType.HTTP_API: (
            Key(
                name="base_url",
                kind=_url(),
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
