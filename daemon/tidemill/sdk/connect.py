"""Flows and tasks that a script calls: where their reports go.

``TIDEMILL_API_URL`` names a daemon; without it the control sockets are looked for; without any of these nothing is
kept, and what happens is told on standard error. Which one it is, is said once a process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from tidemill.clock import Clock, SystemClock
from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.core.ports import Job, Recorder
from tidemill.core.states import StateType
from tidemill.sdk import capture
from tidemill.sdk.canonical import unicode_text
from tidemill.sdk.context import RunContext, current
from tidemill.sdk.deadline import HEEDING_S, Interruptible
from tidemill.sdk.definitions import FlowDefinition
from tidemill.sdk.documents import as_document
from tidemill.sdk.driver import drive
from tidemill.sdk.exceptions import TerminationSignal
from tidemill.sdk.flow_engine import run_flow
from tidemill.sdk.identity import new_id, new_name
from tidemill.sdk.local import LocalRecorder
from tidemill.sdk.runs import FlowRun
from tidemill.sdk.scopes import current_tags
from tidemill.sdk.scripts import found_daemon
from tidemill.sdk.states import State
from tidemill.sdk.ways import AWAITING, BLOCKING, Way


class Session(Protocol):
    """A script's flow run with whoever keeps it."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def recorder(self) -> Recorder: ...

    @property
    def clock(self) -> Clock: ...

    def attend(self, context: RunContext) -> None:
        """Pass a wish to cancel on to the run from now on."""
        ...

    def end(self, state: State, document: Any) -> None:
        """Tell the run's last state; return when it is kept."""
        ...


# (flow's name, run's name or None, parameters as JSON, tags) -> a session that has begun
Begin = Callable[[str, str | None, dict[str, Any], tuple[str, ...]], Session]


class LocalSession:
    """A flow run that nobody keeps."""

    def __init__(self, flow: str, name: str | None, clock: Clock) -> None:
        self.clock = clock
        self.id = new_id(clock.now())
        self.name = name or new_name()
        self.recorder: LocalRecorder = LocalRecorder(self.name, clock)
        self.recorder.tell(
            logging.INFO, f"Flow run {self.name!r}", f"Beginning flow run for flow {flow!r}", clock.now()
        )

    def attend(self, context: RunContext) -> None:
        """Nobody can cancel it."""

    def end(self, state: State, document: Any) -> None:
        level = logging.INFO if state.is_completed() else logging.ERROR
        told = f"Finished in state {state!r}"
        self.recorder.tell(level, f"Flow run {self.name!r}", told, self.clock.now())


_begin: Begin | None = None
_said: set[str] = set()
_CLOCK: Clock = SystemClock()


def begin_with(begin: Begin | None) -> Begin | None:
    """Begin flows outside a run with ``begin`` from now on (None: look for a daemon); return what it was before."""
    global _begin
    before, _begin = _begin, begin
    return before


def begin_session(flow: str, name: str | None, parameters: dict[str, Any], tags: tuple[str, ...]) -> Session:
    """Begin a script's flow run with the daemon that is found, or locally."""
    if _begin is not None:
        return _begin(flow, name, parameters, tags)
    daemon = found_daemon(os.environ)
    if daemon is not None:
        _say(f"reporting to the daemon at {daemon.where}")
        return daemon.begin(flow, name, parameters, tags)
    _say("no daemon found (TIDEMILL_API_URL is not set, no control socket answers): nothing of this run is kept")
    return LocalSession(flow, name, _CLOCK)


def _say(what: str) -> None:
    if what not in _said:
        _said.add(what)
        LocalRecorder("", _CLOCK).tell(logging.INFO, "tidemill", what, _CLOCK.now())


@contextmanager
def outside() -> Iterator[RunContext]:
    """A context for a task that is called outside any flow: it runs as any task does, and nothing of it is kept."""
    capture.install_for_scripts()
    id_ = new_id(_CLOCK.now())
    recorder: Recorder = LocalRecorder("none", _CLOCK)
    context = RunContext(_job(id_, "none", "none", {}, ()), recorder, _CLOCK)
    token = current.set(context)
    try:
        yield context
    finally:
        context.close()
        current.reset(token)


