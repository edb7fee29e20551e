"""A store in memory, for simulations: it keeps the runs that have not ended, several times as fast as a database.

It answers what schedulers and workers ask for each run. Everything else that is asked before the first run has started
(what services look at when they begin) is answered by a real database in memory, which has seen every change; from then
on it raises :class:`BeyondMemoryError`, and is noted in ``beyond`` where somebody swallows that. So nothing is answered
wrongly, and who wants more takes a database.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import StateType
from tidemill.errors import DatabaseError
from tidemill.store import instance, kinship, planning, runs, schedules, schema
from tidemill.store.ops import Op
from tidemill.store.store import Store
from tidemill.store.writer import Stats

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

# Runs that have ended and can still be asked for: who decides on one may be a moment late.
ENDED = 1_000


class BeyondMemoryError(RuntimeError):
    """Something was asked that this store does not keep."""


class MemoryStore(Store):
    """A store of an instance that has never run. Changes take effect, and are published, at once."""

    def __init__(self, *, instance_id: str, now: datetime) -> None:
        self.path = Path("memory")
        self.instance_id = instance_id
        self.set_aside = None
        self.on_commit: Callable[[Sequence[Any]], None] | None = None
        self.beyond: str | None = None  # the first thing that was asked in vain
        self._seq = 0
        self._closed = False
        self._stats = Stats()
        self._fatal: asyncio.Future[DatabaseError] | None = None
        self._runs: dict[str, FlowRun] = {}  # that have not ended
        self._ended: dict[str, FlowRun] = {}  # the last ones
        self._dues: set[tuple[str | None, str, datetime | None]] = set()
        self._idempotency_keys: set[str] = set()
        self._beginning: sqlite3.Connection | None = sqlite3.connect(":memory:", isolation_level=None)
        for script in schema.migrations():
            for statement in schema.statements(script):
                self._beginning.execute(statement)
        instance.create(self._beginning, instance_id, now)

    # -- changes -----------------------------------------------------------------------------------------------------

    async def write(self, op: Op[I, R], item: I, *, event: Any = None) -> R:
        """Return the op's result; raises BeyondMemoryError."""
        result: Any = self._change(op, item)
        if event is not None and result is not False and self.on_commit is not None:
            self.on_commit((event,))
        return result  # type: ignore[no-any-return]

    def submit(self, op: Op[I, R], item: I, *, event: Any = None) -> asyncio.Future[R]:
        """As ``write``, as a future that is done."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        result: Any = self._change(op, item)
        if event is not None and result is not False and self.on_commit is not None:
            self.on_commit((event,))
        future.set_result(result)
        return future

    def post(self, op: Op[I, Any], item: I, *, event: Any = None) -> None:
        """Forget it: who wants to read it later is refused."""
        if self._beginning is not None:
            op.apply(self._beginning, [item])

    async def flush(self) -> None:
        """Nothing is ever on its way."""

    def _change(self, op: Op[Any, Any], item: Any) -> Any:
        if op is runs.TRANSITIONS:
            if self._beginning is not None:
                self._beginning.close()
                self._beginning = None
            return self._transition(item)
        if self._beginning is not None:
            (result,) = op.apply(self._beginning, [item])
            if op is not schedules.PLAN and op is not runs.CREATE_RUNS:
                return result
        if op is schedules.PLAN:
            return self._plan(item)
        if op is runs.CREATE_RUNS:
            return self._make(item)
        raise self._beyond(op.name)

    def _plan(self, plan: schedules.Plan) -> tuple[int, ...]:
        if plan.delete:
            raise self._beyond("a plan that takes back runs")
        return tuple(run.seq for run in plan.runs if self._make(run))

    def _make(self, run: FlowRun) -> bool:
        if run.idempotency_key is not None:
            if run.idempotency_key in self._idempotency_keys:
                return False
            self._idempotency_keys.add(run.idempotency_key)
        if run.schedule is not None:
            fire = (run.deployment, run.schedule, run.due)
            if fire in self._dues:
                return False
            self._dues.add(fire)
        self._runs[run.id] = run
        return True

    def _transition(self, transition: Transition) -> bool:
        run = transition.run
        present = self._runs.get(run.id) or self._ended.get(run.id)
        if present is None or present.state_number != transition.expected_number:
            return False
        if run.state.is_terminal:
            self._runs.pop(run.id, None)
            self._ended[run.id] = run
            if len(self._ended) >= 2 * ENDED:
                self._ended = dict(itertools.islice(self._ended.items(), ENDED, None))
        else:
            self._ended.pop(run.id, None)
            self._runs[run.id] = run
        return True

    # -- reads -------------------------------------------------------------------------------------------------------

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``fn`` would read; it is known by its function, a ``partial`` of it or itself."""
        asked: Any = fn
        answer = self._answers().get(asked.func if isinstance(asked, partial) else asked)
        if answer is None and self._beginning is not None:
            return fn(self._beginning)
        if answer is None:
            raise self._beyond(getattr(asked, "__qualname__", repr(fn)))
        found: T = answer(**(asked.keywords if isinstance(asked, partial) else {}))
        return found

    def _answers(self) -> dict[Any, Callable[..., Any]]:
        return {
            runs.due: self._due,
            runs.get: self._get,
            runs.unfinished: self._unfinished,
            kinship.left_of: self._left_of,
            planning.planned_ahead: self._planned_ahead,
        }

    def _due(self, until: datetime, limit: int) -> list[FlowRun]:
        waiting = [
            run for run in self._runs.values() if run.state.type is StateType.SCHEDULED and run.expected_start <= until
        ]
        return sorted(waiting, key=lambda run: (run.expected_start, run.seq))[:limit]

    def _get(self, run_id: str) -> FlowRun | None:
        found = self._runs.get(run_id) or self._ended.get(run_id)
        if found is None:
            raise self._beyond("a run that ended long ago")
        return found

    def _unfinished(self) -> list[FlowRun]:
        waits = StateType.SCHEDULED
        return [run for run in self._runs.values() if run.state.type is not waits]

    def _left_of(self, run_id: str) -> list[FlowRun]:
        cancelled = self._get(run_id)
        if cancelled is None or cancelled.state.type not in (StateType.CANCELLING, StateType.CANCELLED):
            return []
        return [
            run
            for run in self._runs.values()
            if run.parent_run_id == run_id and run.created_by == "flow" and run.state.type is not StateType.CANCELLING
        ]

    def _planned_ahead(self, now: datetime) -> list[tuple[str, str, datetime]]:
        found = [
            (run.deployment, run.schedule, run.due)
            for run in self._runs.values()
            if run.deployment is not None
            and run.schedule is not None
            and run.due is not None
            and run.due > now
            and run.attempt == 0
        ]
        return sorted(found, key=lambda fire: fire[2])

    def _beyond(self, what: str) -> BeyondMemoryError:
        self.beyond = self.beyond or what
        return BeyondMemoryError(what)

    # -- how it is ---------------------------------------------------------------------------------------------------

    @property
    def degraded(self) -> str | None:
        """Memory takes everything."""
        return None

    @property
    def fatal(self) -> asyncio.Future[DatabaseError]:
        """Never comes."""
        if self._fatal is None:
            self._fatal = asyncio.get_running_loop().create_future()
        return self._fatal

    @property
    def stats(self) -> Stats:
        """Nothing is ever waiting."""
        return self._stats

    async def aclose(self) -> None:
        """Forget everything."""
        self._runs.clear()
        self._ended.clear()
        if self._beginning is not None:
            self._beginning.close()
