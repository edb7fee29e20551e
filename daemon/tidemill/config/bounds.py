"""What a file may not exceed before it is parsed, checked in one pass over its text.

tomllib takes 12 s for a dotted key of 40 kB and recurses once per bracket; a file that would do either is refused
before tomllib sees it. The pass knows just enough of TOML to tell keys and brackets from text in quotes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_FILE_BYTES = 1024 * 1024
MAX_TOTAL_BYTES = 4 * 1024 * 1024  # of all files together
MAX_FILES = 1000
MAX_KEY_PARTS = 16  # a.b.c has three
MAX_KEY_CHARACTERS = 1024  # of one dotted key
MAX_NESTING = 16  # brackets inside brackets

# The most usual lines are one token each, for speed: `key = "value"  # comment`, a list of texts, a short [header].
# None of them can nest or hold a long dotted key.
_TOKEN = re.compile(
    r"""
    (?P<line>[A-Za-z0-9_-]{1,64}[ \t]*=[ \t]*
        (?:"[^"\\\n]*"(?!")|'[^'\n]*'(?!')|[A-Za-z0-9_+.:-]+|\[(?:"[^"\\\n]*"(?:,[ \t]*)?)*\])
        [ \t]*(?:\#[^\n]*|\r)?\n)
  | (?P<header>\[\[?(?:[A-Za-z0-9_-]{1,64}\.){0,5}[A-Za-z0-9_-]{1,64}\]\]?\r?\n)
  | (?P<comment>\#[^\n]*)
  | (?P<multi>\"\"\"|''')
  | (?P<key>
        (?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\[^\n])*"|'[^'\n]*')
        (?:[ \t]*\.[ \t]*(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\[^\n])*"|'[^'\n]*'))*
    )
  | (?P<open>[\[{])
  | (?P<close>[\]}])
  | (?P<quote>["'])
  | [^A-Za-z0-9_"'\#\[\]{}-]+
    """,
    re.VERBOSE,
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\[^\n])*"|'[^'\n]*'""")
_BASIC_STOP = re.compile(r'\\.|["\n]', re.DOTALL)
_MULTI_BASIC_STOP = re.compile(r'\\.|"""', re.DOTALL)


class OutOfBounds(NamedTuple):
    """Why a text is refused, and where: an offset into it."""

    offset: int
    problem: str
    remedy: str


def check(text: str) -> OutOfBounds | None:
    """Return why ``text`` may not be parsed, or None. Linear in its length; recurses never.

    Where a string does not end the pass does: tomllib stops there too, and says so better.
    """
    depth = position = 0
    while (match := _TOKEN.match(text, position)) is not None:
        position = match.end()
        kind = match.lastgroup
        if kind == "open":
            depth += 1
            if depth > MAX_NESTING:
                return OutOfBounds(match.start(), f"brackets nest deeper than {MAX_NESTING}", "write it flatter")
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "key":
            token = match.group()
            if token.count(".") >= MAX_KEY_PARTS and len(_PART.findall(token)) > MAX_KEY_PARTS:
                return OutOfBounds(match.start(), f"a key of more than {MAX_KEY_PARTS} parts", "shorten the dotted key")
            if len(token) > MAX_KEY_CHARACTERS and len(_PART.findall(token)) > 1:
                return OutOfBounds(
                    match.start(), f"a dotted key longer than {MAX_KEY_CHARACTERS} characters", "shorten the key"
                )
        elif kind == "multi":
            end = string_end(text, match.start())
            if end is None:
                return None
            position = end
        elif kind == "quote":
            return None
    return None


def string_end(text: str, start: int) -> int | None:
    """Return the offset after the string whose opening quote is at ``start``; None where it does not end."""
    quote = text[start]
    if not text.startswith(quote * 3, start):
        if quote == "'":
            end = text.find("'", start + 1)
            return None if end < 0 or text.find("\n", start, end) >= 0 else end + 1
        for stop in _BASIC_STOP.finditer(text, start + 1):
            if stop.group() == '"':
                return stop.end()
            if stop.group() == "\n":
                return None
        return None
    if quote == "'":
        end = text.find("'''", start + 3)
    else:
        end = next((m.start() for m in _MULTI_BASIC_STOP.finditer(text, start + 3) if m.group() == '"""'), -1)
    if end < 0:
        return None
    end += 3
    # Up to two quotes may stand right before the closing three and belong to the text.
    for _ in range(2):
        if text.startswith(quote, end):
            end += 1
    return end
