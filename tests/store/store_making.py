"""What the store's tests make their data with: ``from store_making import new_run``."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fakes import FakeClock
from tidemill.clock import Clock
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import NAMES, State, StateType
from tidemill.ids import Ids
from tidemill.store import DoorFactory, Op, Store, inline_doors

T0 = datetime(2026, 11, 21, 9, tzinfo=UTC)
IDS = Ids(random.Random(7))
_S = StateType


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def state(kind: StateType, when: datetime = T0, *, name: str | None = None, **more: Any) -> State:
    return State(type=kind, name=name or NAMES[kind][0], timestamp=when, **more)


def new_run(seq: int, **changes: Any) -> FlowRun:
    """Return a run that waits to start; unlike others by ``seq`` alone."""
    values: dict[str, Any] = {
        "seq": seq,
        "id": IDS.new(T0),
        "name": IDS.name(),
        "flow": "http_request",
        "deployment": "daily",
        "expected_start": at(seq),
        "state": state(_S.SCHEDULED),
        "created": T0,
    }
    return FlowRun(**(values | changes))


def change(run: FlowRun, *kinds: StateType, when: datetime = T0, name: str | None = None, **changes: Any) -> Transition:
    """Return a decided change through states of these types; the last one may have a name of its own."""
    states = tuple(
        state(kind, when, name=name if place == len(kinds) - 1 else None) for place, kind in enumerate(kinds)
    )
    after = replace(run, state=states[-1], state_number=run.state_number + len(states), **changes)
    return Transition(run=after, expected_number=run.state_number, states=states)


def begin(run: FlowRun) -> Transition:
    return change(run, _S.PENDING, _S.RUNNING, attempt=run.attempt + 1, owner="boot-1", start_time=at(1))


def end(run: FlowRun, kind: StateType = _S.COMPLETED, **changes: Any) -> Transition:
    return change(run, kind, **({"end_time": at(2), "run_time_s": 1.5} | changes))


def ended(run: FlowRun, kind: StateType = _S.COMPLETED, **changes: Any) -> list[Transition]:
    """Return the changes that carry a new run to its end."""
    started = begin(run)
    return [started, end(started.run, kind, **changes)]


@asynccontextmanager
async def opened(
    folder: Path, *, clock: Clock | None = None, doors: DoorFactory = inline_doors, **options: Any
) -> AsyncIterator[Store]:
    """Open the store of a folder and close it at the end."""
    ids = Ids(random.Random(1))
    store = await Store.open(folder / "tidemill.db", clock=clock or FakeClock(T0), ids=ids, doors=doors, **options)
    try:
        yield store
    finally:
        await store.aclose()


def op(name: str, apply: Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]], rank: int = 50) -> Op[Any, Any]:
    return Op(name=name, rank=rank, apply=apply)
