"""``tidemill report``: one file for who is asked for help, without secrets.

It holds what is needed to understand a daemon, and nothing of what jobs work with: no parameters, no results, no
artifacts, and what jobs printed only where that is asked for.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.cli import configuration, machine, stores
from tidemill.cli.progress import Progress, size_text
from tidemill.cli.session import Session, segment
from tidemill.errors import ConfigError, DatabaseError, TidemillError

if TYPE_CHECKING:
    from tidemill.telemetry.redaction import Redactor

FAILED = 20  # runs that ended badly, the newest
LINES = 50  # of the output of each, where they are asked for
DIARY = 1000  # lines of the daemon's own, the newest
ABOUT = """\
A report on a tidemill daemon, made by `tidemill report` at {at}.

  versions.json        tidemill, Python, SQLite, the packages it stands on
  machine.json         system, processors, memory, room on the disk, limits
  status.json          what `tidemill status` shows
  metrics.txt          what /metrics answers, while the daemon runs
  configuration/       the configuration's files
  check.txt            faults and warnings of the configuration
  database.json        sizes, how many rows of each sort, whether the file is whole
  daemon-log.jsonl     what the daemon said of itself, the last {diary} lines
  failures.json        the last {failed} runs that ended badly: their states and messages{output}

Secrets are masked: what the configuration refers to or holds, what stands in environment variables named like secrets,
passwords and tokens in URLs, the paths of webhooks and pings. There are no parameters, results or artifacts of runs in
it. A part that could not be had is there as NAME.error.txt, with the reason. Look through it before you send it.
"""

Part = Callable[[], bytes]


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(name, help=line, parents=[common])
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to (./tidemill-report-TIME.tar.gz)")
    parser.add_argument("--config", type=Path, metavar="CONFIG", help="the configuration, while no daemon runs")
    parser.add_argument(
        "--with-output", action="store_true", help=f"with the last {LINES} lines that the failed runs printed"
    )
    parser.set_defaults(run=report)


def report(session: Session) -> None:
    """Gather what can be had, mask it, and write it into one file."""
    target = _target(session)
    gathering = _Gathering(session)
    with Progress() as progress:
        parts = []
        for name, part in gathering.parts():
            progress.say(f"gathering {name}", last=True)
            parts.append(_had(name, part, gathering.redactor))
        raw = _packed(parts, session)
    _write(target, raw)
    if session.json:
        session.show({"file": str(target), "bytes": len(raw), "parts": [name for name, _ in parts]})
        return
    print(f"{target} ({size_text(len(raw))}) holds")
    print("\n".join(f"  {name}" for name, _ in parts))
    print("Secrets are masked. Look through it before you send it: README.txt says what is in it.")


def _target(session: Session) -> Path:
    given: Path | None = session.args.file
    target = (given or Path()).expanduser().absolute()
    if target.is_dir():
        target /= f"tidemill-report-{session.now():%Y%m%dT%H%M%SZ}.tar.gz"
    if target.exists():
        raise TidemillError(f"{target} is there already; name another file")
    return target


def _had(name: str, part: Part, redactor: Redactor) -> tuple[str, bytes]:
    """Return a part, masked, or why it could not be had: a report on something broken has to live with that."""
    import sqlite3

    try:
        raw = part()
    except (TidemillError, OSError, sqlite3.Error) as error:
        name, raw = f"{name}.error.txt", f"{error}\n".encode()
    return name, redactor.text(raw.decode(errors="replace")).encode()


def _packed(parts: list[tuple[str, bytes]], session: Session) -> bytes:
    buffer = io.BytesIO()
    folder = f"tidemill-report-{session.now():%Y%m%dT%H%M%SZ}"
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, raw in parts:
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(raw), 0o600, int(session.now().timestamp())
            archive.addfile(entry, io.BytesIO(raw))
    return buffer.getvalue()


def _write(target: Path, raw: bytes) -> None:
    """For its maker's eyes until somebody decides otherwise."""
    import os

    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - an open descriptor, not a path
        file.write(raw)


