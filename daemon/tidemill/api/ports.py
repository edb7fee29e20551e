"""What the edge asks of the rest of the daemon."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tidemill.clock import Clock
from tidemill.core.backfills import Backfill
from tidemill.core.events import Event
from tidemill.core.runs import FlowRun
from tidemill.core.script_runs import (
    ScriptAnswer,
    ScriptAsks,
    ScriptBegins,
    ScriptBegun,
    ScriptEnds,
    ScriptHeard,
    ScriptReports,
)
from tidemill.core.why import Live

T = TypeVar("T")


class Reader(Protocol):
    """The database's reading side."""

    async def read(self, fn: Callable[[sqlite3.Connection], T], /) -> T:
        """Run ``fn`` on a read-only connection."""
        ...

    async def flush(self) -> None:
        """Return when everything handed over so far is committed."""
        ...


class Subscription(Protocol):
    """Events from now on. Bounded: when the reader falls behind the oldest are dropped and counted."""

    dropped: int

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def batch(self) -> list[Event] | None:
        """Wait for something; return all that came since. None: nothing more will come."""
        ...

    def close(self) -> None: ...


class Events(Protocol):
    def subscribe(self, *, task_runs: bool = False, lines: bool = False) -> Subscription: ...


class ApiSettings(Protocol):
    """The ``[api]`` table, as far as the edge reads it."""

    @property
    def listen(self) -> Sequence[str]: ...

    @property
    def sample(self) -> bool: ...

    @property
    def allowed_hosts(self) -> Sequence[str]: ...


class Settings(Protocol):
    @property
    def api(self) -> ApiSettings: ...


class Scripts(Protocol):
    """Who listens to plain scripts (api/script_runs.py)."""

    async def begin(self, said: ScriptBegins) -> ScriptBegun: ...

    async def take(self, run_id: str, said: ScriptReports) -> ScriptHeard: ...

    async def ask(self, run_id: str, said: ScriptAsks) -> ScriptAnswer: ...

    async def end(self, run_id: str, said: ScriptEnds) -> FlowRun: ...


class Metrics(Protocol):
    """What Prometheus is told."""

    async def collect(self) -> dict[str, list[Any]]: ...


class Reloaded(Protocol):
    """How a reload ended."""

    def document(self) -> dict[str, Any]: ...


class Reloader(Protocol):
    """Who takes over what the files say by now."""

    async def reload(self, reason: str) -> Reloaded: ...

    def in_force(self) -> dict[str, Any]: ...


class Made(Protocol):
    """What commands write beside a person's files. ``table`` is the file's: deployments, variables and so on."""

    @property
    def made_dir(self) -> Path: ...

    def documents(self) -> list[dict[str, Any]]: ...

    async def put(self, table: str, name: str, value: Any, *, by: str) -> Reloaded: ...

    async def remove(self, table: str, name: str, *, by: str) -> Reloaded: ...


class Upkeep(Protocol):
    """The database beside its runs."""

    async def prune(self, given: Mapping[str, Any]) -> Any: ...

    def document(self) -> dict[str, Any]: ...


class Overrides(Protocol):
    """What is set by hand over the configuration. ``kind`` is deployment, work_queue or work_pool."""

    async def set(self, kind: str, name: str, key: str, value: Any, *, by: str) -> None: ...

    async def clear(self, kind: str, name: str, key: str | None = None, *, by: str) -> list[str]: ...


class Draining(Protocol):
    """Starting nothing new while what runs ends."""

    def begin(self, by: str) -> None: ...

    def undo(self, by: str) -> None: ...

    def moved(self) -> Awaitable[object]: ...

    def document(self) -> dict[str, Any]: ...


class Backfills(Protocol):
    """Runs for fires in the past."""

    @property
    def moved(self) -> Moved: ...

    async def preview(
        self, deployment: str, first: datetime, last: datetime, *, again: bool = False
    ) -> dict[str, Any]: ...

    async def begin(
        self,
        deployment: str,
        first: datetime,
        last: datetime,
        *,
        by: str,
        at_a_time: int = 1,
        again: bool = False,
        parameters: dict[str, Any] | None = None,
    ) -> Backfill: ...

    async def cancel(self, text: str, *, by: str) -> Backfill: ...

    def find(self, text: str) -> Backfill | None: ...

    def running(self, backfill: Backfill) -> int: ...


class Automations(Protocol):
    """What is done when something happens."""

    async def set_paused(self, text: str, *, paused: bool, by: str) -> None: ...

    def standing(self, text: str) -> list[str]: ...

    def test(self, text: str) -> dict[str, list[str]]: ...


class Notices(Protocol):
    """Who is told."""

    async def test(self, name: str) -> str: ...


class Why(Protocol):
    """What only the daemon knows of why something does not run."""

    def live(self) -> Live: ...


class Moved(Protocol):
    """Something that gets further again and again."""

    def next(self) -> asyncio.Future[None]: ...


class Control(Protocol):
    """The daemon's verbs. Each raises a TidemillError that says why not; what it returns is committed."""

    @property
    def store(self) -> Reader: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def events(self) -> Events: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def instance_id(self) -> str: ...

    async def create_run(
        self,
        deployment: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        scheduled_time: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> FlowRun: ...

    async def resume_run(self, run_id: str, given: Any = None) -> FlowRun: ...

    def concurrency_limits(self) -> list[dict[str, Any]]: ...

    @property
    def scripts(self) -> Scripts: ...

    async def cancel_run(self, run_id: str, reason: str) -> FlowRun: ...

    async def retry_run(self, run_id: str, *, by: str | None = None) -> FlowRun: ...

    async def delete_run(self, run_id: str, *, by: str) -> None: ...

    async def pause(self, kind: str, name: str, *, by: str) -> None: ...

    async def resume(self, kind: str, name: str, *, by: str) -> None: ...

    @property
    def overrides(self) -> Overrides: ...

    @property
    def draining(self) -> Draining: ...

    @property
    def backfills(self) -> Backfills: ...

    @property
    def why(self) -> Why: ...

    @property
    def automations(self) -> Automations: ...

    @property
    def notices(self) -> Notices: ...

    async def status(self) -> dict[str, Any]: ...

    @property
    def reloader(self) -> Reloader: ...

    @property
    def made(self) -> Made: ...

    @property
    def upkeep(self) -> Upkeep: ...

    @property
    def metrics(self) -> Metrics: ...
