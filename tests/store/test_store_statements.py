"""SQL is SQL: named, in files, prepared against the real schema, and the hot ones without a scan."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidemill.store
from tidemill.store import schema, statements

pytestmark = pytest.mark.thorough

FOLDER = Path(tidemill.store.__file__).parent
NOUNS = sorted(path.stem for path in FOLDER.glob("*.sql"))
NAMED = [(noun, name) for noun in NOUNS for name in statements.load(noun)]

# What every run, every group, every tick or every page goes through.
HOT = {
    "automations": {"fire", "carry", "prune", "of_automation", "times", "descent"},
    "artifacts": {"newest", "add", "prune", "latest", "version", "by_id", "versions", "of_run", "collections"},
    "daemon_log": {"add", "lines", "named", "delete"},
    "emitted": {"add"},
    "history": {"begin", "follow", "of_run"},
    "logs": {"add", "of_run", "tail_of_run", "of_all", "last_number"},
    "references": {"routes", "schedules", "owners"},
    "runs": {name for noun, name in NAMED if noun == "runs"},
    "schedules": {"advance", "skip", "skipped_of"},
    "task_runs": {"put", "of_run", "by_id", "page_of_runs", "count_of_runs", "by_ids", "by_id_prefix"},
    "task_cache": {"put", "get", "obsolete"},
    "retention": {"runs_before", "oldest_on", "keyless_before", "still_finished"}
    | {name for noun, name in NAMED if noun == "retention" and name.startswith("delete_")},
    # Without those that answer one row by the end of a table.
    "timeline": {name for noun, name in NAMED if noun == "timeline" and not name.endswith("_last")} - {"routes"},
    "listing": {
        name
        for noun, name in NAMED
        if noun == "listing"
        and name.startswith(("gather_", "count_", "skim_", "walk_type", "walk_route", "walk_state"))
    },
}


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A connection to an empty database with the schema, as strict as the daemon's."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA trusted_schema = 0")
    for script in schema.migrations():
        for statement in schema.statements(script):
            connection.execute(statement)
    yield connection
    connection.close()


def _plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


@pytest.mark.parametrize(("noun", "name"), NAMED)
def test_every_statement_fits_the_schema(connection: sqlite3.Connection, noun: str, name: str) -> None:
    sql = statements.load(noun)[name]
    connection.execute(f"EXPLAIN {sql}", dict.fromkeys(re.findall(r":(\w+)", sql))).fetchall()


@pytest.mark.parametrize(("noun", "name"), [(noun, name) for noun, names in HOT.items() for name in sorted(names)])
def test_no_hot_statement_scans_a_table(connection: sqlite3.Connection, noun: str, name: str) -> None:
    # A table is meant by its name or by the alias that stands for it; `e`, `k` and the like are parameters.
    aliases = _tables(connection) | {"other", "newer", "old", "a"}
    scanned = [line for line in _plan(connection, statements.load(noun)[name]) if line.split()[0] == "SCAN"]
    assert not [line for line in scanned if line.split()[1] in aliases], scanned


def test_tags_of_deleted_runs_are_found_by_tag_and_run(connection: sqlite3.Connection) -> None:
    """By the tag alone, all runs that have it would be looked at: 40 ms a hundred runs of a million, now 1."""
    plan = _plan(connection, statements.load("runs")["delete_tags"])
    assert "SEARCH run_tag USING PRIMARY KEY (tag=? AND run=?)" in plan


def test_no_statement_is_without_a_comment_where_it_is_not_plain() -> None:
    """Each file tells what its statements are for."""
    for noun in NOUNS:
        assert "-- " in (FOLDER / f"{noun}.sql").read_text(encoding="utf-8")


def test_the_schema_computes_nothing_that_an_untrusted_schema_may_not(connection: sqlite3.Connection) -> None:
    """JSON functions in a CHECK, an index or a generated column fail where trusted_schema is off."""
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"):
        assert "json" not in sql.lower().replace("-- json", ""), name


def test_every_table_is_strict(connection: sqlite3.Connection) -> None:
    loose = {row[1] for row in connection.execute("PRAGMA table_list") if not row[5] and row[2] == "table"}
    assert loose <= {"sqlite_schema", "sqlite_temp_schema"}


_VERB = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|DROP)\s", re.IGNORECASE)
# Asked of a database before it is known to be one of ours: nothing but whether there is anything in it.
_BEFORE_ALL = re.compile(r"SELECT (1|count\(\*\)) FROM sqlite_(schema|master)")


def test_no_statement_stands_in_python_code() -> None:
    """So none can be put together from data."""
    found = []
    for path in sorted(FOLDER.parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VERB.match(node.value):
                text = " ".join(node.value.split())
                if not _BEFORE_ALL.fullmatch(text) and re.search(" (FROM|INTO|SET|TABLE|INDEX) ", f"{text} ".upper()):
                    found.append(f"{path.name}: {text[:60]}")
    assert not found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n", "'a' is empty, or there twice"),
        ("-- name: a\n-- only a comment\n-- name: b\nSELECT 1;\n", "'a' is empty, or there twice"),
        ("-- name: a\nSELECT {x};\n-- fragment: x\n1\n", "not above it: x"),
    ],
)
def test_a_broken_file_of_statements_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        statements.parse(text, "some.sql")


def test_a_fragment_is_put_in_where_it_is_named() -> None:
    text = "-- Why.\n-- fragment: x\na = 1\n-- Because.\n-- name: get\nSELECT 1 WHERE {x};\n-- The end.\n"
    assert statements.parse(text, "some.sql") == {"get": "SELECT 1 WHERE a = 1"}


@pytest.mark.parametrize(
    ("script", "parts"),
    [
        # Comments before a statement are left out; a semicolon in a text or a trigger ends nothing.
        ("-- c\nSELECT 1;\n\nSELECT\n  2;\n", ["SELECT 1;", "SELECT\n  2;"]),
        ("SELECT ';';\n", ["SELECT ';';"]),
        ("CREATE TRIGGER t AFTER INSERT ON x BEGIN\nSELECT 1;\nEND;\n", None),
    ],
)
def test_a_script_is_cut_into_statements(script: str, parts: list[str] | None) -> None:
    assert list(schema.statements(script)) == (parts or [script.strip()])


def test_a_script_that_ends_inside_a_statement_is_refused() -> None:
    with pytest.raises(ValueError, match="ends inside a statement: 'SELECT 1'"):
        list(schema.statements("SELECT 1"))
