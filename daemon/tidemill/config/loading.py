"""From files to settings: everything is checked, everything wrong is said at once."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tidemill.config.automations import Known, read_automations
from tidemill.config.blocks import read_block
from tidemill.config.deployments import read_deployment
from tidemill.config.documents import Document, dotted, key_path
from tidemill.config.faults import Faults, Wrong
from tidemill.config.files import Sources, gather
from tidemill.config.keys import API, CONCURRENCY_LIMIT, DAEMON, LOG, RETENTION, VALUES, Keys
from tidemill.config.notify import read_channel, settle_channels, take_ping
from tidemill.config.positions import KeyPath
from tidemill.config.queues import read_lines
from tidemill.config.secrets import Secrets
from tidemill.config.settings import ApiSettings, DaemonSettings, LogSettings, RetentionSettings, Settings
from tidemill.config.tables import Entry, Tables, read_keys
from tidemill.config.timezone import machine_zone
from tidemill.core.schedules import CompiledSchedule
from tidemill.core.slots import SlotLimit
from tidemill.errors import ConfigError, Fault

_LOOPBACK = ("127.", "[::1]:", "localhost:", "unix:")


class Loaded:
    """Settings that hold, and where in which file they were written."""

    def __init__(
        self,
        *,
        settings: Settings,
        warnings: tuple[Fault, ...],
        documents: tuple[Document, ...],
        compiled: Mapping[str, tuple[CompiledSchedule, ...]],
        tables: Tables,
    ) -> None:
        self.settings = settings
        self.warnings = warnings
        self.documents = documents
        self.compiled = compiled  # by deployment, in the order of its schedules: cron is dear to read twice
        self._tables = tables

    @property
    def files(self) -> tuple[Path, ...]:
        """The absolute paths of all files that were read, the main one first."""
        return tuple(document.path for document in self.documents)

    @property
    def text_hash(self) -> str:
        """A hash of all names and texts: equal where nothing was edited."""
        return text_hash(self.documents)

    def stated_in(self, table: str, name: str) -> Document | None:
        """Return the file whose ``[table.name]`` holds; None: no file has one."""
        found = self._tables.find(table, name)
        return None if found is None else self._tables.named[table][found].document

    def locate(self, key: str) -> tuple[str, int, int]:
        """Return file, line and column of a dotted key such as ``deployments.daily.parameters.url``.

        A parameter in the short form is found beside the other keys. A key that is not written is told at the nearest
        one above it; line and column are 0 where nothing of it is.
        """
        found = self._tables.entry_of(key_path(key))
        if found is None:
            return self.documents[0].label, 0, 0
        entry, rest = found
        path = entry.path + (rest[1:] if _is_short(entry, rest) else rest)
        return (entry.document.label, *entry.document.place(path))

    def fault(self, key: str, problem: str, remedy: str = "") -> Fault:
        """Return a fault of a dotted key that was found after the load: an entrypoint, a built-in's parameter.

        It names the key as the file has it, without ``parameters`` where a parameter stands in the short form.
        """
        file, line, column = self.locate(key)
        found = self._tables.entry_of(key_path(key))
        if found is not None and _is_short(*found):
            above = dotted(found[0].path)
            key = above + key[len(above) :].removeprefix(".parameters")
        return Fault(file=file, line=line, column=column, key=key, problem=problem, remedy=remedy)


def _is_short(entry: Entry, rest: KeyPath) -> bool:
    """Say whether what is looked for below ``parameters`` stands beside a deployment's other keys."""
    if entry.path[0] != "deployments" or rest[:1] != ("parameters",) or len(rest) < 2:
        return False
    places = entry.document.positions.places
    return entry.path + rest not in places and entry.path + rest[1:2] in places


class BrokenConfigError(ConfigError):
    """The text has faults. ``rest`` is what holds of it, to be looked at for further ones, never to be run."""

    def __init__(self, faults: Sequence[Fault], rest: Loaded) -> None:
        super().__init__(faults)
        self.rest = rest


