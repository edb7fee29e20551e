"""Reads of what is configured: deployments, flows, work queues and pools, with what holds of them now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from tidemill.api import documents, lookup
from tidemill.api.ask import Ask, flow_names, names_of
from tidemill.api.bodies import query
from tidemill.api.documents import Document
from tidemill.core.deployments import Deployment, WorkPool, WorkQueue
from tidemill.core.filters import RunFilter
from tidemill.core.overrides import Override
from tidemill.core.states import StateType
from tidemill.errors import NotFoundError
from tidemill.store import catalogue, listing, runs, schedules
from tidemill.store.catalogue import Entry

V = TypeVar("V", Deployment, WorkQueue, WorkPool)
SKIPPED = 10  # fires that made no run, shown with their deployment


def filter_deployments(ask: Ask) -> list[Document]:
    """List deployments by name, with what comes next and what was last."""
    asked = query(ask.body, "deployments", "flows", sorts=("NAME_ASC",))
    held = _Overrides(ask)
    if asked.deployments is None and asked.flows is None:
        page = catalogue.deployments(ask.connection, limit=asked.most, offset=asked.offset)
        return _deployments(ask, held, page)
    entries = catalogue.deployments(ask.connection)
    names = names_of(asked.deployments, lambda: entries)
    flows = flow_names(ask, asked.flows) if asked.flows is not None else None
    found = [
        entry
        for entry in entries
        if (names is None or entry.value.name in names) and (flows is None or entry.value.flow.name in flows)
    ]
    return _deployments(ask, held, found[asked.offset : asked.offset + asked.most])


def deployment(ask: Ask) -> Document:
    """Return one deployment, with the fires that made no run."""
    entry = lookup.deployment(ask.connection, ask.path["id"])
    return _whole_deployment(ask, entry)


def deployment_by_name(ask: Ask) -> Document:
    """Return the deployment ``flow/name``."""
    text = f"{ask.path['flow']}/{ask.path['name']}"
    return _whole_deployment(ask, lookup.deployment(ask.connection, text))


def _whole_deployment(ask: Ask, entry: Entry[Deployment]) -> Document:
    found = schedules.skipped(ask.connection, deployment=entry.value.name, limit=SKIPPED)
    (document,) = _deployments(ask, _Overrides(ask), [entry])
    return document | {"skipped_fires": [documents.skipped(each) for each in found]}


def _deployments(ask: Ask, held: _Overrides, page: Sequence[Entry[Deployment]]) -> list[Document]:
    own = ask.instance
    around = runs.around(ask.connection, [entry.value.name for entry in page], ask.now)
    found = []
    for entry in page:
        value = entry.value
        coming, last = around.get(value.name, (None, None))
        document = documents.deployment(
            own, held.over("deployment", value), paused=held.paused("deployment", value)
        ) | {
            "set_by_hand": held.by_hand("deployment", value),
            "created": documents.instant(entry.created),
            "updated": documents.instant(entry.updated),
            "next_scheduled_start_time": documents.instant(coming),
            "timezone": value.schedules[0].timezone if value.schedules else None,
            "last_run": documents.flow_run(own, last, ask.now) if last else None,
        }
        found.append(document)
    return found


class _Overrides:
    """What a person set by hand. One holds while the configuration's own value is what it was then."""

    def __init__(self, ask: Ask) -> None:
        self._held = {(each.kind, each.name, each.key): each for each in catalogue.overrides(ask.connection)}

    def value(self, kind: str, thing: V, key: str) -> Any:
        """Return what is in force of one key."""
        held, own = self._held.get((kind, thing.name, key)), getattr(thing, key)
        return held.value if held is not None and held.file_value == own else own

    def paused(self, kind: str, thing: V) -> bool:
        return bool(self.value(kind, thing, "paused"))

    def over(self, kind: str, thing: V) -> V:
        """Return a thing with its limit and priority as they are in force."""
        keys = [key for key in ("concurrency_limit", "priority") if hasattr(thing, key)]
        return replace(thing, **{key: self.value(kind, thing, key) for key in keys})

    def by_hand(self, kind: str, thing: V) -> list[Document]:
        """List what was set by hand and is in force."""
        return [
            override(each)
            for (of, name, key), each in self._held.items()
            if (of, name) == (kind, thing.name) and each.file_value == getattr(thing, key, None)
        ]


def override(each: Override) -> Document:
    """Return what a person set by hand."""
    return {
        "kind": each.kind,
        "name": each.name,
        "key": each.key,
        "value": each.value,
        "file_value": each.file_value,
        "by": each.by,
        "at": documents.instant(each.at),
    }


def list_overrides(ask: Ask) -> list[Document]:
    """List what was set by hand over the configuration."""
    return [override(each) for each in catalogue.overrides(ask.connection)]


def filter_flows(ask: Ask) -> list[Document]:
    """List the flows that deployments name."""
    asked = query(ask.body, "flows", "deployments", sorts=("NAME_ASC",))
    names = names_of(asked.deployments, lambda: catalogue.deployments(ask.connection))
    found = _flows(ask, lambda entry: names is None or entry.value.name in names)
    wanted = flow_names(ask, asked.flows) if asked.flows is not None else None
    listed = [flow for name, flow in sorted(found.items()) if wanted is None or name in wanted]
    return listed[asked.offset : asked.offset + asked.most]


