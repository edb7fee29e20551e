"""JSON schemas: what a value lacks to fit one, before the code that waits for it is given it.

Read as leniently as values are converted later: ``"5"`` fits an integer. What is not looked at here (patterns, formats,
rules of the type's own code) is the conversion's business, which has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
MOST_FAULTS = 10
DEEPEST = 50  # levels of a value that are looked at
MOST_STEPS = 20_000  # what a schema that leads in circles may cost; what was not looked at fits
_TRUTHS = frozenset("true false yes no on off t f y n 1 0 1.0 0.0".split())


def faults(value: Any, schema: Schema) -> list[str]:
    """Return what is wrong with a JSON value, at most ten sentences that begin with the place; none: it fits.

    >>> faults({"n": "many"}, {"type": "object", "properties": {"n": {"type": "integer"}}})
    ['n: "many" is not an integer']
    """
    definitions = {f"#/{key}/{name}": each for key in ("definitions", "$defs") for name, each in _all(schema, key)}
    found = _Check(definitions).of(value, schema, "", 0)
    return [fault for fault, _ in zip(found, range(MOST_FAULTS), strict=False)]


class _Check:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._steps = 0

    def of(self, value: Any, schema: Any, place: str, depth: int) -> Iterator[str]:
        self._steps += 1
        if not isinstance(schema, Mapping) or depth > DEEPEST or self._steps > MOST_STEPS:
            return
        if "$ref" in schema:
            yield from self.of(value, self._definitions.get(schema["$ref"]), place, depth + 1)
        for each in schema.get("allOf", ()):
            yield from self.of(value, each, place, depth + 1)
        for alternatives in (schema[key] for key in ("anyOf", "oneOf") if schema.get(key)):
            yield from self._none_of(value, alternatives, place, depth)
        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if allowed is not None and not any(value == each or str(value) == str(each) for each in allowed):
            yield _told(place, f"{_shown(value)} is not {' or '.join(map(_shown, allowed))}")
        elif (wrong := _wrong_type(value, schema)) is not None:
            yield _told(place, f"{_shown(value)} is not {wrong}")
        elif isinstance(value, dict):
            yield from self._of_object(value, schema, place, depth)
        elif isinstance(value, list):
            yield from self._of_list(value, schema, place, depth)
        else:
            yield from _out_of_bounds(value, schema, place)

    def _none_of(self, value: Any, alternatives: list[Any], place: str, depth: int) -> Iterator[str]:
        """Where no alternative fits, tell what the first one lacks that is more than the value's absence."""
        tried = [(each, list(self.of(value, each, place, depth + 1))) for each in alternatives]
        if all(lacks for _, lacks in tried):
            yield from next((lacks for each, lacks in tried if each != {"type": "null"}), tried[0][1])

    def _of_object(self, value: dict[str, Any], schema: Schema, place: str, depth: int) -> Iterator[str]:
        properties, rest = dict(_all(schema, "properties")), schema.get("additionalProperties", True)
        for name in schema.get("required", ()):
            if name not in value:
                yield _told(_below(place, name), "is missing")
        for name, each in value.items():
            below = _below(place, name)
            if name in properties:
                yield from self.of(each, properties[name], below, depth + 1)
            elif rest is False:
                yield _told(below, f"is not known; known are {', '.join(properties) or 'none'}")
            else:
                yield from self.of(each, rest, below, depth + 1)

    def _of_list(self, value: list[Any], schema: Schema, place: str, depth: int) -> Iterator[str]:
        yield from _too_many(len(value), schema, "Items", "items", place)
        first = schema.get("prefixItems", ())
        for number, each in enumerate(value):
            wanted = first[number] if number < len(first) else schema.get("items")
            yield from self.of(each, wanted, f"{place}[{number}]", depth + 1)


def _wrong_type(value: Any, schema: Schema) -> str | None:
    """Return what the value would have to be, in words; None: it is."""
    wanted = schema.get("type")
    kinds = [str(kind) for kind in (wanted if isinstance(wanted, list) else [wanted]) if kind in _TYPES]
    if not kinds or any(_TYPES[kind][1](value) for kind in kinds):
        return None
    if "string" in kinds and "format" in schema and _is_number(value):
        return None  # instants and decimals are taken from numbers, too
    return " or ".join(_TYPES[kind][0] for kind in kinds)


def _number(value: Any) -> float | None:
    """Return the number that a value is or spells; None: none."""
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return _number(value) is not None


def _is_integer(value: Any) -> bool:
    number = _number(value)
    return number is not None and number % 1 == 0


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) and str(value).lower() in _TRUTHS


_TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "null": ("null", lambda value: value is None or (isinstance(value, str) and value.lower() == "null")),
    "boolean": ("true or false", _is_truth),
    "integer": ("an integer", _is_integer),
    "number": ("a number", _is_number),
    "string": ("a text", lambda value: isinstance(value, str)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "object": ("an object", lambda value: isinstance(value, dict)),
}
_BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("minimum", "at least", lambda value, bound: value >= bound),
    ("maximum", "at most", lambda value, bound: value <= bound),
    ("exclusiveMinimum", "more than", lambda value, bound: value > bound),
    ("exclusiveMaximum", "less than", lambda value, bound: value < bound),
)


def _out_of_bounds(value: Any, schema: Schema, place: str) -> Iterator[str]:
    if isinstance(value, str):
        yield from _too_many(len(value), schema, "Length", "characters", place)
    if (number := _number(value)) is not None:
        for key, words, holds in _BOUNDS:
            bound = schema.get(key)
            if isinstance(bound, int | float) and not holds(number, bound):
                yield _told(place, f"{_shown(value)} is not {words} {bound:g}")


def _too_many(count: int, schema: Schema, what: str, words: str, place: str) -> Iterator[str]:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if isinstance(least, int) and count < least:
        yield _told(place, f"has {count} {words}, fewer than {least}")
    if isinstance(most, int) and count > most:
        yield _told(place, f"has {count} {words}, more than {most}")


def _all(schema: Schema, key: str) -> list[tuple[str, Any]]:
    found = schema.get(key)
    return list(found.items()) if isinstance(found, Mapping) else []


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _told(place: str, text: str) -> str:
    return f"{place}: {text}" if place else text


def _shown(value: Any) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
