"""The keys of a work pool, by its type."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.config import dask_kinds, kinds
from tidemill.config.keys import PROCESS, Key, Keys, keys_of
from tidemill.core.deployments import PoolType

_POOL = (
    Key(
        name="concurrency_limit",
        kind=kinds.whole(1, 100_000),
        default="100",
        unit="runs at a time",
        help="of all its queues together",
    ),
    Key(name="paused", kind=kinds.flag(), default="false", help="true: nothing starts in it"),
    Key(name="description", kind=kinds.text(empty=True), example='"What it is for"', help="for people"),
)
_GRACE = Key(
    name="grace",
    kind=kinds.duration(zero=True),
    example='"15s"',
    unit="duration",
    help="process and dask pools: how long a run that is told to end may take; absent: half of [daemon] grace_period",
)
INLINE_POOL = keys_of(
    Key(
        name="type",
        kind=kinds.choice(PoolType),
        default='"inline"',
        help="inline: in the daemon's own event loop, plain functions in threads",
    ),
    *_POOL,
    Key(
        name="threads",
        kind=kinds.whole(1, 1000),
        default="40",
        unit="threads",
        help="inline pools: for flows that are plain functions",
    ),
)
PROCESS_POOL = keys_of(
    Key(
        name="type",
        kind=kinds.choice(PoolType),
        example='"process"',
        help="process: every run in a child process of its own, apart from the daemon",
    ),
    *_POOL,
    *PROCESS.values(),
    Key(
        name="preload",
        kind=kinds.texts('write module names: ["pandas"]', unique=True),
        default="[]",
        help="process pools: modules imported once, before any run, that all runs find imported",
    ),
    Key(
        name="env",
        kind=kinds.environment(),
        default="{}",
        help="process pools: environment variables of its runs, beside PATH, HOME, LANG, TZ and USER; no secrets",
    ),
    Key(
        name="spares",
        kind=kinds.whole(0, 100),
        default="2",
        unit="processes",
        help="process pools: children that wait ready, so that a run starts sooner",
    ),
    _GRACE,
)
DASK_POOL = keys_of(
    Key(
        name="type",
        kind=kinds.choice(PoolType),
        example='"dask"',
        help='dask: on the workers of a Dask cluster that is there already; needs: pip install "tidemill[dask]"',
    ),
    *_POOL,
    Key(
        name="address",
        kind=dask_kinds.scheduler(),
        example='"tcp://10.0.0.5:8786"',
        help="dask pools: the scheduler's",
    ),
    Key(
        name="workers",
        kind=kinds.texts('write names or addresses of workers: ["big-one"]', unique=True),
        default="[]",
        help="dask pools: names or addresses of the workers that may be used; empty: all",
    ),
    Key(
        name="resources",
        kind=dask_kinds.resources(),
        default="{}",
        help="dask pools: what a run needs of the resources that workers were started with: { GPU = 1 }",
    ),
    Key(
        name="tls",
        kind=dask_kinds.certificates(),
        default="{}",
        help="dask pools: paths of ca, cert and key, where the scheduler's address begins with tls://",
    ),
    Key(
        name="lease",
        kind=kinds.duration(),
        default='"10m"',
        unit="duration",
        help="dask pools: how long the scheduler may be out of reach before its runs count as crashed",
    ),
    _GRACE,
)
WORK_POOL = {**PROCESS_POOL, **DASK_POOL, **INLINE_POOL}
POOLS: Mapping[PoolType, Keys] = {
    PoolType.INLINE: INLINE_POOL,
    PoolType.PROCESS: PROCESS_POOL,
    PoolType.DASK: DASK_POOL,
}
