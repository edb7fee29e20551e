"""Groups: changes that are committed as one, and what becomes of each. What commits runs in the database's thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from tidemill.store import instance
from tidemill.store.faults import Fault, classify
from tidemill.store.ops import Lane, Op


class Waiting:
    """A change on its way. ``future`` None: posted, nobody waits. ``op`` None: a barrier, which changes nothing."""

    __slots__ = ("done", "error", "event", "future", "item", "lane", "op", "result")

    def __init__(
        self, op: Op[Any, Any] | None, item: Any, future: asyncio.Future[Any] | None, event: Any, lane: Lane
    ) -> None:
        self.op = op
        self.item = item
        self.future = future
        self.event = event
        self.lane = lane
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False  # written, or refused for its own fault


class UnwritableError(Exception):
    """A group could not be written though nothing is wrong with its changes."""

    def __init__(self, fault: Fault, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.fault = fault
        self.cause = cause


class Group:
    """Changes for one commit, in the order of their ops' ranks and then of their arrival."""

    __slots__ = ("arrived", "changes")

    def __init__(self, arrived: Iterable[Waiting]) -> None:
        self.arrived = list(arrived)
        self.changes = sorted((waiting for waiting in self.arrived if waiting.op is not None), key=_rank)

    def commit(self, connection: sqlite3.Connection, look: Callable[[], None]) -> UnwritableError | None:
        """Write the group; an empty one tries whether the database can be written. Return what kept it from that.

        ``look`` raises where the database must not be written any more.
        """
        try:
            look()
            _commit(connection, self.changes)
        except UnwritableError as error:
            return error
        return None


def _rank(waiting: Waiting) -> int:
    return 0 if waiting.op is None else waiting.op.rank


def _commit(connection: sqlite3.Connection, changes: list[Waiting]) -> None:
    """Commit all changes in one transaction, else find those at fault by halves. Raises UnwritableError."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = _apply(connection, changes)
        connection.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        fault = classify(error)
        if fault is not Fault.ITEM:
            raise UnwritableError(fault, error) from error
        if len(changes) <= 1:
            for waiting in changes:
                waiting.error, waiting.done = error, True
            return
        middle = len(changes) // 2
        _commit(connection, changes[:middle])
        _commit(connection, changes[middle:])
        return
    for waiting, result in zip(changes, results, strict=True):
        waiting.result, waiting.done = result, True


def _apply(connection: sqlite3.Connection, changes: list[Waiting]) -> list[Any]:
    """Apply changes: each op once, with all of its items. Return their results."""
    if not changes:
        instance.probe(connection)
        return []
    results: list[Any] = []
    start = 0
    while start < len(changes):
        op = changes[start].op
        end = start
        while end < len(changes) and changes[end].op is op:
            end += 1
        if op is not None:
            answers = op.apply(connection, [waiting.item for waiting in changes[start:end]])
            if len(answers) != end - start:
                raise ValueError(f"{op.name} answered {len(answers)} results for {end - start} items")
            results.extend(answers)
        start = end
    return results
