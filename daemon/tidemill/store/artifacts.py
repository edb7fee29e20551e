"""Artifacts: JSON documents by key and version. Equal content makes no new version, and the latest always stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.runs import Artifact
from tidemill.store.ops import Op, rows, scalar
from tidemill.store.statements import load

_SQL = load("artifacts")
KEEP_VERSIONS = 100  # of a key, where the artifact names no number
MAX_ARTIFACTS = 200  # in one answer


class _Row(msgspec.Struct, array_like=True, gc=False):
    id: str
    key: str | None
    version: int
    type: str
    text: str
    description: str | None
    run_id: str | None
    task_run_id: str | None
    deployment: str | None
    created: int


class _Newest(msgspec.Struct, array_like=True, gc=False):
    key: str
    id: str
    version: int
    created: int
    description: str | None
    run_id: str | None
    task_run_id: str | None
    deployment: str | None
    equal: bool | int


_row = msgspec.json.Decoder(_Row)
_rows = msgspec.json.Decoder(list[_Row])
_newest = msgspec.json.Decoder(list[_Newest])
_replace = msgspec.structs.replace


def _add(connection: sqlite3.Connection, items: Sequence[Artifact]) -> list[Artifact]:
    first = {item.key: item for item in reversed(items) if item.key is not None}
    present: dict[str, Artifact] = {}  # the newest version by key, as the items go by
    unlike: set[str] = set()  # keys whose newest version has other content than their first item, by the database
    if first:
        asked = rows([(item.key, item.type, item.text) for item in first.values()])
        for found in _newest.decode(str(scalar(connection, _SQL["newest"], {"rows": asked}))):
            present[found.key] = _replace(
                first[found.key],  # of the newest version no text is fetched: it is this one's, or unlike it
                id=found.id,
                version=found.version,
                created=from_us(found.created),
                description=found.description,
                run_id=found.run_id,
                task_run_id=found.task_run_id,
                deployment=found.deployment,
            )
            if not found.equal:
                unlike.add(found.key)
    added: list[Artifact] = []
    results: list[Artifact] = []
    for item in items:
        if item.key is None:
            stored = _replace(item, version=1)
            added.append(stored)
        else:
            newest = present.get(item.key)
            is_equal = newest is not None and (newest.type, newest.text) == (item.type, item.text)
            if newest is not None and is_equal and item.key not in unlike and not item.new_version:
                stored = newest
            else:
                unlike.discard(item.key)
                stored = _replace(item, version=1 if newest is None else newest.version + 1)
                present[item.key] = stored
                added.append(stored)
        results.append(stored)
    if added:
        connection.execute(_SQL["add"], {"rows": rows([_columns(item) for item in added])})
    surplus = {
        item.key: item.version - (KEEP_VERSIONS if item.keep_versions is None else max(1, item.keep_versions))
        for item in added
        if item.key is not None
    }
    prune = [(key, version) for key, version in surplus.items() if version >= 1]
    if prune:
        connection.execute(_SQL["prune"], {"rows": rows(prune)})
    return results


def _columns(item: Artifact) -> tuple[object, ...]:
    return (
        item.id,
        item.key,
        item.version,
        item.type,
        item.text,
        item.description,
        item.run_id,
        item.task_run_id,
        item.deployment,
        to_us(item.created),
    )


ARTIFACTS: Op[Artifact, Artifact] = Op(name="artifacts", rank=40, apply=_add)
"""Store a document under the next version of its key; returns it as stored.

Equal type and text: the present version, as it is, is returned instead, unless ``new_version``.
Versions beyond ``keep_versions`` are dropped, the oldest first. Without a key each is a document of its own, version 1.
"""


def _update(connection: sqlite3.Connection, items: Sequence[Artifact]) -> list[None]:
    newest = {(item.id, item.run_id): item for item in items}
    found = [(item.id, item.run_id, item.text, item.description) for item in newest.values()]
    connection.execute(_SQL["update"], {"rows": rows(found)})
    return [None] * len(items)


UPDATE_ARTIFACTS: Op[Artifact, None] = Op(name="update_artifacts", rank=45, apply=_update, item="the progress of a run")
"""Change text and description (None: it stays) of the document of that id, if it is of that run; else nothing."""


def _artifact(row: _Row) -> Artifact:
    return Artifact(
        id=row.id,
        key=row.key,
        version=row.version,
        type=row.type,
        text=row.text,
        description=row.description,
        run_id=row.run_id,
        task_run_id=row.task_run_id,
        deployment=row.deployment,
        created=from_us(row.created),
    )


def _one(connection: sqlite3.Connection, statement: str, parameters: dict[str, object]) -> Artifact | None:
    found = connection.execute(_SQL[statement], parameters).fetchone()
    return None if found is None else _artifact(_row.decode(found[0]))


def _many(connection: sqlite3.Connection, statement: str, parameters: dict[str, object]) -> list[Artifact]:
    return [_artifact(row) for row in _rows.decode(str(scalar(connection, _SQL[statement], parameters)))]


def _page(limit: int, offset: int, text: bool) -> dict[str, object]:
    return {"limit": min(limit, MAX_ARTIFACTS), "offset": offset, "text": text}


def latest(connection: sqlite3.Connection, key: str) -> Artifact | None:
    """Return the newest version of a key, with its text."""
    return _one(connection, "latest", {"key": key})


def version(connection: sqlite3.Connection, key: str, number: int) -> Artifact | None:
    """Return one version of a key, with its text."""
    return _one(connection, "version", {"key": key, "version": number})


def get(connection: sqlite3.Connection, artifact_id: str) -> Artifact | None:
    """Return the artifact with that id, with its text."""
    return _one(connection, "by_id", {"id": artifact_id})


def versions(
    connection: sqlite3.Connection, key: str, *, limit: int = MAX_ARTIFACTS, offset: int = 0, text: bool = False
) -> list[Artifact]:
    """Return a key's versions, newest first, at most 200; without ``text`` their text is ``null``."""
    return _many(connection, "versions", {"key": key, **_page(limit, offset, text)})


def of_run(
    connection: sqlite3.Connection, run_id: str, *, limit: int = MAX_ARTIFACTS, offset: int = 0, text: bool = False
) -> list[Artifact]:
    """Return a run's artifacts in the order they were made, at most 200; without ``text`` their text is ``null``."""
    return _many(connection, "of_run", {"run_id": run_id, **_page(limit, offset, text)})


def progress_of_run(connection: sqlite3.Connection, run_id: str, *, limit: int = 5) -> list[Artifact]:
    """Return how far things are that a run tells of: its last documents of the type progress, oldest first."""
    return _many(connection, "progress_of_run", {"run_id": run_id, "limit": limit})


def collections(
    connection: sqlite3.Connection,
    *,
    start: str = "",
    limit: int = MAX_ARTIFACTS,
    offset: int = 0,
    text: bool = False,
) -> list[Artifact]:
    """Return the newest version of every key from ``start`` on, by key, at most 200; without ``text``: ``null``."""
    return _many(connection, "collections", {"from": start, **_page(limit, offset, text)})


def newest_first(
    connection: sqlite3.Connection, *, limit: int = MAX_ARTIFACTS, offset: int = 0, text: bool = False
) -> list[Artifact]:
    """Return artifacts with and without key, newest first, at most 200; without ``text`` their text is ``null``."""
    return _many(connection, "newest_first", _page(limit, offset, text))
