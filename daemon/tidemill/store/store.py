"""The store: everything durable, in one SQLite database.

Changes go to one writer, which commits them in groups; reads go to read-only connections. Both are functions of a
connection, so a whole transaction or a whole answer is one hop.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tidemill.clock import Clock
from tidemill.errors import DatabaseError, StoreUnavailableError
from tidemill.ids import Ids
from tidemill.store import connections, instance, runs, schema
from tidemill.store.doors import Door, DoorFactory, aiosqlite_doors
from tidemill.store.ops import Op
from tidemill.store.writer import BACKLOG_ITEMS, BACKLOG_LOGS, GROUP_ITEMS, Stats, Writer

logger = logging.getLogger("tidemill.store")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


class Store:
    """The daemon's database. Opened by :meth:`open`, closed by :meth:`aclose`; used on one event loop."""

    def __init__(self, path: Path, writer_door: Door, readers: Sequence[Door], *, instance_id: str, seq: int) -> None:
        self.path = path
        self.instance_id = instance_id
        self.set_aside: Path | None = None  # the copy made before a migration, by this start
        self.on_commit: Callable[[Sequence[Any]], None] | None = None
        self.on_lines: Callable[[], None] | None = None  # called when lines of any kind were written
        self._seq = seq
        self._readers = tuple(readers)
        self._idle = list(readers)
        self._free = asyncio.Semaphore(len(self._readers))
        self._first_door = writer_door
        self._writer: Writer
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        ids: Ids,
        doors: DoorFactory = aiosqlite_doors,
        readers: int = 2,
        check: bool = True,
        group_items: int = GROUP_ITEMS,
        backlog_items: int = BACKLOG_ITEMS,
        backlog_logs: int = BACKLOG_LOGS,
    ) -> Store:
        """Open the database at ``path``, made where it is not there; its directory must exist.

        ``check`` runs SQLite's quick check, about 3 ms a MB. Raises DatabaseError: damaged, newer than this program,
        not tidemill's, or not to be opened. The file is then as it was.
        """
        try:
            connections.create_private(path)
        except OSError as error:
            raise DatabaseError(f"{path}: cannot be opened: {error.strerror}; check the directory's owner") from error

        def connect() -> sqlite3.Connection:
            return connections.connect_writer(path)

        def prepare(connection: sqlite3.Connection) -> tuple[Path | None, str, int]:
            try:
                return _prepare(connection, path, clock=clock, ids=ids, check=check)
            except sqlite3.Error as error:
                raise DatabaseError(f"{path}: {error}; restore a copy, or move the file away") from error

        def recheck(connection: sqlite3.Connection) -> None:
            connections.settle_writer(connection, path)
            schema.quick_check(connection, path)

        async def reopen() -> Door:
            door = await doors(connect)
            try:
                await door.call(recheck)
            except BaseException:
                await door.aclose()
                raise
            return door

        opened: list[Door] = []
        try:
            opened.append(await doors(connect))
            set_aside, instance_id, seq = await opened[0].call(prepare)
            for _ in range(readers):
                reader = await doors(lambda: connections.open_reader(path))
                opened.append(reader)
        except BaseException:
            for door in opened:
                await door.aclose()
            raise
        store = cls(path, opened[0], opened[1:], instance_id=instance_id, seq=seq)
        store.set_aside = set_aside
        store._writer = Writer(
            opened[0],
            path,
            clock=clock,
            reopen=reopen,
            publish=store._publish,
            lines_written=store._lines_written,
            group_items=group_items,
            backlog_items=backlog_items,
            backlog_logs=backlog_logs,
        )
        return store

    # -- changes -----------------------------------------------------------------------------------------------------

    async def write(self, op: Op[I, R], item: I, *, event: Any = None) -> R:
        """Return the op's result when the change is durable; waits for room where too much waits.

        Raises what the op raises for this item, or StoreUnavailableError (disk full, read-only): then nothing was
        changed. A caller that is cancelled does not know whether its change was made.
        """
        return await self._writer.write(op, item, event=event)

    def submit(self, op: Op[I, R], item: I, *, event: Any = None) -> asyncio.Future[R]:
        """As ``write``, without waiting for room or for the commit."""
        return self._writer.submit(op, item, event=event)

    def post(self, op: Op[I, Any], item: I, *, event: Any = None) -> None:
        """Hand in a change that nobody waits for. Bounded: what does not fit is dropped, counted and logged."""
        self._writer.post(op, item, event=event)

    async def flush(self) -> None:
        """Return when everything handed in before is durable."""
        await self._writer.flush()

    def next_seq(self) -> int:
        """Give out a row number for a new run."""
        self._seq += 1
        return self._seq

    def _publish(self, events: Sequence[Any]) -> None:
        if self.on_commit is None:
            return
        try:
            self.on_commit(events)
        except Exception:
            # The group is durable whatever its hearers do; the writer must not end for them.
            logger.exception("A hearer of %d committed changes failed", len(events))

    def _lines_written(self) -> None:
        if self.on_lines is not None:
            self.on_lines()

    # -- reads -------------------------------------------------------------------------------------------------------

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` on a read-only connection and return what it returns. It sees every commit acknowledged before.

        ``fn`` fetches all it wants and leaves no statement open.
        """
        if self._closed:
            raise StoreUnavailableError(f"{self.path}: the store is closed")
        async with self._free:
            door = self._idle.pop()
            try:
                return await door.call(fn)
            finally:
                self._idle.append(door)

    # -- how it is ---------------------------------------------------------------------------------------------------

    @property
    def degraded(self) -> str | None:
        """Why writes fail now; None: they do not. Heals by itself."""
        return self._writer.degraded

    @property
    def fatal(self) -> asyncio.Future[DatabaseError]:
        """Resolves to an error after which nothing can be written any more: the daemon must exit with it."""
        return self._writer.fatal

    @property
    def stats(self) -> Stats:
        """What the writer did so far."""
        return self._writer.stats

    async def aclose(self) -> None:
        """Write what waits, fold the log into the database and close. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for _ in self._readers:
            await self._free.acquire()
        for reader in self._readers:
            await reader.aclose()
        await self._writer.aclose(last=_checkpoint)


def _prepare(
    connection: sqlite3.Connection, path: Path, *, clock: Clock, ids: Ids, check: bool
) -> tuple[Path | None, str, int]:
    scripts = schema.migrations()
    version = schema.inspect(connection, path, newest=len(scripts))
    if check and version:
        schema.quick_check(connection, path)
    connection.execute("PRAGMA busy_timeout = 5000")  # at start, a reader that just closes may hold the lock
    if not version:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes only before the first table
    connections.settle_writer(connection, path)
    set_aside = schema.migrate(connection, path, version, scripts)
    instance.create(connection, ids.new(clock.now()), clock.now())
    connection.execute(f"PRAGMA busy_timeout = {connections.BUSY_MS}")
    return set_aside, instance.id(connection), runs.last_seq(connection)


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Fold the write-ahead log into the database, so that the file alone is whole."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
