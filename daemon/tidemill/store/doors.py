"""Doors to a database connection: one function goes in, runs on the connection, and its result comes out.

A whole transaction is one function, so one hop to the connection's thread carries it and a cancelled waiter can never
leave it half done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import aiosqlite

T = TypeVar("T")
Connect = Callable[[], sqlite3.Connection]


class Door(Protocol):
    """The way to one connection. Calls run one after another, in the order they were made."""

    async def call(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` with the connection and return what it returns, or raise what it raises."""
        ...

    async def aclose(self) -> None:
        """Close the connection. A second call does nothing."""
        ...


DoorFactory = Callable[[Connect], Awaitable[Door]]


class AiosqliteDoor:
    """A connection in a thread of its own, by aiosqlite.

    A call is one hop through ``aiosqlite.Connection._execute``, which its public methods are made of: they cost a hop
    for each statement. The name is private, so the version is pinned and a test holds its behaviour.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._raw: sqlite3.Connection = connection._conn
        self._closed = False

    @classmethod
    async def open(cls, connect: Connect) -> AiosqliteDoor:
        return cls(await aiosqlite.Connection(connect, iter_chunk_size=64))

    async def call(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._connection._execute(fn, self._raw)  # type: ignore[no-untyped-call]
        return result

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._connection.close()


class InlineDoor:
    """A connection in the caller's own thread: no hop and no other thread, so that a simulation repeats itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._raw = connection

    @classmethod
    async def open(cls, connect: Connect) -> InlineDoor:
        return cls(connect())

    async def call(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return fn(self._raw)

    async def aclose(self) -> None:
        self._raw.close()


async def aiosqlite_doors(connect: Connect) -> Door:
    """The daemon's doors."""
    return await AiosqliteDoor.open(connect)


async def inline_doors(connect: Connect) -> Door:
    """A simulation's doors."""
    return await InlineDoor.open(connect)
