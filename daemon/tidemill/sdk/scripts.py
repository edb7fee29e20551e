"""A script's flow run with a daemon: reports in batches, questions one by one, a sign of life now and then.

The routes and their rules are those of the daemon's "script runs": a body has a number and is taken once, so whatever
was not answered is sent again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tidemill.clock import Clock, SystemClock
from tidemill.core.reports import ArtifactReport, CacheReport, EventReport, LogReport, Question, Report
from tidemill.core.script_runs import (
    LONGEST_WAIT_S,
    MAX_BODY_BYTES,
    MAX_REPORTS,
    ScriptAnswer,
    ScriptAsks,
    ScriptBegins,
    ScriptBegun,
    ScriptEnds,
    ScriptHeard,
    ScriptReports,
)
from tidemill.errors import DaemonUnreachableError, NotFoundError, StoreUnavailableError, TidemillError, TransitionError
from tidemill.sdk.canonical import canonical
from tidemill.sdk.context import RunContext
from tidemill.sdk.identity import new_id
from tidemill.sdk.local import LocalRecorder
from tidemill.sdk.states import State
from tidemill.sdk.wire import Wire, answers, control_sockets

__all__ = ["Daemon", "ScriptRecorder", "Wire", "found_daemon", "wire_to_daemon"]

GATHER_S = 0.1  # a report waits so long for others, unless somebody waits for it
RETRY_S = 0.5
MOST_WAITING = 200_000  # reports; log lines beyond are dropped and counted
BATCH = 2_000


class Daemon:
    """A daemon that scripts of this process report to."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.where = wire.where

    def begin(self, flow: str, name: str | None, parameters: dict[str, Any], tags: tuple[str, ...]) -> ScriptSession:
        """Begin a flow run with it. Raises a TidemillError that says why not."""
        clock = SystemClock()
        begins = ScriptBegins(
            key=str(uuid.UUID(new_id(clock.now()))), flow=flow, name=name, parameters=parameters, tags=tags
        )
        answer = _insist(lambda: self.wire.send("POST", "/script_runs/", begins), RETRY_S * 10)
        return ScriptSession(self.wire, msgspec.json.decode(answer, type=ScriptBegun), clock)


def wire_to_daemon(environ: Mapping[str, str] = os.environ) -> Wire | None:
    """Return a wire to the daemon that ``TIDEMILL_API_URL`` names, else to a control socket that answers, else None."""
    url = environ.get("TIDEMILL_API_URL")
    if url:
        return Wire(url)
    found = next((path for path in control_sockets(environ) if answers(path)), None)
    return None if found is None else Wire(f"unix://{found}")


def found_daemon(environ: Mapping[str, str]) -> Daemon | None:
    """Return the daemon that scripts of this process report to, or None."""
    wire = wire_to_daemon(environ)
    return None if wire is None else Daemon(wire)


class _KeptState(msgspec.Struct):
    type: str
    name: str
    message: str | None = None


class _Kept(msgspec.Struct):
    """A flow run as the daemon has it at its end; what of it is looked at."""

    state: _KeptState | None = None


class ScriptSession:
    """One flow run of a script with its daemon."""

    def __init__(self, wire: Wire, begun: ScriptBegun, clock: Clock) -> None:
        self.id = begun.id
        self.name = begun.name
        self.clock = clock
        self._wire = wire
        self.recorder = ScriptRecorder(wire, begun, clock)

    def attend(self, context: RunContext) -> None:
        """Pass a wish to cancel on to the run from now on."""
        self.recorder.on_cancel = lambda reason: context.end("cancel")

    def end(self, state: State, document: Any) -> None:
        """Tell the run's last state; return when the daemon has it, or is gone for good."""
        self.recorder.end(state, document)
        self._wire.close()


