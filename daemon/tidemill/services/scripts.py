"""Runs of plain scripts: their code is a process of somebody's own, which reports over HTTP and shows signs of life.

A session is one script's say over one run. Its lease is renewed by everything it says; when it runs out the run has
ended without its script. The protocol is that of api/script_runs.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from tidemill.clock import Clock
from tidemill.core.ports import Outcome
from tidemill.core.reports import Report
from tidemill.core.runs import FlowRun
from tidemill.core.script_runs import (
    HEARTBEAT_S,
    LEASE_S,
    LONGEST_WAIT_S,
    MAX_QUESTIONS,
    ScriptAnswer,
    ScriptAsks,
    ScriptBegins,
    ScriptBegun,
    ScriptEnds,
    ScriptHeard,
    ScriptReports,
)
from tidemill.core.states import State, StateType
from tidemill.errors import TidemillError, TransitionError
from tidemill.ids import Ids
from tidemill.services.orchestrator import Orchestrator
from tidemill.services.recorder import DaemonRecorder
from tidemill.services.records import LONGEST_TEXT, MOST_TAGS, bounded, cut
from tidemill.store import runs as stored_runs

EXTERNAL = "external:"  # before the session, in a run's owner
PLACE = "script"  # the pool and queue such runs are listed under
ANSWER_KEPT_S = 60.0
MOST_SESSIONS = 1_000

logger = logging.getLogger("tidemill.scripts")


class _Session:
    """One script's run."""

    def __init__(self, run: FlowRun, recorder: DaemonRecorder, number: int | None) -> None:
        self.run = run
        self.recorder = recorder
        self.number = number  # of the last body taken; None: any may be the next
        self.heard: ScriptHeard | None = None  # the answer to it; None: it is not durable yet
        self.problem: str | None = None
        self.cancel: str | None = None
        self.asked: dict[int, asyncio.Task[Any]] = {}
        self.lock = asyncio.Lock()  # one body at a time
        self.waits = 0  # requests under way
        self.ended = False
        self.lease: asyncio.TimerHandle | None = None

    @property
    def id(self) -> str:
        return (self.run.owner or "").removeprefix(EXTERNAL)


