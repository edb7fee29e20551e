"""The scanner finds exactly the keys that tomllib finds, each where it stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.config import bounds
from tidemill.config.documents import dotted, key_path
from tidemill.config.positions import KeyPath, scan

pytestmark = pytest.mark.thorough

BARE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")

keys = st.one_of(
    st.sampled_from(
        ["a", "b", "cron", "1", "x-y", "a.b", "", " ", '"', "'", "[x]", "#", "ä", "\\", "a=b", "\t", "\x1b"]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=4),
)
texts = st.one_of(
    st.sampled_from(['a"b', "[x]", "# no comment", '"""', "'''", "a\nb = 1\n[c]\n", "\\", "}", "k = 1", "\r\n", ""]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8),
)
scalars = st.one_of(texts, st.integers(-99, 10**6), st.booleans(), st.sampled_from([1.5, -0.25, 1e10]))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)
documents = st.dictionaries(keys, values, max_size=5)


class Writer:
    """Writes a document as TOML in drawn styles and remembers the words it used for every key and value."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self._draw = draw
        self.words: dict[KeyPath, tuple[str, str]] = {}  # path -> the key's word, the value's word

    def _one_of(self, *choices: str) -> str:
        return str(self._draw(st.sampled_from(choices)))

    def _blank(self) -> str:
        return self._one_of("", "", " ", "\t ")

    def _gap(self) -> str:
        return self._one_of("", "\n", ' # ] } "no\n', "\n\n  ")

    def key(self, name: str) -> str:
        styles = [json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")]
        if name and set(name) <= BARE:
            styles += [name, name]
        if "'" not in name and name.isprintable():
            styles.append(f"'{name}'")
        return self._one_of(*styles)

    def text(self, value: str) -> str:
        styles = [json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")]
        plain = value.isprintable() or (value.replace("\n", "").isprintable() and "\r" not in value)
        if plain and "\n" not in value and "'" not in value:
            styles.append(f"'{value}'")
        if plain and "'''" not in value and not value.endswith("'") and not value.startswith("\n"):
            styles.append(f"'''{value}'''")
        if plain and '"' not in value and "\\" not in value:
            styles.append(f'"""\n{value}"""')
            styles.append(f'"""\\\n   {value}"""' if value and not value[0].isspace() else f'"""\n{value}"""')
        return self._one_of(*styles)

    def value(self, value: Any, path: KeyPath) -> str:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            items = []
            for number, item in enumerate(value):
                word = self.value(item, (*path, number))
                self.words[(*path, number)] = (word, word)
                items.append(self._gap() + word + self._gap())
            comma = self._one_of("", ",") if items else ""
            return "[" + ",".join(items) + comma + self._gap() + "]"
        if isinstance(value, dict):
            pairs = [self._blank() + self.pair(name, item, path) + self._blank() for name, item in value.items()]
            return "{" + (",".join(pairs) or self._blank()) + "}"
        return json.dumps(value)

    def pair(self, name: str, value: Any, path: KeyPath) -> str:
        path = (*path, name)
        key = self.key(name)
        if isinstance(value, dict) and len(value) == 1 and self._draw(st.booleans()):
            # a.b = 1: the parent's value begins with its own name.
            self.words[path] = (key, key)
            ((child, item),) = value.items()
            return f"{key}{self._blank()}.{self._blank()}" + self.pair(child, item, path)
        word = self.value(value, path)
        self.words[path] = (key, word)
        return f"{key}{self._blank()}={self._blank()}{word}"

    def table(self, value: dict[str, Any], path: KeyPath, header: str) -> str:
        lines, tables = "", ""
        for name, item in value.items():
            key = self.key(name)
            word = f"{header}.{key}" if header else key
            if isinstance(item, dict) and item and self._draw(st.booleans()):
                self.words[(*path, name)] = (key, "[")
                tables += f"{self._blank()}[{word}]{self._one_of('', ' # [x]')}\n" + self.table(
                    item, (*path, name), word
                )
            elif _is_array_of_tables(item) and self._draw(st.booleans()):
                self.words[(*path, name)] = (key, "[[")
                for number, one in enumerate(item):
                    self.words[(*path, name, number)] = (key, "[[")
                    tables += f"[[{word}]]\n" + self.table(one, (*path, name, number), word)
            else:
                lines += self._blank() + self.pair(name, item, path) + self._one_of("\n", " # a = 1\n", "\n\n")
        return lines + tables


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from paths(item, (*path, key))


def place_of(text: str, path: KeyPath) -> tuple[str, str]:
    """What stands at a key and at its value, to the end of the text."""
    place = scan(text).places[path]
    return text[place.key :], text[place.value :]


@settings(max_examples=150, deadline=None)
@given(documents, st.data())
def test_every_key_and_value_is_found_where_it_was_written(document: dict[str, Any], data: st.DataObject) -> None:
    writer = Writer(data.draw)
    text = writer.table(document, (), "")
    words = writer.words
    if data.draw(st.booleans()):
        text = text.replace("\n", "\r\n")
        words = {path: (key.replace("\n", "\r\n"), word.replace("\n", "\r\n")) for path, (key, word) in words.items()}
    assert tomllib.loads(text) == document
    found = scan(text)
    assert set(found.places) == set(paths(document))
    assert found.duplicate is None
    for path, (key, word) in words.items():
        place = found.places[path]
        assert text.startswith(key, place.key), path
        assert text.startswith(word, place.value), path
    assert bounds.check(text) is None


CORPUS = """\
top = 1
[daemon] # a comment
timezone = "Europe/Helsinki"
include = [ "a", # one
  'b', ]
