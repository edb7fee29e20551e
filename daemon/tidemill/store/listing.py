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

import msgspec

from tidemill.clock import to_us
from tidemill.core.filters import MAX_LIMIT, RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.store import history, runs
from tidemill.store.ops import microseconds, rows, scalar
from tidemill.store.statements import load

_SQL = load("listing")
FEW = 5_000  # runs that are looked at one by one rather than walked along
MANY = 200_000  # the same for counting, where something must be looked at anyway
LARGE = 30_000  # runs of one state that are rather not counted one by one
FEW_WALKS = 64  # indexes walked side by side; with more routes than that, all runs are walked
DEEP = 10_000  # from that offset on, side by side costs more than one walk along all runs
DISTINCT_NAMES = 20_000  # looked through for a part of a name
ID_PREFIX = 8  # characters from which on a text may be the beginning of an id: fewer are the same for weeks
NEWEST = 50_000  # runs looked through for the end of an id
EARLIEST, LATEST = -(2**62), 2**62

Parameters = dict[str, object]
_seqs = msgspec.json.Decoder(list[int])
_pairs = msgspec.json.Decoder(list[tuple[int, int]])
_states = msgspec.json.Decoder(list[tuple[int, str | None, int]])
_looked = msgspec.json.Decoder(tuple[int, list[str | None]])

# What a condition is called, and its parameters, of which one at least must be given for it to hold.
_CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "ids": ("ids",),
    "names": ("names",),
    "text": ("like",),
    "tags": ("tags",),
    "routes": ("routes",),
    "types": ("types",),
    "state_names": ("state_names",),
    "start": ("start_from", "start_to"),
    "end": ("end_from", "end_to"),
}
_BY_EXPECTED = (RunSort.EXPECTED_START_TIME_DESC, RunSort.EXPECTED_START_TIME_ASC)


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
    given = _given(parameters)
    if given <= {"types", "routes"}:
        counted = _count_along(connection, parameters)
    elif (fewest := _fewest(connection, parameters, MANY)) is not None:
        seqs = scalar(connection, _SQL[f"gather_{fewest}"], parameters | {"limit": -1, "offset": 0})
        counted = _states.decode(str(scalar(connection, _SQL["states_of"], {"seqs": seqs})))
    else:
        counted = _count_types(connection, parameters, _types(parameters))
    return {
        (history.TYPE_OF[kind], name or history.PLAIN_NAME_OF[history.TYPE_OF[kind]]): count
        for kind, name, count in counted
    }


def by_id_end(connection: sqlite3.Connection, end: str, limit: int = 20) -> list[FlowRun]:
    """Return the runs whose id ends so, of the newest 50,000, newest first."""
    asked = {"end": end.lower(), "limit": limit, "among": NEWEST}
    return runs.documents(connection, str(scalar(connection, _SQL["by_id_end"], asked)))


# -- the filter as parameters ----------------------------------------------------------------------------------------


def _parameters(connection: sqlite3.Connection, wanted: RunFilter) -> Parameters | None:
    """Return the parameters of all statements; None: nothing can fit."""
    found: Parameters = {
        "ids": _list(wanted.ids),
        "names": _list(wanted.names),
        "tags": _list(wanted.tags or None),  # to have every one of no tags is no condition
        "tag": _rarest(connection, wanted.tags) if wanted.tags else None,
        "types": None if wanted.state_types is None else rows([history.NUMBER_OF[kind] for kind in wanted.state_types]),
        "expected_from": EARLIEST if wanted.expected_start_after is None else to_us(wanted.expected_start_after),
        "expected_to": LATEST if wanted.expected_start_before is None else to_us(wanted.expected_start_before),
        "start_from": microseconds(wanted.start_after),
        "start_to": microseconds(wanted.start_before),
        "end_from": microseconds(wanted.end_after),
        "end_to": microseconds(wanted.end_before),
        "sort": wanted.sort.value,
        "limit": min(wanted.limit, MAX_LIMIT),
        "offset": max(0, wanted.offset),
        **_state_names(wanted.state_names),
        **_routes(connection, wanted),
        **_text(connection, wanted.text),
    }
    none = any(found[name] == "[]" for name in ("ids", "names", "types", "routes", "state_names"))
    return None if none else found


