"""Retention: which history may go, found by a reader, and its going, in small pieces that delay no other write.

Of every deployment the newest finished run stays, and of every key the latest artifact, whatever the rules say.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from tidemill.clock import to_us
from tidemill.store import daemon_log, runs, task_cache
from tidemill.store.ops import Op, rows, scalar
from tidemill.store.statements import load
from tidemill.store.store import Store

_SQL = load("retention")
PIECE_RUNS = 100  # runs deleted in one transaction
OLDEST = 1000  # runs of a deployment looked at for a piece
PIECE_LINES = 2000  # lines deleted in one transaction
PIECE_PAGES = 500  # pages given back to the file system in one transaction
SLACK_PAGES = 4000  # free pages that stay in the file for the runs to come

_numbers = msgspec.json.Decoder(list[int])
_crowded = msgspec.json.Decoder(list[tuple[list[int], int]])
_oldest = msgspec.json.Decoder(list[tuple[int, int]])


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """The rules. None: no bound by that rule."""

    now: datetime
    keep: timedelta | None = None  # age of runs and of all that has no rule of its own
    keep_runs: int | None = None  # for each deployment
    keep_logs: timedelta | None = None  # age of lines, where they are to go before their run
    max_size: int | None = None  # bytes of the database in use


class Surplus(msgspec.Struct, frozen=True, kw_only=True):
    """What is to go next, at most a piece of each. Numbers are row numbers."""

    runs: tuple[int, ...] = ()
    lines: int | None = None  # up to that number
    events: int | None = None  # likewise
    artifacts: tuple[int, ...] = ()
    skipped: int | None = None  # up to that number
    cached: tuple[int, ...] = ()
    daemon_lines: int | None = None  # up to that number
    pages: int = 0  # to give back

    @property
    def is_empty(self) -> bool:
        return self == Surplus()


def surplus(connection: sqlite3.Connection, rules: Pruning) -> Surplus:
    """Find what is to go next by the rules; an empty answer: nothing more."""
    found: list[int] = []
    lines = events = skipped = None
    keyless: list[int] = []
    oldest = None if rules.keep is None else rules.now - rules.keep
    cached = task_cache.obsolete(connection, now=rules.now, before=oldest, limit=PIECE_RUNS)
    daemon_lines = daemon_log.beyond(connection, limit=PIECE_LINES)
    if oldest is not None:
        before = to_us(oldest)
        found = _before(connection, before)
        keyless = _list(connection, "keyless_before", before=before, limit=PIECE_RUNS)
        skipped = _last(connection, "skipped_before", before=before, limit=PIECE_LINES)
        daemon_lines = daemon_lines or daemon_log.before(connection, oldest, limit=PIECE_LINES)
    if rules.keep_logs is not None:
        told = to_us(rules.now - rules.keep_logs)
        lines = _last(connection, "lines_before", before=told, limit=PIECE_LINES)
        events = _last(connection, "events_before", before=told, limit=PIECE_LINES)
    if rules.keep_runs is not None and len(found) < PIECE_RUNS:
        found = _by_count(connection, max(1, rules.keep_runs), found)
    pages, free, page_size = _pages(connection)
    if rules.max_size is not None and not found and (pages - free) * page_size > rules.max_size:
        found = _before(connection, 2**62)
        if not found:
            keyless = keyless or _list(connection, "old_versions", limit=PIECE_RUNS)
    nothing_else = not found and not keyless and not cached
    nothing_else = nothing_else and all(number is None for number in (lines, events, skipped, daemon_lines))
    return Surplus(
        runs=tuple(found),
        lines=lines,
        events=events,
        artifacts=tuple(keyless),
        skipped=skipped,
        cached=cached,
        daemon_lines=daemon_lines,
        pages=min(free - SLACK_PAGES, PIECE_PAGES) if nothing_else and free > 2 * SLACK_PAGES else 0,
    )


def _before(connection: sqlite3.Connection, before: int) -> list[int]:
    return _list(connection, "runs_before", before=before, limit=PIECE_RUNS)


def _by_count(connection: sqlite3.Connection, keep: int, found: list[int]) -> list[int]:
    chosen = dict.fromkeys(found)
    for routes, extra in _crowded.decode(str(scalar(connection, _SQL["crowded"], {"keep": keep}))):
        if len(chosen) >= PIECE_RUNS:
            break
        limit = min(extra, OLDEST)
        pages = [
            _oldest.decode(str(scalar(connection, _SQL["oldest_on"], {"route": route, "limit": limit})))
            for route in routes
        ]
        chosen.update(dict.fromkeys(seq for _, seq in sorted(itertools.chain(*pages))[:limit]))
    return list(chosen)[:PIECE_RUNS]


def _list(connection: sqlite3.Connection, statement: str, **parameters: object) -> list[int]:
    return _numbers.decode(str(scalar(connection, _SQL[statement], parameters)))


def _last(connection: sqlite3.Connection, statement: str, **parameters: object) -> int | None:
    number: int | None = connection.execute(_SQL[statement], parameters).fetchone()[0]
    return number


def _pages(connection: sqlite3.Connection) -> tuple[int, int, int]:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, size


def size(connection: sqlite3.Connection) -> int:
    """Return the bytes of the database in use, without what is free inside the file and without the log beside it."""
    pages, free, page_size = _pages(connection)
    return (pages - free) * page_size


def _remove(connection: sqlite3.Connection, items: Sequence[Surplus]) -> list[dict[str, int]]:
    return [_remove_one(connection, item) for item in items]


def _remove_one(connection: sqlite3.Connection, item: Surplus) -> dict[str, int]:
    counts = {"runs": 0, "lines": 0, "artifacts": 0, "skipped fires": 0, "cached results": 0, "pages": 0}
    if item.runs:
        finished = rows(_list(connection, "still_finished", seqs=rows(item.runs)))
        parameters = {"seqs": finished, "limit": PIECE_LINES}
        gone = [connection.execute(_SQL[part], parameters).rowcount for part in ("delete_lines_of", "delete_events_of")]
        counts["lines"] = sum(gone)
        if max(gone) < PIECE_LINES:  # else the runs go when their lines have gone
            counts["runs"] = runs.delete(connection, _numbers.decode(finished))
    if item.lines is not None:
        counts["lines"] += connection.execute(_SQL["delete_lines"], {"last": item.lines}).rowcount
    if item.events is not None:
        counts["lines"] += connection.execute(_SQL["delete_events"], {"last": item.events}).rowcount
    if item.artifacts:
        counts["artifacts"] = connection.execute(_SQL["delete_artifacts"], {"numbers": rows(item.artifacts)}).rowcount
    if item.skipped is not None:
        counts["skipped fires"] = connection.execute(_SQL["delete_skipped"], {"last": item.skipped}).rowcount
    if item.cached:
        counts["cached results"] = task_cache.delete(connection, item.cached)
    if item.daemon_lines is not None:
        counts["lines of the daemon"] = daemon_log.delete(connection, item.daemon_lines)
    if item.pages:
        connection.execute(f"PRAGMA incremental_vacuum({item.pages:d})").fetchall()  # a page a step
        counts["pages"] = item.pages
    return counts


REMOVE: Op[Surplus, dict[str, int]] = Op(name="remove", rank=80, apply=_remove)
"""Delete a piece of history; returns the counts by kind. A run that a person retried meanwhile stays."""


async def prune(store: Store, rules: Pruning) -> dict[str, int]:
    """Delete one piece of what is to go; return the counts by kind, all zero when nothing was left to go."""
    piece = await store.read(lambda connection: surplus(connection, rules))
    return {"runs": 0} if piece.is_empty else await store.write(REMOVE, piece)
