"""The values of whatever is reached by the web: URLs, headers, methods; and where a secret's reference may stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidemill.config import kinds
from tidemill.config.faults import Wrong, show
from tidemill.config.kinds import Kind, of_type
from tidemill.config.secrets import SOURCES

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_WRITE = 'write { env = "NAME" }, { credential = "name" } or { file = "/path" }'


def is_reference(value: Any) -> bool:
    """Say whether a value has the form of a secret's reference; what is wrong with it is told by who takes it."""
    return isinstance(value, dict) and bool(value) and set(value) <= set(SOURCES)


def text_or_secret(write: str) -> Kind:
    plain = kinds.text(write)

    def convert(value: Any, base: Path) -> Any:
        return value if is_reference(value) else plain.convert(value, base)

    return Kind("text or a secret's reference", write, convert)


def secret() -> Kind:
    def convert(value: Any, _: Path) -> Any:
        if isinstance(value, str):
            raise Wrong("a secret is named, never written", _WRITE)
        if not is_reference(value):
            raise Wrong(f"{show(value)} is no secret's reference", _WRITE)
        return value

    return Kind("secret's reference", _WRITE, convert)


def url(*, or_secret: bool = False) -> Kind:
    write = 'write it as "https://host/path"'

    def convert(value: Any, base: Path) -> Any:
        if or_secret and is_reference(value):
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


def method() -> Kind:
    write = f"write {', '.join(_METHODS[:-1])} or {_METHODS[-1]}"

    def convert(value: Any, _: Path) -> str:
        found = of_type(value, str, "text", write).upper()
        if found not in _METHODS:
            raise Wrong(f"{show(value)} is no method of a webhook", write)
        return found

    return Kind("HTTP method", write, convert)


def headers() -> Kind:
    write = 'write a table: { Accept = "application/json" }'
    item_kind = text_or_secret("write text, or a secret's reference")

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
