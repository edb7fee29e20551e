"""``tidemill db prune``: by the daemon where one runs, else here, under the state directory's lock."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.cli import configuration, stores
from tidemill.cli.progress import Progress, counted, size_text
from tidemill.cli.session import Session
from tidemill.errors import DaemonUnreachableError

if TYPE_CHECKING:
    from tidemill.config import RetentionSettings
    from tidemill.store.prunable import Prospect

# The options and the keys they stand for.
OPTIONS = {
    "keep": "keep",
    "keep_runs": "keep_runs_per_deployment",
    "keep_logs": "keep_logs",
    "max_size": "max_database_size",
}
NOTHING = "Nothing is to go."


def prune(session: Session) -> None:
    """Delete, or count with ``--dry-run``, what the rules let go."""
    from tidemill.config.retention import amended

    given = _given(session)
    live = _is_live(session)
    path = _database(session, live=live)
    settings = amended(_settings(session, live=live), given)
    if session.args.dry_run:
        with Progress() as progress:
            progress.say("counting what would go", last=True)
            found = _prospect(session, path, settings)
        _show_prospect(session, found, settings)
        return
    with Progress() as progress:
        expected = _expected(session, path, settings, progress)
        deleted = (
            _by_daemon(session, given, expected, progress)
            if live
            else _here(session, path, settings, expected, progress)
        )
    if session.json:
        session.show({"deleted": deleted})
        return
    shown = [counted(count, kind) for kind, count in deleted.items() if count and kind != "pages"]
    print(f"Deleted {', '.join(shown)}." if shown else NOTHING)


def _given(session: Session) -> dict[str, Any]:
    """Return the options that were given, in the file's terms: a number is a number there."""
    found = {key: getattr(session.args, option) for option, key in OPTIONS.items()}
    return {key: int(value) if value.isdigit() else value for key, value in found.items() if value is not None}


def _is_live(session: Session) -> bool:
    try:
        return session.link.live
    except DaemonUnreachableError:
        return False


def _settings(session: Session, *, live: bool) -> RetentionSettings:
    """Return the rules in force: the daemon's, else those of the configuration it would start on."""
    from tidemill.config import BrokenConfigError, RetentionSettings, load
    from tidemill.config.retention import amended

    if live:
        return amended(RetentionSettings(), session.get("/database")["retention"])
    path = configuration.find(session.args.config, session.environ)
    try:
        return load(path, environ=session.environ).settings.retention
    except BrokenConfigError as error:
        # A secret that only the daemon has, a deployment that is being edited: no matter of how long runs are kept.
        if any(fault.key.startswith("retention") or not fault.key for fault in error.faults):
            raise
        return error.rest.settings.retention


def _database(session: Session, *, live: bool) -> Path:
    return Path(session.get("/database")["file"]) if live else stores.database(session)


def _prospect(session: Session, path: Path, settings: RetentionSettings) -> Prospect:
    from tidemill.services.retention import rules_of
    from tidemill.store import connections, prunable, schema

    stores.require_owner(path)
    with closing(connections.open_reader(path)) as connection:
        schema.require_readable(connection, path)
        return prunable.prospect(connection, rules_of(settings, session.now()))


def _expected(session: Session, path: Path, settings: RetentionSettings, progress: Progress) -> int | None:
    """Return how many runs will go, for the progress; None where the database is out of reach."""
    from tidemill.errors import TidemillError

    progress.say("counting what is to go", last=True)
    try:
        return _prospect(session, path, settings).runs
    except (TidemillError, OSError):
        return None


def _by_daemon(session: Session, given: dict[str, Any], expected: int | None, progress: Progress) -> dict[str, int]:
    total: dict[str, int] = {}
    more = True
    while more:
        answer = session.post("/database/prune", given)
        more = answer["more"]
        _add(total, answer["deleted"])
        _tell(progress, total, expected)
    return total


def _here(
    session: Session, path: Path, settings: RetentionSettings, expected: int | None, progress: Progress
) -> dict[str, int]:
    from tidemill.store.backups import own_as
    from tidemill.store.lock import StateLock

    stores.require_owner(path)
    lock = StateLock(path.parent)
    lock.acquire(session.now())
    with lock:
        own_as(path.parent, lock.path)
        return asyncio.run(_pruned(session, path, settings, expected, progress))


async def _pruned(
    session: Session, path: Path, settings: RetentionSettings, expected: int | None, progress: Progress
) -> dict[str, int]:
    from tidemill.clock import SystemClock
    from tidemill.ids import Ids
    from tidemill.services.retention import rules_of
    from tidemill.store import Store, retention

    total: dict[str, int] = {}
    store = await Store.open(path, clock=SystemClock(), ids=Ids())
    try:
        rules = rules_of(settings, session.now())
        while any((piece := await retention.prune(store, rules)).values()):
            _add(total, piece)
            _tell(progress, total, expected)
    finally:
        await store.aclose()
    return total


def _add(total: dict[str, int], piece: dict[str, int]) -> None:
    for kind, count in piece.items():
        total[kind] = total.get(kind, 0) + count


def _tell(progress: Progress, total: dict[str, int], expected: int | None) -> None:
    done = total.get("runs", 0)
    if expected is None or done > expected:
        progress.say(f"deleted {done:,} runs")
    else:
        progress.share("deleted runs", done, expected)


def _show_prospect(session: Session, found: Prospect, settings: RetentionSettings) -> None:
    from tidemill.services.upkeep import document

    rules = document(settings)
    bound = settings.max_database_size
    if session.json:
        import msgspec

        session.show({"retention": rules, "would_delete": msgspec.to_builtins(found)})
        return
    shown_rules = rules | {"max_database_size": "unlimited" if bound is None else size_text(bound)}
    print(f"By {', '.join(f'{key} = {value}' for key, value in shown_rules.items())}:")
    counts = (
        (
            found.runs,
            "flow runs" + (f", about {found.for_size:,} of them for the size alone" if found.for_size else ""),
        ),
        (found.lines, "lines of runs"),
        (found.artifacts, "artifacts without a key"),
        (found.skipped_fires, "skipped fires"),
        (found.cached_results, "cached results"),
        (found.daemon_lines, "lines of the daemon"),
    )
    shown = [f"  {count:>12,}  {what}" for count, what in counts if count]
    print("\n".join(["would go:", *shown]) if shown else NOTHING)
    print(f"The database uses {size_text(found.bytes_used)} now.")
