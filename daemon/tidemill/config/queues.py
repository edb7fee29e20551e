"""Reading pools and queues, and seeing which of them each deployment means.

A queue stands in front of one pool. Every pool has a queue of its own, of the same name; a deployment that names only a
pool waits there. A queue that no table describes is made when a deployment names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tidemill.config.deployments import Read
from tidemill.config.faults import Faults, alike, did_you_mean, show
from tidemill.config.keys import WORK_QUEUE
from tidemill.config.pools import DEFAULT, PROCESS, read_pool, settle_process
from tidemill.config.tables import Entry, Tables, read_keys
from tidemill.core.deployments import Deployment, PoolType, WorkPool, WorkQueue


class Lines(NamedTuple):
    """Pools and queues by name, and the deployments with the names of theirs filled in."""

    work_pools: dict[str, WorkPool]
    work_queues: dict[str, WorkQueue]
    deployments: dict[str, Deployment]


def read_lines(tables: Tables, reads: Sequence[Read], faults: Faults) -> Lines:
    """Read the pools' and queues' tables and bring every deployment to its queue."""
    pools = {name: read_pool(name, entry, faults) for name, entry in tables.named["work_pools"].items()}
    if tables.find("work_pools", DEFAULT) is None:
        pools[DEFAULT] = WorkPool(name=DEFAULT)
    if tables.find("work_pools", PROCESS) is None:
        pools[PROCESS] = WorkPool(name=PROCESS, type=PoolType.PROCESS)
    known = {alike(name): name for name in pools}
    queues = {alike(name): _queue(name, entry, known, faults) for name, entry in tables.named["work_queues"].items()}
    for pool in pools:
        queues.setdefault(alike(pool), WorkQueue(name=pool, work_pool=pool, automatic=True))
    # Who names the pool, too, decides where an automatic queue stands.
    deployments: dict[str, Deployment] = {}
    for read in sorted(reads, key=lambda read: read.work_pool is None):
        queue = _queue_of(read, known, queues, faults)
        deployment = msgspec.structs.replace(read.deployment, work_pool=queue.work_pool, work_queue=queue.name)
        deployments[deployment.name] = settle_process(read.entry, deployment, pools[queue.work_pool], faults)
    in_order = {read.deployment.name: deployments[read.deployment.name] for read in reads}
    return Lines(pools, {queue.name: queue for queue in queues.values()}, in_order)


def _queue(name: str, entry: Entry, pools: Mapping[str, str], faults: Faults) -> WorkQueue:
    values = read_keys(entry, WORK_QUEUE, faults)
    own = pools.get(alike(name))
    written = values.pop("work_pool", None)
    pool = own if written is None else _pool(entry, written, pools, faults)
    if own is not None and pool is not None and pool != own:
        problem = f'a queue of the name of work pool "{own}" stands in front of that one'
        faults.add(entry.document, (*entry.path, "work_pool"), problem, f'write "{own}", or rename the queue')
    return WorkQueue(name=name, work_pool=pool or DEFAULT, **values)


def _queue_of(read: Read, pools: Mapping[str, str], queues: dict[str, WorkQueue], faults: Faults) -> WorkQueue:
    """Return the queue a deployment means; one that nothing describes is added to ``queues``."""
    pool = None if read.work_pool is None else _pool(read.entry, read.work_pool, pools, faults)
    name = read.work_queue or pool or DEFAULT
    queue = queues.setdefault(alike(name), WorkQueue(name=name, work_pool=pool or DEFAULT, automatic=True))
    if pool is not None and queue.work_pool != pool:
        problem = f'work queue "{queue.name}" stands in front of work pool "{queue.work_pool}", not "{pool}"'
        path = (*read.entry.path, "work_pool")
        faults.add(read.entry.document, path, problem, f'write "{queue.work_pool}", or name another queue')
    return queue


def _pool(entry: Entry, name: str, pools: Mapping[str, str], faults: Faults) -> str | None:
    found = pools.get(alike(name))
    if found is None:
        remedy = did_you_mean(name, pools.values()) or f'add [work_pools.{name}], or use "{DEFAULT}"'
        faults.add(entry.document, (*entry.path, "work_pool"), f"there is no work pool {show(name)}", remedy)
    return found