class ScriptRecorder:
    """Sends reports from a thread of its own and tells log lines on standard error, too. Asking blocks."""

    blocks = True

    def __init__(self, wire: Wire, begun: ScriptBegun, clock: Clock) -> None:
        self.on_cancel: Callable[[str], None] | None = None
        self._wire = wire
        self._begun = begun
        self._clock = clock
        self._teller = LocalRecorder(begun.name, clock)
        self._changed = threading.Condition()
        self._waiting: deque[Report] = deque()
        self._taken = 0  # reports handed over by the run
        self._sent = 0  # and taken by the daemon
        self._dropped = 0
        self._hurry = False
        self._number = 0
        self._asked = 0
        self._gone: str | None = None  # why the daemon takes nothing more
        self._ending = False
        self._thread = threading.Thread(target=self._send_on, name=f"{begun.name} reports", daemon=True)
        self._thread.start()

    # --- the recorder -----------------------------------------------------------------------------------------------

    def report(self, report: Report) -> None:
        if isinstance(report, ArtifactReport):
            canonical(report.data)
        elif isinstance(report, CacheReport):
            canonical(report.value)
        elif isinstance(report, EventReport):
            canonical([report.resource, report.payload])
        else:
            self._teller.report(report)
        with self._changed:
            if self._gone is not None:
                return
            if len(self._waiting) >= MOST_WAITING and isinstance(report, LogReport):
                self._dropped += 1
                return
            self._waiting.append(report)
            self._taken += 1
            if len(self._waiting) == 1 or len(self._waiting) == BATCH:
                self._changed.notify_all()

    async def flush(self) -> None:
        self._flush()

    async def ask(self, question: Question) -> Any:
        self._flush()
        with self._changed:
            self._asked += 1
            number = self._asked
        asks = ScriptAsks(session=self._begun.session, number=number, question=question)
        path = f"/script_runs/{self._begun.id}/ask"
        while True:
            if self._gone is not None:
                raise TidemillError(f"the daemon takes nothing more of this run: {self._gone}")
            text = _insist(
                lambda: self._wire.send("POST", path, asks, timeout_s=LONGEST_WAIT_S + 20), self._begun.lease_s
            )
            answer = msgspec.json.decode(text, type=ScriptAnswer)
            self._heard_cancel(answer.cancel)
            if answer.error is not None:
                raise TidemillError(answer.error)
            if answer.answered:
                return answer.answer

    def _flush(self) -> None:
        with self._changed:
            wanted = self._taken
            self._hurry = True
            self._changed.notify_all()
            while self._sent < wanted and self._gone is None:
                self._changed.wait(1.0)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _send_on(self) -> None:
        heartbeat_s = self._begun.heartbeat_s
        last = time.monotonic()
        while True:
            with self._changed:
                while not self._waiting and not self._ending:
                    left = heartbeat_s - (time.monotonic() - last)
                    if left <= 0:
                        break
                    self._changed.wait(left)
                if self._waiting and not self._hurry and not self._ending and len(self._waiting) < BATCH:
                    self._changed.wait(GATHER_S)
                if self._ending or self._gone is not None:
                    return
            try:
                with self._changed:
                    batch = self._batch()
                    if not self._waiting:
                        self._hurry = False
                last = time.monotonic()
                self._send(batch)
            except Exception as error:  # nobody would send on, and the script would wait for it for ever
                self._give_up(f"{type(error).__name__}: {error}")

    def _batch(self) -> list[Report]:
        """Take what goes into one body; under the lock."""
        batch: list[Report] = []
        size = 0
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            told = f"{dropped} lines dropped"
            line = LogReport(at=self._clock.now(), level=logging.WARNING, logger="tidemill", message=told)
            self._waiting.appendleft(line)
            self._taken += 1
        while self._waiting and len(batch) < min(BATCH, MAX_REPORTS):
            size += len(msgspec.json.encode(self._waiting[0]))
            if batch and size > MAX_BODY_BYTES // 2:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _send(self, batch: list[Report]) -> None:
        self._number += 1
        body = ScriptReports(session=self._begun.session, number=self._number, reports=tuple(batch))
        path = f"/script_runs/{self._begun.id}/reports"
        try:
            text = _insist(lambda: self._wire.send("POST", path, body), self._begun.lease_s)
        except TidemillError as error:
            self._give_up(str(error))
            return
        heard = msgspec.json.decode(text, type=ScriptHeard)
        if heard.problem is not None:
            self._teller.tell(logging.WARNING, "tidemill", heard.problem, self._clock.now())
        with self._changed:
            self._sent += len(batch)
            self._changed.notify_all()
        self._heard_cancel(heard.cancel)

    def _give_up(self, why: str) -> None:
        with self._changed:
            self._gone = why
            self._waiting.clear()
            self._changed.notify_all()
        told = f"the daemon takes nothing more of this run, which goes on by itself: {why}"
        self._teller.tell(logging.ERROR, "tidemill", told, self._clock.now())

    def _heard_cancel(self, reason: str | None) -> None:
        if reason is not None and self.on_cancel is not None:
            hear, self.on_cancel = self.on_cancel, None
            self._teller.tell(logging.WARNING, f"Flow run {self._begun.name!r}", reason, self._clock.now())
            hear(reason)

    def end(self, state: State, document: Any) -> None:
        """Send what is left and the run's last state."""
        self._flush()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(self._begun.lease_s)
        other = None if self._gone is not None else self._tell_end(state, document)
        level = logging.INFO if state.is_completed() and other is None else logging.ERROR
        told = f"Finished in state {state!r}" + (f"; the daemon has it as {other}" if other is not None else "")
        self._teller.tell(level, f"Flow run {self._begun.name!r}", told, self._clock.now())

    def _tell_end(self, state: State, document: Any) -> str | None:
        """Tell the daemon how the run ended; return as what it has the run, where that is something else."""
        with self._changed:
            left = self._batch()
        body = ScriptEnds(
            session=self._begun.session, number=self._number + 1, state=state.told(document), reports=tuple(left)
        )
        try:
            path = f"/script_runs/{self._begun.id}/end"
            text = _insist(lambda: self._wire.send("POST", path, body), self._begun.lease_s)
        except TidemillError as error:
            who = f"Flow run {self._begun.name!r}"
            self._teller.tell(logging.ERROR, who, f"its end could not be told: {error}", self._clock.now())
            return None
        kept = msgspec.json.decode(text, type=_Kept).state
        if kept is None or kept.type == state.type:
            return None
        return f"{kept.name}: {kept.message}" if kept.message else kept.name


def _insist(send: Callable[[], bytes], for_s: float) -> bytes:
    """Send until there is an answer that means something: a daemon may be restarting, or its disk be full for now."""
    deadline = time.monotonic() + for_s
    while True:
        try:
            return send()
        except (NotFoundError, TransitionError):
            raise
        except (DaemonUnreachableError, StoreUnavailableError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_S)
