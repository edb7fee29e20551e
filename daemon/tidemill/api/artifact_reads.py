"""Reads of artifacts and variables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from tidemill.api import documents, lookup
from tidemill.api.ask import Ask
from tidemill.api.bodies import MAX_LIMIT, BadRequestError, any_of, matches, number, query
from tidemill.api.documents import Document
from tidemill.core.runs import Artifact
from tidemill.errors import NotFoundError
from tidemill.store import artifacts, variables

MAX_DATA_BYTES = 4 * 1024 * 1024  # of artifacts in one list; further ones come without their data


def filter_artifacts(ask: Ask) -> list[Document]:
    """List versions of artifacts with their data, newest first: of one key, of one run, or all."""
    asked = query(ask.body, "artifacts", sorts=("CREATED_DESC", "UPDATED_DESC"))
    given = asked.artifacts
    keys = any_of(given.key) if given else None
    of_runs = any_of(given.flow_run_id) if given else None
    ids = any_of(given.id) if given else None
    if given and given.key and given.key.like_ is not None:
        raise BadRequestError("artifacts.key.like_ is known to the latest ones only: /artifacts/latest/filter")
    if sum(each is not None for each in (keys, of_runs, ids)) > 1 or any(
        len(each or [""]) != 1 for each in (keys, of_runs)
    ):
        raise BadRequestError("artifacts: filter by one key, or one run, or ids")
    most, offset = asked.most, asked.offset
    if ids is not None:
        found = [each for each in (artifacts.get(ask.connection, one) for one in ids[:MAX_LIMIT]) if each is not None]
        found = found[offset : offset + most]
    elif keys is not None:
        found = artifacts.versions(ask.connection, keys[0], limit=most, offset=offset)
    elif of_runs is not None:
        found = artifacts.of_run(ask.connection, of_runs[0], limit=most, offset=offset)
    else:
        found = artifacts.newest_first(ask.connection, limit=most, offset=offset)
    return [documents.artifact(each) for each in _with_data(ask, found)]


def _with_data(ask: Ask, found: Sequence[Artifact]) -> Iterable[Artifact]:
    room = MAX_DATA_BYTES
    for each in found:
        whole = artifacts.get(ask.connection, each.id) if room > 0 else None
        room -= len(whole.text) if whole is not None else 0
        yield whole if whole is not None else each


def filter_latest_artifacts(ask: Ask) -> list[Document]:
    """List what each key stands for now, by key, without the data."""
    asked = query(ask.body, "artifacts", sorts=("KEY_ASC",))
    given = asked.artifacts
    if given and (any_of(given.flow_run_id) is not None or any_of(given.id) is not None):
        raise BadRequestError("the latest artifacts are filtered by key")
    own = ask.instance
    if given is None or given.key is None:
        found = artifacts.collections(ask.connection, limit=asked.most, offset=asked.offset)
    else:
        name = given.key
        fitting = (each for each in _all_collections(ask.connection) if matches(name, each.key or ""))
        found = [each for index, each in enumerate(fitting) if asked.offset <= index < asked.offset + asked.most]
    return [documents.artifact_collection(own, each) for each in found]


def _all_collections(connection: sqlite3.Connection) -> Iterable[Artifact]:
    offset = 0
    while page := artifacts.collections(connection, limit=MAX_LIMIT, offset=offset):
        yield from page
        offset += len(page)


def find_artifact(ask: Ask) -> Document:
    """Return one artifact by ``?key=`` (a key or an id, which may hold slashes) and ``version``."""
    key = ask.query.get("key")
    if key is None:
        raise BadRequestError("say which artifact: ?key=…")
    version = number(ask.query, "version", 0) or None
    found = lookup.artifact(ask.connection, key, version)
    kept = artifacts.versions(ask.connection, found.key) if found.key is not None else [found]
    return documents.artifact(found) | {"versions": [each.version for each in kept]}


def artifact(ask: Ask) -> Document:
    """Return the artifact with that id."""
    found = artifacts.get(ask.connection, ask.path["id"])
    if found is None:
        raise NotFoundError(f'no artifact has the id "{ask.path["id"]}"')
    return documents.artifact(found)


def latest_artifact(ask: Ask) -> Document:
    """Return the latest version of a key."""
    found = lookup.artifact(ask.connection, ask.path["key"], None)
    return documents.artifact(found)


def filter_variables(ask: Ask) -> list[Document]:
    """List variables."""
    asked = query(ask.body, "variables", sorts=("NAME_ASC",))
    given, every = asked.variables, sorted(variables.all_of(ask.connection).items())
    found = [_variable(ask, each) for name, each in every if given is None or matches(given.name, name)]
    return found[asked.offset : asked.offset + asked.most]


def variable(ask: Ask) -> Document:
    """Return the variable of that name."""
    found = variables.all_of(ask.connection)
    name = ask.path["name"]
    if name not in found:
        raise NotFoundError(lookup.not_found("variable", name, found))
    return _variable(ask, found[name])


def _variable(ask: Ask, value: variables.Variable) -> Document:
    return {
        "id": documents.id_of(ask.instance, "variable", value.name),
        "name": value.name,
        "value": value.value,
        "tags": list(value.tags),
        "created": documents.instant(value.created),
        "updated": documents.instant(value.updated),
        "file_value": value.file_value,
        "set_by_hand": value.set_by_hand,
    }
