"""Deployments, queues and pools as the configuration states them: values that every floor reads."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Any

import msgspec

from tidemill.core.retries import RetryPolicy
from tidemill.core.schedules import Schedule


class FlowKind(enum.StrEnum):
    BUILTIN = "builtin"  # http_request, shell
    FILE = "file"  # reports.py:daily, inside the flows folder
    MODULE = "module"  # package.module:flow


class FlowRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a flow's code is. ``entrypoint`` is what the file says; ``name`` is what people call the flow."""

    kind: FlowKind
    entrypoint: str
    name: str


class CollisionStrategy(enum.StrEnum):
    ENQUEUE = "enqueue"
    CANCEL_NEW = "cancel_new"
    CANCEL_RUNNING = "cancel_running"


class CatchUp(enum.StrEnum):
    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class OnCrash(enum.StrEnum):
    FAIL = "fail"
    RETRY = "retry"


class Mode(enum.StrEnum):
    RUN = "run"
    SHADOW = "shadow"  # what would run is recorded, and nothing runs


class SecretRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a secret is, never what it is. Exactly one of the three is set."""

    env: str | None = None
    credential: str | None = None  # a file in $CREDENTIALS_DIRECTORY
    file: str | None = None


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """Where a dead man's switch is told that something began, went well or failed. None: it is not told of that."""

    start: str | SecretRef | None = None
    success: str | SecretRef | None = None
    fail: str | SecretRef | None = None
    base: str | SecretRef | None = None  # instead of the three: they are BASE/start, BASE and BASE/fail


class PoolType(enum.StrEnum):
    INLINE = "inline"  # the daemon's own event loop; sync code in a thread
    PROCESS = "process"  # one child process a run
    DASK = "dask"  # the workers of an existing Dask cluster


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one run of a process pool may use. None: no limit of its own."""

    memory: int | None = None  # bytes
    cpu: timedelta | None = None  # processor time
    open_files: int | None = None  # of each process
    processes: int | None = None  # and threads, of the run together


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A flow with its parameters, schedules, place in line and policies, under a name."""

    name: str
    flow: FlowRef
    description: str | None = None
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    overridable: frozenset[str] | None = None  # None: every parameter
    schedules: tuple[Schedule, ...] = ()
    paused: bool = False
    work_pool: str = "default"
    work_queue: str = "default"
    tags: tuple[str, ...] = ()
    retry: RetryPolicy | None = None  # None: the flow's own, which its code says
    timeout: timedelta | None = None
    concurrency_limit: int | None = None
    collision_strategy: CollisionStrategy = CollisionStrategy.ENQUEUE
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta = timedelta(days=1)
    on_crash: OnCrash = OnCrash.FAIL
    late_after: timedelta = timedelta(seconds=15)
    mode: Mode = Mode.RUN
    version: str | None = None
    python: str | None = None  # process pools: the interpreter's path; None: tidemill's own
    limits: Limits = Limits()  # process pools: the pool's, where the deployment names none
    notify: tuple[str, ...] | None = None  # channels that hear of it; None: the default one; empty: nobody
    ping: Ping | None = None  # who is told outside that it began and how it ended


class WorkQueue(msgspec.Struct, frozen=True, kw_only=True):
    """An ordered line in front of a pool. A lower ``priority`` number goes first, as in Prefect."""

    name: str
    work_pool: str = "default"
    priority: int = 1
    concurrency_limit: int | None = None
    paused: bool = False
    description: str | None = None
    automatic: bool = False  # made because a deployment names it


class WorkPool(msgspec.Struct, frozen=True, kw_only=True):
    """Where runs execute. ``concurrency_limit`` is how many runs at a time."""

    name: str
    type: str = "inline"
    concurrency_limit: int = 100
    threads: int = 40  # inline: for sync flow code
    paused: bool = False
    description: str | None = None
    # Process pools:
    python: str | None = None  # the interpreter's path; None: tidemill's own
    preload: tuple[str, ...] = ()  # modules that are imported before a run comes
    limits: Limits = Limits()
    env: dict[str, str] = msgspec.field(default_factory=dict)
    spares: int = 2  # children ready before a run comes
    grace: timedelta | None = None  # how long a run may take to end when told to; None: half of the daemon's
    # Dask pools:
    address: str | None = None  # of the scheduler
    workers: tuple[str, ...] = ()  # names or addresses of those that may be used; empty: all
    resources: dict[str, float] = msgspec.field(default_factory=dict)  # what a run needs of what workers say they have
    tls: dict[str, str] = msgspec.field(default_factory=dict)  # paths of ca, cert and key
    lease: timedelta = timedelta(minutes=10)  # how long the scheduler may be out of reach before its runs are given up
