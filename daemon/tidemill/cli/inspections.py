"""``tidemill db check``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.cli import stores, text, times
from tidemill.cli.progress import Progress, counted, size_text
from tidemill.cli.session import Session
from tidemill.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, NotFoundError

if TYPE_CHECKING:
    import sqlite3

    from tidemill.store.inspection import Broken, Facts

STEPS = 200_000  # of SQLite's machine, between two looks at the clock


def check(session: Session) -> int:
    """Say whether a database is whole, what is in it, and whether that agrees with itself.

    Exit 78: SQLite finds the file damaged. Exit 1: the file is whole, what it holds is not as it must be.
    """
    from tidemill.store import connections, inspection, schema

    full: bool = session.args.full
    path = _path(session)
    with Progress() as progress, closing(connections.open_reader(path)) as connection, _interruptible():
        version = schema.require_restorable(connection, path)
        _keep_telling(connection, progress, session)
        damage = inspection.damage(connection, full=full)
        facts = broken = None
        if not damage:
            facts = inspection.facts(connection, path)
            broken = []
            if version == facts.newest_schema:
                rules = [rule for rule in inspection.RULES if full or not rule.full]
                broken = [found for rule in rules if (found := inspection.broken(connection, rule)) is not None]
    code = EXIT_CONFIG if damage else EXIT_FAILED if broken else EXIT_OK
    if session.json:
        session.show(_document(path, damage, facts, broken or [], full=full))
    else:
        _print(path, damage, facts, broken or [], full=full)
    return code


def _path(session: Session) -> Path:
    given: Path | None = session.args.file
    path = stores.database(session) if given is None else given.expanduser().absolute()
    if not path.exists():
        raise NotFoundError(f"{path}: there is no such file")
    stores.require_owner(path)
    return path


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C in the midst of a statement is no fault of the file, though SQLite tells it like one."""
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise


def _keep_telling(connection: sqlite3.Connection, progress: Progress, session: Session) -> None:
    """SQLite does not say how far it has come: the time that has passed is what there is to tell."""
    began = session.now()

    def tell() -> int:
        progress.say(f"checking: {times.span(round((session.now() - began).total_seconds()))}")
        return 0

    connection.set_progress_handler(tell, STEPS)


def _document(
    path: Path, damage: list[str], facts: Facts | None, broken: list[Broken], *, full: bool
) -> dict[str, Any]:
    import msgspec

    found = {} if facts is None else msgspec.to_builtins(facts)
    return {
        "file": str(path),
        "ok": not damage and not broken,
        "full": full,
        "damage": damage,
        "broken": msgspec.to_builtins(broken),
        **found,
    }


def _print(path: Path, damage: list[str], facts: Facts | None, broken: list[Broken], *, full: bool) -> None:
    if facts is not None:
        print(text.fields(_fields(facts)))
        print()
    if damage:
        print(f"{path} is damaged; stop the daemon and restore a copy (the file was left as it is):")
        print("\n".join(f"  {text.clean(each)}" for each in damage))
        return
    print("The file is whole" + ("." if full else " as far as a quick check sees; --full compares every index, too."))
    for each in broken:
        print(f"Not so: {each.rule} ({counted(each.count, 'times')}): {text.clean(', '.join(each.examples))}")
    if not broken:
        print("What it holds agrees with itself.")
    elif facts is not None:
        print("Please report it, with `tidemill report`; the daemon runs on it none the less.")


def _fields(facts: Facts) -> list[tuple[str, Any]]:
    older = "" if facts.schema == facts.newest_schema else f" (this program's is {facts.newest_schema})"
    sizes = f"{size_text(facts.used_bytes)} used, {size_text(facts.free_bytes)} free inside"
    rows = [f"{count:,} {name.replace('_', ' ')}" for name, count in facts.rows.items() if count and name != "run"]
    return [
        ("Database", facts.path),
        ("Size", sizes + (f"; {size_text(facts.wal_bytes)} of log beside it" if facts.wal_bytes else "")),
        ("Schema", f"{facts.schema}{older}"),
        ("SQLite", facts.sqlite),
        ("Instance", facts.instance_id),
        ("Made", times.local(facts.created.isoformat())),
        ("Last alive", times.local(facts.last_alive.isoformat()) if facts.last_alive else "never"),
        ("Flow runs", ", ".join(f"{count:,} {name}" for name, count in facts.flow_runs.items()) or "none"),
        ("Since", times.local(facts.oldest.isoformat()) if facts.oldest else ""),
        ("Rows", ", ".join(rows)),
    ]
