"""Recovery: what a crash or a stop left unfinished is dealt with before any new run starts (P4)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from tidemill.core.deployments import OnCrash, PoolType
from tidemill.core.ports import Outcome
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType
from tidemill.core.transitions import conclude, enter
from tidemill.services.catalogue import Catalogue
from tidemill.services.orchestrator import Orchestrator
from tidemill.services.orphans import Ended
from tidemill.services.scripts import is_external
from tidemill.services.worker import owner_elsewhere
from tidemill.store import runs as stored_runs
from tidemill.store import task_runs

EndOrphans = Callable[[Sequence[FlowRun]], Awaitable[Mapping[str, Ended]]]

PIECE = 500  # flow runs whose task runs are ended in one change

logger = logging.getLogger("tidemill.recovery")


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs were put back in line, called crashed, are tried again, and were cancelled.

    ``elsewhere`` are those that live on without the daemon and are to be followed again; and their subflows.
    """

    rescheduled: int = 0
    crashed: int = 0
    retried: int = 0
    cancelled: int = 0
    elsewhere: tuple[FlowRun, ...] = ()
    subflows: tuple[FlowRun, ...] = ()


async def recover(
    orchestrator: Orchestrator,
    catalogue: Catalogue,
    *,
    now: datetime,
    last_alive: datetime | None,
    end_orphans: EndOrphans | None = None,
) -> Recovered:
    """Deal with every run that an earlier daemon on this database left unfinished; return what was done.

    PENDING goes back in line with no retry spent. RUNNING is CRASHED with the reason, or awaits a retry where its
    deployment says ``on_crash = "retry"``; PAUSED likewise, as the code that waited is gone. CANCELLING is CANCELLED.
    What they had started is ended before; a run of which something cannot be ended is not tried again. Subflows end
    as their parents do, task runs with their flow run. Runs of scripts live on, under a lease; so do those that a Dask
    cluster has, with their subflows.
    """
    unfinished = await orchestrator.store.read(stored_runs.unfinished)
    runs = [run for run in unfinished if run.owner != orchestrator.owner and not is_external(run)]
    elsewhere, subflows, runs = _elsewhere(runs, catalogue)
    orphans = await end_orphans(runs) if end_orphans is not None else {}
    counts = {"rescheduled": 0, "crashed": 0, "retried": 0, "cancelled": 0}
    changes: list[tuple[FlowRun, Transition]] = []
    for run in runs:
        kind, transition = _decide(
            run,
            orchestrator=orchestrator,
            catalogue=catalogue,
            now=now,
            last_alive=last_alive,
            orphans=orphans.get(run.id, Ended()),
        )
        counts[kind] += 1
        changes.append((run, transition))
    await orchestrator.change_all(changes)
    await _end_task_runs(orchestrator, [run.seq for run, _ in changes], now)
    for run, transition in changes:
        logger.warning(
            "%s: %s was left %s by an earlier daemon and is %s now",
            run.deployment or run.flow,
            run.name,
            run.state.name,
            transition.run.state.name,
            extra={"fields": {"run": run.id, "deployment": run.deployment, "state": transition.run.state.name}},
        )
    return Recovered(**counts, elsewhere=tuple(elsewhere), subflows=tuple(subflows))


def _elsewhere(runs: Sequence[FlowRun], catalogue: Catalogue) -> tuple[list[FlowRun], list[FlowRun], list[FlowRun]]:
    """Tell apart what lives on in a cluster that is still configured, its subflows, and everything else."""
    pools = {owner_elsewhere(pool): pool.name for pool in catalogue.pools.values() if pool.type == PoolType.DASK}
    candidates = [run for run in runs if run.owner in pools]
    found = [run for run in candidates if run.created_by != "parent" and pools[run.owner or ""] == run.work_pool]
    subflows: list[FlowRun] = []
    ids = {run.id for run in found}
    more = True
    while more:  # subflows may have subflows
        children = [run for run in candidates if run.id not in ids and run.parent_run_id in ids]
        subflows += children
        ids |= {run.id for run in children}
        more = bool(children)
    return found, subflows, [run for run in runs if run.id not in ids]


def _decide(
    run: FlowRun,
    *,
    orchestrator: Orchestrator,
    catalogue: Catalogue,
    now: datetime,
    last_alive: datetime | None,
    orphans: Ended,
) -> tuple[str, Transition]:
    if run.state.type is StateType.PENDING and run.created_by != "parent":
        state = State(
            type=StateType.SCHEDULED, name="Scheduled", timestamp=now, message="the daemon ended before it could start"
        )
        return "rescheduled", enter(run, state)
    if run.state.type is StateType.CANCELLING:
        state = State(type=StateType.CANCELLED, name="Cancelled", timestamp=now, message=run.state.message)
        return "cancelled", enter(run, state)
    # What it recorded of the run, it recorded while it lived.
    seen = max(last_alive or run.state.timestamp, run.state.timestamp)
    alive = f"; it was last known alive at {seen:%Y-%m-%d %H:%M:%SZ}"
    outcome = Outcome(
        type=StateType.CRASHED,
        name="Crashed",
        message=f"the daemon ended while it ran (killed, crashed or lost power){alive}{_told(orphans)}",
    )
    deployment = catalogue.deployments.get(run.deployment or "")
    on_crash = deployment.on_crash if deployment is not None and not orphans.left else OnCrash.FAIL
    transition = conclude(
        run,
        outcome,
        now,
        retry=deployment.retry if deployment is not None else None,
        on_crash=on_crash,
        source=orchestrator.ids.random,
    )
    # Its time is what it lived, as far as is known, and not the time in which there was no daemon.
    lived = (seen - run.state.timestamp).total_seconds()
    transition = replace(transition, run=replace(transition.run, run_time_s=run.run_time_s + lived))
    return "retried" if transition.run.state.type is StateType.SCHEDULED else "crashed", transition


async def _end_task_runs(orchestrator: Orchestrator, seqs: Sequence[int], now: datetime) -> None:
    state = State(
        type=StateType.CRASHED, name="Crashed", timestamp=now, message="the daemon ended while its flow run ran"
    )
    for first in range(0, len(seqs), PIECE):
        ending = task_runs.Ending(runs=tuple(seqs[first : first + PIECE]), state=state)
        await orchestrator.store.write(task_runs.END_TASK_RUNS, ending)


def _told(orphans: Ended) -> str:
    if orphans.left:
        return f"; it left processes behind that cannot be ended: {', '.join(map(str, orphans.left))}"
    if orphans.count:
        what = "a process" if orphans.count == 1 else f"{orphans.count} processes"
        return f"; it left {what} behind, ended before anything new started"
    return ""