class _Gathering:
    """The parts of one report, and what is masked in them."""

    def __init__(self, session: Session) -> None:
        from tidemill.config.disclosure import secrets_in
        from tidemill.telemetry.redaction import Redactor

        self._session = session
        self._live = self._is_live()
        self._config = self._config_path()
        self._texts = self._config_texts()
        folder = self._config.parent if self._config else Path()
        self.redactor = Redactor(secrets_in(self._texts.values(), session.environ, folder))

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield each part's name, and how it is had."""
        yield "README.txt", self._about
        yield "versions.json", lambda: _json(machine.versions())
        yield "machine.json", lambda: _json(machine.facts(stores.state_dir(self._session)))
        yield "status.json", lambda: _json(self._session.get("/status"))
        if self._live:
            yield "metrics.txt", self._metrics
        for name, text in self._files():
            yield f"configuration/{name}", _masked(text)
        yield "check.txt", self._check
        yield "database.json", self._database
        yield "daemon-log.jsonl", self._diary
        yield "failures.json", self._failures

    def _about(self) -> bytes:
        output = f", and the last {LINES} lines they printed" if self._session.args.with_output else ""
        at = f"{self._session.now():%Y-%m-%d %H:%M:%SZ}"
        return ABOUT.format(at=at, diary=f"{DIARY:,}", failed=FAILED, output=output).encode()

    def _is_live(self) -> bool:
        try:
            return self._session.link.live
        except TidemillError:
            return False

    # -- the configuration -------------------------------------------------------------------------------------------

    def _config_path(self) -> Path | None:
        """Return the file that the daemon runs on, else the one it would start on."""
        if self._live and (running := self._session.get("/status").get("config_file")):
            return Path(running)
        try:
            return configuration.find(self._session.args.config, self._session.environ)
        except TidemillError:
            return None

    def _config_texts(self) -> dict[Path, str]:
        """Return the texts of all files, also of those that are broken."""
        from tidemill.config.faults import Faults
        from tidemill.config.files import gather

        if self._config is None:
            return {}
        try:
            sources = gather(self._config, self._made_dir(), Faults())
            return {document.path: document.text for document in sources.documents}
        except (ConfigError, OSError):
            return {self._config: self._config.read_text(errors="replace")} if self._config.is_file() else {}

    def _made_dir(self) -> Path | None:
        try:
            folder = stores.state_dir(self._session) / "made.d"
        except TidemillError:
            return None
        return folder if folder.is_dir() else None

    def _files(self) -> Iterator[tuple[str, str]]:
        """Yield names for the files that are unlike each other, and their texts."""
        for number, (path, text) in enumerate(self._texts.items()):
            yield (path.name if not number else f"{number:02}-{path.parent.name}-{path.name}"), text

    def _check(self) -> bytes:
        from tidemill.config import load

        if self._config is None:
            raise TidemillError("there is no configuration")
        try:
            loaded = load(self._config, made_dir=self._made_dir(), environ=self._session.environ)
        except ConfigError as error:
            return f"{error}\n".encode()
        return ("\n".join(map(str, loaded.warnings)) or "no faults, no warnings").encode() + b"\n"

    # -- the daemon and its database ---------------------------------------------------------------------------------

    def _metrics(self) -> bytes:
        return self._session.link.text("/metrics").encode()

    def _database(self) -> bytes:
        import msgspec

        from tidemill.store import connections, inspection, schema

        path = stores.database(self._session)
        stores.require_owner(path)
        with closing(connections.open_reader(path)) as connection:
            schema.require_restorable(connection, path)
            if damage := inspection.damage(connection, full=False):
                raise DatabaseError("\n".join(damage))
            rules = [rule for rule in inspection.RULES if not rule.full]
            broken = [found for rule in rules if (found := inspection.broken(connection, rule)) is not None]
            facts = inspection.facts(connection, path)
        return _json({**msgspec.to_builtins(facts), "broken": msgspec.to_builtins(broken)})

    def _diary(self) -> bytes:
        import msgspec

        from tidemill.store import connections, daemon_log, schema

        path = stores.database(self._session)
        stores.require_owner(path)
        with closing(connections.open_reader(path)) as connection:
            schema.require_readable(connection, path)
            found = daemon_log.newest(connection, limit=DIARY)
        return b"".join(msgspec.json.encode(each.line) + b"\n" for each in found)

    def _failures(self) -> bytes:
        types = ["FAILED", "CRASHED"]
        body = {"flow_runs": {"state": {"type": {"any_": types}}}, "sort": "EXPECTED_START_TIME_DESC", "limit": FAILED}
        return _json([self._failure(run) for run in self._session.post("/flow_runs/filter", body)])

    def _failure(self, run: dict[str, Any]) -> dict[str, Any]:
        states = self._session.get("/flow_run_states/", flow_run_id=run["id"])
        found = {
            "id": run["id"],
            "name": run["name"],
            "deployment": run["deployment"],
            "work_queue": run["work_queue_name"],
            "expected_start_time": run["expected_start_time"],
            "start_time": run["start_time"],
            "end_time": run["end_time"],
            "states": [{key: state[key] for key in ("type", "name", "timestamp", "message")} for state in states],
        }
        if self._session.args.with_output:
            lines = self._session.get(f"/flow_runs/{segment(run['id'])}/logs", tail="true", limit=LINES)
            found["output"] = [line["message"] for line in lines]
        return found


def _masked(text: str) -> Part:
    from tidemill.config.disclosure import masked

    return lambda: masked(text).encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).encode() + b"\n"
