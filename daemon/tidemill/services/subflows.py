"""Subflows: flow runs that the code of another run begins and ends. They have no code here and no slots of their own.

RUNNING is durable before the subflow's code starts. A subflow never outlives the attempt that began it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from tidemill.clock import Clock
from tidemill.core.ports import Outcome
from tidemill.core.reports import SubflowEnded, SubflowQuestion
from tidemill.core.runs import FlowRun
from tidemill.core.states import NAMES, State, StateType
from tidemill.errors import StoreUnavailableError, TidemillError, TransitionError
from tidemill.ids import Ids
from tidemill.services.orchestrator import HEAL_S, Orchestrator
from tidemill.services.recorder import DaemonRecorder
from tidemill.services.records import LONGEST_TEXT, MOST_TAGS, bounded, cut

PARAMETER_BYTES = 16 * 1024  # of one parameter, where all of them are more than the next
PARAMETERS_BYTES = 256 * 1024
MOST = 10_000  # of one attempt, open at a time

logger = logging.getLogger("tidemill.subflows")


class Subflows:
    """Begins and ends the flow runs of subflows."""

    def __init__(self, *, orchestrator: Orchestrator, clock: Clock, ids: Ids) -> None:
        self._orchestrator = orchestrator
        self._clock = clock
        self._ids = ids
        self._ending: dict[str, set[asyncio.Task[None]]] = {}  # by the id of the run whose attempt began them

    async def begin(self, recorder: DaemonRecorder, question: SubflowQuestion) -> str:
        """Make a subflow's run, RUNNING and durable, and return its id. Raises a TidemillError that says why not."""
        parent = recorder.run
        if question.parent_flow_run_id not in (None, parent.id):
            found = recorder.subflows.get(question.parent_flow_run_id or "")
            if found is None:
                raise TidemillError(f"flow run {question.parent_flow_run_id} does not run here and has no subflows")
            parent = found
        if len(recorder.subflows) >= MOST:
            raise TidemillError(f"{MOST} subflows of flow run {recorder.run.name} are open; wait for some to end")
        now = self._clock.now()
        run = FlowRun(
            seq=self._orchestrator.store.next_seq(),
            id=self._ids.new(now),
            name=cut(recorder.masked(question.name), LONGEST_TEXT) if question.name else self._ids.name(),
            flow=cut(question.flow, LONGEST_TEXT),
            work_pool=parent.work_pool,
            work_queue=parent.work_queue,
            parameters=_small(recorder.masked(question.parameters)),
            tags=tuple(dict.fromkeys(question.tags))[:MOST_TAGS],
            expected_start=now,
            state=State(type=StateType.PENDING, name="Pending", timestamp=now),
            attempt=1,
            owner=recorder.run.owner,
            created=now,
            created_by="parent",
            start_time=now,
            parent_run_id=parent.id,
            parent_task_run_id=question.parent_task_run_id,
        )
        running = await self._orchestrator.start_elsewhere(run)
        if recorder.sealed:  # the attempt ended while this was written
            await self._end(running, _after(recorder.run, None, self._clock))
            raise TidemillError(f"the attempt of flow run {recorder.run.name} that began a subflow has ended")
        recorder.subflows[run.id] = running
        return run.id

    def ended(self, recorder: DaemonRecorder, ended: SubflowEnded) -> None:
        """Take note of a subflow's end; one that this attempt did not begin, or that has ended, is nothing."""
        run = recorder.subflows.get(ended.flow_run_id)
        if run is None or not ended.state.is_terminal:
            return
        del recorder.subflows[run.id]
        state = bounded(ended.state)
        if state.name not in NAMES[state.type]:
            state = msgspec.structs.replace(state, name=NAMES[state.type][0])
        masked = msgspec.structs.replace(
            state, message=recorder.masked(state.message), data=recorder.masked(state.data)
        )
        task = asyncio.get_running_loop().create_task(self._end(run, masked))
        ending = self._ending.setdefault(recorder.run.id, set())
        ending.add(task)
        task.add_done_callback(ending.discard)

    async def attempt_ends(self, recorder: DaemonRecorder, outcome: Outcome) -> None:
        """End every subflow that the attempt left open, the innermost first; return when all ends are durable."""
        ending = self._ending.pop(recorder.run.id, None)
        if ending:
            await asyncio.gather(*ending)
        left = list(recorder.subflows.values())
        recorder.subflows.clear()
        for run in reversed(left):
            await self._end(run, _after(recorder.run, outcome, self._clock))

    async def _end(self, run: FlowRun, state: State) -> None:
        """Record an end, whatever it takes; one that is recorded already stays as it is."""
        while True:
            try:
                await self._orchestrator.change(run, state.type, state.name, state.message, data=state.data)
            except StoreUnavailableError:
                await self._clock.sleep(HEAL_S)
                continue
            except TransitionError:
                await self._end_paused(run, state)
            except TidemillError as error:
                logger.warning("the end of subflow %s was not recorded: %s", run.name, error)
            return

    async def _end_paused(self, run: FlowRun, state: State) -> None:
        """Code that went to its end without waiting for the answer was not paused after all."""
        present = await self._orchestrator.get(run.id)
        if present.state.type is StateType.PAUSED:
            running = await self._orchestrator.change(present, StateType.RUNNING, "Running")
            await self._orchestrator.change(running, state.type, state.name, state.message, data=state.data)


def _after(parent: FlowRun, outcome: Outcome | None, clock: Clock) -> State:
    """Return the state of a subflow whose parent ended before it did."""
    if outcome is not None and outcome.type is StateType.CANCELLED:
        message = f"its parent {parent.name} was cancelled" + (f": {outcome.message}" if outcome.message else "")
        return State(type=StateType.CANCELLED, name="Cancelled", timestamp=clock.now(), message=message)
    how = f" ({outcome.name})" if outcome is not None else ""
    return State(
        type=StateType.CRASHED,
        name="Crashed",
        timestamp=clock.now(),
        message=f"its parent {parent.name} ended before it did{how}",
    )


def _small(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters that are not more than is kept; what is cut says so. Raises TidemillError for no JSON."""
    try:
        sizes = {name: len(msgspec.json.encode(value)) for name, value in parameters.items()}
    except (TypeError, ValueError, RecursionError) as error:
        raise TidemillError(f"the parameters of a subflow are not JSON: {error}") from None
    if sum(sizes.values()) <= PARAMETERS_BYTES:
        return parameters
    return {
        name: value if sizes[name] <= PARAMETER_BYTES else f"… [{sizes[name]} bytes of JSON cut]"
        for name, value in parameters.items()
    }