def text_hash(documents: tuple[Document, ...]) -> str:
    """Return a hash of the files' names and texts."""
    digest = hashlib.sha256()
    for document in documents:
        for raw in (os.fsencode(document.path), document.text.encode()):
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def load(path: Path, *, made_dir: Path | None = None, environ: Mapping[str, str]) -> Loaded:
    """Read and check the file, its includes and ``made_dir/*.toml``.

    ``environ`` is where ``TZ``, ``CREDENTIALS_DIRECTORY`` and secrets of the form ``{ env = … }`` are looked up.
    Raises :class:`ConfigError` with every fault in every file.
    """
    faults = Faults()
    with without_collector():
        sources = gather(path, made_dir, faults)
        return build(sources, environ=environ, faults=faults)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Hold the cycle collector: thousands of new tables, none of them garbage, cost it a third of the load's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def build(sources: Sources, *, environ: Mapping[str, str], faults: Faults, lenient_secrets: bool = False) -> Loaded:
    """Check what the files say and return the settings; raises :class:`ConfigError`.

    ``lenient_secrets``: a missing secret is a warning; the runs that need it will fail and say so.
    """
    documents = sources.documents
    tables = Tables()
    parsed = [(d, data) for d, data in zip(documents, sources.data, strict=True) if data is not None]
    if not parsed:
        raise ConfigError(faults.all(documents))
    tables.merge(parsed, faults)
    # Of a file that did not parse nothing is known, so nothing is said of names that might be in it.
    unsure = faults if sources.complete else Faults()
    secrets = Secrets(environ, lenient_secrets)
    daemon = _daemon(tables, parsed[0][0], secrets, faults)
    api = ApiSettings(**_single(tables, "api", API, faults))
    _warn_of_open_api(tables, api, faults)
    reads = [
        read
        for name, entry in tables.named["deployments"].items()
        if (read := read_deployment(name, entry, daemon, secrets, faults)) is not None
    ]
    lines = read_lines(tables, reads, unsure)
    deployments = {
        name: settle_channels(tables.named["deployments"][name], each, tables.named["notify"], unsure)
        for name, each in lines.deployments.items()
    }
    known = Known(
        names=tables.named["deployments"],
        deployments=deployments,
        work_queues=lines.work_queues,
        work_pools=lines.work_pools,
        channels=tables.named["notify"],
    )
    settings = Settings(
        daemon=daemon,
        api=api,
        retention=RetentionSettings(**_single(tables, "retention", RETENTION, faults)),
        log=LogSettings(**_single(tables, "log", LOG, faults)),
        deployments=MappingProxyType(deployments),
        work_queues=MappingProxyType(lines.work_queues),
        work_pools=MappingProxyType(lines.work_pools),
        variables=MappingProxyType(_values(tables, "variables", faults)),
        tag_limits=MappingProxyType(_values(tables, "tag_limits", faults)),
        concurrency_limits=MappingProxyType(_concurrency_limits(tables, faults)),
        blocks=MappingProxyType(
            {
                name: block
                for name, entry in tables.named["blocks"].items()
                if (block := read_block(name, entry, secrets, faults)) is not None
            }
        ),
        notify=MappingProxyType(
            {
                name: channel
                for name, entry in tables.named["notify"].items()
                if (channel := read_channel(name, entry, secrets, faults)) is not None
            }
        ),
        automations=MappingProxyType(read_automations(tables.named["automations"], known, faults, unsure)),
    )
    loaded = Loaded(
        settings=settings,
        warnings=faults.warnings(documents),
        documents=documents,
        compiled=MappingProxyType({read.deployment.name: read.schedules for read in reads}),
        tables=tables.without_values(),
    )
    if faults:
        raise BrokenConfigError(faults.all(documents), loaded)
    for document in documents:
        document.forget_positions()
    return loaded


def _single(tables: Tables, table: str, keys: Keys, faults: Faults) -> dict[str, Any]:
    entry = tables.single.get(table)
    return {} if entry is None else read_keys(entry, keys, faults)


def _daemon(tables: Tables, main: Document, secrets: Secrets, faults: Faults) -> DaemonSettings:
    values = _single(tables, "daemon", DAEMON, faults)
    if "ping" in values:
        values["ping"] = take_ping(tables.single["daemon"], values, secrets, faults)
    values.setdefault("flows", main.folder / "flows")
    if "timezone" not in values:
        values["timezone"] = machine_zone(secrets.environ)
    return DaemonSettings(**values)


def _warn_of_open_api(tables: Tables, api: ApiSettings, faults: Faults) -> None:
    entry = tables.single.get("api")
    for number, address in enumerate(api.listen):
        if entry is not None and not address.startswith(_LOOPBACK):
            problem = f'"{address}" is reached from other machines, and the API asks nobody who they are'
            listed = isinstance(entry.value["listen"], list)
            path = ("api", "listen", number) if listed else ("api", "listen")
            faults.warn(entry.document, path, problem, "listen on 127.0.0.1, behind a proxy that asks")


def _concurrency_limits(tables: Tables, faults: Faults) -> dict[str, SlotLimit]:
    found = {}
    for name, entry in tables.named["concurrency_limits"].items():
        values = read_keys(entry, CONCURRENCY_LIMIT, faults)
        if isinstance(entry.value, dict) and "limit" not in entry.value:
            faults.add(
                entry.document, entry.path, "does not say how many slots there are", "add limit = 5", at_key=True
            )
        if "limit" in values:
            found[name] = SlotLimit(name=name, **values)
    return found


def _values(tables: Tables, table: str, faults: Faults) -> dict[str, Any]:
    found = {}
    for name, entry in tables.named[table].items():
        try:
            found[name] = VALUES[table].kind.convert(entry.value, entry.folder)
        except Wrong as wrong:
            faults.wrong(entry.document, entry.path, wrong)
    return found
