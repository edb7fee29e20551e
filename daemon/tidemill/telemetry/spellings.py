"""The ways a secret may be spelled in text: as it is, and as URLs, JSON, Python and base64 write it.

A *spelling* is a sequence of *places*; each place lists the strings that may stand there. A secret is not expanded into
whole encoded strings but character by character, because encoders differ in which characters they touch (httpx leaves
``@`` and ``/`` in a query, ``quote_plus`` does not) and every mixture has to be found.
"""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterator

Place = tuple[str, ...]
Spelling = tuple[Place, ...]

# Shorter secrets would hit ordinary words: see Redactor.add.
SHORTEST = 4
# A longer secret is looked for in pieces, each on its own: it bounds what a stream holds back, and finds cut tokens.
PIECE = 64
# A line of a secret of several lines (a private key) is a secret of its own from this length on.
SHORTEST_LINE = 8

_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_BASE64_PLACES: dict[str, Place] = {
    "+": ("+", "-", "%2B", "%2b"),
    "/": ("/", "_", "\\/", "%2F", "%2f"),
}


def spellings(secret: str) -> Iterator[Spelling]:
    """Yield every spelling to look for so that nothing readable of ``secret`` is left. Nothing for one too short."""
    for piece in pieces(secret):
        yield _escaped(piece)
        yield from _base64(piece)


def pieces(secret: str) -> list[str]:
    """Return the parts of a secret that are looked for one by one: all of it, its longer lines, or its pieces."""
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", secret.strip())]
    long = [line for line in lines if len(line) >= SHORTEST_LINE] if len(lines) > 1 else []
    if len(long) < sum(map(bool, lines)):  # the longer lines alone would leave a part in the open
        long.insert(0, "\n".join(lines))
    cut = [part for each in long for part in _cut(each)]
    return [part for part in dict.fromkeys(cut) if len(part) >= SHORTEST]


def _cut(text: str) -> list[str]:
    count = max(1, len(text) // PIECE)
    size = -(-len(text) // count)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _escaped(text: str) -> Spelling:
    # A run of backslashes is one place: as single places they would match one text in exponentially many ways.
    return tuple(_places(part) for part in re.findall(r"\\+|[A-Za-z0-9]+|.", text, re.DOTALL))


def _places(part: str) -> Place:
    """Return the spellings of a run of backslashes, a run of letters and digits, or any other single character."""
    if part.isascii() and part.isalnum():
        return (part,)
    if part[0] == "\\":
        # JSON inside JSON, and the repr of either, double them again.
        several = [part * factor for factor in (4, 2, 1)]
        return (*several, "%5C" * len(part), "%5c" * len(part))
    found = [part, *_percent(part), *_backslashed(part)]
    if part == " ":
        found.append("+")
    if part == "\n":
        found += ["\r\n", "\r", *_percent("\r\n"), "\\r\\n"]
    return tuple(dict.fromkeys(found))


def _percent(text: str) -> tuple[str, str]:
    encoded = "".join(f"%{byte:02X}" for byte in _bytes(text))
    return encoded, encoded.lower()


def _backslashed(character: str) -> Iterator[str]:
    """Yield the escapes of JSON and of Python's repr, also as they look inside another JSON text."""
    code = ord(character)
    wide = character.encode("utf-16-be", "surrogatepass")
    names = [[f"u{wide[i]:02x}{wide[i + 1]:02x}" for i in range(0, len(wide), 2)]]
    names.append([f"x{byte:02x}" for byte in _bytes(character)])
    names.append([f"x{code:02x}"] if code <= 0xFF else [f"U{code:08x}"])
    names += [[name[0] + name[1:].upper() for name in each] for each in names]
    if character in _ESCAPES:
        names.append([_ESCAPES[character]])
    if character in "\"'/":
        names.append([character])
    for each in names:
        for backslashes in ("\\", "\\\\", "\\\\\\"):
            yield "".join(backslashes + name for name in each)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _base64(text: str) -> Iterator[Spelling]:
    """Yield the base64 characters that ``text`` decides, for each of its three places in a group of three bytes."""
    data = _bytes(text)
    for offset in range(3):
        bits = offset + len(data)
        encoded = base64.b64encode(b"\0" * offset + data).decode()
        decided = encoded[(0, 2, 3)[offset] : bits * 8 // 6]
        places = [_BASE64_PLACES.get(character, (character,)) for character in decided]
        free = (6 - bits * 8 % 6) % 6
        if free:  # the last character shares its bits with the byte that follows
            start = _ALPHABET.index(encoded[bits * 8 // 6])
            shared = [_BASE64_PLACES.get(_ALPHABET[start + i], (_ALPHABET[start + i],)) for i in range(1 << free)]
            places.append(tuple(character for place in shared for character in place))
        yield _joined(places)


def _joined(places: list[Place]) -> Spelling:
    """Return the places with neighbours that have one spelling each made one."""
    joined: list[Place] = []
    for place in places:
        if joined and len(place) == 1 and len(joined[-1]) == 1:
            joined[-1] = (joined[-1][0] + place[0],)
        else:
            joined.append(place)
    return tuple(joined)
