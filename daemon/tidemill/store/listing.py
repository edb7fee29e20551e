"""Listing: the runs that fit a filter, a page at a time, and how many there are of each state.

With a million runs a page must cost what the page costs. So it is counted, up to a bound, what each condition alone
leaves over. Where that is few, all of them are looked at and sorted; where every condition leaves many, an index is
walked in the order wanted until the page is full, which then is soon.
"""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Collection, Mapping, Sequence

import msgspec

from tidemill.clock import to_us
from tidemill.core.filters import MAX_LIMIT, RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.core.states import NAMES, TERMINAL, StateType
from tidemill.store import history, runs
from tidemill.store.ops import microseconds, rows, scalar
from tidemill.store.statements import load

_SQL = load("listing")
FEW = 5_000  # runs that are looked at one by one rather than walked along
FEW_UNORDERED = 20_000  # the same where the order wanted is not that of the expected start
MANY = 200_000  # the same for counting, where something must be looked at anyway
LARGE = 30_000  # runs of one state that are rather not counted one by one, where they are likely to be most of all
VERY_LARGE = 120_000  # and where they are not
ENDED = frozenset(history.NUMBER_OF[kind] for kind in TERMINAL)
COMPLETED = history.NUMBER_OF[StateType.COMPLETED]
FEW_WALKS = 64  # indexes walked side by side; with more routes than that, all runs are walked
DEEP = 10_000  # from that offset on, side by side costs more than one walk along all runs
DISTINCT_NAMES = 20_000  # looked through for a part of a name
ID_PREFIX = 8  # characters from which on a text may be the beginning of an id: fewer are the same for weeks
NEWEST = 50_000  # runs looked through for the end of an id
EARLIEST, LATEST = -(2**62), 2**62