class Scripts:
    """Begins the runs of scripts, takes what they say, and ends those that fall silent."""

    def __init__(
        self,
        *,
        orchestrator: Orchestrator,
        clock: Clock,
        ids: Ids,
        recorder: Callable[[FlowRun], DaemonRecorder] | None = None,
        attempt_ended: Callable[[str, int], None] = lambda run_id, attempt: None,
        lease_s: float = LEASE_S,
    ) -> None:
        self.recorder = recorder  # who makes recorders; None: no script is listened to
        self._orchestrator = orchestrator
        self._clock = clock
        self._ids = ids
        self._attempt_ended = attempt_ended
        self._lease_s = lease_s
        self._sessions: dict[str, _Session] = {}  # by run id
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- what scripts say --------------------------------------------------------------------------------------------

    async def begin(self, said: ScriptBegins) -> ScriptBegun:
        """Begin a run, RUNNING and durable. Raises a TidemillError that says why not."""
        if self.recorder is None:
            raise TidemillError("this daemon does not take runs of scripts")
        key = f"script:{said.key}"
        known = await self._known(key)
        if known is None:
            if len(self._sessions) >= MOST_SESSIONS:
                raise TidemillError(f"{MOST_SESSIONS} scripts report already; wait for some to end")
            known = await self._orchestrator.start_elsewhere(self._made(said, key))
            self._open(known, number=0)
        session = self._sessions[known.id]
        return ScriptBegun(
            id=known.id,
            name=known.name,
            session=session.id,
            attempt=known.attempt,
            start_time=known.start_time or known.created,
            lease_s=self._lease_s,
            heartbeat_s=min(HEARTBEAT_S, self._lease_s / 3),
        )

    async def take(self, run_id: str, said: ScriptReports) -> ScriptHeard:
        """Take reports and make them durable. Raises a TidemillError that says why not."""
        session = await self._session(run_id, said.session)
        async with session.lock:
            self._still(session)
            self._renew(session)
            self._feed(session, said.number, said.reports)
            if session.heard is None:
                await session.recorder.flush()
                session.heard = ScriptHeard(cancel=session.cancel, problem=session.problem)
                session.problem = None
            self._renew(session)
            return session.heard

    async def ask(self, run_id: str, said: ScriptAsks) -> ScriptAnswer:
        """Answer a question, or say that there is no answer yet."""
        session = await self._session(run_id, said.session)
        self._renew(session)
        task = session.asked.get(said.number)
        if task is None:
            if len(session.asked) >= MAX_QUESTIONS:
                raise TidemillError(f"{MAX_QUESTIONS} questions are open; wait for answers")
            task = asyncio.get_running_loop().create_task(session.recorder.ask(said.question))
            session.asked[said.number] = task
            task.add_done_callback(lambda done: self._answered(session, said.number, done))
        session.waits += 1
        try:
            await asyncio.wait({task}, timeout=min(max(0.0, said.wait_s), LONGEST_WAIT_S))
        finally:
            session.waits -= 1
            if not session.ended:
                self._renew(session)
        if not task.done():
            return ScriptAnswer(answered=False, cancel=session.cancel)
        if task.cancelled():
            self._still(session)
            return ScriptAnswer(error="the question was taken back", cancel=session.cancel)
        error = task.exception()
        if isinstance(error, TidemillError):
            return ScriptAnswer(error=str(error), cancel=session.cancel)
        return ScriptAnswer(answer=task.result(), cancel=session.cancel)

    async def end(self, run_id: str, said: ScriptEnds) -> FlowRun:
        """End a run as its script says, terminal and durable; return it. A second time it is returned as it ended."""
        if not said.state.is_terminal:
            raise TidemillError(f"a run ends in a terminal state, not in {said.state.type}")
        run = await self._orchestrator.get(run_id)
        if run.state.is_terminal and run.owner == f"{EXTERNAL}{said.session}":
            return run
        session = await self._session(run_id, said.session)
        async with session.lock:
            if session.ended:
                return await self._orchestrator.get(run_id)
            self._feed(session, said.number, said.reports)
            state = bounded(said.state)
            outcome = Outcome(
                type=state.type,
                name=state.name,
                message=session.recorder.masked(state.message),
                data=session.recorder.masked(state.data),
                retriable=False,
            )
            return await self._conclude(session, outcome)

    def cancel(self, run: FlowRun, reason: str) -> bool:
        """Tell a script, when it says something next, to end its run; False: no script has it."""
        session = self._sessions.get(run.id)
        if session is None or session.ended:
            return False
        session.run, session.cancel = run, reason
        if session.heard is not None:
            session.heard = ScriptHeard(cancel=reason, problem=session.heard.problem)
        for task in session.asked.values():
            task.cancel()  # what it waits for (a slot, a person) does not matter any more
        return True

    # -- a daemon's life ---------------------------------------------------------------------------------------------

    async def adopt(self) -> int:
        """Give every script that an earlier daemon listened to a new lease; return how many. Before anything starts."""
        if self.recorder is None:
            return 0
        unfinished = await self._orchestrator.store.read(stored_runs.unfinished)
        outside = [run for run in unfinished if is_external(run)]
        for run in outside:
            if run.created_by == "script":
                session = self._open(run, number=None)
                if run.state.type is StateType.CANCELLING:
                    session.cancel = run.state.message or "cancelled"
        for run in outside:
            if run.created_by != "script":
                self._adopt_subflow(run)
        return len(self._sessions)

    def close(self) -> None:
        """Listen to nobody any more. The runs stay as they are: the next daemon gives them a new lease."""
        for session in self._sessions.values():
            session.ended = True
            if session.lease is not None:
                session.lease.cancel()
            for task in session.asked.values():
                task.cancel()
        for task in self._tasks:
            task.cancel()
        self._sessions.clear()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _made(self, said: ScriptBegins, key: str) -> FlowRun:
        now = self._clock.now()
        return FlowRun(
            seq=self._orchestrator.store.next_seq(),
            id=self._ids.new(now),
            name=cut(said.name, LONGEST_TEXT) if said.name else self._ids.name(),
            flow=cut(said.flow, LONGEST_TEXT) or "script",
            work_pool=PLACE,
            work_queue=PLACE,
            parameters=said.parameters,
            tags=tuple(dict.fromkeys(said.tags))[:MOST_TAGS],
            expected_start=now,
            state=State(type=StateType.PENDING, name="Pending", timestamp=now),
            attempt=1,
            owner=f"{EXTERNAL}{self._ids.new(now)}",
            created=now,
            created_by="script",
            start_time=now,
            idempotency_key=key,
        )

    async def _known(self, key: str) -> FlowRun | None:
        """Return the run that was begun with a key and goes on. Raises TransitionError where it has ended."""
        found = await self._orchestrator.store.read(lambda connection: stored_runs.by_idempotency_key(connection, key))
        if found is not None and found.id not in self._sessions:
            raise TransitionError(f"flow run {found.name} ({found.id}) was begun with this key and has ended")
        return found

    def _open(self, run: FlowRun, *, number: int | None) -> _Session:
        assert self.recorder is not None
        session = self._sessions[run.id] = _Session(run, self.recorder(run), number)
        self._renew(session)
        return session

    def _adopt_subflow(self, run: FlowRun) -> None:
        session = next((each for each in self._sessions.values() if each.run.owner == run.owner), None)
        if session is not None:
            session.recorder.subflows[run.id] = run

    async def _session(self, run_id: str, session_id: str) -> _Session:
        session = self._sessions.get(run_id)
        if session is None:
            run = await self._orchestrator.get(run_id)
            raise TransitionError(f"flow run {run.name} ({run.id}) is {run.state.name} and takes nothing from a script")
        if session.id != session_id:
            raise TransitionError(f"flow run {session.run.name} ({run_id}) is another script's")
        return session

    def _still(self, session: _Session) -> None:
        if session.ended:
            run = session.run
            raise TransitionError(f"flow run {run.name} ({run.id}) has ended and takes nothing from its script")

    def _feed(self, session: _Session, number: int, reports: Iterable[Report]) -> None:
        """Take the reports of a body, once."""
        if session.number is not None and number == session.number:
            return
        if session.number is not None and number != session.number + 1:
            raise TransitionError(f"body {number} came, and {session.number + 1} is the next; one at a time, in order")
        session.number, session.heard = number, None
        for report in reports:
            try:
                session.recorder.report(report)
            except ValueError as error:
                session.problem = session.problem or str(error)

    def _renew(self, session: _Session) -> None:
        if session.lease is not None:
            session.lease.cancel()
        session.lease = asyncio.get_running_loop().call_later(self._lease_s, self._run_out, session)

    def _run_out(self, session: _Session) -> None:
        if session.waits or session.lock.locked():
            self._renew(session)
            return
        task = asyncio.get_running_loop().create_task(self._expire(session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _expire(self, session: _Session) -> None:
        if session.cancel is not None:
            outcome = Outcome(type=StateType.CANCELLED, name="Cancelled", message=session.cancel, retriable=False)
        else:
            text = "the script stopped reporting"
            outcome = Outcome(type=StateType.CRASHED, name="Crashed", message=text, retriable=False)
        async with session.lock:
            if session.ended:
                return
            try:
                await self._conclude(session, outcome)
            except TidemillError as error:
                logger.error("the end of %s, whose script fell silent, was not recorded: %s", session.run.name, error)

    async def _conclude(self, session: _Session, outcome: Outcome) -> FlowRun:
        session.ended = True
        if session.lease is not None:
            session.lease.cancel()
        problem = await session.recorder.settle(outcome)
        for task in session.asked.values():
            task.cancel()
        problem = session.problem or problem
        if problem is not None and outcome.type is StateType.COMPLETED:
            outcome = Outcome(type=StateType.FAILED, name="Failed", message=problem, retriable=False)
        try:
            return await self._orchestrator.conclude(session.run, outcome, None)
        finally:
            self._sessions.pop(session.run.id, None)
            self._attempt_ended(session.run.id, session.run.attempt)

    def _answered(self, session: _Session, number: int, done: asyncio.Task[Any]) -> None:
        if not done.cancelled():
            error = done.exception()  # looked at, so that nobody complains that it was not
            if error is not None and not isinstance(error, TidemillError):
                logger.error("a script's question failed", exc_info=error)
        asyncio.get_running_loop().call_later(ANSWER_KEPT_S, session.asked.pop, number, None)


def is_external(run: FlowRun) -> bool:
    """Say whether a run's code is a script's, in a process of its own that may live on without the daemon."""
    return run.owner is not None and run.owner.startswith(EXTERNAL)
