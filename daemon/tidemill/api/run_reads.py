"""Reads of flow runs: lists, histories, logs, task runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from tidemill.api import documents, lookup
from tidemill.api.ask import Ask, flow_names, names_of
from tidemill.api.bodies import MAX_LIMIT, BadRequestError, any_of, number, query
from tidemill.api.documents import Document
from tidemill.core.deployments import Deployment
from tidemill.core.filters import RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.store import catalogue, history, instance, listing, logs, runs

_SORTS = tuple(RunSort)


def flow_runs(ask: Ask) -> list[Document]:
    """List flow runs, by what is expected last first unless sorted."""
    own = ask.instance
    return [documents.flow_run(own, run, ask.now) for run in selected(ask)]


def selected(ask: Ask) -> list[FlowRun]:
    """Return the page of runs that the body asks for."""
    asked = query(ask.body, *_RUN_FILTERS, sorts=_SORTS)
    sort = RunSort(asked.sort or RunSort.EXPECTED_START_TIME_DESC)
    wanted = replace(_run_filter(ask), sort=sort, limit=asked.most, offset=asked.offset)
    return listing.select(ask.connection, wanted)


def count_flow_runs(ask: Ask) -> int:
    """Count flow runs."""
    return sum(listing.count_by_state(ask.connection, _run_filter(ask)).values())


_RUN_FILTERS = ("flow_runs", "flows", "deployments", "work_queues", "work_pools")


def _run_filter(ask: Ask) -> RunFilter:
    """Return what the body asks of runs."""
    asked = query(ask.body, *_RUN_FILTERS, sorts=_SORTS)
    given = asked.flow_runs
    fields: dict[str, Any] = {}
    deployments = names_of(asked.deployments, lambda: catalogue.deployments(ask.connection, gone=True))
    if given is not None and (ids := any_of(given.deployment_id)) is not None:
        entries = (catalogue.exactly(ask.connection, Deployment, each, gone=True) for each in ids[:MAX_LIMIT])
        chosen = {entry.value.name for entry in entries if entry is not None}
        deployments = chosen if deployments is None else deployments & chosen
    if deployments is not None:
        fields["deployments"] = tuple(sorted(deployments))
    if asked.flows is not None:
        fields["flows"] = tuple(sorted(flow_names(ask, asked.flows)))
    queues = names_of(asked.work_queues, lambda: catalogue.work_queues(ask.connection, gone=True))
    if given is not None and (listed := any_of(given.work_queue_name)) is not None:
        queues = set(listed) if queues is None else queues & set(listed)
    if queues is not None:
        fields["work_queues"] = tuple(sorted(queues))
    pools = names_of(asked.work_pools, lambda: catalogue.work_pools(ask.connection, gone=True))
    if pools is not None:
        fields["work_pools"] = tuple(sorted(pools))
    if given is not None:
        window = given.expected_start_time
        fields |= {
            "ids": _tuple(any_of(given.id)),
            "names": _tuple(any_of(given.name)),
            "text": given.name.like_.strip("%") if given.name and given.name.like_ else None,
            "tags": _tuple(given.tags.all_ if given.tags else None),
            "state_types": _tuple(given.state.type.any_ if given.state and given.state.type else None),
            "state_names": _tuple(any_of(given.state.name) if given.state else None),
            "expected_start_after": _aware(window.after_) if window else None,
            "expected_start_before": _aware(window.before_) if window else None,
        }
    return RunFilter(**fields)


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _aware(when: datetime | None) -> datetime | None:
    if when is not None and when.tzinfo is None:
        raise BadRequestError("an instant has no offset; write for example 2026-03-29T01:00:00Z")
    return when


def flow_run(ask: Ask) -> Document:
    """Return one flow run."""
    return documents.flow_run(ask.instance, lookup.flow_run(ask.connection, ask.path["id"]), ask.now)


def flow_run_children(ask: Ask) -> list[Document]:
    """List the runs that a run began (subflows) or asked for, in the order they were made."""
    run = lookup.flow_run(ask.connection, ask.path["id"])
    most, offset = min(number(ask.query, "limit", MAX_LIMIT), MAX_LIMIT), number(ask.query, "offset", 0)
    found = runs.children_of(ask.connection, run.id, limit=most, offset=offset)
    return [documents.flow_run(ask.instance, each, ask.now) for each in found]


def flow_run_states(ask: Ask) -> list[Document]:
    """Return all states of a run, oldest first."""
    text = ask.query.get("flow_run_id")
    if text is None:
        raise BadRequestError("say which run: ?flow_run_id=…")
    run = lookup.flow_run(ask.connection, text)
    return documents.history(ask.instance, run.id, history.of(ask.connection, run.seq))


def flow_run_logs(ask: Ask) -> list[Document]:
    """Return lines of a run: after a number, or the last ones with ``tail=true``."""
    run = lookup.flow_run(ask.connection, ask.path["id"])
    level, most = number(ask.query, "level", 0), min(number(ask.query, "limit", MAX_LIMIT), logs.MAX_LINES)
    if ask.query.get("tail") == "true":
        found = logs.tail_of_run(ask.connection, run.seq, limit=most, level=level)
    else:
        after = number(ask.query, "after", 0)
        found = logs.of_run(ask.connection, run.seq, after=after, limit=most, level=level)
    own = ask.instance
    return [documents.log(own, line.number, line.row) for line in found]


def filter_logs(ask: Ask) -> list[Document]:
    """List lines of one run, or of all, in the order they were written."""
    asked = query(ask.body, "logs", sorts=("TIMESTAMP_ASC",))
    given = asked.logs
    level = given.level.ge_ or 0 if given and given.level else 0
    ids = any_of(given.flow_run_id) if given else None
    most, offset = asked.most, asked.offset
    if ids is None:
        found = logs.of_all(ask.connection, level=level, limit=most, offset=offset)
    elif len(ids) == 1:
        run = runs.get(ask.connection, ids[0])
        found = logs.of_run(ask.connection, run.seq, level=level, limit=most, offset=offset) if run else []
    else:
        raise BadRequestError("logs.flow_run_id: give one run, or none for all")
    own = ask.instance
    return [documents.log(own, line.number, line.row) for line in found]


def status(ask: Ask) -> Document:
    """Return what the database tells of a daemon that is down. One that answers tells more by itself."""
    counts = listing.count_by_state(ask.connection, RunFilter())
    return {
        "state": "down",
        "problems": ["the daemon is down"],
        "instance_id": ask.instance,
        "last_alive": documents.instant(instance.last_alive(ask.connection)),
        "flow_runs": {name: count for (_, name), count in sorted(counts.items())},
    }
