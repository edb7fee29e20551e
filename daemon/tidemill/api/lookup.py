"""Finding what a person means: by id, a part of one, or name; ``_`` and ``-`` alike; near names where nothing is."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tidemill.core.deployments import Deployment, WorkPool, WorkQueue
from tidemill.core.filters import RunFilter
from tidemill.core.runs import Artifact, FlowRun
from tidemill.errors import NotFoundError
from tidemill.store import artifacts, catalogue, listing, runs
from tidemill.store.catalogue import Entry

V = TypeVar("V", Deployment, WorkQueue, WorkPool)
MIN_PREFIX = 4
MIN_END = 6  # characters from the end of a run's id, which lists show: its beginning is time
_HEX = frozenset("0123456789abcdef-")
NEAR = 3
LISTED = 8


def alike(name: str) -> str:
    """Return the form under which names that differ only in ``_`` and ``-`` are the same."""
    return name.replace("_", "-").lower()


def flow_run(connection: sqlite3.Connection, text: str) -> FlowRun:
    """Return the run of that id, the beginning or end of one, or name. Of several of one name the newest is meant.

    Raises NotFoundError, also where an abbreviated id fits several.
    """
    found = list(runs.find(connection, text))
    if not found and len(text) >= MIN_END and set(text.lower()) <= _HEX:
        found = list(listing.by_id_end(connection, text))
    if not found:
        newest = listing.select(connection, RunFilter())
        near = difflib.get_close_matches(text.lower(), {run.name for run in newest}, n=NEAR, cutoff=0.75)
        hint = f"did you mean {' or '.join(near)}?" if near else "`tidemill flow-run ls` lists them"
        raise NotFoundError(f'no flow run has the id or name "{text}"; {hint}')
    if len(found) > 1 and any(run.name != text for run in found):
        several = ", ".join(f"{run.name} ({run.id})" for run in found[:LISTED])
        raise NotFoundError(f'several flow runs fit "{text}": {several}{", …" if found[LISTED:] else ""}')
    return found[0]


def deployment(connection: sqlite3.Connection, text: str) -> Entry[Deployment]:
    """Return the deployment of that id, the beginning of one, name, or ``flow/name``. Raises NotFoundError."""

    def names(entry: Entry[Deployment]) -> tuple[str, ...]:
        return entry.value.name, f"{entry.value.flow.name}/{entry.value.name}"

    found = catalogue.exactly(connection, Deployment, text)
    return found or _one(catalogue.deployments(connection), text, names, "deployment")


def work_queue(connection: sqlite3.Connection, text: str) -> Entry[WorkQueue]:
    """Return the work queue of that id, the beginning of one, or name. Raises NotFoundError."""
    found = catalogue.exactly(connection, WorkQueue, text)
    return found or _one(catalogue.work_queues(connection), text, lambda entry: (entry.value.name,), "work queue")


def work_pool(connection: sqlite3.Connection, text: str) -> Entry[WorkPool]:
    """Return the work pool of that id, the beginning of one, or name. Raises NotFoundError."""
    found = catalogue.exactly(connection, WorkPool, text)
    return found or _one(catalogue.work_pools(connection), text, lambda entry: (entry.value.name,), "work pool")


def _one(entries: Sequence[Entry[V]], text: str, names: Callable[[Entry[V]], tuple[str, ...]], kind: str) -> Entry[V]:
    wanted = alike(text)
    fitting = [entry for entry in entries if wanted in [alike(name) for name in names(entry)]]
    if not fitting and len(text) >= MIN_PREFIX:
        fitting = [entry for entry in entries if entry.id.startswith(text.lower())]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = ", ".join(f"{names(entry)[0]} ({entry.id})" for entry in fitting[:LISTED])
        raise NotFoundError(f'several {kind}s fit "{text}": {several}{", …" if fitting[LISTED:] else ""}')
    raise NotFoundError(not_found(kind, text, [names(entry)[0] for entry in entries]))


def artifact(connection: sqlite3.Connection, text: str, version: int | None) -> Artifact:
    """Return the artifact of that key (the latest version unless one is given) or id. Raises NotFoundError."""
    latest = artifacts.latest(connection, text)
    if latest is None:
        found = artifacts.get(connection, text)
        if found is not None and version in (None, found.version):
            return found
        keys = [each.key for each in artifacts.collections(connection) if each.key is not None]
        same = [key for key in keys if alike(key) == alike(text)]
        if len(same) != 1:
            raise NotFoundError(not_found("artifact", text, keys))
        latest = artifacts.latest(connection, same[0])
    if latest is not None and version in (None, latest.version):
        return latest
    found = artifacts.version(connection, latest.key or text, version or 0) if latest is not None else None
    if found is None:
        kept = ", ".join(str(each.version) for each in artifacts.versions(connection, text)[:LISTED])
        raise NotFoundError(f'artifact "{text}" has no version {version}; the newest kept are {kept}')
    return found


def not_found(kind: str, text: str, names: Iterable[str]) -> str:
    """Return the sentence for what is not there, with near names or some that are there."""
    known = sorted(names)
    forms = {alike(name): name for name in known}
    near = difflib.get_close_matches(alike(text.rpartition("/")[2]), forms, n=NEAR)
    if near:
        return f'no {kind} is called "{text}"; did you mean {" or ".join(forms[name] for name in near)}?'
    if not known:
        return f'no {kind} is called "{text}"; there are none yet'
    return f'no {kind} is called "{text}"; there are {", ".join(known[:LISTED])}{" …" if known[LISTED:] else ""}'
