"""Parameters of built-in flows: from what the file says to values, with every fault found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec.structs import FieldInfo

from tidemill.core.deployments import SecretRef
from tidemill.durations import parse_duration, parse_size
from tidemill.sdk.findings import Finding, near

P = TypeVar("P", bound=msgspec.Struct)

SecretText = str | SecretRef

_PLACE = re.compile(r" - at `(key in )?\$(?P<path>.*)`$")
_TYPES = {
    "object": "table",
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "array": "list",
}


class Seconds(float):
    """A duration, written as durations are written ("10s", 1.5), held as seconds."""

    __slots__ = ()


class ByteCount(int):
    """A size, written as sizes are written ("10MiB", 4096), held as bytes."""


def _read(kind: type, value: Any) -> Any:
    if kind is Seconds:
        return Seconds(parse_duration(value).total_seconds())
    if kind is ByteCount:
        return ByteCount(parse_size(value))
    raise NotImplementedError(kind)


def read_parameters(kind: type[P], parameters: Mapping[str, Any]) -> P:
    """Return the parameters as values; raises ``msgspec.ValidationError`` for the first fault."""
    return msgspec.convert(parameters, kind, dec_hook=_read)


@cache
def _fields(kind: type[msgspec.Struct]) -> Mapping[str, FieldInfo]:
    """Return the fields by their names in the file. Kept: working out annotations takes a millisecond each time."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def shape_findings(kind: type[msgspec.Struct], flow: str, parameters: Mapping[str, Any]) -> list[Finding]:
    """Return what is unknown, missing or of a wrong type among ``parameters``; each one is looked at for itself."""
    fields = _fields(kind)
    found = [
        Finding(name, f"{flow} has no such parameter", near(name, fields)) for name in parameters if name not in fields
    ]
    for name, field in fields.items():
        if name not in parameters:
            if field.required:
                found.append(Finding(name, f"{flow} needs it"))
            continue
        try:
            value = msgspec.convert(parameters[name], field.type, dec_hook=_read)
        except msgspec.ValidationError as error:
            found.append(_finding(name, str(error)))
        else:
            found += _secret_findings(name, value)
    return found


def sound_part(
    kind: type[P], parameters: Mapping[str, Any], found: Sequence[Finding]
) -> tuple[P | None, frozenset[str]]:
    """Return as values what no finding is about, and the names that one is about: the rest may have faults, too.

    None where a required parameter is missing or unsound.
    """
    unsound = frozenset(re.split(r"[.\[]", finding.path)[0] for finding in found)
    fields = _fields(kind)
    if any(field.required and (name in unsound or name not in parameters) for name, field in fields.items()):
        return None, unsound
    rest = {name: value for name, value in parameters.items() if name in fields and name not in unsound}
    return read_parameters(kind, rest), unsound


def _finding(name: str, text: str) -> Finding:
    place = _PLACE.search(text)
    path = place["path"].replace("[...]", "") if place else ""
    problem = text[: place.start()] if place else text
    problem = re.sub(r"^Object missing required field (`.*`)$", r"lacks \1", problem)
    problem = re.sub(r"^Object contains unknown field (`.*`)$", r"\1 is no key of it", problem)
    problem = re.sub(r"`([^`]*)`", lambda quoted: _in_words(quoted[1]), problem)
    return Finding(name + path, problem[:1].lower() + problem[1:])


def _in_words(types: str) -> str:
    if not all(part in _TYPES or part == "null" for part in types.split(" | ")):
        return f'"{types}"'
    return " or ".join(_TYPES[part] for part in types.split(" | ") if part != "null")


def _secret_findings(path: str, value: Any) -> list[Finding]:
    """A reference to a secret names exactly one place."""
    if isinstance(value, SecretRef):
        named = [place for place in (value.env, value.credential, value.file) if place]
        if len(named) != 1:
            return [
                Finding(
                    path, "names no one place of a secret", "write { env = … } or { credential = … } or { file = … }"
                )
            ]
        return []
    if isinstance(value, Mapping):
        return [finding for key, item in value.items() for finding in _secret_findings(f"{path}.{key}", item)]
    if isinstance(value, msgspec.Struct):
        return [
            finding
            for name in value.__struct_fields__
            for finding in _secret_findings(f"{path}.{name}", getattr(value, name))
        ]
    return []
