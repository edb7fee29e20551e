"""Gathering everything that is wrong, so that one look at the file mends it all."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from typing import Any

from tidemill.config.documents import Document, dotted
from tidemill.config.positions import KeyPath
from tidemill.errors import Fault

MAX_FAULTS = 200  # told of one load; the rest is counted
_SHOWN_CHARACTERS = 60


class Wrong(Exception):  # noqa: N818 -- it is caught beside the value it judges, never seen by a user
    """A value does not fit its key. ``at`` leads from the key down to the part that is wrong."""

    def __init__(self, problem: str, remedy: str = "", at: KeyPath = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.at = at


class Faults:
    """The faults and warnings of one load."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, document: Document, path: KeyPath, problem: str, remedy: str = "", *, at_key: bool = False) -> None:
        """Keep a fault of one key; ``at_key`` points at the key's name instead of its value."""
        if len(self._faults) >= MAX_FAULTS:
            self._more += 1
        else:
            self._faults.append(_fault(document, path, problem, remedy, at_key))

    def wrong(self, document: Document, path: KeyPath, wrong: Wrong) -> None:
        """Keep what a conversion said."""
        self.add(document, path + wrong.at, wrong.problem, wrong.remedy)

    def unknown(self, document: Document, path: KeyPath, known: Iterable[str], problem: str, remedy: str = "") -> None:
        """Keep a fault of a key that means nothing, with the nearest known one."""
        if len(self._faults) >= MAX_FAULTS:  # a nearest word costs more than a fault
            self._more += 1
            return
        self.add(document, path, problem, did_you_mean(str(path[-1]), known) or remedy, at_key=True)

    def warn(self, document: Document, path: KeyPath, problem: str, remedy: str = "", *, at_key: bool = False) -> None:
        """Keep a warning: the file is taken, the person should know."""
        if len(self._warnings) < MAX_FAULTS:
            self._warnings.append(_fault(document, path, problem, remedy, at_key))

    def extend(self, faults: Iterable[Fault]) -> None:
        """Keep faults that know their place already: of files that could not be read."""
        for fault in faults:
            if len(self._faults) >= MAX_FAULTS:
                self._more += 1
            else:
                self._faults.append(fault)

    def all(self, documents: Sequence[Document]) -> tuple[Fault, ...]:
        """Return every fault in the order of the files and their lines."""
        found = _in_order(self._faults, documents)
        if self._more:
            more = Fault(file=found[0].file, line=0, column=0, key="", problem=f"and {self._more} more faults")
            found = (*found, more)
        return found

    def warnings(self, documents: Sequence[Document]) -> tuple[Fault, ...]:
        """Return every warning in the order of the files and their lines."""
        return _in_order(self._warnings, documents)


def _fault(document: Document, path: KeyPath, problem: str, remedy: str, at_key: bool) -> Fault:
    line, column = document.place(path, at_key=at_key)
    return Fault(file=document.label, line=line, column=column, key=dotted(path), problem=problem, remedy=remedy)


def _in_order(found: Sequence[Fault], documents: Sequence[Document]) -> tuple[Fault, ...]:
    ranks = {document.label: rank for rank, document in enumerate(documents)}
    return tuple(sorted(found, key=lambda fault: (ranks.get(fault.file, -1), fault.line, fault.column)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "…"?`` for the nearest known word, or nothing."""
    found = near(word, known)
    return "" if found is None else f"did you mean {json.dumps(found, ensure_ascii=False)}?"


def near(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` most likely stands for, or None."""
    if len(word) > 100:
        return None
    plain = {alike(name): name for name in known}
    # Two letters changed places in a word of three is a likeness of 2/3: "ulr" must find "url".
    found = difflib.get_close_matches(alike(word), plain, n=1, cutoff=0.66)
    return plain[found[0]] if found else None


def alike(name: str) -> str:
    """Return the form under which names that a person takes for the same are equal: ``_`` and ``-`` are."""
    return name.casefold().replace("-", "_")


def show(value: Any) -> str:
    """Return a value as a fault quotes it: short, on one line, whatever it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
        return json.dumps(cut, ensure_ascii=not cut.isprintable())
    if isinstance(value, int):
        # Text of a huge number costs quadratic time, and Python refuses it.
        return str(value) if value.bit_length() <= 256 else "a huge number"
    if isinstance(value, float | date | time):
        return str(value)
    return "[…]" if isinstance(value, list) else "{…}"


def kind_of(value: Any) -> str:
    """Return the TOML type of a value, in words."""
    # In this order: true is an int, and a datetime is a date, for Python.
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (str, "text"),
        (int, "a whole number"),
        (float, "a fraction"),
        (datetime, "a date with time"),
        (date, "a date"),
        (time, "a time of day"),
        (list, "a list"),
    )
    return next((words for kind, words in kinds if isinstance(value, kind)), "a table")
