"""Pauses: a run's code waits for a person, and the run says so.

PAUSED is durable before the code waits, RUNNING before it goes on. What a person gives with the resuming is the answer.
A paused run keeps its slots in queue and pool.
"""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any

from tidemill.core.json_schemas import Schema, faults
from tidemill.core.reports import PauseQuestion
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.durations import format_duration
from tidemill.errors import TidemillError, TransitionError
from tidemill.sdk.canonical import canonical
from tidemill.services.orchestrator import Orchestrator
from tidemill.store import history

INPUT_BYTES = 64 * 1024
SCHEMA_BYTES = 16 * 1024
KEY, SCHEMA = "pause_key", "input_schema"  # in a Paused state's data


class Pauses:
    """Who waits to be resumed."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._schemas: dict[str, Schema] = {}  # of those that want more than just anything

    @property
    def paused(self) -> frozenset[str]:
        """The ids of the runs whose code waits to be resumed."""
        return frozenset(self._waiting)

    async def pause(self, run: FlowRun, question: PauseQuestion) -> Any:
        """Pause ``run``, as its attempt knows it, and return what the resuming person gave.

        A pause with a key that this run was resumed from before is passed over. Raises TransitionError where the run
        is in no state to pause, and TidemillError "timed out …" after ``timeout_s``; the run is RUNNING then.
        """
        present = await self._orchestrator.get(run.id)
        if present.attempt != run.attempt or present.state.type is not StateType.RUNNING or run.id in self._waiting:
            raise TransitionError(f"flow run {run.name} ({run.id}) is {present.state.name} and cannot pause")
        if question.key is not None:
            passed, given = await self._passed(present, question.key)
            if passed:
                return given
        resumed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[run.id] = resumed
        schema = _kept(question.schema)
        told = {KEY: question.key, SCHEMA: schema}
        data = {name: value for name, value in told.items() if value is not None}
        if schema is not None:
            self._schemas[run.id] = schema
        try:
            paused = await self._orchestrator.change(
                present, StateType.PAUSED, "Paused", "waits to be resumed", data=data or None
            )
            await asyncio.wait({resumed}, timeout=question.timeout_s)
            return resumed.result() if resumed.done() else await self._time_out(paused, question, resumed)
        finally:
            del self._waiting[run.id]
            self._schemas.pop(run.id, None)

    async def resume(self, run_id: str, given: Any = None) -> FlowRun:
        """Let a paused run go on with what a person gives (JSON of at most 64 KiB); return it RUNNING.

        Raises TransitionError where it is not paused or its code wants another input, and TidemillError for an input
        that cannot be given; a paused run stays paused then.
        """
        run = await self._orchestrator.get(run_id)
        resumed = self._waiting.get(run_id)
        if run.state.type is not StateType.PAUSED or resumed is None or resumed.done():
            raise TransitionError(f"flow run {run.name} ({run.id}) is {run.state.name}; only a paused run is resumed")
        try:
            canonical(given, limit=INPUT_BYTES)
        except ValueError as error:
            raise TidemillError(f"the input for flow run {run.name} is {error}") from None
        if (schema := self._schemas.get(run_id)) is not None and (wrong := _faults(given, schema)):
            raise TransitionError(f"flow run {run.name} stays paused; the input does not fit: {'; '.join(wrong)}")
        running = await self._orchestrator.change(run, StateType.RUNNING, "Running", "resumed", data=given)
        if not resumed.done():
            resumed.set_result(given)
        return running

    async def _time_out(self, paused: FlowRun, question: PauseQuestion, resumed: asyncio.Future[Any]) -> Any:
        after = format_duration(timedelta(seconds=question.timeout_s or 0))
        text = f"timed out: nobody resumed flow run {paused.name} within {after}"
        try:
            await self._orchestrator.change(paused, StateType.RUNNING, "Running", text)
        except TransitionError:
            present = await self._orchestrator.get(paused.id)
            if present.state.type is StateType.RUNNING and present.attempt == paused.attempt:
                return await resumed  # a person was as fast
            raise
        raise TidemillError(text)

    async def _passed(self, run: FlowRun, key: str) -> tuple[bool, Any]:
        """Say whether the run was resumed from a pause of that key, and what was given then."""
        states = await self._orchestrator.store.read(lambda connection: history.of(connection, run.seq))
        for before, after in itertools.pairwise(states):
            at_key = before.type is StateType.PAUSED and isinstance(before.data, dict) and before.data.get(KEY) == key
            if at_key and after.type is StateType.RUNNING and after.message == "resumed":
                return True, after.data
        return False, None


def _kept(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a schema that is kept with the pause; None for one that is none, or too large."""
    try:
        canonical(schema, limit=SCHEMA_BYTES)
    except ValueError:
        return None
    return schema or None


def _faults(given: Any, schema: Schema) -> list[str]:
    """Return what is wrong with an input. No input is one without fields, where that fits."""
    wrong = faults(given, schema)
    if given is None and wrong:
        return ["none is given", *lacks] if (lacks := faults({}, schema)) else []
    return wrong
