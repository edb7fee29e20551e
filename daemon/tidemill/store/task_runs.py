"""Task runs: the steps of runs, with their present state."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.filters import TaskRunFilter
from tidemill.core.runs import TaskRun
from tidemill.core.states import State, StateType
from tidemill.store import history
from tidemill.store.ops import Op, instant, microseconds, rows, scalar, whole
from tidemill.store.statements import load

_SQL = load("task_runs")
MAX_TASK_RUNS = 200  # in one answer
AMONG = 50_000  # the newest that are looked through where no flow run is named
MIN_PREFIX = 8  # characters of an id that may stand for it


class _Row(msgspec.Struct, array_like=True, gc=False):
    id: str
    run: int
    run_id: str
    name: str
    task_key: str
    dynamic_key: str
    state_type: int
    state_name: str | None
    state_at: int
    state_message: str | None
    state_data: Any
    state_number: int
    attempt: int
    tags: tuple[str, ...] | None
    created: int
    expected_start: int | None
    start_time: int | None
    end_time: int | None
    run_time: int
    cache_key: str | None


_rows = msgspec.json.Decoder(list[_Row])


def _put(connection: sqlite3.Connection, items: Sequence[TaskRun]) -> list[None]:
    connection.execute(
        _SQL["put"],
        {
            "rows": rows(
                [
                    (
                        task.id,
                        task.run,
                        task.name,
                        task.task_key,
                        task.dynamic_key,
                        *history.tail(task.state),
                        task.state_number,
                        task.attempt,
                        history.stored_json(task.tags or None),
                        to_us(task.created),
                        microseconds(task.expected_start),
                        microseconds(task.start_time),
                        microseconds(task.end_time),
                        round(task.run_time_s * 1e6),
                        task.cache_key,
                    )
                    for task in items
                ]
            )
        },
    )
    return [None] * len(items)


TASK_RUNS: Op[TaskRun, None] = Op(name="task_runs", rank=30, apply=_put)
"""Make a task run or bring it to a later state. An older state number, or a run that is gone, changes nothing."""


def _put_batches(connection: sqlite3.Connection, items: Sequence[Sequence[TaskRun]]) -> list[None]:
    for batch in items:
        _put(connection, batch)
    return [None] * len(items)


TASK_RUN_BATCHES: Op[Sequence[TaskRun], None] = Op(name="task_run_batches", rank=30, apply=_put_batches)
"""Many task runs, each once, as one change: thousands of them a second would be thousands of waiting changes."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the unfinished task runs of these flow runs (row numbers)."""

    runs: tuple[int, ...]
    state: State


def _end(connection: sqlite3.Connection, items: Sequence[Ending]) -> list[int]:
    return [
        connection.execute(
            _SQL["end"],
            {
                "runs": rows(item.runs),
                "type": history.NUMBER_OF[item.state.type],
                "at": to_us(item.state.timestamp),
                "message": None if item.state.message is None else whole(item.state.message),
            },
        ).rowcount
        for item in items
    ]


END_TASK_RUNS: Op[Ending, int] = Op(name="end_task_runs", rank=32, apply=_end)
"""End what a flow run that has ended left unfinished; returns how many task runs that were."""


def _task_run(row: _Row) -> TaskRun:
    return TaskRun(
        id=row.id,
        run=row.run,
        run_id=row.run_id,
        name=row.name,
        task_key=row.task_key,
        dynamic_key=row.dynamic_key,
        state=history.state(row.state_type, row.state_name, row.state_at, row.state_message, row.state_data),
        state_number=row.state_number,
        attempt=row.attempt,
        tags=row.tags or (),
        created=from_us(row.created),
        expected_start=instant(row.expected_start),
        start_time=instant(row.start_time),
        end_time=instant(row.end_time),
        run_time_s=row.run_time / 1e6,
        cache_key=row.cache_key,
    )


def of_run(connection: sqlite3.Connection, seq: int, *, limit: int = MAX_TASK_RUNS, offset: int = 0) -> list[TaskRun]:
    """Return a run's task runs in the order they were made, at most 200."""
    text = scalar(connection, _SQL["of_run"], {"run": seq, "limit": min(limit, MAX_TASK_RUNS), "offset": offset})
    return [_task_run(row) for row in _rows.decode(str(text))]


