"""SQL by name. Each ``.sql`` file beside these modules holds statements, each under a ``-- name: x`` line.

What several statements of a file share stands under ``-- fragment: x``, above them, and is put in for ``{x}``. That is
done once, when the file is read: no statement is ever made from data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_HEAD = re.compile(r"^-- (name|fragment): (\w+)$", re.MULTILINE)
_PLACE = re.compile(r"\{(\w+)\}")


def parse(text: str, source: str) -> dict[str, str]:
    """Return the statements of a file by name.

    Raises ``ValueError`` for a name given twice or left empty, and for a fragment that is not there.
    """
    parts = _HEAD.split(text)
    found: dict[str, dict[str, str]] = {"name": {}, "fragment": {}}
    for kind, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        statement = _without_last_comment(body).rstrip().rstrip(";").strip()
        if name in found["name"] or name in found["fragment"] or not statement:
            raise ValueError(f"{source}: {name!r} is empty, or there twice")
        missing = set(_PLACE.findall(statement)) - set(found["fragment"])
        if missing:
            raise ValueError(f"{source}: {name!r} wants fragments that are not above it: {', '.join(sorted(missing))}")
        found[kind][name] = _PLACE.sub(lambda place: found["fragment"][place[1]], statement)
    return found["name"]


def _without_last_comment(body: str) -> str:
    """Leave out the comment that belongs to the next statement."""
    lines = body.rstrip().splitlines()
    while lines and (not lines[-1].strip() or lines[-1].startswith("--")):
        lines.pop()
    return "\n".join(lines)


def load(noun: str) -> Mapping[str, str]:
    """Return the statements of ``NOUN.sql``."""
    text = resources.files(__package__).joinpath(f"{noun}.sql").read_text(encoding="utf-8")
    return MappingProxyType(parse(text, f"{noun}.sql"))
