"""One file's text, what tomllib makes of it, and where its keys stand."""

from __future__ import annotations

import enum
import json
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tidemill.config import bounds
from tidemill.config.positions import KeyPath, Positions, scan
from tidemill.errors import Fault

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STEP = re.compile(r"""\.?(?:([A-Za-z0-9_-]+)|"((?:[^"\\]|\\.)*)"|\[(\d{1,9})\])""")
_LONG_NUMBER = re.compile(r"(?<![0-9A-Za-z_.])[0-9](?:_?[0-9]){4300}")
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")

# What tomllib says, and what to do about it.
_REMEDIES: Mapping[str, str] = {
    "Invalid value": "text stands in quotes; true and false are lower case; a date is 2026-03-29",
    "Unclosed array": "close it with ]",
    "Unclosed inline table": "an inline table stays on one line and ends with }",
    "Invalid statement": 'a line is a [table], a key = value or a # comment; a key of other letters stands in "quotes"',
    "Expected '=' after a key in a key/value pair": "write key = value",
    "Expected newline or end of document after a statement": "one key = value a line; text stands in quotes",
    "Illegal character '\\n'": 'close the quote on the same line, or use """ for several lines',
    "Unterminated string": "close the quote",
    "Unescaped '\\' in a string": "write \\\\ for a backslash, or use 'single quotes'",
}


class Origin(enum.StrEnum):
    """Who wrote a file, and so how it ranks."""

    MAIN = "main"
    INCLUDE = "include"
    MADE = "made"  # by the API or the command line; a person's file wins


class Document:
    """A file as it was read once. ``label`` is the path as shown to people, ``path`` the absolute one."""

    def __init__(self, *, label: str, path: Path, origin: Origin, text: str) -> None:
        self.label = label
        self.path = path
        self.folder = path.parent
        self.origin = origin
        self.text = text

    @cached_property
    def positions(self) -> Positions:
        """Where the keys stand; scanned at the first question."""
        return scan(self.text)

    def forget_positions(self) -> None:
        """Give back what the scan holds; the next question scans again."""
        self.__dict__.pop("positions", None)

    def place(self, path: KeyPath, *, at_key: bool = False) -> tuple[int, int]:
        """Return line and column of a key's value (or of the key), else of its nearest parent, else (0, 0)."""
        found = self.positions.of_key(path) if at_key else self.positions.of_value(path)
        while found is None and path:
            path = path[:-1]
            found = self.positions.of_key(path)
        return found or (0, 0)

    def line_column(self, offset: int) -> tuple[int, int]:
        return Positions(self.text).line_column(offset)

    def fault_at(self, offset: int, problem: str, remedy: str = "", key: str = "") -> Fault:
        line, column = self.line_column(offset)
        return Fault(file=self.label, line=line, column=column, key=key, problem=problem, remedy=remedy)


def parse(document: Document) -> dict[str, Any] | Fault:
    """Return the file's data, or the one fault that keeps it from being read."""
    refused = bounds.check(document.text)
    if refused is not None:
        return document.fault_at(refused.offset, refused.problem, refused.remedy)
    try:
        return tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as error:
        return _syntax_fault(document, str(error))
    except RecursionError:
        return Fault(file=document.label, line=0, column=0, key="", problem="brackets nest too deep")
    except Exception as error:
        # tomllib lets other errors through: a number of more than 4,300 digits is a plain ValueError.
        long = _LONG_NUMBER.search(document.text)
        if long is not None and "digits" in str(error):
            return document.fault_at(long.start(), "a number of more than 4300 digits", "shorten it")
        return Fault(file=document.label, line=0, column=0, key="", problem=f"cannot be read: {str(error)[:200]}")


def _syntax_fault(document: Document, message: str) -> Fault:
    match = _PLACE.search(message)
    problem = message[: match.start()] if match else message
    starts = [0, *(found.end() for found in re.finditer("\n", document.text))]
    at_end = match is None or match.group(1) is None
    offset = len(document.text.rstrip()) if match is None or at_end else starts[int(match[1]) - 1] + int(match[2]) - 1
    if problem.startswith(("Cannot declare", "Cannot overwrite", "Cannot redefine", "Cannot mutate")):
        # tomllib tells only where the second one ends.
        duplicate = scan(document.text, offset + 1).duplicate
        if duplicate is not None:
            first, _ = document.line_column(duplicate.first)
            problem = f"stands twice, first in line {first}"
            return document.fault_at(duplicate.second, problem, "keep one of them", dotted(duplicate.path))
    remedy = _REMEDIES.get(problem, "is the file whole?" if at_end else "")
    problem = problem[:1].lower() + problem[1:] + (" at the end of the file" if at_end else "")
    return document.fault_at(offset, problem, remedy)


def dotted(path: KeyPath) -> str:
    """Return a key path as a user would write it: ``deployments.daily.schedules[0].cron``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        # A key may hold what steers a terminal.
        quoted = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=not part.isprintable())
        text += f".{quoted}" if text else quoted
    return text if len(text) <= 300 else text[:300] + "…"


def key_path(text: str) -> KeyPath:
    """Return the key path that :func:`dotted` wrote; what cannot be read ends it."""
    path: list[str | int] = []
    position = 0
    while (match := _STEP.match(text, position)) is not None:
        bare, quoted, index = match.groups()
        if index is not None:
            path.append(int(index))
        else:
            try:
                path.append(bare if bare is not None else json.loads(f'"{quoted}"'))
            except ValueError:
                break
        position = match.end()
    return tuple(path)