_counts = msgspec.json.Decoder(list[tuple[int, str | None, int]])


def states_of_run(connection: sqlite3.Connection, seq: int) -> list[tuple[StateType, str, int]]:
    """Return how many of a run's task runs are in each state, by type and name."""
    found = _counts.decode(str(scalar(connection, _SQL["states_of_run"], {"run": seq})))
    return [(history.TYPE_OF[kind], name or history.PLAIN_NAME_OF[history.TYPE_OF[kind]], n) for kind, name, n in found]


def get(connection: sqlite3.Connection, task_run_id: str) -> TaskRun | None:
    """Return the task run with that id."""
    found = _rows.decode(str(scalar(connection, _SQL["by_id"], {"id": task_run_id})))
    return _task_run(found[0]) if found else None


def find(connection: sqlite3.Connection, text: str, limit: int = 20) -> list[TaskRun]:
    """Return the task run with that id, else those whose id begins so, from eight characters on; newest first."""
    exact = get(connection, text.lower())
    if exact is not None:
        return [exact]
    if len(text) < MIN_PREFIX:
        return []
    start = text.lower()
    parameters = {"from": start, "to": start + "\U0010ffff", "limit": limit}
    return [_task_run(row) for row in _rows.decode(str(scalar(connection, _SQL["by_id_prefix"], parameters)))]


def select(connection: sqlite3.Connection, wanted: TaskRunFilter) -> list[TaskRun]:
    """Return a page of the task runs that fit, at most 200. Of all flow runs: the newest of 50,000."""
    parameters = _parameters(wanted)
    if wanted.ids is not None:
        found = _by_ids(connection, wanted, parameters)
        page = found[wanted.offset : wanted.offset + min(wanted.limit, MAX_TASK_RUNS)]
    elif wanted.runs is not None:
        page = _rows.decode(str(scalar(connection, _SQL["page_of_runs"], parameters | {"runs": rows(wanted.runs)})))
    else:
        page = _rows.decode(str(scalar(connection, _SQL["page_newest"], parameters | {"among": AMONG})))
    return [_task_run(row) for row in page]


def count(connection: sqlite3.Connection, wanted: TaskRunFilter) -> int:
    """Return how many task runs fit, whatever the page. Of all flow runs: among the newest 50,000."""
    parameters = _parameters(wanted)
    if wanted.ids is not None:
        return len(_by_ids(connection, wanted, parameters))
    if wanted.runs is not None:
        found = scalar(connection, _SQL["count_of_runs"], parameters | {"runs": rows(wanted.runs)})
    else:
        found = scalar(connection, _SQL["count_newest"], parameters | {"among": AMONG})
    return int(str(found))


def _by_ids(connection: sqlite3.Connection, wanted: TaskRunFilter, parameters: dict[str, object]) -> list[_Row]:
    found = _rows.decode(str(scalar(connection, _SQL["by_ids"], parameters | {"ids": rows(wanted.ids or ())})))
    return [row for row in found if wanted.runs is None or row.run in wanted.runs]


def _parameters(wanted: TaskRunFilter) -> dict[str, object]:
    names = wanted.state_names
    plain = [history.NUMBER_OF[kind] for kind, name in history.PLAIN_NAME_OF.items() if name in (names or ())]
    like = wanted.text
    if like is not None:
        for sign in ("\\", "%", "_"):
            like = like.replace(sign, f"\\{sign}")
    return {
        "types": None if wanted.state_types is None else rows([history.NUMBER_OF[each] for each in wanted.state_types]),
        "state_names": None if names is None else rows(names),
        "plain_types": rows(plain),
        "names": None if wanted.names is None else rows(wanted.names),
        "like": None if like is None else f"%{like}%",
        "tags": rows(wanted.tags) if wanted.tags else None,
        "down": wanted.newest_first,
        "limit": max(0, min(wanted.limit, MAX_TASK_RUNS)),
        "offset": max(0, wanted.offset),
    }
