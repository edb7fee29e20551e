"""Transactions: steps that are undone together when one of them fails.

Inside ``with transaction():`` what tasks publish and their ``on_commit`` hooks wait for the end. An exception rolls
back: ``on_rollback`` hooks of the tasks that completed run, the last one first.
"""

from __future__ import annotations

import asyncio
import copy
import enum
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from tidemill.core.reports import CacheQuestion, CacheReport
from tidemill.sdk.context import current
from tidemill.sdk.definitions import Hook, NotSet, TaskDefinition
from tidemill.sdk.driver import drive
from tidemill.sdk.hooking import hook_name
from tidemill.sdk.outcomes import traceback_text
from tidemill.sdk.states import State
from tidemill.sdk.ways import finished

logger = logging.getLogger("tidemill.transactions")


class CommitMode(enum.StrEnum):
    """When a transaction commits: with its parent (LAZY), at its own end (EAGER), or when told to (OFF)."""

    EAGER = "EAGER"
    LAZY = "LAZY"
    OFF = "OFF"


class IsolationLevel(enum.StrEnum):
    """Whether transactions of one key may overlap. SERIALIZABLE holds between the runs of one process."""

    READ_COMMITTED = "READ_COMMITTED"
    SERIALIZABLE = "SERIALIZABLE"


