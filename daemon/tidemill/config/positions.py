"""Where in a TOML text each key and value stands. tomllib does not say; this is run only when a fault is to be told.

The scanner walks the text once and trusts its form: tomllib has accepted it (up to ``end``, at least).
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from typing import NamedTuple

from tidemill.config.bounds import string_end

KeyPath = tuple[str | int, ...]

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"\d{4}-\d\d-\d\d \d\d:[0-9:.+Zz-]+|[^\s,\]}#]+")
_LINE_END = re.compile(r"\n")


class Place(NamedTuple):
    """Offsets of a key and of its value. A table's value begins at its header; a list's item is its own key."""

    key: int
    value: int


class Duplicate(NamedTuple):
    """A key that stands twice: tomllib refuses the file and names only the second place."""

    path: KeyPath
    first: int
    second: int


class Positions:
    """Every key path of one text with its place. Built by :func:`scan`."""

    def __init__(self, text: str) -> None:
        self.places: dict[KeyPath, Place] = {}
        self.duplicate: Duplicate | None = None
        self._line_ends = [match.start() for match in _LINE_END.finditer(text)]

    def line_column(self, offset: int) -> tuple[int, int]:
        """Return line and column, both from 1, of an offset."""
        line = bisect_left(self._line_ends, offset)
        return line + 1, offset - (self._line_ends[line - 1] if line else -1)

    def of_value(self, path: KeyPath) -> tuple[int, int] | None:
        """Return line and column of a key's value; None where the text has no such key."""
        place = self.places.get(path)
        return None if place is None else self.line_column(place.value)

    def of_key(self, path: KeyPath) -> tuple[int, int] | None:
        """Return line and column of a key; None where the text has no such key."""
        place = self.places.get(path)
        return None if place is None else self.line_column(place.key)


def scan(text: str, end: int | None = None) -> Positions:
    """Find every key of ``text``; with ``end``, of the statements that begin before that offset."""
    return _Scanner(text, len(text) if end is None else end).run()


class _LostError(Exception):
    """The text is not TOML from here on."""


class _Scanner:
    """One pass over one text."""

    def __init__(self, text: str, end: int) -> None:
        self._text = text
        self._end = end
        self._found = Positions(text)
        self._items: dict[KeyPath, int] = {}  # arrays of tables: how many tables so far
        self._declared: set[KeyPath] = set()  # by a [header] of their own
        self._opened: set[KeyPath] = set()  # by a dotted key or as the parent of a header

    def run(self) -> Positions:
        position = 0
        header: KeyPath = ()
        try:
            while (position := self._skip(_GAP, position)) < min(self._end, len(self._text)):
                if self._text.startswith("[[", position):
                    header, position = self._header(position, 2)
                elif self._text[position] == "[":
                    header, position = self._header(position, 1)
                else:
                    position = self._pair(position, header)
        except _LostError:
            pass  # what was found up to here is right
        return self._found

    def _skip(self, what: re.Pattern[str], position: int) -> int:
        match = what.match(self._text, position)
        return match.end() if match else position

    def _header(self, start: int, brackets: int) -> tuple[KeyPath, int]:
        parts, position = self._key(start + brackets)
        if not self._text.startswith("]" * brackets, position):
            raise _LostError
        path: KeyPath = ()
        for place, (part, _) in enumerate(parts):
            path += (part,)
            last = place == len(parts) - 1
            if path in self._items and not (last and brackets == 2):
                path += (self._items[path] - 1,)
            if not last and path not in self._found.places:
                self._found.places[path] = Place(parts[place][1], start)
                self._opened.add(path)
        offset = parts[-1][1]
        if brackets == 2:
            count = self._items.get(path, 0)
            if count == 0:
                self._put(path, offset, start)
            self._items[path] = count + 1
            path += (count,)
            self._found.places[path] = Place(offset, start)
            return path, position + 2
        if path in self._declared or (path in self._found.places and path not in self._opened):
            self._twice(path, offset)
        # A parent that an earlier header implied is told at its own header.
        self._found.places[path] = Place(offset, start)
        self._declared.add(path)
        return path, position + 1

    def _pair(self, position: int, parent: KeyPath) -> int:
        parts, position = self._key(position)
        if not self._text.startswith("=", position):
            raise _LostError
        position = self._skip(_BLANK, position + 1)
        path = parent
        for part, offset in parts[:-1]:
            path += (part,)
            if path not in self._found.places:
                self._found.places[path] = Place(offset, offset)
                self._opened.add(path)
        path += (parts[-1][0],)
        self._put(path, parts[-1][1], position)
        return self._value(position, path)

    def _put(self, path: KeyPath, key: int, value: int) -> None:
        if path in self._found.places:
            self._twice(path, key)
        else:
            self._found.places[path] = Place(key, value)

    def _twice(self, path: KeyPath, second: int) -> None:
        if self._found.duplicate is None:
            self._found.duplicate = Duplicate(path, self._found.places[path].key, second)

    def _key(self, position: int) -> tuple[list[tuple[str, int]], int]:
        parts: list[tuple[str, int]] = []
        while True:
            position = self._skip(_BLANK, position)
            quote = self._text[position : position + 1]
            if quote in {'"', "'"}:
                end = string_end(self._text, position)
                if end is None:
                    raise _LostError
                token = self._text[position:end]
                try:
                    # tomllib knows the escapes.
                    part = tomllib.loads(f"k={token}")["k"] if quote == '"' else token[1:-1]
                except tomllib.TOMLDecodeError:
                    raise _LostError from None
            else:
                match = _BARE.match(self._text, position)
                if match is None:
                    raise _LostError
                part, end = match.group(), match.end()
            parts.append((part, position))
            position = self._skip(_BLANK, end)
            if not self._text.startswith(".", position):
                return parts, position
            position += 1

    def _value(self, position: int, path: KeyPath) -> int:
        first = self._text[position : position + 1]
        if first in {'"', "'"}:
            end = string_end(self._text, position)
            if end is None:
                raise _LostError
            return end
        if first == "[":
            return self._array(position + 1, path)
        if first == "{":
            return self._inline(position + 1, path)
        match = _SCALAR.match(self._text, position)
        if match is None:
            raise _LostError
        return match.end()

    def _array(self, position: int, path: KeyPath) -> int:
        for number in range(len(self._text)):
            position = self._skip(_GAP, position)
            if self._text.startswith("]", position):
                return position + 1
            item = (*path, number)
            self._found.places[item] = Place(position, position)
            position = self._skip(_GAP, self._value(position, item))
            if self._text.startswith(",", position):
                position += 1
            elif not self._text.startswith("]", position):
                raise _LostError
        raise _LostError

    def _inline(self, position: int, path: KeyPath) -> int:
        while True:
            position = self._skip(_GAP, position)
            if self._text.startswith("}", position):
                return position + 1
            position = self._skip(_GAP, self._pair(position, path))
            if self._text.startswith(",", position):
                position += 1
            elif not self._text.startswith("}", position):
                raise _LostError
