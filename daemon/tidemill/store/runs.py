"""Runs: making, changing, finding and deleting them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidemill.clock import from_us, to_us
from tidemill.core.runs import FlowRun, Step, Transition
from tidemill.store import history, references
from tidemill.store.ops import Op, instant, microseconds, rows, scalar
from tidemill.store.statements import load

_SQL = load("runs")
_HISTORY = load("history")
MADE_BY_SCHEDULE = "schedule"
MAX_FETCH = 100_000  # runs in one answer, where the caller names no smaller limit
MIN_PREFIX = 4  # characters of an id that may stand for it

_seqs = msgspec.json.Decoder(list[int])
_around = msgspec.json.Decoder(list[tuple[str, int | None, int | None]])


class RunRow(msgspec.Struct, array_like=True, gc=False):
    """A run as the statement `documents` answers it."""

    seq: int
    id: str
    name: str
    flow: str
    deployment: str | None
    work_pool: str
    work_queue: str
    parameters: dict[str, Any] | None
    tags: tuple[str, ...] | None
    schedule: str | None
    due: int | None
    expected_start: int
    state_type: int
    state_name: str | None
    state_at: int
    state_message: str | None
    state_data: Any
    state_number: int
    attempt: int
    retries_used: int
    owner: str | None
    created: int
    created_by: str | None
    start_time: int | None
    end_time: int | None
    run_time: int
    idempotency_key: str | None
    parent_run_id: str | None
    parent_task_run_id: str | None


_rows = msgspec.json.Decoder(list[RunRow])


def _run(row: RunRow) -> FlowRun:
    return FlowRun(
        seq=row.seq,
        id=row.id,
        name=row.name,
        flow=row.flow,
        deployment=row.deployment,
        work_pool=row.work_pool,
        work_queue=row.work_queue,
        parameters=row.parameters or {},
        tags=row.tags or (),
        schedule=row.schedule,
        due=instant(row.due),
        expected_start=from_us(row.expected_start),
        state=history.state(row.state_type, row.state_name, row.state_at, row.state_message, row.state_data),
        state_number=row.state_number,
        attempt=row.attempt,
        retries_used=row.retries_used,
        owner=row.owner,
        created=from_us(row.created),
        created_by=row.created_by or MADE_BY_SCHEDULE,
        start_time=instant(row.start_time),
        end_time=instant(row.end_time),
        run_time_s=row.run_time / 1e6,
        idempotency_key=row.idempotency_key,
        parent_run_id=row.parent_run_id,
        parent_task_run_id=row.parent_task_run_id,
    )


def documents(connection: sqlite3.Connection, seqs: str, *, data: bool = True) -> list[FlowRun]:
    """Return the runs of a JSON list of row numbers, in its order; ``data=False`` leaves the states' data out."""
    if seqs == "[]":
        return []
    text = scalar(connection, _SQL["documents"], {"seqs": seqs, "data": data})
    return [_run(row) for row in _rows.decode(str(text))]


# -- writing ---------------------------------------------------------------------------------------------------------


def insert(connection: sqlite3.Connection, runs: Sequence[FlowRun]) -> set[int]:
    """Make runs with their first state. Return the row numbers made; the others were there already."""
    if not runs:
        return set()
    routes = references.routes(connection, (references.route_of(run) for run in runs))
    schedules = references.schedules(
        connection, ((run.deployment or "", run.schedule) for run in runs if run.schedule is not None)
    )
    owners = references.owners(connection, ((run.owner,) for run in runs if run.owner is not None))
    made = connection.execute(
        _SQL["create"],
        {
            "rows": rows(
                [
                    (
                        run.seq,
                        run.id,
                        run.name,
                        routes[references.route_of(run)],
                        None if run.schedule is None else schedules[run.deployment or "", run.schedule],
                        microseconds(run.due),
                        to_us(run.expected_start),
                        history.NUMBER_OF[run.state.type],
                        history.stored_name(run.state),
                        run.attempt,
                        None if run.owner is None else owners[run.owner,],
                        to_us(run.created),
                        None if run.created_by == MADE_BY_SCHEDULE else run.created_by,
                        microseconds(run.start_time),
                        microseconds(run.end_time),
                        history.stored_json(run.parameters or None),
                        history.stored_json(run.tags or None),
                        run.idempotency_key,
                        run.parent_run_id,
                        run.parent_task_run_id,
                    )
                    for run in runs
                ]
            )
        },
    ).rowcount
    if made < len(runs):
        there = scalar(connection, _SQL["existing"], {"seqs": rows([run.seq for run in runs])})
        present = set(_seqs.decode(str(there)))
        runs = [run for run in runs if run.seq in present]
        if not runs:
            return present
    connection.execute(_HISTORY["begin"], {"rows": rows([(run.seq, *history.tail(run.state)) for run in runs])})
    tags = [(tag, run.seq) for run in runs for tag in run.tags]
    if tags:
        connection.execute(_SQL["tag"], {"rows": rows(tags)})
    return {run.seq for run in runs}


