"""The one door for every state change of a flow run: decide with the pure rules, write, publish.

Scheduler, dispatcher, workers, API and recovery all knock here. What a decision was made on is checked again by the
UPDATE itself (state number), so a stale decision fails instead of overwriting; a person's action then decides anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tidemill.clock import Clock
from tidemill.core import transitions
from tidemill.core.deployments import Deployment, OnCrash
from tidemill.core.events import RunChanged
from tidemill.core.ports import Outcome
from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType
from tidemill.errors import NotFoundError, StoreUnavailableError, TidemillError
from tidemill.ids import Ids
from tidemill.store import Store
from tidemill.store import runs as stored_runs

# How long to wait before a write that the disk refused is tried again.
HEAL_S = 1.0
# A decision loses against another one at most a few times; more would be a fault of ours, not a race.
MAX_TRIES = 8


class Orchestrator:
    """Changes runs' states, durably, for everybody."""

    def __init__(self, *, store: Store, clock: Clock, ids: Ids, owner: str) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.owner = owner
        self.stopping = False

    async def create(self, run: FlowRun) -> bool:
        """Store a new run; False: one with the same (deployment, schedule, due) or idempotency key is there."""
        event = RunChanged(run, (run.state,), None)
        return await self.store.write(stored_runs.CREATE_RUNS, run, event=event)

    async def start_elsewhere(self, run: FlowRun) -> FlowRun:
        """Make a run whose code runs already, PENDING as it is given and RUNNING, in one commit; return it running.

        Raises TidemillError where a run with its idempotency key is there.
        """
        running = State(type=StateType.RUNNING, name="Running", timestamp=run.state.timestamp)
        transition = transitions.enter(run, running)
        made = self.store.submit(stored_runs.CREATE_RUNS, run, event=RunChanged(run, (run.state,), None))
        started = self.store.submit(
            stored_runs.TRANSITIONS, transition, event=RunChanged(transition.run, transition.states, run.state)
        )
        if not await made:
            await started
            raise TidemillError(f"a run with the idempotency key {run.idempotency_key} is there already")
        await started
        return transition.run

    async def begin(self, run: FlowRun, *, owner: str | None = None) -> FlowRun | None:
        """Make the start of an attempt durable and return the running run; None: it was changed meanwhile.

        Waits while the store is unavailable, unless the daemon stops: user code never starts before its RUNNING is
        committed. ``owner`` says where an attempt lives that outlives this daemon; None: in this one.
        """
        while True:
            transition = transitions.begin(run, self.clock.now(), owner or self.owner)
            try:
                done = await self._write(transition, run.state)
            except StoreUnavailableError:
                if self.stopping:
                    return None
                await self.clock.sleep(HEAL_S)
                continue
            return transition.run if done else None

    async def conclude(self, run: FlowRun, outcome: Outcome, deployment: Deployment | None) -> FlowRun:
        """Record how an attempt ended, whatever it takes: waits for the store, decides anew when stale.

        An attempt that is no longer the run's present one changes nothing (it is fenced); the run is returned as it is.
        """
        retry = deployment.retry if deployment is not None else None
        on_crash = deployment.on_crash if deployment is not None else OnCrash.FAIL
        attempt = run.attempt
        while True:
            transition = transitions.conclude(
                run, outcome, self.clock.now(), retry=retry, on_crash=on_crash, source=self.ids.random
            )
            try:
                if await self._write(transition, run.state):
                    return transition.run
                run = await self.get(run.id)
            except StoreUnavailableError:
                await self.clock.sleep(HEAL_S)
                continue
            if run.attempt != attempt or run.state.is_terminal or run.state.type is StateType.SCHEDULED:
                return run

    async def change(
        self,
        run: FlowRun,
        type_: StateType,
        name: str,
        message: str | None = None,
        *,
        data: Any = None,
        by_person: bool = False,
        **changes: Any,
    ) -> FlowRun:
        """Bring a run into a state and return it; raises TransitionError where the run is in no state to.

        Decides anew on the stored run when somebody else was faster.
        """
        for _ in range(MAX_TRIES):
            state = State(type=type_, name=name, timestamp=self.clock.now(), message=message, data=data)
            transition = transitions.enter(run, state, by_person=by_person, **changes)
            if await self._write(transition, run.state):
                return transition.run
            run = await self.get(run.id)
        raise StoreUnavailableError(f"flow run {run.name} ({run.id}) changes faster than it can be changed; try again")

    async def change_all(self, decided: Sequence[tuple[FlowRun, Transition]]) -> int:
        """Write many transitions in one group; return how many held. For recovery and lateness, which look again."""
        futures = [
            self.store.submit(
                stored_runs.TRANSITIONS, transition, event=RunChanged(transition.run, transition.states, run.state)
            )
            for run, transition in decided
        ]
        held = 0
        for future in futures:
            held += await future
        return held

    async def get(self, run_id: str) -> FlowRun:
        """Return the stored run; raises NotFoundError."""
        run = await self.store.read(partial(stored_runs.get, run_id=run_id))
        if run is None:
            raise NotFoundError(f"no flow run has the id {run_id}; it may have been deleted")
        return run

    async def _write(self, transition: Transition, before: State) -> bool:
        event = RunChanged(transition.run, transition.states, before)
        return await self.store.write(stored_runs.TRANSITIONS, transition, event=event)
