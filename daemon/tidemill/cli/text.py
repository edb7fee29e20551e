"""Text on the terminal: tables that fit, colours where they are wanted, and nothing that could steer the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any

# Colours of the states, by type; the names people look for first stand out.
_COLOURS = {
    "SCHEDULED": "33",
    "PENDING": "33",
    "RUNNING": "36",
    "PAUSED": "35",
    "CANCELLING": "35",
    "COMPLETED": "32",
    "FAILED": "31",
    "CRASHED": "1;31",
    "CANCELLED": "90",
}
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
GAP = "  "


def clean(value: Any, *, one_line: bool = True) -> str:
    """Return text without control characters: what a job printed must not move the reader's cursor."""
    text = _SGR.sub("", str(value))
    if one_line:
        text = text.replace("\n", "\\n").replace("\t", " ")
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def coloured() -> bool:
    """Say whether to write colours: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Painted(str):
    """Text that is clean already and may hold colours."""

    __slots__ = ()


def paint(text: str, state_type: str) -> Painted:
    """Return ``text`` in the colour of a state type, on a terminal."""
    code = _COLOURS.get(state_type)
    safe = clean(text)
    return Painted(f"\x1b[{code}m{safe}\x1b[0m" if code and coloured() else safe)


def tint(text: str, level: int) -> str:
    """Return clean ``text`` in the colour of a log line's level (logging's number), on a terminal."""
    code = "31" if level >= 40 else "33" if level >= 30 else "2" if level < 20 else ""
    return f"\x1b[{code}m{text}\x1b[0m" if code and coloured() else text


def width() -> int | None:
    """Return the columns there are: COLUMNS, else the terminal's; None in a pipe, where nothing limits."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return shutil.get_terminal_size().columns


class Column:
    """A column: its heading, and what the table may do with it where the line is too long.

    ``below``: cells may stand on a line of their own under the row, whole (names). ``optional``: the column may go.
    """

    def __init__(self, title: str, *, right: bool = False, below: bool = False, optional: bool = False) -> None:
        self.title, self.right, self.below, self.optional = title, right, below, optional


def table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, states: Sequence[str] = ()) -> str:
    """Return rows under headings, aligned, fit to the terminal without cutting a cell that is a name.

    Where a line is too long, optional columns go from the right, then ``below`` columns move under their row, widest
    first. ``states``: the state type of each row, whose colour the column headed STATE gets.
    """
    cells = [["" if cell is None else clean(cell) for cell in row] for row in rows]
    widths = [max([len(column.title), *(display_width(row[i]) for row in cells)]) for i, column in enumerate(columns)]
    inline, below = _fit(columns, widths, width())
    lines = [_line([column.title for column in columns], columns, widths, inline)]
    # Where the coloured column begins and ends, if it is shown.
    state = next((i for i in inline if columns[i].title == "STATE"), None) if states and coloured() else None
    start = sum(widths[i] + len(GAP) for i in inline if state is not None and i < state)
    for number, row in enumerate(cells):
        line = _line(row, columns, widths, inline)
        lines.append(line if state is None else _painted(line, start, start + widths[state], states[number]))
        lines.extend(f"    {columns[i].title.lower()} {row[i]}" for i in below if row[i])
    return "\n".join(lines)


def _fit(columns: Sequence[Column], widths: Sequence[int], limit: int | None) -> tuple[list[int], list[int]]:
    inline = list(range(len(columns)))
    below: list[int] = []
    if limit is None:
        return inline, below

    def too_long() -> bool:
        return sum(widths[i] for i in inline) + len(GAP) * (len(inline) - 1) > limit

    for i in reversed(range(len(columns))):
        if columns[i].optional and too_long():
            inline.remove(i)
    for i in sorted(inline, key=lambda i: -widths[i]):
        if columns[i].below and too_long():
            inline.remove(i)
            below.append(i)
    return inline, sorted(below)


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], inline: Sequence[int]) -> str:
    return GAP.join(_pad(cells[i], widths[i], right=columns[i].right) for i in inline).rstrip()


def _pad(text: str, size: int, *, right: bool) -> str:
    blanks = " " * (size - display_width(text))
    return blanks + text if right else text + blanks


def _painted(line: str, start: int, end: int, state_type: str) -> str:
    # Positions are counted in characters: a line with wide ones stays plain.
    return line[:start] + paint(line[start:end], state_type) + line[end:] if line.isascii() else line


def display_width(text: str) -> int:
    """Return how many columns a terminal gives to ``text``: East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def fields(pairs: Sequence[tuple[str, Any]]) -> str:
    """Return ``name  value`` lines, aligned; pairs without a value are left out."""
    given = [(name, value) for name, value in pairs if value not in (None, "", [], {}, ())]
    size = max((len(name) for name, _ in given), default=0)
    lines = []
    for name, value in given:
        shown = value if isinstance(value, Painted) else clean(value, one_line=False)
        lines.append(f"{name:<{size}}  {shown}".replace("\n", "\n" + " " * (size + 2)))
    return "\n".join(lines)