def _create(connection: sqlite3.Connection, items: Sequence[FlowRun]) -> list[bool]:
    made = insert(connection, items)
    return [run.seq in made for run in items]


def _passes(items: Sequence[Transition]) -> Iterable[list[int]]:
    """Cut a group, by places in it, so that no pass holds a run twice: a statement sees rows as they were before it."""
    waiting: Sequence[int] = range(len(items))
    while waiting:
        seen: set[int] = set()
        now: list[int] = []
        later: list[int] = []
        for place in waiting:
            seq = items[place].run.seq
            (later if seq in seen else now).append(place)
            seen.add(seq)
        yield now
        waiting = later


def _transition_pass(connection: sqlite3.Connection, items: list[Transition]) -> set[int]:
    """Apply transitions of distinct runs; return the row numbers changed."""
    states: list[tuple[object, ...]] = []
    for item in items:
        before: int | None = None
        for number, state in enumerate(item.states, start=item.expected_number + 1):
            entry = history.tail(state)
            states.append((item.run.seq, item.expected_number, number, before, *entry))
            before = entry[0]
    written = connection.execute(_HISTORY["follow"], {"rows": rows(states)}).rowcount
    changed = {item.run.seq for item in items}
    if written < len(states):
        decided = rows([(item.run.seq, item.expected_number) for item in items])
        changed = set(_seqs.decode(str(scalar(connection, _SQL["unchanged"], {"rows": decided}))))
        items = [item for item in items if item.run.seq in changed]
        if not items:
            return changed
    owners = references.owners(
        connection,
        ((item.run.owner,) for item in items if item.step is not Step.END and item.run.owner is not None),
    )
    changes: dict[Step, list[tuple[object, ...]]] = {}
    for item in items:
        changes.setdefault(item.step, []).append(_change(item, owners))
    for step, change in changes.items():
        connection.execute(_SQL[step.value], {"rows": rows(change)})
    return changed


def _change(item: Transition, owners: Mapping[tuple[str], int]) -> tuple[object, ...]:
    """Return the row of a transition for the statement of its step."""
    run = item.run
    state = (
        run.seq,
        item.expected_number,
        history.NUMBER_OF[run.state.type],
        history.stored_name(run.state),
        run.state_number,
    )
    ended = (microseconds(run.end_time), round(run.run_time_s * 1e6))
    if item.step is Step.END:
        return (*state, *ended)
    began = (run.attempt, None if run.owner is None else owners[run.owner,], microseconds(run.start_time))
    if item.step is Step.BEGIN:
        return (*state, *began)
    return (*state, *began, *ended, run.retries_used, to_us(run.expected_start))


def _transition(connection: sqlite3.Connection, items: Sequence[Transition]) -> list[bool]:
    applied = [False] * len(items)
    for places in _passes(items):
        changed = _transition_pass(connection, [items[place] for place in places])
        for place in places:
            applied[place] = items[place].run.seq in changed
    return applied