def _list(values: Sequence[str] | None) -> str | None:
    return None if values is None else rows(values)


def _rarest(connection: sqlite3.Connection, tags: Sequence[str]) -> str:
    return min(
        dict.fromkeys(tags), key=lambda tag: _counted(connection, "tags", {"tag": tag}, FEW) if len(tags) > 1 else 0
    )


def _state_names(names: Sequence[str] | None) -> Parameters:
    """A plain name stands as NULL with its type; any other stands as itself."""
    if names is None:
        return {"plain_types": None, "state_names": None}
    plain = [history.NUMBER_OF[kind] for kind, name in history.PLAIN_NAME_OF.items() if name in names]
    return {"plain_types": rows(plain), "state_names": rows(names)}


def _routes(connection: sqlite3.Connection, wanted: RunFilter) -> Parameters:
    asked = {
        "deployments": _list(wanted.deployments),
        "flows": _list(wanted.flows),
        "work_queues": _list(wanted.work_queues),
        "work_pools": _list(wanted.work_pools),
    }
    given = any(names is not None for names in asked.values())
    return {"routes": scalar(connection, _SQL["routes"], asked) if given else None}


def _text(connection: sqlite3.Connection, text: str | None) -> Parameters:
    """The names that have the text in them are few where many runs share a name; else all names are looked at."""
    if not text:
        return {"like": None, "text": None, "text_end": None, "text_names": None}
    part = text.lower() if len(text) >= ID_PREFIX else "~"  # after all ids
    for sign in ("\\", "%", "_"):
        text = text.replace(sign, f"\\{sign}")
    like = f"%{text}%"
    answer = str(scalar(connection, _SQL["names_like"], {"like": like, "bound": DISTINCT_NAMES}))
    looked_at, names = _looked.decode(answer)
    known = rows(names) if looked_at < DISTINCT_NAMES else None
    return {"like": like, "text": part, "text_end": part + "\U0010ffff", "text_names": known}


def _given(parameters: Parameters) -> set[str]:
    """Return the conditions that hold, that of the expected start aside."""
    return {
        condition for condition, names in _CONDITIONS.items() if any(parameters[name] is not None for name in names)
    }


def _is_windowed(parameters: Parameters) -> bool:
    return (parameters["expected_from"], parameters["expected_to"]) != (EARLIEST, LATEST)


def _numbers(text: object) -> list[int]:
    return list(dict.fromkeys(_seqs.decode(str(text))))


def _types(parameters: Parameters) -> Sequence[int]:
    return range(len(history.TYPE_OF)) if parameters["types"] is None else _numbers(parameters["types"])


# -- pages -----------------------------------------------------------------------------------------------------------


def _page(connection: sqlite3.Connection, wanted: RunFilter, parameters: Parameters) -> str:
    """Return the row numbers of a page as JSON."""
    fewest = _fewest(connection, parameters, FEW)
    if fewest is not None:
        return str(scalar(connection, _SQL[f"gather_{fewest}"], parameters))
    if wanted.sort in _BY_EXPECTED:
        along = _along(wanted, parameters)
        if len(along) == 1 or (along and wanted.offset < DEEP):
            return _side_by_side(connection, wanted, parameters, along)
    pace = "walk" if _given(parameters) or wanted.sort not in _BY_EXPECTED else "skim"
    return str(scalar(connection, _SQL[f"{pace}_{wanted.sort}"], parameters))


def _fewest(connection: sqlite3.Connection, parameters: Parameters, bound: int) -> str | None:
    """Return the condition that leaves the fewest runs over; None: each leaves more than the bound."""
    fewest, count = None, bound + 1
    given = _given(parameters)
    for condition in _CONDITIONS:
        if condition not in given or (condition == "text" and parameters["text_names"] is None):
            continue
        left = _counted(connection, condition, parameters, count)
        if left < count:
            fewest, count = condition, left
    if _is_windowed(parameters) and _counted(connection, "expected", parameters, count) < count:
        return "expected"
    return fewest


