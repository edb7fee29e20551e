"""Inspection: whether a database is whole, what it holds, and whether what it holds agrees with itself."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidemill.store import history, instance, schema
from tidemill.store.ops import instant
from tidemill.store.statements import load

_SQL = load("inspection")
DAMAGE_SHOWN = 20  # of what SQLite finds
TABLES = (
    "run",
    "history",
    "task_run",
    "log",
    "emitted",
    "daemon_log",
    "artifact",
    "skipped_fire",
    "task_cache",
    "process",
    "catalogue",
    "override",
    "variable",
)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a database is and what is in it. Sizes are bytes; ``free_bytes`` lie inside the file, unused."""

    path: str
    bytes: int
    wal_bytes: int
    used_bytes: int
    free_bytes: int
    schema: int
    newest_schema: int  # that this program knows
    sqlite: str
    instance_id: str
    created: datetime
    last_alive: datetime | None
    rows: dict[str, int]  # by table
    flow_runs: dict[str, int]  # by the name of the state
    oldest: datetime | None  # expected start of the oldest run that is kept
    newest: datetime | None  # of the newest that has ended


class Rule(NamedTuple):
    """What always holds in a database. Those that look at the whole history are for the full check."""

    name: str
    words: str
    full: bool = True


RULES = (
    Rule("unfinished_without_history", "an unfinished run is in the last state of its history", full=False),
    Rule("begun_without_owner", "a run that has begun has an owner", full=False),
    Rule("processes_of_nothing", "a process on record belongs to a run", full=False),
    Rule("due_twice", "a schedule's fire has one run", full=False),
    Rule("without_history", "a run is in the last state of its history"),
    Rule("broken_history", "a state follows the one before it"),
    Rule("history_of_nothing", "a history belongs to a run"),
    Rule("ended_without_end", "a run that has ended has a time of its end"),
    Rule("without_route", "a run has a route"),
    Rule("tasks_of_nothing", "a task run belongs to a run"),
    Rule("lines_of_nothing", "a line belongs to a run"),
    Rule("events_of_nothing", "an event belongs to a run"),
    Rule("tags_of_nothing", "a tag belongs to a run"),
)


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that does not hold: how often, and the first few it does not hold for."""

    rule: str
    count: int
    examples: list[str]


def damage(connection: sqlite3.Connection, *, full: bool) -> list[str]:
    """Return what SQLite finds wrong with the file itself, at most 20 sentences; none: it is whole.

    The quick check reads every page once, some 3 to 8 ms a MB; the full one compares every index with its table.
    """
    pragma = "integrity_check" if full else "quick_check"
    try:
        answers = [row[0] for row in connection.execute(f"PRAGMA {pragma}({DAMAGE_SHOWN:d})")]
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise  # by who waited, not by what is in the file
        return [str(error)]
    return [] if answers == ["ok"] else answers


def broken(connection: sqlite3.Connection, rule: Rule) -> Broken | None:
    """Return where a rule does not hold; None: it holds everywhere."""
    count, examples = connection.execute(_SQL[rule.name]).fetchone()
    return (
        Broken(rule=rule.words, count=count, examples=msgspec.json.decode(examples, type=list[str])) if count else None
    )


def facts(connection: sqlite3.Connection, path: Path) -> Facts:
    """Return what the database is and what is in it. Of an older one the tables are counted that it has."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    there = {name for (name,) in connection.execute(_SQL["tables"])}
    kinds = connection.execute(_SQL["by_state"]).fetchall()
    return Facts(
        path=str(path),
        bytes=path.stat().st_size,
        wal_bytes=_size(path.with_name(f"{path.name}-wal")),
        used_bytes=(pages - free) * size,
        free_bytes=free * size,
        schema=connection.execute("PRAGMA user_version").fetchone()[0],
        newest_schema=len(schema.migrations()),
        sqlite=sqlite3.sqlite_version,
        instance_id=instance.id(connection),
        created=instance.created(connection),
        last_alive=instance.last_alive(connection),
        rows={table: connection.execute(_SQL[f"rows_{table}"]).fetchone()[0] for table in TABLES if table in there},
        flow_runs={name or history.PLAIN_NAME_OF[history.TYPE_OF[kind]]: count for kind, name, count in kinds},
        oldest=instant(connection.execute(_SQL["oldest"]).fetchone()[0]),
        newest=instant(connection.execute(_SQL["newest"]).fetchone()[0]),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