def delete(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    """Delete runs with their history, logs and task runs; artifacts stay. Return how many there were."""
    if not seqs:
        return 0
    parameter = {"seqs": rows(seqs)}
    for part in ("delete_tags", "delete_history", "delete_logs", "delete_emitted", "delete_task_runs"):
        connection.execute(_SQL[part], parameter)
    return connection.execute(_SQL["delete"], parameter).rowcount


def delete_never_started(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    """Delete those of the runs that still wait for their first start. Return how many that were."""
    if not seqs:
        return 0
    waiting = _seqs.decode(str(scalar(connection, _SQL["never_started"], {"seqs": rows(seqs)})))
    return delete(connection, waiting)


def _delete(connection: sqlite3.Connection, items: Sequence[int]) -> list[bool]:
    at_rest = set(_seqs.decode(str(scalar(connection, _SQL["at_rest"], {"seqs": rows(items)}))))
    delete(connection, list(at_rest))
    return [seq in at_rest for seq in items]


CREATE_RUNS: Op[FlowRun, bool] = Op(name="create_runs", rank=10, apply=_create)
"""Make a run with its first state; False: it is there already by (deployment, schedule, due) or idempotency key."""

TRANSITIONS: Op[Transition, bool] = Op(name="transitions", rank=20, apply=_transition)
"""Change a run's state; False: the state number is another by now, and nothing was changed.

Written of the run: state, numbers, attempt, retries, owner, expected start, start, end and run time; the rest stays.
"""

DELETE_RUN: Op[int, bool] = Op(name="delete_run", rank=70, apply=_delete)
"""Delete a run by row number, with its history, logs and task runs; artifacts stay.

False: there is none, or it is PENDING, RUNNING, PAUSED or CANCELLING: somebody has it in hands.
"""


# -- reading ---------------------------------------------------------------------------------------------------------


def last_seq(connection: sqlite3.Connection) -> int:
    """Return the highest row number given out, 0 for none."""
    number: int = connection.execute(_SQL["last_seq"]).fetchone()[0]
    return number


def due(connection: sqlite3.Connection, until: datetime, limit: int) -> list[FlowRun]:
    """Return up to ``limit`` waiting runs to start by ``until``, earliest first."""
    return documents(connection, str(scalar(connection, _SQL["due"], {"until": to_us(until), "limit": limit})))


def next_expected(connection: sqlite3.Connection) -> datetime | None:
    """Return when the earliest waiting run is to start; None: nothing waits."""
    return instant(connection.execute(_SQL["next_expected"]).fetchone()[0])


def unfinished(connection: sqlite3.Connection, limit: int = MAX_FETCH) -> list[FlowRun]:
    """Return runs that are PENDING, RUNNING, PAUSED or CANCELLING, oldest first."""
    return documents(connection, str(scalar(connection, _SQL["unfinished"], {"limit": limit})))


def upcoming_of(connection: sqlite3.Connection, deployment: str, limit: int = MAX_FETCH) -> list[FlowRun]:
    """Return a deployment's waiting runs, earliest first."""
    return documents(
        connection, str(scalar(connection, _SQL["upcoming_of"], {"deployment": deployment, "limit": limit}))
    )


def around(
    connection: sqlite3.Connection, deployments: Iterable[str], now: datetime
) -> dict[str, tuple[datetime | None, FlowRun | None]]:
    """Return when each deployment's first waiting run is to start, and its last run that was to start by ``now``.

    Deployments that never had a run are left out.
    """
    given = {"deployments": rows(list(deployments)), "now": to_us(now)}
    found = _around.decode(str(scalar(connection, _SQL["around"], given)))
    last = {run.seq: run for run in documents(connection, rows([seq for _, _, seq in found if seq is not None]))}
    by_name: dict[str, tuple[datetime | None, FlowRun | None]] = {}
    for name, next_us, seq in found:
        coming, ended = instant(next_us), None if seq is None else last[seq]
        known_coming, known_ended = by_name.get(name, (None, None))
        if known_coming is not None:
            coming = known_coming if coming is None else min(coming, known_coming)
        if known_ended is not None and (ended is None or _place(known_ended) > _place(ended)):
            ended = known_ended
        by_name[name] = (coming, ended)
    return by_name


def _place(run: FlowRun) -> tuple[datetime, int]:
    return (run.expected_start, run.seq)


def get(connection: sqlite3.Connection, run_id: str) -> FlowRun | None:
    """Return the run with that id."""
    found = documents(connection, str(scalar(connection, _SQL["by_id"], {"id": run_id})))
    return found[0] if found else None


def children_of(connection: sqlite3.Connection, run_id: str, *, limit: int = 200, offset: int = 0) -> list[FlowRun]:
    """Return the runs that a run began (subflows) or asked for, in the order they were made."""
    parameters = {"id": run_id, "limit": limit, "offset": offset}
    return documents(connection, str(scalar(connection, _SQL["children_of"], parameters)))


def by_idempotency_key(connection: sqlite3.Connection, key: str) -> FlowRun | None:
    """Return the run that was made with that idempotency key."""
    found = documents(connection, str(scalar(connection, _SQL["by_idempotency_key"], {"key": key})))
    return found[0] if found else None


def find(connection: sqlite3.Connection, text: str, limit: int = 20) -> list[FlowRun]:
    """Return the runs that a person may mean: by id, by name, else by four or more first characters of an id.

    Newest first. More than one: the text is ambiguous.
    """
    start = text.lower()
    ways: list[tuple[str, dict[str, object]]] = [
        ("by_id", {"id": start}),
        ("by_name", {"name": text, "limit": limit}),
    ]
    if len(text) >= MIN_PREFIX:
        ways.append(("by_id_prefix", {"from": start, "to": start + "\U0010ffff", "limit": limit}))
    for statement, parameters in ways:
        seqs = str(scalar(connection, _SQL[statement], parameters))
        if seqs != "[]":
            return documents(connection, seqs)
    return []