def script_run(flow: FlowDefinition, parameters: dict[str, Any], *, wait_for: Any, return_state: bool) -> Any:
    """Run a sync flow that a script calls."""
    with _Script(flow, parameters) as script, Interruptible() as code:
        script.interrupt(code)
        return drive(script.carry(BLOCKING, wait_for, return_state))


async def script_run_async(
    flow: FlowDefinition, parameters: dict[str, Any], *, wait_for: Any, return_state: bool
) -> Any:
    """Run an async flow that a script awaits."""
    script = _Script(flow, parameters)
    await asyncio.to_thread(script.begin)
    try:
        script.enter()
        script.cancel_with(asyncio.get_running_loop(), asyncio.current_task())
        return await script.carry(AWAITING, wait_for, return_state)
    finally:
        await asyncio.shield(asyncio.to_thread(script.leave))


class _Script:
    """A flow run of a script, from its beginning to its end."""

    def __init__(self, flow: FlowDefinition, parameters: dict[str, Any]) -> None:
        self._flow = flow
        self._parameters = parameters
        self._state: State | None = None

    def __enter__(self) -> _Script:
        self.begin()
        self.enter()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.leave()

    def begin(self) -> None:
        """Begin the run with whoever keeps it; may wait for an answer."""
        capture.install_for_scripts()
        tags = tuple(sorted(current_tags()))
        named = self._flow.flow_run_name
        try:
            name = unicode_text(named.format(**self._parameters)) if isinstance(named, str) else None
        except (KeyError, IndexError, ValueError, AttributeError):
            name = None  # told when the flow is called
        documents = {key: as_document(value) for key, value in self._parameters.items()}
        self._session = begin_session(self._flow.name, name, documents, tags)
        job = _job(self._session.id, self._session.name, self._flow.name, documents, tags)
        self._context = RunContext(job, self._session.recorder, self._session.clock)
        self._session.attend(self._context)
        now = self._session.clock.now()
        self._run = FlowRun(
            id=job.run_id,
            name=job.run_name,
            flow_name=self._flow.name,
            flow_version=self._flow.version,
            parameters=self._parameters,
            tags=frozenset(tags),
            state=State(StateType.RUNNING, timestamp=now),
            expected_start_time=now,
        )

    def enter(self) -> None:
        self._token = current.set(self._context)

    def cancel_with(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        """Cancel ``task`` when the run is told to end."""
        if task is not None:
            self._context.on_end = partial(_cancel_there, loop, task)

    def interrupt(self, code: Interruptible) -> None:
        """Interrupt ``code``, which runs in a thread, when the run is told to end and it does not heed that."""
        self._context.on_end = partial(_interrupt_later, self._context, code)

    async def carry(self, way: Way, wait_for: Any, return_state: bool) -> Any:
        """Run the flow; what it raises is raised."""
        try:
            return await run_flow(
                self._flow,
                self._parameters,
                self._context,
                way,
                run=self._run,
                wait_for=wait_for,
                return_state=return_state,
            )
        finally:
            current.reset(self._token)
            self._context.close()

    def leave(self) -> None:
        """Tell how it ended; may wait until that is kept."""
        state = self._run.state
        if not state.is_final():
            cancelled = self._context.told_to_end
            type_ = StateType.CANCELLED if cancelled else StateType.CRASHED
            state = State(type_, message="The run was cancelled." if cancelled else "The script ended it.")
        self._session.end(state, as_document(state.data) if state.is_completed() else None)


def _interrupt_later(context: RunContext, code: Interruptible) -> None:
    timer = threading.Timer(HEEDING_S, _interrupt, (context, code))
    timer.daemon = True
    timer.start()


def _interrupt(context: RunContext, code: Interruptible) -> None:
    if context.told_to_end:  # else its hooks are at work, which is heeding it
        code.interrupt(TerminationSignal)


def _cancel_there(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    loop.call_soon_threadsafe(task.cancel)


def _job(id_: str, name: str, flow: str, parameters: dict[str, Any], tags: tuple[str, ...]) -> Job:
    return Job(
        run_id=id_,
        run_name=name,
        attempt=1,
        flow=FlowRef(kind=FlowKind.MODULE, entrypoint=flow, name=flow),
        deployment=None,
        parameters=parameters,
        tags=tags,
        expected_start=_CLOCK.now(),
    )
