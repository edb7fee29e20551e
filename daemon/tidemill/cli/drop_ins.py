"""What commands make beside a person's files: by the daemon where one runs, else on its files, under its lock."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Protocol

from tidemill.cli import configuration, finding, text
from tidemill.cli.session import Session, segment
from tidemill.errors import ConfigError, DaemonUnreachableError, NotFoundError, TidemillError

NEXT_START = "no daemon runs; it holds from the next start on"


class DropIns(Protocol):
    """The drop-ins of one state directory."""

    live: bool

    def flows_dir(self) -> Path:
        """Return the folder that entrypoints are loaded from."""
        ...

    def all(self, *, fresh: bool = False) -> list[dict[str, Any]]:
        """Return what was made: table, name, toml and shadowed_by. ``fresh``: as the files are this very moment."""
        ...

    def put(self, table: str, name: str, value: Any) -> None:
        """Make a thing, or make it anew. Raises TidemillError that says why not; then nothing has changed."""
        ...

    def remove(self, table: str, name: str) -> None:
        """Remove what was made. Raises NotFoundError where nothing of the name was."""
        ...


def open_drop_ins(session: Session) -> DropIns:
    """Return the drop-ins of the daemon that is meant, whether or not it runs."""
    from tidemill.api import places

    state_dir: Path | None = getattr(session.args, "state_dir", None)
    try:
        link = finding.find(session.environ, session.now, api=getattr(session.args, "api", None), state_dir=state_dir)
    except DaemonUnreachableError:
        if getattr(session.args, "api", None) or session.environ.get("TIDEMILL_API_URL"):
            raise
        return _OnFiles(session, places.state_dir(session.environ, asked=state_dir))
    if link.live:
        return _OfDaemon(link)
    state = Path(link.where).parent
    link.close()
    return _OnFiles(session, state)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option that says by which configuration a daemon that is down would run."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE",
        help="while no daemon runs: its configuration (the one that ran last, else as `start` finds it)",
    )  # fmt: skip


def removing(verbs: Any, verb: str, about: str, table: str, common: argparse.ArgumentParser) -> None:
    """Add a verb that removes what a command made."""
    parser = verbs.add_parser(verb, help=about, parents=[common])
    parser.add_argument("name", metavar="NAME", help="its name")
    add_config(parser)
    parser.set_defaults(run=remove, table=table)


def remove(session: Session) -> None:
    """Remove what a command made; what a person's file states is told where it stands."""
    table, name = session.args.table, session.args.name
    drop_ins = open_drop_ins(session)
    drop_ins.remove(table, name)
    told(session, drop_ins, {"table": table, "name": name, "removed": True}, f"{noun(table)} {name} is removed")


def told(session: Session, drop_ins: DropIns, document: dict[str, Any], sentence: str) -> None:
    """Show what was done."""
    if session.json:
        session.show(document)
    else:
        print(text.clean(sentence))
    if not drop_ins.live:
        session.note(NEXT_START)


def noun(table: str) -> str:
    """Return what a thing of a table is called."""
    from tidemill.config.made import NOUNS

    return NOUNS[table]


class _OfDaemon:
    live = True

    def __init__(self, link: finding.Link) -> None:
        self._link = link

    def flows_dir(self) -> Path:
        return Path(self._link.ask("GET", "/configuration")["settings"]["daemon"]["flows"])

    def all(self, *, fresh: bool = False) -> list[dict[str, Any]]:
        if fresh:
            self._link.ask("POST", "/reload", {})
        found: list[dict[str, Any]] = self._link.ask("GET", "/made")
        return found

    def put(self, table: str, name: str, value: Any) -> None:
        self._link.ask("PUT", f"/made/{segment(table)}/{segment(name)}", {"value": value})

    def remove(self, table: str, name: str) -> None:
        self._link.ask("DELETE", f"/made/{segment(table)}/{segment(name)}")


class _OnFiles:
    live = False

    def __init__(self, session: Session, state: Path) -> None:
        from tidemill.api import places

        self._session = session
        self._state = state
        self._made_dir = state / places.MADE

    def flows_dir(self) -> Path:
        folder: Path = self._load().settings.daemon.flows
        return folder

    def all(self, *, fresh: bool = False) -> list[dict[str, Any]]:
        from tidemill.config import made
        from tidemill.services.making import stated_at

        loaded = self._load()
        return [
            {
                "table": table,
                "name": name,
                "toml": made.text(table, {name: value}),
                "shadowed_by": stated_at(loaded, table, name),
            }
            for table, values in made.everything(self._made_dir).items()
            for name, value in values.items()
        ]

    def put(self, table: str, name: str, value: Any) -> None:
        from tidemill.config import made
        from tidemill.services.making import refuse_stated

        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            refuse_stated(self._load(), table, name)
            self._try(made.put(self._made_dir, table, name, value))

    def remove(self, table: str, name: str) -> None:
        from tidemill.config import made
        from tidemill.services.making import not_made

        if not self._state.is_dir() or name not in made.of_table(self._made_dir, table):
            raise NotFoundError(not_made(self._load(), table, name))
        with self._lock():
            self._try(made.remove(self._made_dir, table, name))

    def _lock(self) -> Any:
        from tidemill.store.lock import StateLock

        lock = StateLock(self._state)
        lock.acquire(self._session.now())
        return lock

    def _try(self, undo: Any) -> None:
        """Keep what was written if the whole configuration holds with it."""
        from tidemill.services.fitness import entrypoint_fitness

        try:
            loaded = self._load()
            found = entrypoint_fitness(loaded, self._session.environ).faults
            if found:
                raise ConfigError([fault for faults in found.values() for fault in faults])
        except BaseException as error:
            undo()
            if isinstance(error, ConfigError):
                faults = "\n  ".join(map(str, error.faults))
                raise TidemillError(f"not done, the configuration would not hold:\n  {faults}") from error
            raise

    def _load(self) -> Any:
        from tidemill.config import last_good_path
        from tidemill.flows.builtins import builtins
        from tidemill.services.reloading import read

        given = getattr(self._session.args, "config", None)
        path = given if given is not None else last_good_path(self._state)
        environ = self._session.environ
        return read(configuration.find(path, environ), self._made_dir, builtins(environ=environ), environ)