[deployments.a.parameters]
x.y."z.w" = { p = [ { q = 1 }, { } ], r.s = 2 }
[deployments]
[deployments.b]
cron = \"\"\"
[no.table]
\"\"\"
[[deployments.b.schedules]]
at = 2030-01-01 00:00:00
[[deployments.b.schedules]]
exclude = [2026-12-24,2026-12-25]
[deployments.b.schedules.deep]
k = 0x1F
"""


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(CORPUS)), st.integers(0, 3), st.sampled_from([*"[]{}\"'=.,# \n\\ab", '"""'])),
        max_size=4,
    )
)
def test_whatever_tomllib_takes_is_read_alike_and_nothing_makes_the_scanner_fail(
    edits: list[tuple[int, int, str]],
) -> None:
    text = CORPUS
    for place, gone, put in edits:
        text = text[:place] + put + text[place + gone :]
    found = scan(text)
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    assert set(found.places) == set(paths(document))
    assert bounds.check(text) is None


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("top",), "top", "1"),
        (("daemon",), "daemon]", "[daemon]"),
        (("daemon", "include", 1), "'b'", "'b'"),
        # An implied parent is told at its own header, where one follows.
        (("deployments",), "deployments]\n", "[deployments]\n"),
        (("deployments", "a"), "a.parameters]", "[deployments.a.parameters]"),
        (("deployments", "a", "parameters", "x", "y"), "y.", "y."),
        (("deployments", "a", "parameters", "x", "y", "z.w", "p", 0, "q"), "q = 1", "1 }"),
        (("deployments", "b", "schedules", 1), "deployments.b.schedules]]\nexclude", "[[deployments.b.schedules]]\nex"),
        (("deployments", "b", "schedules", 1, "exclude", 1), "2026-12-25", "2026-12-25"),
        (("deployments", "b", "schedules", 1, "deep", "k"), "k =", "0x1F"),
    ],
)
def test_a_place_is_where_a_person_would_look(path: KeyPath, key: str, value: str) -> None:
    at_key, at_value = place_of(CORPUS, path)
    if path[-1] == 1 and path[-2] == "schedules":
        key = key.removeprefix("deployments.b.")  # the header's last word
    assert at_key.startswith(key)
    assert at_value.startswith(value)


def test_lines_and_columns_count_from_one() -> None:
    found = scan("a = 1\r\n  b = 'ü'\n")
    assert found.of_key(("a",)) == (1, 1)
    assert found.of_value(("a",)) == (1, 5)
    assert found.of_key(("b",)) == (2, 3)
    assert found.of_value(("b",)) == (2, 7)
    assert found.of_key(("c",)) is None


@given(st.lists(st.one_of(keys, st.integers(0, 99)), max_size=6))
def test_a_dotted_key_is_read_back_as_the_path_it_was_made_from(path: list[str | int]) -> None:
    assert key_path(dotted(tuple(path))) == tuple(path)