def _counted(connection: sqlite3.Connection, condition: str, parameters: Parameters, bound: int) -> int:
    found: int = connection.execute(_SQL[f"count_{condition}"], parameters | {"bound": bound}).fetchone()[0]
    return found


def _along(wanted: RunFilter, parameters: Parameters) -> list[tuple[str, object]]:
    """Return the parts of indexes to walk side by side: by state, whose index knows the route too, or by route."""
    along: list[tuple[str, object]] = []
    if wanted.state_types is not None:
        along = [("type", number) for number in _numbers(parameters["types"])]
    elif wanted.state_names is not None:
        along = [("state_name", name) for name in dict.fromkeys(wanted.state_names)]
        along += [("type", number) for number in _numbers(parameters["plain_types"])]
    elif parameters["routes"] is not None:
        along = [("route", number) for number in _numbers(parameters["routes"])]
    return along if len(along) <= FEW_WALKS else []


def _side_by_side(
    connection: sqlite3.Connection, wanted: RunFilter, parameters: Parameters, along: Sequence[tuple[str, object]]
) -> str:
    down = wanted.sort is RunSort.EXPECTED_START_TIME_DESC
    limit, offset = min(wanted.limit, MAX_LIMIT), max(0, wanted.offset)
    given = _given(parameters)
    each = parameters if len(along) == 1 else parameters | {"limit": offset + limit, "offset": 0}
    walks = []
    for kind, value in along:
        pace = "skim" if given == {f"{kind}s"} and kind != "state_name" else "walk"
        statement = _SQL[f"{pace}_{kind}_{'desc' if down else 'asc'}"]
        walks.append(_pairs.decode(str(scalar(connection, statement, each | {"along": value}))))
    if len(walks) == 1:
        return rows([seq for _, seq in walks[0]])
    # One run may be met along its type and along its name.
    merged = dict.fromkeys(seq for _, seq in heapq.merge(*walks, reverse=down))
    return rows(list(itertools.islice(merged, offset, offset + limit)))


# -- counts ----------------------------------------------------------------------------------------------------------


def _count_along(connection: sqlite3.Connection, parameters: Parameters) -> list[tuple[int, str | None, int]]:
    """Count where only types, routes and the expected start are asked for.

    Most of a long history is of one state. That one is not counted but is what the others leave of all, which an index
    without states tells faster.
    """
    wanted = _types(parameters)
    large = [
        kind for kind in wanted if _counted(connection, "types", parameters | {"types": rows([kind])}, LARGE) == LARGE
    ]
    if len(large) != 1:
        return _count_types(connection, parameters, wanted)
    (largest,) = large
    every = parameters | {"types": None}
    counted = _count_types(connection, every, [kind for kind in _types(every) if kind != largest])
    way = "total_routes" if parameters["routes"] is not None else "total_expected" if _is_windowed(every) else "total"
    total: int = connection.execute(_SQL[way], every).fetchone()[0]
    named = [each for each in _named(connection, every) if each[0] == largest]
    plain = total - sum(count for _, _, count in counted) - sum(count for _, _, count in named)
    counted = [each for each in counted if each[0] in wanted] + named
    return [*counted, (largest, None, plain)] if plain else counted


def _count_types(
    connection: sqlite3.Connection, parameters: Parameters, kinds: Sequence[int]
) -> list[tuple[int, str | None, int]]:
    """Count by the indexes of states: all of a type, less those that do not go by its plain name."""
    given = _given(parameters) - {"types"}
    statement = "skim_count" if not given else "skim_count_routes" if given == {"routes"} else "count_along"
    plain: dict[int, int] = {}
    for kind in kinds:
        plain[kind] = connection.execute(_SQL[statement], parameters | {"along": kind}).fetchone()[0]
    if not any(plain.values()):
        return []
    named = [each for each in _named(connection, parameters) if each[0] in plain]
    for kind, _, count in named:
        plain[kind] -= count
    return [*named, *((kind, None, count) for kind, count in plain.items() if count)]


def _named(connection: sqlite3.Connection, parameters: Parameters) -> list[tuple[int, str | None, int]]:
    return _states.decode(str(scalar(connection, _SQL["named_states"], parameters)))
