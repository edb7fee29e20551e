"""SQL by name. Each ``.sql`` file beside these modules holds statements, each under a ``-- name: x`` line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def parse(text: str, source: str) -> dict[str, str]:
    """Return the statements of a file by name. Raises ``ValueError`` for a name given twice or left empty."""
    parts = _NAME.split(text)
    found: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        statement = body.strip().rstrip(";").strip()
        if name in found or not statement:
            raise ValueError(f"{source}: statement {name!r} is " + ("named twice" if name in found else "empty"))
        found[name] = statement
    return found


def load(noun: str) -> Mapping[str, str]:
    """Return the statements of ``NOUN.sql``."""
    text = resources.files(__package__).joinpath(f"{noun}.sql").read_text(encoding="utf-8")
    return MappingProxyType(parse(text, f"{noun}.sql"))
