"""Recovery: what a crash or a stop left unfinished is dealt with before any new run starts (P4)."""

from __future__ import annotations

import logging
from datetime import datetime

import msgspec

from tidemill.core.deployments import OnCrash
from tidemill.core.ports import Outcome
from tidemill.core.retries import RetryPolicy
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType
from tidemill.core.transitions import conclude, enter
from tidemill.services.catalogue import Catalogue
from tidemill.services.orchestrator import Orchestrator
from tidemill.store import runs as stored_runs

logger = logging.getLogger("tidemill.recovery")


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs were put back in line, called crashed, are tried again, and were cancelled."""

    rescheduled: int = 0
    crashed: int = 0
    retried: int = 0
    cancelled: int = 0


async def recover(
    orchestrator: Orchestrator, catalogue: Catalogue, *, now: datetime, last_alive: datetime | None
) -> Recovered:
    """Deal with every run that an earlier daemon on this database left unfinished; return what was done.

    PENDING goes back in line with no retry spent. RUNNING is CRASHED with the reason, or awaits a retry where its
    deployment says ``on_crash = "retry"``. CANCELLING is CANCELLED.
    """
    runs = await orchestrator.store.read(stored_runs.unfinished)
    counts = {"rescheduled": 0, "crashed": 0, "retried": 0, "cancelled": 0}
    changes: list[tuple[FlowRun, Transition]] = []
    for run in runs:
        if run.owner == orchestrator.owner or run.state.type is StateType.PAUSED:
            continue
        kind, transition = _decide(run, orchestrator, catalogue, now, last_alive)
        counts[kind] += 1
        changes.append((run, transition))
    await orchestrator.change_all(changes)
    for run, transition in changes:
        logger.warning(
            "%s: %s was left %s by an earlier daemon and is %s now",
            run.deployment or run.flow,
            run.name,
            run.state.name,
            transition.run.state.name,
            extra={"fields": {"run": run.id, "deployment": run.deployment, "state": transition.run.state.name}},
        )
    return Recovered(**counts)


def _decide(
    run: FlowRun, orchestrator: Orchestrator, catalogue: Catalogue, now: datetime, last_alive: datetime | None
) -> tuple[str, Transition]:
    if run.state.type is StateType.PENDING:
        state = State(
            type=StateType.SCHEDULED, name="Scheduled", timestamp=now, message="the daemon ended before it could start"
        )
        return "rescheduled", enter(run, state)
    if run.state.type is StateType.CANCELLING:
        state = State(type=StateType.CANCELLED, name="Cancelled", timestamp=now, message=run.state.message)
        return "cancelled", enter(run, state)
    alive = f"; it was last known alive at {last_alive:%Y-%m-%d %H:%M:%SZ}" if last_alive is not None else ""
    outcome = Outcome(
        type=StateType.CRASHED,
        name="Crashed",
        message=f"the daemon ended while it ran (killed, crashed or lost power){alive}",
    )
    deployment = catalogue.deployments.get(run.deployment or "")
    transition = conclude(
        run,
        outcome,
        now,
        retry=deployment.retry if deployment is not None else RetryPolicy(),
        on_crash=deployment.on_crash if deployment is not None else OnCrash.FAIL,
        source=orchestrator.ids.random,
    )
    return "retried" if transition.run.state.type is StateType.SCHEDULED else "crashed", transition
