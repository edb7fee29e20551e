"""Secrets are replaced by asterisks in everything that leaves the daemon: logs, artifacts, answers, tracebacks.

A secret is known by having been resolved (:meth:`Redactor.add`). From then on it is found in every spelling of
:mod:`tidemill.telemetry.spellings`, and also where a text arrives in chunks and the secret lies across their borders.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tidemill.telemetry.spellings import SHORTEST, Spelling, spellings

MASK = "********"  # of one length for all, so that it does not tell the secret's


class _Search:
    """All spellings of all secrets, compiled; never changed, so that readers need no lock."""

    def __init__(self, secrets: Collection[str]) -> None:
        self.short = frozenset(secret for secret in secrets if len(secret) < SHORTEST)
        found = {spelling for secret in secrets for spelling in spellings(secret)}
        # Of two that match at one place the longer has to win, or the longer one's rest would stay.
        self.spellings = sorted(found, key=lambda spelling: (-_least(spelling), spelling))
        by_first: dict[str, list[str]] = {}
        for spelling in self.spellings:
            for first in spelling[0]:
                by_first.setdefault(first[0], []).append(re.escape(first[1:]) + _rest(spelling[1:]))
        # Every alternative begins with another plain character: the engine skips to those at C speed and tries one.
        alternatives = [f"{re.escape(first)}(?:{'|'.join(rests)})" for first, rests in by_first.items()]
        self.regex = re.compile("|".join(alternatives)) if alternatives else None
        self.longest = max((sum(max(map(len, place)) for place in each) for each in self.spellings), default=0)
        self.one_line = not any("\n" in one for each in self.spellings for place in each for one in place)
        self.by_first: dict[str, list[Spelling]] = {}
        for spelling in self.spellings:
            for first in dict.fromkeys(one[0] for one in spelling[0]):
                self.by_first.setdefault(first, []).append(spelling)

    def spans(self, text: str, until: int, known: tuple[int, int] | None = None) -> list[tuple[int, int]]:
        """Return the parts to mask that begin before ``until``, in order, none touching the next.

        ``known`` is a first part that is masked already.
        """
        found = [known] if known is not None else []
        if self.regex is None:
            return found
        match = self.regex.search(text)
        while match is not None and match.start() < until:
            start, end = match.span()
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], end))
            else:
                found.append((start, end))
            match = self.regex.search(text, start + 1)  # one secret may begin inside another
        return found

    def unfinished(self, text: str) -> int:
        """Return where the earliest spelling begins that the end of ``text`` cuts off; its length where none does."""
        begin = max(0, len(text) - self.longest + 1)
        if self.one_line:
            begin = max(begin, text.rfind("\n") + 1)
        for start in range(begin, len(text)):
            for spelling in self.by_first.get(text[start], ()):
                if _cut_off(text, start, spelling, 0):
                    return start
        return len(text)


def _least(spelling: Spelling) -> int:
    return sum(min(map(len, place)) for place in spelling)


def _rest(places: Sequence[tuple[str, ...]]) -> str:
    parts = []
    for place in places:
        ordered = sorted(place, key=len, reverse=True)
        parts.append(re.escape(place[0]) if len(place) == 1 else f"(?:{'|'.join(map(re.escape, ordered))})")
    return "".join(parts)


def _cut_off(text: str, start: int, spelling: Spelling, index: int) -> bool:
    """Say whether ``text`` ends inside ``spelling[index:]`` begun at ``start``."""
    if index == len(spelling):
        return False
    left = len(text) - start
    for one in spelling[index]:
        if left < len(one):
            if text.endswith(one[:left]):
                return True
        elif text.startswith(one, start) and _cut_off(text, start + len(one), spelling, index + 1):
            return True
    return False


class Redactor:
    """Knows the secrets and masks them. May be used from any thread.

    A secret of fewer than four characters cannot be told from ordinary text: it is masked only where it is a whole
    text or a whole JSON value, and :meth:`add` says so by returning False, so that ``check`` can warn of it.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._built: _Search | None = None  # made anew at the first use after an add: adding many costs one build
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> bool:
        """Mask ``secret`` from now on. False: it is too short to be found inside a text. An empty one is no secret."""
        secret = secret.strip()
        if secret:
            with self._lock:
                if secret not in self._secrets:
                    self._secrets.add(secret)
                    self._built = None
        return len(secret) >= SHORTEST

    def text(self, text: str) -> str:
        """Return ``text`` with every secret masked; the same object where it holds none."""
        search = self._search()
        if search.regex is None and not search.short:
            return text
        if text.strip() in search.short:
            return MASK
        spans = search.spans(text, len(text))
        return _masked(text, spans) if spans else text

    def holds_secret(self, text: str) -> bool:
        """Say whether :meth:`text` would change ``text``: one search, however many lines it has."""
        search = self._search()
        if search.regex is not None and search.regex.search(text) is not None:
            return True
        return bool(search.short) and text.strip() in search.short

    @property
    def empty(self) -> bool:
        """Whether no secret is known."""
        return not self._secrets

    @property
    def has_short(self) -> bool:
        """Whether a secret is known that is masked only as a whole value."""
        return bool(self._search().short)

    def value(self, value: Any) -> Any:
        """Return a JSON value with every secret masked in its texts, its numbers and its objects' keys.

        A number that holds a secret becomes the mask. Keys made equal by masking are numbered, so that no entry is
        lost. What is not JSON (a date, an error) is returned as its text, or as it is where no secret is known.
        """
        return self._value(value) if self._secrets else value

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return MASK if self.holds_secret(repr(value)) else value
        if isinstance(value, dict):
            masked: dict[str, Any] = {}
            for key, member in value.items():
                name = plain = self.text(str(key))
                number = 1
                while name in masked:
                    number += 1
                    name = f"{plain} {number}"
                masked[name] = self._value(member)
            return masked
        if isinstance(value, list | tuple):
            return [self._value(member) for member in value]
        return self.text(str(value))

    def stream(self) -> RedactedStream:
        """Return a masker for one text that arrives in chunks."""
        return RedactedStream(self)

    def _search(self) -> _Search:
        built = self._built
        if built is None:
            with self._lock:
                built = self._built
                if built is None:
                    built = self._built = _Search(self._secrets)
        return built


class RedactedStream:
    """Masks one text that arrives in chunks. Not thread-safe: a text has one reader.

    What might be the beginning of a secret is held back until more arrives; without secrets, nothing is. The joined
    output does not depend on where the chunks are cut.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""
        self._masked: int | None = None  # how much of the held text a mask already stands for; None: it follows none

    def feed(self, chunk: str) -> str:
        """Take the next chunk and return what may be shown by now."""
        search = self._redactor._search()
        text = self._held + chunk
        return self._emit(search, text, search.unfinished(text))

    def finish(self) -> str:
        """Return what was held back. The stream is empty afterwards and may be used for another text."""
        text, search = self._held, self._redactor._search()
        shown = self._emit(search, text, len(text))
        self._masked = None
        return shown

    def _emit(self, search: _Search, text: str, until: int) -> str:
        known = None if self._masked is None else (0, self._masked)
        shown: list[str] = []
        position, reached = 0, -1
        for start, end in search.spans(text, until, known):
            shown.append(text[position:start])
            if known is None or start > 0:
                shown.append(MASK)
            position, reached = min(end, until), end
        shown.append(text[position:until])
        self._held = text[until:]
        self._masked = reached - until if reached >= until else None
        return "".join(shown)


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    shown: list[str] = []
    position = 0
    for start, end in spans:
        shown += (text[position:start], MASK)
        position = end
    shown.append(text[position:])
    return "".join(shown)
