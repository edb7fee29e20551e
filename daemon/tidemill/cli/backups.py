"""``tidemill db backup`` and ``tidemill db restore``."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.api import places
from tidemill.cli import stores, times
from tidemill.cli.progress import Progress, counted, size_text
from tidemill.cli.session import Session
from tidemill.errors import NotFoundError, TidemillError

if TYPE_CHECKING:
    from tidemill.store.inspection import Facts


def backup(session: Session) -> None:
    """Copy the database, look the copy through, and say what is in it."""
    from tidemill.store import backups

    source = stores.database(session)
    stores.require_owner(source)
    target = _target(session)
    with _told_to_end(), Progress() as progress:
        copied = backups.backup(
            source,
            target,
            tell=lambda done, whole: progress.share("copied", done, whole, size=True),
            verifying=lambda: progress.say("looking the copy through", last=True),
        )
    if session.json:
        session.show({"file": str(copied.path), "bytes": copied.bytes, "source": str(source), **_brief(copied.facts)})
        return
    print(f"{source} is copied to {target} ({size_text(copied.bytes)}); the copy is whole")
    print(f"in it: {_told(copied.facts)}")


def _target(session: Session) -> Path:
    given: str = session.args.file
    target = Path(given).expanduser().absolute()
    if given.endswith("/") and not target.is_dir():
        raise TidemillError(f"{target}: there is no such folder; make it first")
    if target.is_dir():
        target /= f"tidemill-{session.now():%Y%m%dT%H%M%SZ}.db"
    if not target.parent.is_dir():
        raise TidemillError(f"{target.parent}: there is no such folder; make it first")
    if _is_own(target):
        raise TidemillError(f"{target} belongs to the database beside it, or to its daemon; name another file")
    if target.exists() and not session.args.force:
        raise TidemillError(f"{target} is there already; --force replaces it")
    if target.exists() and (not target.is_file() or target.name == places.DATABASE):
        raise TidemillError(f"{target} is not replaced; name another file")
    return target


def _is_own(target: Path) -> bool:
    """Say whether a file is a database in use, a part of one, or its daemon's."""
    from tidemill.config.last_good import FILE_NAME
    from tidemill.store.lock import FILE

    parts = (places.DATABASE + suffix for suffix in ("", "-wal", "-shm", "-journal"))
    beside = (target.parent / places.DATABASE).exists() and (target.parent / FILE).exists()
    return beside and target.name in {*parts, places.SOCKET, FILE, FILE_NAME}


def restore(session: Session) -> None:
    """Put a copy in the place of the database; what stood there is kept beside it."""
    from tidemill.store import backups
    from tidemill.store.lock import StateLock

    given: Path = session.args.file
    source = given.expanduser().absolute()
    if not source.exists():
        raise NotFoundError(f"{source}: there is no such file")
    folder = stores.state_dir(session)
    if not folder.is_dir():
        raise TidemillError(f"{folder}: there is no such state directory; make it, for the daemon's user, first")
    target = folder / places.DATABASE
    if target.exists() and target.samefile(source):
        raise TidemillError(f"{source} is the database itself; name a copy of it")
    stores.require_owner(folder)
    lock = StateLock(folder)
    with _told_to_end(), Progress() as progress:
        lock.acquire(session.now())
        with lock:
            backups.own_as(folder, lock.path)
            restored = backups.restore(
                source,
                target,
                session.now(),
                tell=lambda done, whole: progress.share("copied", done, whole, size=True),
                verifying=lambda: progress.say("looking the copy through", last=True),
            )
    facts = restored.facts
    if session.json:
        aside = None if restored.aside is None else str(restored.aside)
        session.show({"file": str(target), "source": str(source), "aside": aside, **_brief(facts)})
        return
    print(f"{target} is the copy {source} now")
    print(f"in it: {_told(facts)}")
    if restored.aside is not None:
        print(f"what stood there before: {restored.aside}")
    alive = times.local(None if facts.last_alive is None else facts.last_alive.isoformat(), seconds=False)
    if alive:
        print(f"the next start treats the time since {alive} as downtime: what fell due since then follows catch_up")


@contextlib.contextmanager
def _told_to_end() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with no half copy left: it is what ends a job that takes too long."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _told(facts: Facts) -> str:
    runs = sum(facts.flow_runs.values())
    alive = times.local(None if facts.last_alive is None else facts.last_alive.isoformat(), seconds=False)
    ended = "" if not alive else f", last alive {alive}"
    artifacts = counted(facts.rows.get("artifact", 0), "artifacts")
    return f"{counted(runs, 'flow runs')}, {artifacts}; schema {facts.schema}{ended}"


def _brief(facts: Facts) -> dict[str, object]:
    return {
        "schema": facts.schema,
        "instance_id": facts.instance_id,
        "flow_runs": sum(facts.flow_runs.values()),
        "artifacts": facts.rows.get("artifact", 0),
        "last_alive": None if facts.last_alive is None else facts.last_alive.isoformat().replace("+00:00", "Z"),
    }