Parameters = dict[str, object]
_seqs = msgspec.json.Decoder(list[int])
_texts = msgspec.json.Decoder(list[str])
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
_IN_ORDER = ({"types"}, {"routes"})
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
    if given <= {"types", "routes", "state_names"}:
        counted = _count_along(connection, parameters)
    elif (fewest := _fewest(connection, parameters, MANY)) is not None:
        seqs = scalar(connection, _SQL[f"gather_{fewest}"], parameters | {"limit": -1, "offset": 0})
        counted = _states.decode(str(scalar(connection, _SQL["states_of"], {"seqs": seqs})))
    else:
        counted = _count_types(connection, parameters)
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
    given, by_expected = _given(parameters), wanted.sort in _BY_EXPECTED
    along = _along(wanted, parameters) if by_expected else []
    side_by_side = len(along) == 1 or (along and wanted.offset < DEEP)
    # Whatever stands in such an index from there on fits, in order: nothing is quicker.
    if side_by_side and given in _IN_ORDER:
        return _side_by_side(connection, wanted, parameters, along)
    # Along another order nobody knows how far away the first run is that fits.
    fewest = _fewest(connection, parameters, FEW if by_expected else FEW_UNORDERED)
    if fewest is not None:
        return str(scalar(connection, _SQL[f"gather_{fewest}"], parameters))
    if side_by_side:
        return _side_by_side(connection, wanted, parameters, along)
    if by_expected and not given and not _is_windowed(parameters) and wanted.offset >= DEEP:
        return _deep(connection, wanted)
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

    def walk(kind: str, value: object, part: Parameters) -> list[tuple[int, int]]:
        pace = "skim" if given == {f"{kind}s"} and kind != "state_name" else "walk"
        statement = _SQL[f"{pace}_{kind}_{'desc' if down else 'asc'}"]
        return _pairs.decode(str(scalar(connection, statement, parameters | {"along": value} | part)))

    if len(along) == 1:
        return rows([seq for _, seq in walk(*along[0], {})])
    # Of many walks each gives a few: a first part of it, and all that may be wanted where that was not enough.
    whole = offset + limit
    part = min(whole, 2 * whole // len(along) + 10)
    walks = [walk(kind, value, {"limit": part, "offset": 0}) for kind, value in along]
    if part < whole:
        last = _page_end(walks, whole, down=down)
        for number, (kind, value) in enumerate(along):
            found = walks[number]
            if len(found) == part and (last is None or (found[-1] > last if down else found[-1] < last)):
                walks[number] = walk(kind, value, {"limit": whole, "offset": 0})
    # One run may be met along its type and along its name.
    merged = dict.fromkeys(seq for _, seq in heapq.merge(*walks, reverse=down))
    return rows(list(itertools.islice(merged, offset, offset + limit)))


def _page_end(walks: Sequence[Sequence[tuple[int, int]]], whole: int, *, down: bool) -> tuple[int, int] | None:
    """Return the last that a page may show of what was found so far; None: so much was not found."""
    distinct = dict.fromkeys(heapq.merge(*walks, reverse=down))
    return next(itertools.islice(distinct, whole - 1, None), None)


def _deep(connection: sqlite3.Connection, wanted: RunFilter) -> str:
    """Return a page of all runs far from one end: it is nearer to the other one, or in the middle."""
    total = _one(connection, "total", {})
    limit = min(wanted.limit, MAX_LIMIT, max(0, total - wanted.offset))
    down = wanted.sort is RunSort.EXPECTED_START_TIME_DESC
    span: Parameters = {"expected_from": EARLIEST, "expected_to": LATEST, "limit": limit}
    if wanted.offset <= total // 2:
        return str(scalar(connection, _SQL[f"skim_{wanted.sort}"], span | {"offset": wanted.offset}))
    other = RunSort.EXPECTED_START_TIME_ASC if down else RunSort.EXPECTED_START_TIME_DESC
    found = scalar(connection, _SQL[f"skim_{other}"], span | {"offset": total - wanted.offset - limit})
    return rows(_seqs.decode(str(found))[::-1])


# -- counts ----------------------------------------------------------------------------------------------------------


def _count_along(connection: sqlite3.Connection, parameters: Parameters) -> list[tuple[int, str | None, int]]:
    """Count where only types, names of states, routes and the expected start are asked for.

    The few that go by another name than their type's are counted name by name, the others are what they leave of their
    type. Most of a long history is of one type. That one is not counted but is what the others leave of all, which an
    index without states tells faster.
    """
    every = parameters | {"types": None, "plain_types": None, "state_names": None}
    wanted, names = _types(parameters), _wanted_names(parameters)
    plain = [kind for kind in wanted if names is None or history.PLAIN_NAME_OF[history.TYPE_OF[kind]] in names]
    largest = _largest(connection, every, plain)
    kinds = plain if largest is None else _types(every)
    named = _named_of(connection, every, {*kinds, *wanted})
    of_type = {kind: _count_type(connection, every, kind) for kind in kinds if kind != largest}
    if largest is not None:
        of_type[largest] = _total(connection, every) - sum(of_type.values())
    for kind, _, count in named:
        if kind in of_type:
            of_type[kind] -= count
    counted = [each for each in named if each[0] in wanted and (names is None or each[1] in names)]
    return [*counted, *((kind, None, of_type[kind]) for kind in plain if of_type[kind])]


def _wanted_names(parameters: Parameters) -> set[str] | None:
    given = parameters["state_names"]
    return None if given is None else set(_texts.decode(str(given)))


def _largest(connection: sqlite3.Connection, parameters: Parameters, wanted: Sequence[int]) -> int | None:
    """Return the wanted type that most runs are of, as far as is worth finding out; None: none of them is large."""
    if COMPLETED in wanted and _has(connection, parameters, COMPLETED, LARGE):
        return COMPLETED  # nearly always
    kinds, bound = [kind for kind in wanted if _has(connection, parameters, kind, VERY_LARGE)], VERY_LARGE
    while len(kinds) > 1:
        bound *= 2
        kinds = [kind for kind in kinds if _has(connection, parameters, kind, bound)]
    return kinds[0] if kinds else None


def _has(connection: sqlite3.Connection, parameters: Parameters, kind: int, bound: int) -> bool:
    return _counted(connection, "types", parameters | {"types": rows([kind])}, bound) == bound


def _count_type(connection: sqlite3.Connection, parameters: Parameters, kind: int) -> int:
    """Return how many are of a type, along the index that knows the route, too."""
    statement = "skim_count" if parameters["routes"] is None else "skim_count_routes"
    found: int = connection.execute(_SQL[statement], parameters | {"along": kind}).fetchone()[0]
    return found


def _total(connection: sqlite3.Connection, parameters: Parameters) -> int:
    """Return how many there are, whatever their state."""
    if parameters["routes"] is None:
        return _one(connection, "total_expected" if _is_windowed(parameters) else "total", parameters)
    # Of many routes those are counted that are not asked for: one pool is often nearly all of a history.
    others = str(scalar(connection, _SQL["other_routes"], parameters))
    if len(_numbers(others)) > len(_numbers(parameters["routes"])):
        return _one(connection, "total_routes", parameters)
    every = parameters | {"routes": None}
    return _total(connection, every) - _one(connection, "total_routes", parameters | {"routes": others})


def _one(connection: sqlite3.Connection, statement: str, parameters: Parameters) -> int:
    found: int = connection.execute(_SQL[statement], parameters).fetchone()[0]
    return found


def _count_types(connection: sqlite3.Connection, parameters: Parameters) -> list[tuple[int, str | None, int]]:
    """Count by the indexes of states, looking at each run: all of a type, less those that go by another name."""
    plain = {kind: _one(connection, "count_along", parameters | {"along": kind}) for kind in _types(parameters)}
    if not any(plain.values()):
        return []
    named = [each for each in _named(connection, parameters) if each[0] in plain]
    for kind, _, count in named:
        plain[kind] -= count
    return [*named, *((kind, None, count) for kind, count in plain.items() if count)]


def _named_of(
    connection: sqlite3.Connection, parameters: Parameters, kinds: Collection[int]
) -> list[tuple[int, str | None, int]]:
    """Count those of another name than their type's, of these types at least.

    Code gives names to states that end a run. Those of runs that have not ended are known, and few.
    """
    if any(kind in ENDED for kind in kinds):
        return _named(connection, parameters)
    known = [name for kind in kinds for name in NAMES[history.TYPE_OF[kind]][1:]]
    return _states.decode(str(scalar(connection, _SQL["skim_known_names"], parameters | {"known": rows(known)})))


def _named(connection: sqlite3.Connection, parameters: Parameters) -> list[tuple[int, str | None, int]]:
    statement = "named_states" if _given(parameters) - {"routes"} else "skim_named_states"
    return _states.decode(str(scalar(connection, _SQL[statement], parameters)))