class TransactionState(enum.StrEnum):
    """Where a transaction is in its life."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"


_ENDED = (TransactionState.COMMITTED, TransactionState.ROLLED_BACK)
_current: ContextVar[Transaction | None] = ContextVar("tidemill_transaction", default=None)
_LOCKS: dict[str, threading.Lock] = {}


class Transaction:
    """A transaction and its values. Made by :func:`transaction`; hooks are called with it."""

    def __init__(
        self,
        key: str | None = None,
        *,
        parent: Transaction | None = None,
        commit_mode: CommitMode | None = None,
        isolation_level: IsolationLevel | None = None,
        overwrite: bool = False,
        write_on_commit: bool = True,
    ) -> None:
        self.key = key
        self.parent = parent
        self.children: list[Transaction] = []
        self.commit_mode: CommitMode = commit_mode or (parent.commit_mode if parent is not None else CommitMode.LAZY)
        self.isolation_level: IsolationLevel = isolation_level or (
            parent.isolation_level if parent is not None else IsolationLevel.READ_COMMITTED
        )
        self.overwrite = overwrite
        self.write_on_commit = write_on_commit
        self.state = TransactionState.PENDING
        self.on_commit_hooks: list[Hook] = []
        self.on_rollback_hooks: list[Hook] = []
        self._values: dict[str, Any] = {}
        self._staged: Any = NotSet
        self._kept: Any = NotSet

    # --- values -----------------------------------------------------------------------------------------------------

    def set(self, name: str, value: Any) -> None:
        """Keep a value for the hooks and for transactions inside."""
        self._values[name] = value

    def get(self, name: str, default: Any = NotSet) -> Any:
        """Return a copy of a value kept here or in an outer transaction. Raises ``ValueError`` where there is none."""
        if name in self._values:
            return copy.deepcopy(self._values[name])
        if self.parent is not None:
            return self.parent.get(name, default)
        if default is NotSet:
            raise ValueError(f"no value {name!r} was set in this transaction or around it")
        return default

    def stage(
        self, value: Any, on_rollback_hooks: list[Hook] | None = None, on_commit_hooks: list[Hook] | None = None
    ) -> None:
        """Hold a value to be kept under the key at the commit."""
        if self.state is TransactionState.COMMITTED:
            return
        self._staged = value
        self.on_rollback_hooks += on_rollback_hooks or []
        self.on_commit_hooks += on_commit_hooks or []
        self.state = TransactionState.STAGED

    def read(self) -> Any:
        """Return the value that an earlier transaction kept under the key, or None."""
        return None if self._kept is NotSet else self._kept

    def is_pending(self) -> bool:
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        return self.state is TransactionState.ACTIVE

    def is_staged(self) -> bool:
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        return self.state is TransactionState.ROLLED_BACK

    # --- life -------------------------------------------------------------------------------------------------------

    def begin(self, hit: Any) -> None:
        """Become active, or committed already where the key was found (``hit``, a CacheHit document or None)."""
        self.state = TransactionState.ACTIVE
        if hit is not None and not self.overwrite:
            self._kept = hit["value"] if isinstance(hit, dict) else hit.value
            self.state = TransactionState.COMMITTED

    async def commit(self, call: Callable[[Any], Any]) -> bool:
        """Commit the inner transactions, call the hooks and keep the staged value; what fails rolls back."""
        if self.state in _ENDED:
            return False
        try:
            for child in self.children:
                await child.commit(call)
            for hook in self.on_commit_hooks:
                await self._run(hook, "commit", call)
            self.write()
            self.state = TransactionState.COMMITTED
        except Exception as error:
            self._told(f"An error was encountered while committing {self._told_key()}", error)
            await self.rollback(call)
            return False
        return True

    def write(self) -> None:
        """Keep the staged value under the key."""
        if self.key is None or not self.write_on_commit or self._staged is NotSet:
            return
        context = current.get()
        if context is not None:
            context.recorder.report(CacheReport(key=self.key, value=self._staged))

    async def rollback(self, call: Callable[[Any], Any]) -> bool:
        """Call the rollback hooks, the last one first, then those of the inner transactions, the last one first."""
        if self.state in _ENDED:
            return False
        try:
            for hook in reversed(self.on_rollback_hooks):
                await self._run(hook, "rollback", call)
            self.state = TransactionState.ROLLED_BACK
            for child in reversed(self.children):
                await child.rollback(call)
        except Exception as error:
            self._told(f"An error was encountered while rolling back {self._told_key()}", error)
            return False
        return True

    async def _run(self, hook: Hook, kind: str, call: Callable[[Any], Any]) -> None:
        name = hook_name(hook)
        _log(f"Running {kind} hook {name!r}")
        await call(hook(self))
        _log(f"{kind.capitalize()} hook {name!r} finished running successfully")

    def _told_key(self) -> str:
        return f"transaction {self.key!r}" if self.key is not None else "a transaction without a key"

    def _told(self, what: str, error: Exception) -> None:
        _log(f"{what}\n{traceback_text(error)}", logging.ERROR)

    async def end(self, failed: bool, call: Callable[[Any], Any]) -> None:
        """Leave the transaction: roll back, commit, or leave it to the outer one."""
        if failed:
            await self.rollback(call)
        elif self.commit_mode is CommitMode.EAGER:
            await self.commit(call)
        if self.parent is not None:
            self.parent.children.append(self)
            if self.is_rolled_back():
                await self.parent.rollback(call)
        elif not failed:
            await (self.rollback(call) if self.commit_mode is CommitMode.OFF else self.commit(call))


def _log(message: str, level: int = logging.INFO) -> None:
    context = current.get()
    if context is not None:
        context.log(message, level)
    else:
        logger.log(level, message)


class _Engine(Protocol):
    """What a task run gives to its transaction."""

    task: TaskDefinition
    key: str | None

    def publish(self, value: Any) -> None: ...

    def rolled_back(self) -> None: ...


class TaskTransaction(Transaction):
    """The transaction of one completed task run: part of the one around it, if there is one."""

    def __init__(self, engine: _Engine, state: State, parent: Transaction | None, cached: bool) -> None:
        super().__init__(engine.key, parent=parent)
        self._engine = engine
        self._value = state.data
        self.on_commit_hooks = list(engine.task.on_commit_hooks)
        self.on_rollback_hooks = list(engine.task.on_rollback_hooks)
        self.state = TransactionState.COMMITTED if cached else TransactionState.STAGED

    async def settle(self, call: Callable[[Any], Any]) -> None:
        """Commit now, or with the transaction around it."""
        if self.parent is not None and self.commit_mode is not CommitMode.EAGER:
            self.parent.children.append(self)
            return
        await self.commit(call)

    def write(self) -> None:
        self._engine.publish(self._value)

    async def rollback(self, call: Callable[[Any], Any]) -> bool:
        rolled_back = await super().rollback(call)
        if rolled_back:
            self._engine.rolled_back()
        return rolled_back


def get_transaction() -> Transaction | None:
    """Return the transaction that the calling code is in, if any."""
    return _current.get()


@contextmanager
def transaction(
    key: str | None = None,
    store: None = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | str | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
    logger: Any = None,
) -> Iterator[Transaction]:
    """Open a transaction for sync code: an exception inside rolls back what was done, and is raised on.

    With a ``key`` the transaction is committed already where an earlier one kept a value under it (``overwrite`` starts
    anew): look with ``is_committed()``, ``read()`` the value, ``stage(value)`` a new one, which is JSON. ``store`` and
    ``logger`` are accepted for Prefect's sake and must be None or are not used: the daemon keeps values and logs.
    """
    made = _made(key, store, commit_mode, isolation_level, overwrite, write_on_commit)
    lock = _lock_of(made)
    if lock is not None:
        context = current.get()
        if not lock.acquire(blocking=False):
            if context is not None:
                context.refuse_to_block("a serializable transaction that waits")
            lock.acquire()
    try:
        context = current.get()
        hit = context.ask_now(CacheQuestion(key=made.key)) if made.key is not None and context is not None else None
        made.begin(hit)
        token = _current.set(made)
        try:
            yield made
        except BaseException:
            _current.reset(token)
            _drive_end(made, failed=True)
            raise
        _current.reset(token)
        _drive_end(made, failed=False)
    finally:
        if lock is not None:
            lock.release()


@asynccontextmanager
async def atransaction(
    key: str | None = None,
    store: None = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | str | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
    logger: Any = None,
) -> AsyncIterator[Transaction]:
    """Open a transaction for async code; as :func:`transaction`."""
    made = _made(key, store, commit_mode, isolation_level, overwrite, write_on_commit)
    lock = _lock_of(made)
    if lock is not None:
        while not lock.acquire(blocking=False):  # noqa: ASYNC110 - a thread's lock has no event to await
            await asyncio.sleep(0.01)
    try:
        context = current.get()
        hit = await context.ask(CacheQuestion(key=made.key)) if made.key is not None and context is not None else None
        made.begin(hit)
        token = _current.set(made)
        try:
            yield made
        except BaseException:
            _current.reset(token)
            await made.end(True, _awaited)
            raise
        _current.reset(token)
        await made.end(False, _awaited)
    finally:
        if lock is not None:
            lock.release()


def _made(
    key: str | None,
    store: None,
    commit_mode: CommitMode | None,
    isolation_level: IsolationLevel | str | None,
    overwrite: bool,
    write_on_commit: bool,
) -> Transaction:
    if store is not None:
        raise ValueError("the daemon keeps what transactions stage: leave store out")
    return Transaction(
        key,
        parent=_current.get(),
        commit_mode=None if commit_mode is None else CommitMode(commit_mode),
        isolation_level=None if isolation_level is None else IsolationLevel(isolation_level),
        overwrite=overwrite,
        write_on_commit=write_on_commit,
    )


def _lock_of(made: Transaction) -> threading.Lock | None:
    if made.key is None or made.isolation_level is not IsolationLevel.SERIALIZABLE:
        return None
    return _LOCKS.setdefault(made.key, threading.Lock())


def _drive_end(made: Transaction, *, failed: bool) -> None:
    drive(made.end(failed, _done))


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _done(value: Any) -> Any:
    return finished(value) if inspect.iscoroutine(value) else value


__all__ = [
    "CommitMode",
    "IsolationLevel",
    "Transaction",
    "TransactionState",
    "atransaction",
    "get_transaction",
    "transaction",
]
