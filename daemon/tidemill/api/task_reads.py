"""Reads of task runs."""

from __future__ import annotations

from msgspec.structs import replace

from tidemill.api import documents
from tidemill.api.ask import Ask
from tidemill.api.bodies import BadRequestError, any_of, query
from tidemill.api.documents import Document
from tidemill.core.filters import TaskRunFilter
from tidemill.errors import NotFoundError
from tidemill.store import runs, task_runs

# Task runs are made in the order in which they are expected to start; ids are ordered by time.
_NEWEST_FIRST = ("EXPECTED_START_TIME_DESC", "ID_DESC")
_OLDEST_FIRST = "EXPECTED_START_TIME_ASC"
_SORTS = (*_NEWEST_FIRST, _OLDEST_FIRST)
_FILTERS = ("task_runs", "flow_runs")
MOST_RUNS = 200


def filter_task_runs(ask: Ask) -> list[Document]:
    """List task runs: of given flow runs in the order they were made unless sorted, else the newest first."""
    asked = query(ask.body, *_FILTERS, sorts=_SORTS)
    wanted = _filter(ask)
    if wanted.runs is None and wanted.ids is None and asked.sort == _OLDEST_FIRST:
        raise BadRequestError(f"task_runs: give flow runs (flow_run_id) to have them {_OLDEST_FIRST}")
    wanted = replace(wanted, newest_first=asked.sort in _NEWEST_FIRST, limit=asked.most, offset=asked.offset)
    own = ask.instance
    return [documents.task_run(own, each) for each in task_runs.select(ask.connection, wanted)]


def count_task_runs(ask: Ask) -> int:
    """Count task runs."""
    return task_runs.count(ask.connection, _filter(ask))


def task_run(ask: Ask) -> Document:
    """Return one task run, by its id or the beginning of it."""
    text = ask.path["id"]
    found = task_runs.find(ask.connection, text)
    if not found:
        raise NotFoundError(f'no task run has the id "{text}"; `tidemill task-run ls` lists them')
    if len(found) > 1:
        raise NotFoundError(f'several task runs fit "{text}": {", ".join(each.id for each in found[:5])}')
    return documents.task_run(ask.instance, found[0])


def _filter(ask: Ask) -> TaskRunFilter:
    asked = query(ask.body, *_FILTERS, sorts=_SORTS)
    given = asked.task_runs
    of_runs = any_of(given.flow_run_id) if given else None
    if asked.flow_runs is not None and (others := any_of(asked.flow_runs.id)) is not None:
        of_runs = others if of_runs is None else [each for each in of_runs if each in others]
    seqs = None
    if of_runs is not None:
        if len(of_runs) > MOST_RUNS:
            raise BadRequestError(f"task_runs.flow_run_id: {len(of_runs)} flow runs; {MOST_RUNS} are possible")
        found = [runs.get(ask.connection, each) for each in of_runs]
        seqs = tuple(run.seq for run in found if run is not None)
    if given is None:
        return TaskRunFilter(runs=seqs)
    ids = any_of(given.id)
    return TaskRunFilter(
        ids=None if ids is None else tuple(ids),
        runs=seqs,
        names=None if (names := any_of(given.name)) is None else tuple(names),
        text=given.name.like_.strip("%") if given.name and given.name.like_ else None,
        tags=tuple(given.tags.all_) if given.tags and given.tags.all_ else None,
        state_types=tuple(given.state.type.any_)
        if given.state and given.state.type and given.state.type.any_
        else None,
        state_names=tuple(listed) if given.state and (listed := any_of(given.state.name)) is not None else None,
    )
