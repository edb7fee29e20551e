"""From how flow code ended to the outcome of its run."""

from __future__ import annotations

import traceback
from datetime import timedelta
from types import TracebackType
from typing import Any

import msgspec

from tidemill.core.ports import Cancellation, Outcome
from tidemill.core.states import StateType
from tidemill.durations import format_duration
from tidemill.errors import EntrypointError, TidemillError
from tidemill.sdk.canonical import canonical
from tidemill.sdk.failures import FlowFailed

MAX_RESULT_BYTES = 64 * 1024
MAX_MESSAGE = 2000  # characters
MAX_TRACEBACK = 32 * 1024
MAX_REPR = 200

_COMPLETED = Outcome(type=StateType.COMPLETED, name="Completed")


def completed(result: Any) -> Outcome:
    """Return the outcome of code that returned ``result``, which is kept if it is JSON of at most 64 KiB."""
    if result is None:
        return _COMPLETED
    return Outcome(type=StateType.COMPLETED, name="Completed", data=_kept(result))


def failed(error: BaseException) -> Outcome:
    """Return the outcome of code that raised ``error``."""
    if isinstance(error, FlowFailed):
        return Outcome(
            type=StateType.FAILED,
            name="Failed",
            message=_cut(error.message, MAX_MESSAGE),
            data=None if error.data is None else _kept(error.data),
            retriable=error.retriable,
            retry_after=error.retry_after,
        )
    return Outcome(
        type=StateType.FAILED,
        name="Failed",
        message=_cut(_text(error), MAX_MESSAGE),
        retriable=not isinstance(error, EntrypointError),
    )


def timed_out(timeout: timedelta, *, abandoned: bool) -> Outcome:
    """Return the outcome of code that had its time."""
    still = "; its code was told to end and still runs" if abandoned else ""
    return Outcome(
        type=StateType.FAILED,
        name="TimedOut",
        message=f"did not end within its timeout, {format_duration(timeout)}{still}",
        abandoned=abandoned,
    )


def stopped(cancellation: Cancellation, *, abandoned: bool) -> Outcome:
    """Return the outcome of code that was asked to end."""
    still = "; its code was told to end and still runs" if abandoned else ""
    crashed = cancellation.crashed
    return Outcome(
        type=StateType.CRASHED if crashed else StateType.CANCELLED,
        name="Crashed" if crashed else "Cancelled",
        message=f"{cancellation.reason}{still}",
        abandoned=abandoned,
    )


def told_traceback(error: BaseException) -> str | None:
    """Return the traceback for the run's log, beginning at the flow's own code; None where the message says it all."""
    if isinstance(error, FlowFailed | TidemillError):
        return None
    try:
        lines = traceback.format_exception(type(error), error, _own(error.__traceback__))
    except Exception:  # an exception may be as broken as it likes
        return None
    text = "".join(lines).rstrip()
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n… [{len(text) - 2 * half} characters cut] …\n{text[-half:]}"


def _own(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the runner's frames at the beginning."""
    first = trace
    while trace is not None and __package__ in trace.tb_frame.f_globals.get("__name__", ""):
        trace = trace.tb_next
    return trace or first


def _kept(result: Any) -> Any:
    # Most results are small and plain; a copy is kept, as the code may go on changing its own.
    if isinstance(result, bool | int) or (isinstance(result, str) and len(result) < 1000):
        return result
    try:
        return msgspec.json.decode(canonical(result, limit=MAX_RESULT_BYTES))
    except (ValueError, msgspec.DecodeError):
        return {"type": f"{type(result).__module__}.{type(result).__qualname__}", "repr": _repr(result)}


def _repr(value: Any) -> str:
    try:
        if isinstance(value, str | bytes | list | tuple | dict) and len(value) > MAX_REPR:
            return f"{len(value)} {'characters' if isinstance(value, str) else 'items'}"
        return _cut(repr(value), MAX_REPR)
    except Exception as error:
        return f"<its repr raised {type(error).__name__}>"


def _text(error: BaseException) -> str:
    if isinstance(error, TidemillError):
        return str(error)
    try:
        text = str(error)
    except Exception as another:
        text = f"<its text raised {type(another).__name__}>"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … [{len(text) - limit} more characters cut]"
