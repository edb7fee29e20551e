"""Listing: the runs that fit a filter, a page at a time, and how many there are of each state.

With a million runs a page must cost what the page costs. So it is counted, up to a bound, what each condition alone
leaves over. Where that is few, all of them are looked at and sorted; where every condition leaves many, an index is
walked in the order wanted until the page is full, which then is soon.
"""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from tidemill.clock import to_us
from tidemill.core.filters import MAX_LIMIT, RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.store import history, runs
from tidemill.store.ops import rows, scalar
from tidemill.store.statements import load

_SQL = load("listing")
FEW = 5_000  # runs that are looked at one by one rather than walked along
SOME = 30_000  # the same for orders that the indexes by state and route do not keep
FEW_WALKS = 64  # indexes walked side by side; with more routes than that, all runs are walked
DEEP = 10_000  # from that offset on, side by side costs more than one walk along all runs
DISTINCT_NAMES = 20_000  # looked through for a part of a name
EARLIEST, LATEST = -(2**62), 2**62

_seqs = msgspec.json.Decoder(list[int])
_pairs = msgspec.json.Decoder(list[tuple[int, int]])
_states = msgspec.json.Decoder(list[tuple[int, str | None, int]])
_looked = msgspec.json.Decoder(tuple[int, list[str | None]])


def select(connection: sqlite3.Connection, wanted: RunFilter) -> list[FlowRun]:
    """Return the page of runs that fit, at most 200, in the filter's order; without their states' data."""
    parameters = _parameters(connection, wanted)
    if parameters is None or wanted.limit <= 0:
        return []
    return runs.documents(connection, _page(connection, wanted, parameters), data=False)


def count_by_state(connection: sqlite3.Connection, wanted: RunFilter) -> dict[tuple[StateType, str], int]:
    """Return how many runs fit, by state type and name; the filter's order and page do not matter."""
    parameters = _parameters(connection, wanted)
    if parameters is None:
        return {}
    few = _fewest(connection, parameters, SOME)
    if few is not None:
        seqs = scalar(connection, _SQL[f"gather_{few}"], parameters | {"limit": -1, "offset": 0})
        found = _states.decode(str(scalar(connection, _SQL["states_of"], {"seqs": seqs})))
    else:
        found = _count_along(connection, parameters)
    return {(history.TYPE_OF[kind], name or history.PLAIN_NAME_OF[history.TYPE_OF[kind]]): n for kind, name, n in found}


def by_id_end(connection: sqlite3.Connection, end: str, limit: int = 20) -> list[FlowRun]:
    """Return the runs whose id ends so, newest first."""
    seqs = str(scalar(connection, _SQL["by_id_end"], {"end": end.lower(), "limit": limit}))
    return runs.documents(connection, seqs)


# -- the filter as parameters ----------------------------------------------------------------------------------------


def _parameters(connection: sqlite3.Connection, wanted: RunFilter) -> dict[str, object] | None:
    """Return the parameters of all statements; None: nothing can fit."""
    found: dict[str, object] = {
        "ids": _list(wanted.ids),
        "names": _list(wanted.names),
        "tags": _list(wanted.tags or None),  # to have every one of no tags is no condition
        "types": None if wanted.state_types is None else rows([history.NUMBER_OF[kind] for kind in wanted.state_types]),
        "expected_from": EARLIEST if wanted.expected_start_after is None else to_us(wanted.expected_start_after),
        "expected_to": LATEST if wanted.expected_start_before is None else to_us(wanted.expected_start_before),
        "start_from": _us(wanted.start_after),
        "start_to": _us(wanted.start_before),
        "end_from": _us(wanted.end_after),
        "end_to": _us(wanted.end_before),
        "sort": wanted.sort.value,
        "limit": min(wanted.limit, MAX_LIMIT),
        "offset": max(0, wanted.offset),
        **_state_names(wanted.state_names),
        **_routes(connection, wanted),
        **_text(connection, wanted.text),
    }
    return None if "[]" in (found["ids"], found["names"], found["types"], found["routes"]) else found


def _list(values: Sequence[str] | None) -> str | None:
    return None if values is None else rows(values)


def _us(when: datetime | None) -> int | None:
    return None if when is None else to_us(when)


def _state_names(names: Sequence[str] | None) -> dict[str, object]:
    """A plain name stands as NULL with its type; any other stands as itself."""
    if names is None:
        return {"plain_types": None, "state_names": None}
    plain = [history.NUMBER_OF[kind] for kind, name in history.PLAIN_NAME_OF.items() if name in names]
    return {"plain_types": rows(plain), "state_names": rows(names)}


def _routes(connection: sqlite3.Connection, wanted: RunFilter) -> dict[str, object]:
    asked = (wanted.deployments, wanted.flows, wanted.work_queues, wanted.work_pools)
    if all(names is None for names in asked):
        return {"routes": None}
    columns = ("deployments", "flows", "work_queues", "work_pools")
    given = {column: _list(names) for column, names in zip(columns, asked, strict=True)}
    return {"routes": scalar(connection, _SQL["routes"], given)}