def flow(ask: Ask) -> Document:
    """Return the flow of that id or name."""
    return _flow(ask, ask.path["id"])


def flow_by_name(ask: Ask) -> Document:
    """Return the flow of that name."""
    return _flow(ask, ask.path["name"])


def _flow(ask: Ask, text: str) -> Document:
    found = _flows(ask, lambda entry: True)
    for name, document in found.items():
        if text == document["id"] or lookup.alike(text) == lookup.alike(name):
            return document
    raise NotFoundError(lookup.not_found("flow", text, found))


def _flows(ask: Ask, wanted: Callable[[Entry[Deployment]], bool]) -> dict[str, Document]:
    found: dict[str, Document] = {}
    own = ask.instance
    for entry in catalogue.deployments(ask.connection, gone=True):
        if wanted(entry):
            times = {"created": documents.instant(entry.created), "updated": documents.instant(entry.updated)}
            found.setdefault(entry.value.flow.name, documents.flow(own, entry.value.flow.name) | times)
    return found


_HOLDING = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def filter_work_queues(ask: Ask) -> list[Document]:
    """List work queues, with what waits and runs in each."""
    asked = query(ask.body, "work_queues", "work_pools", sorts=("NAME_ASC",))
    return _work_queues(ask, None)[asked.offset : asked.offset + asked.most]


def filter_queues_of_pool(ask: Ask) -> list[Document]:
    """List the queues of one pool."""
    asked = query(ask.body, "work_queues")
    pool = lookup.work_pool(ask.connection, ask.path["name"]).value
    return _work_queues(ask, pool.name)[asked.offset : asked.offset + asked.most]


def _work_queues(ask: Ask, pool: str | None) -> list[Document]:
    asked = query(ask.body, "work_queues", "work_pools")
    entries = catalogue.work_queues(ask.connection)
    names = names_of(asked.work_queues, lambda: entries)
    pools = {pool} if pool is not None else names_of(asked.work_pools, lambda: catalogue.work_pools(ask.connection))
    held = _Overrides(ask)
    return [
        _work_queue(ask, held, entry)
        for entry in entries
        if (names is None or entry.value.name in names) and (pools is None or entry.value.work_pool in pools)
    ]


def work_queue(ask: Ask) -> Document:
    """Return one work queue."""
    entry = lookup.work_queue(ask.connection, ask.path["id"])
    return _work_queue(ask, _Overrides(ask), entry)


def queue_of_pool(ask: Ask) -> Document:
    """Return one work queue of a pool."""
    pool = lookup.work_pool(ask.connection, ask.path["name"]).value
    entry = lookup.work_queue(ask.connection, ask.path["queue"])
    if entry.value.work_pool != pool.name:
        raise NotFoundError(
            f'work queue "{entry.value.name}" stands before pool {entry.value.work_pool}, not {pool.name}'
        )
    return _work_queue(ask, _Overrides(ask), entry)


def _work_queue(ask: Ask, held: _Overrides, entry: Entry[WorkQueue]) -> Document:
    counts = listing.count_by_state(ask.connection, RunFilter(work_queues=(entry.value.name,), state_types=_UNFINISHED))
    waiting = {name: count for (kind, name), count in counts.items() if kind is StateType.SCHEDULED}
    due = listing.count_by_state(
        ask.connection,
        RunFilter(work_queues=(entry.value.name,), state_types=(StateType.SCHEDULED,), expected_start_before=ask.now),
    )
    return documents.work_queue(
        ask.instance, held.over("work_queue", entry.value), paused=held.paused("work_queue", entry.value)
    ) | {
        "set_by_hand": held.by_hand("work_queue", entry.value),
        "created": documents.instant(entry.created),
        "updated": documents.instant(entry.updated),
        "upcoming": sum(waiting.values()) - sum(due.values()),
        "waiting": sum(due.values()),
        "late": waiting.get("Late", 0),
        "running": sum(count for (kind, _), count in counts.items() if kind in _HOLDING),
    }


_UNFINISHED = (StateType.SCHEDULED, *_HOLDING)


def filter_work_pools(ask: Ask) -> list[Document]:
    """List work pools."""
    asked = query(ask.body, "work_pools", sorts=("NAME_ASC",))
    entries = catalogue.work_pools(ask.connection)
    names = names_of(asked.work_pools, lambda: entries)
    held = _Overrides(ask)
    found = [_work_pool(ask, held, entry) for entry in entries if names is None or entry.value.name in names]
    return found[asked.offset : asked.offset + asked.most]


def work_pool(ask: Ask) -> Document:
    """Return one work pool."""
    entry = lookup.work_pool(ask.connection, ask.path["name"])
    return _work_pool(ask, _Overrides(ask), entry)


def _work_pool(ask: Ask, held: _Overrides, entry: Entry[WorkPool]) -> Document:
    counts = listing.count_by_state(ask.connection, RunFilter(work_pools=(entry.value.name,), state_types=_HOLDING))
    return documents.work_pool(
        ask.instance, held.over("work_pool", entry.value), paused=held.paused("work_pool", entry.value)
    ) | {
        "set_by_hand": held.by_hand("work_pool", entry.value),
        "created": documents.instant(entry.created),
        "updated": documents.instant(entry.updated),
        "running": sum(counts.values()),
    }
