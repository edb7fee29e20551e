"""References: the numbers that stand in a run's row for names that many runs share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from tidemill.core.runs import FlowRun
from tidemill.store.ops import rows, scalar
from tidemill.store.statements import load

_SQL = load("references")
_numbers = msgspec.json.Decoder(list[int | None])
Names = TypeVar("Names", bound=tuple[str, ...])


def _refer(connection: sqlite3.Connection, kind: str, wanted: Iterable[Names]) -> dict[Names, int]:
    distinct = list(dict.fromkeys(wanted))
    if not distinct:
        return {}
    parameter = {"rows": rows(distinct)}
    found = _numbers.decode(str(scalar(connection, _SQL[kind], parameter)))
    if None in found:
        connection.execute(_SQL[f"add_{kind}"], parameter)
        found = _numbers.decode(str(scalar(connection, _SQL[kind], parameter)))
    return {names: number for names, number in zip(distinct, found, strict=True) if number is not None}


Route = tuple[str, str, str, str]


def route_of(run: FlowRun) -> Route:
    return (run.flow, run.deployment or "", run.work_pool, run.work_queue)


def routes(connection: sqlite3.Connection, wanted: Iterable[Route]) -> dict[Route, int]:
    """Return the numbers of (flow, deployment or "", work pool, work queue), made where new."""
    return _refer(connection, "routes", wanted)


def schedules(connection: sqlite3.Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the numbers of (deployment, schedule identity), made where new."""
    return _refer(connection, "schedules", wanted)


def owners(connection: sqlite3.Connection, wanted: Iterable[tuple[str]]) -> dict[tuple[str], int]:
    """Return the numbers of (owner,), made where new."""
    return _refer(connection, "owners", wanted)