def _text(connection: sqlite3.Connection, text: str | None) -> dict[str, object]:
    if not text:
        return {"like": None, "text": None, "text_end": None, "text_names": None}
    part = text.lower()
    for sign in ("\\", "%", "_"):
        text = text.replace(sign, f"\\{sign}")
    like = f"%{text}%"
    answer = str(scalar(connection, _SQL["names_like"], {"like": like, "bound": DISTINCT_NAMES}))
    looked_at, names = _looked.decode(answer)
    known = rows(names) if looked_at < DISTINCT_NAMES else None
    return {"like": like, "text": part, "text_end": part + "\U0010ffff", "text_names": known}


# -- pages -----------------------------------------------------------------------------------------------------------

# What a condition is called, and the parameters of which one must be given for it to hold.
_CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "ids": ("ids",),
    "names": ("names",),
    "text": ("text_names",),
    "tags": ("tags",),
    "routes": ("routes",),
    "types": ("types",),
    "state_names": ("state_names",),
    "start": ("start_from", "start_to"),
    "end": ("end_from", "end_to"),
}
_BY_EXPECTED = (RunSort.EXPECTED_START_TIME_DESC, RunSort.EXPECTED_START_TIME_ASC)


def _page(connection: sqlite3.Connection, wanted: RunFilter, parameters: dict[str, object]) -> str:
    """Return the row numbers of a page as JSON."""
    by_expected = wanted.sort in _BY_EXPECTED
    few = _fewest(connection, parameters, FEW if by_expected else SOME)
    if few is not None:
        return str(scalar(connection, _SQL[f"gather_{few}"], parameters))
    if by_expected and wanted.offset < DEEP:
        along = _along(wanted, parameters)
        if along is not None:
            return _side_by_side(connection, wanted, parameters, along)
    return str(scalar(connection, _SQL[f"walk_{wanted.sort}"], parameters))


def _fewest(connection: sqlite3.Connection, parameters: dict[str, object], bound: int) -> str | None:
    """Return the condition that leaves the fewest runs over; None: each leaves more than the bound."""
    fewest, count = None, bound + 1
    for condition, names in _CONDITIONS.items():
        if any(parameters[name] is not None for name in names):
            left = _counted(connection, condition, parameters, count)
            if left < count:
                fewest, count = condition, left
    if parameters["expected_from"] != EARLIEST or parameters["expected_to"] != LATEST:
        fewest = "expected" if _counted(connection, "expected", parameters, count) < count else fewest
    return fewest


def _counted(connection: sqlite3.Connection, condition: str, parameters: dict[str, object], bound: int) -> int:
    found: int = connection.execute(_SQL[f"count_{condition}"], parameters | {"bound": bound}).fetchone()[0]
    return found


def _along(wanted: RunFilter, parameters: dict[str, object]) -> list[tuple[str, object]] | None:
    """Return the index parts to walk side by side: by state, whose index knows the route too, or by route."""
    along: list[tuple[str, object]]
    if wanted.state_types is not None:
        return [("type", number) for number in _numbers(parameters["types"])]
    if wanted.state_names is not None:
        along = [("state_name", name) for name in dict.fromkeys(wanted.state_names)]
        along += [("type", number) for number in _numbers(parameters["plain_types"])]
    elif parameters["routes"] is not None:
        along = [("route", number) for number in _numbers(parameters["routes"])]
    else:
        return None
    return along if len(along) <= FEW_WALKS else None


def _numbers(text: object) -> list[int]:
    return list(dict.fromkeys(_seqs.decode(str(text))))


def _side_by_side(
    connection: sqlite3.Connection,
    wanted: RunFilter,
    parameters: dict[str, object],
    along: Sequence[tuple[str, object]],
) -> str:
    down = wanted.sort is RunSort.EXPECTED_START_TIME_DESC
    limit, offset = min(wanted.limit, MAX_LIMIT), max(0, wanted.offset)
    each = parameters | ({} if len(along) == 1 else {"limit": offset + limit, "offset": 0})
    walks = [
        _pairs.decode(
            str(scalar(connection, _SQL[f"walk_{kind}_{'desc' if down else 'asc'}"], each | {"along": value}))
        )
        for kind, value in along
    ]
    if len(walks) == 1:
        return rows([seq for _, seq in walks[0]])
    # One run may be met along its type and along its name.
    merged = (seq for seq, _ in itertools.groupby(seq for _, seq in heapq.merge(*walks, reverse=down)))
    return rows(list(itertools.islice(merged, offset, offset + limit)))


def _count_along(connection: sqlite3.Connection, parameters: dict[str, object]) -> list[tuple[int, str | None, int]]:
    """Count by the indexes of states: all of a type, less those that do not go by its plain name."""
    named = _states.decode(str(scalar(connection, _SQL["named_states"], parameters)))
    kinds = range(len(history.TYPE_OF)) if parameters["types"] is None else _numbers(parameters["types"])
    counted: list[tuple[int, str | None, int]] = list(named)
    for kind in kinds:
        total: int = connection.execute(_SQL["count_along"], parameters | {"along": kind}).fetchone()[0]
        plain = total - sum(count for named_kind, _, count in named if named_kind == kind)
        if plain:
            counted.append((kind, None, plain))
    return counted
