"""The tables of all files brought together: which file says what, and what stands twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tidemill.config import kinds
from tidemill.config.documents import Document, Origin
from tidemill.config.faults import Faults, Wrong, alike, kind_of, show
from tidemill.config.keys import MADE_TABLES, NAMED, SINGLE, TABLES, VALUES, Keys
from tidemill.config.positions import KeyPath


class Entry(NamedTuple):
    """What stands under one key path, and in which file."""

    document: Document
    path: KeyPath
    value: Any

    @property
    def folder(self) -> Path:
        """What relative paths start from."""
        return self.document.folder


class Tables:
    """All entries by table and name. Of names that differ by ``_`` and ``-`` only the first is here."""

    def __init__(self) -> None:
        self.single: dict[str, Entry] = {}
        self.named: dict[str, dict[str, Entry]] = {table: {} for table in (*NAMED, *VALUES)}
        self._alike: dict[tuple[str, str], str] = {}

    def find(self, table: str, name: str) -> str | None:
        """Return the name as the file writes it; ``_`` and ``-`` are alike. None: no such entry."""
        return self._alike.get(_key(table, name))

    def entry_of(self, path: KeyPath) -> tuple[Entry, KeyPath] | None:
        """Return the entry a key path lies in, and the rest of the path below it.

        A name with dots may stand there without quotes: the longest name that is there is meant.
        """
        table = path[0] if path else None
        if not isinstance(table, str):
            return None
        if table in self.single:
            return self.single[table], path[1:]
        words = tuple(itertools.takewhile(lambda part: isinstance(part, str), path[1:]))
        for count in range(len(words), 0, -1):
            name = self.find(table, ".".join(map(str, words[:count])))
            if name is not None:
                return self.named[table][name], path[1 + count :]
        return None

    def without_values(self) -> Tables:
        """Return the same places without what stands there: the settings have that already."""
        bare = Tables()
        bare.single = {name: entry._replace(value=None) for name, entry in self.single.items()}
        bare.named = {
            table: {name: entry._replace(value=None) for name, entry in entries.items()}
            for table, entries in self.named.items()
        }
        bare._alike = self._alike
        return bare

    def merge(self, documents: Iterable[tuple[Document, Mapping[str, Any]]], faults: Faults) -> None:
        """Take in the files in their order: people's first, then what the daemon made."""
        for document, data in documents:
            for table, value in data.items():
                if table not in TABLES:
                    remedy = "" if isinstance(value, dict) else "a key stands in a [table]"
                    faults.unknown(document, (table,), TABLES, "is no table of this file", remedy)
                elif not isinstance(value, dict):
                    problem = f"{show(value)} is {kind_of(value)}, not a table"
                    faults.add(document, (table,), problem, _header(table), at_key=True)
                elif document.origin is Origin.MADE and table not in MADE_TABLES:
                    faults.add(
                        document, (table,), "does not belong into a file made by the daemon", "delete it", at_key=True
                    )
                elif table in SINGLE:
                    self._put_single(Entry(document, (table,), value), faults)
                else:
                    for name, item in value.items():
                        self._put_named(table, name, Entry(document, (table, name), item), faults)

    def _put_single(self, entry: Entry, faults: Faults) -> None:
        table = str(entry.path[0])
        first = self.single.setdefault(table, entry)
        if first is not entry:
            faults.add(entry.document, entry.path, f"stands twice, first in {_where(first)}", "keep one", at_key=True)

    def _put_named(self, table: str, name: str, entry: Entry, faults: Faults) -> None:
        problem = None if table == "tag_limits" else _name_problem(name)
        if problem is not None:
            faults.add(entry.document, entry.path, problem.problem, problem.remedy, at_key=True)
            return
        first_name = self._alike.setdefault(_key(table, name), name)
        first = self.named[table].setdefault(first_name, entry)
        if first is entry:
            return
        if entry.document.origin is Origin.MADE and first.document.origin is not Origin.MADE:
            problem_text = f"is shadowed by {_where(first)}, which wins"
            faults.warn(entry.document, entry.path, problem_text, "delete one of them", at_key=True)
            return
        also = "" if first_name == name else f' as "{first_name}" (_ and - are alike)'
        faults.add(
            entry.document, entry.path, f"stands twice, first in {_where(first)}{also}", "rename one", at_key=True
        )


def _key(table: str, name: str) -> tuple[str, str]:
    return (table, name if table == "tag_limits" else alike(name))


def _header(table: str) -> str:
    return f"write [{table}.NAME]" if table in NAMED else f"write [{table}]"


def _where(entry: Entry) -> str:
    line, column = entry.document.place(entry.path, at_key=True)
    return f"{entry.document.label}:{line}:{column}"


def _name_problem(name: str) -> Wrong | None:
    try:
        kinds.name().convert(name, Path())
    except Wrong as wrong:
        return wrong
    return None


def read_keys(entry: Entry, keys: Keys, faults: Faults) -> dict[str, Any]:
    """Return the converted values of a table's keys that are there.

    A key that is unknown or does not fit is a fault and is left out.
    """
    if not isinstance(entry.value, dict):
        header = f"write it as a table: [{entry.path[0]}.{entry.path[1]}]" if len(entry.path) > 1 else ""
        faults.add(entry.document, entry.path, f"{show(entry.value)} is {kind_of(entry.value)}, not a table", header)
        return {}
    found: dict[str, Any] = {}
    for name, value in entry.value.items():
        key = keys.get(name)
        if key is None:
            faults.unknown(entry.document, (*entry.path, name), keys, "is no key of this table", _known(keys))
            continue
        try:
            found[name] = key.kind.convert(value, entry.folder)
        except Wrong as wrong:
            faults.wrong(entry.document, (*entry.path, name), wrong)
    return found


def _known(keys: Iterable[str]) -> str:
    return "its keys are " + ", ".join(keys)
