"""Pausing a flow run until a person goes on with it."""

from __future__ import annotations

from typing import Any

from tidemill.core.reports import PauseQuestion, ResumeQuestion
from tidemill.errors import TidemillError
from tidemill.sdk.asking import timed_out
from tidemill.sdk.context import NoRunError, RunContext, current
from tidemill.sdk.exceptions import FlowPauseTimeout
from tidemill.sdk.parameters import convert, schema_of
from tidemill.sdk.scopes import FlowRunContext, TaskRunContext
from tidemill.sdk.scripts import Wire, wire_to_daemon
from tidemill.sdk.states import awaited

_SINGLE = (int, float, str, bool, list, dict)  # types whose input may stand in {"value": …}, as Prefect's does


def pause_flow_run(
    wait_for_input: Any = None, timeout: float | None = 3600, poll_interval: float | None = None, key: str | None = None
) -> Any:
    """Pause the running flow until it is resumed, and return the input that was given with it.

    ``wait_for_input``: the input's type, which it is converted to; None: any JSON. An input that does not fit the
    type's JSON schema is refused and the run stays paused; what the type alone refuses is a ``ValueError`` here.
    ``timeout``: seconds, then ``FlowPauseTimeout``; None: for ever. ``key``: a pause of this key that the run was
    resumed from before is passed over, so a retried flow does not ask twice. ``poll_interval`` is taken for Prefect's
    sake: nothing is polled. Belongs into a flow, not into a task. To be awaited in async code.
    """
    context, question = _pause(timeout, key, wait_for_input)
    if awaited():
        return _paused(context, question, wait_for_input)
    try:
        return _given(context.ask_now(question), wait_for_input)
    except TidemillError as error:
        raise _told(error) from None


async def apause_flow_run(
    wait_for_input: Any = None, timeout: float | None = 3600, poll_interval: float | None = None, key: str | None = None
) -> Any:
    """Do what :func:`pause_flow_run` does."""
    context, question = _pause(timeout, key, wait_for_input)
    return await _paused(context, question, wait_for_input)


def resume_flow_run(flow_run_id: str, run_input: dict[str, Any] | None = None) -> Any:
    """Resume a paused flow run, giving it ``run_input``; from a flow, or from a script that finds a daemon.

    To be awaited in async code. Raises a TidemillError where the run is not paused.
    """
    context = current.get()
    if awaited():
        return aresume_flow_run(flow_run_id, run_input)
    if context is None:
        _wire().ask("POST", f"/flow_runs/{flow_run_id}/resume", {"run_input": run_input})
    else:
        context.ask_now(ResumeQuestion(flow_run_id=str(flow_run_id), input=run_input))
    return None


async def aresume_flow_run(flow_run_id: str, run_input: dict[str, Any] | None = None) -> None:
    """Do what :func:`resume_flow_run` does."""
    context = current.get()
    if context is None:
        await _wire().ask_async("POST", f"/flow_runs/{flow_run_id}/resume", {"run_input": run_input})
    else:
        await context.ask(ResumeQuestion(flow_run_id=str(flow_run_id), input=run_input))


def _pause(timeout: float | None, key: str | None, wanted: Any) -> tuple[RunContext, PauseQuestion]:
    flow = FlowRunContext.get()
    if flow is None:
        raise NoRunError("a flow run pauses itself: call pause_flow_run in a flow")
    if TaskRunContext.get() is not None:
        raise RuntimeError("Cannot pause task runs.")
    question = PauseQuestion(timeout_s=timeout, key=key, flow_run_id=flow.flow_run_id, schema=_schema(wanted))
    return flow.attempt, question


def _schema(wanted: Any) -> dict[str, Any] | None:
    """Return what an input has to fit, in either form of a single value; None: anything, or the type cannot say."""
    schema = None if wanted is None else schema_of(wanted)
    if not schema or wanted not in _SINGLE:
        return schema or None
    wrapped = {"type": "object", "properties": {"value": schema}, "required": ["value"], "additionalProperties": False}
    return {"anyOf": [schema, wrapped]}


async def _paused(context: RunContext, question: PauseQuestion, wanted: Any) -> Any:
    try:
        return _given(await context.ask(question), wanted)
    except TidemillError as error:
        raise _told(error) from None


def _given(value: Any, wanted: Any) -> Any:
    if wanted is None:
        return value
    if isinstance(value, dict) and set(value) == {"value"} and wanted in _SINGLE:
        value = value["value"]  # Prefect's form of a single value
    return convert(value if value is not None or wanted in (int, float, str, bool) else {}, wanted)


def _told(error: TidemillError) -> Exception:
    return FlowPauseTimeout(str(error)) if timed_out(error) else error


def _wire() -> Wire:
    wire = wire_to_daemon()
    if wire is None:
        raise NoRunError("no daemon was found to resume a run with; set TIDEMILL_API_URL")
    return wire
