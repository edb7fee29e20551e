"""From how flow code ended to what is kept of it."""

from __future__ import annotations

import traceback
from types import FrameType
from typing import Any

import msgspec

from tidemill.core.ports import Outcome
from tidemill.core.states import StateType
from tidemill.errors import EntrypointError, TidemillError
from tidemill.sdk.canonical import canonical, unicode_text
from tidemill.sdk.failures import FlowFailed
from tidemill.sdk.states import MAX_MESSAGE, State, is_state_iterable

MAX_RESULT_BYTES = 64 * 1024
MAX_TRACEBACK = 32 * 1024  # characters
MAX_REPR = 200

_COMPLETED = Outcome(type=StateType.COMPLETED, name="Completed")
# Frames of these are the engine's, and tell a user nothing.
_ENGINE = ("tidemill.sdk.", "tidemill.runners.", "tidemill.services.", "concurrent.futures.", "asyncio.", "anyio.")


def completed(result: Any) -> Outcome:
    """Return the outcome of code that returned ``result``, which is kept if it is JSON of at most 64 KiB."""
    if result is None:
        return _COMPLETED
    return Outcome(type=StateType.COMPLETED, name="Completed", data=kept(result))


def failed(error: BaseException) -> Outcome:
    """Return the outcome of code that raised ``error``."""
    if isinstance(error, FlowFailed):
        return Outcome(
            type=StateType.FAILED,
            name="Failed",
            message=cut(error.message, MAX_MESSAGE),
            data=None if error.data is None else kept(error.data),
            retriable=error.retriable,
            retry_after=error.retry_after,
        )
    return Outcome(
        type=StateType.FAILED,
        name="Failed",
        message=cut(error_text(error), MAX_MESSAGE),
        retriable=not isinstance(error, EntrypointError),
    )


def outcome_of(state: State) -> Outcome:
    """Return the outcome that a flow's last state means for its run."""
    if state.type is StateType.COMPLETED:
        if state.name == "Completed" and state.message is None and state.data is None:
            return _COMPLETED
        return Outcome(
            type=StateType.COMPLETED, name=state.name, message=cut(state.message, MAX_MESSAGE), data=kept(state.data)
        )
    if state.type is StateType.FAILED and isinstance(state.data, BaseException) and state.name == "Failed":
        return failed(state.data)
    if state.type in (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED):
        data = state.data if isinstance(state.data, str | int | float | bool | list | dict) else None
        message = state.message or (data if isinstance(data, str) else None)
        return Outcome(type=state.type, name=state.name, message=cut(message, MAX_MESSAGE), data=kept(data))
    return Outcome(
        type=StateType.FAILED,
        name="Failed",
        message=f"the flow returned a state that is no end: {state!r}",
        retriable=False,
    )


def kept(result: Any) -> Any:
    """Return a result as it is kept: JSON of at most 64 KiB, else its type and a short repr."""
    # Most results are small and plain; a copy is kept, as the code may go on changing its own.
    if result is None or isinstance(result, bool | int):
        return result
    if isinstance(result, str) and len(result) < 1000:
        return unicode_text(result)
    if isinstance(result, State):
        result = result.data
    elif is_state_iterable(result):
        result = [each.data for each in result]
    if not _surely_too_large(result):
        try:
            return msgspec.json.decode(canonical(result, limit=MAX_RESULT_BYTES))
        except (ValueError, msgspec.DecodeError):
            declared = _declared(result)
            if declared is not None:
                return declared
    return {"type": f"{type(result).__module__}.{type(result).__qualname__}", "repr": _repr(result)}


def _surely_too_large(result: Any) -> bool:
    """Say whether plain data is too large to be kept, without making its JSON: in C, that would hold everybody up."""
    left, waiting = MAX_RESULT_BYTES, [result]
    while waiting and left >= 0:
        each = waiting.pop()
        left -= len(each) + 1 if isinstance(each, str | list | tuple | dict) else 1  # each takes a byte at least
        if left >= 0 and isinstance(each, list | tuple):
            waiting.extend(each)
        elif left >= 0 and isinstance(each, dict):
            waiting.extend(each.values())
    return left < 0


def _declared(result: Any) -> Any:
    """Return models, dataclasses and collections of them as the JSON that they stand for."""
    try:
        document = result.model_dump(mode="json") if hasattr(result, "model_dump") else msgspec.to_builtins(result)
        return msgspec.json.decode(canonical(document, limit=MAX_RESULT_BYTES))
    except Exception:
        return None


def traceback_text(error: BaseException) -> str | None:
    """Return a traceback without the engine's frames; None where the exception cannot be told at all."""
    try:
        told = traceback.TracebackException.from_exception(error)
        _leave_own_frames(told, error)
        text = "".join(told.format()).rstrip()
    except Exception:  # an exception may be as broken as it likes
        return None
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n… [{len(text) - 2 * half} characters cut] …\n{text[-half:]}"


def told_traceback(error: BaseException) -> str | None:
    """Return the traceback for the run's log; None where the message says it all."""
    return None if isinstance(error, FlowFailed | TidemillError) else traceback_text(error)


def _leave_own_frames(told: traceback.TracebackException, error: BaseException) -> None:
    """Leave the flow's own frames of an exception, of what it came from and of a group's members; all, if none is."""
    waiting = [(told, error)]
    while waiting:
        told, error = waiting.pop()
        frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        own = [line for line, frame in zip(told.stack, frames, strict=False) if not _is_engines(frame)]
        told.stack[:] = own or told.stack
        behind = [(told.__cause__, error.__cause__), (told.__context__, error.__context__)]
        if isinstance(error, BaseExceptionGroup):
            behind += zip(told.exceptions or (), error.exceptions, strict=False)
        waiting += [(each, of) for each, of in behind if each is not None and of is not None]


def _is_engines(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_ENGINE)


def error_text(error: BaseException) -> str:
    """Return an exception as ``ValueError: its text``; an error meant for users as its text."""
    try:
        text = str(error)
    except Exception as another:
        text = f"<its text raised {type(another).__name__}>"
    if isinstance(error, TidemillError):
        return text
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def cut(text: Any, limit: int) -> Any:
    """Return a text, as Unicode, of at most ``limit`` characters; it says what was cut."""
    if text is None:
        return None
    text = unicode_text(text)
    return text if len(text) <= limit else f"{text[:limit]} … [{len(text) - limit} more characters cut]"


def _repr(value: Any) -> str:
    try:
        if isinstance(value, str | bytes | list | tuple | dict) and len(value) > MAX_REPR:
            return f"{len(value)} {'characters' if isinstance(value, str) else 'items'}"
        return str(cut(repr(value), MAX_REPR))
    except Exception as error:
        return f"<its repr raised {type(error).__name__}>"
