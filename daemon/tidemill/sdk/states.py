"""States as values that flow code makes, returns and asks for results.

A state here carries the result or the exception itself. What leaves the process is the plain
:class:`tidemill.core.states.State`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeGuard

from tidemill.clock import SystemClock
from tidemill.core import states as core
from tidemill.core.states import TERMINAL, StateType
from tidemill.sdk.canonical import unicode_text
from tidemill.sdk.exceptions import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    MissingResult,
    PausedRun,
    UnfinishedRun,
)

__all__ = [
    "AwaitingConcurrencySlot",
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "InfrastructurePending",
    "Late",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateDetails",
    "StateType",
    "Submitting",
    "Suspended",
    "aget_state_exception",
    "araise_state_exception",
    "get_state_exception",
    "raise_state_exception",
]

_COLLECTIONS = (list, tuple, set)
_NO_RESULT: Any = object()  # a completed state whose result is not known, as opposed to None
_NOW = SystemClock().now
_COROUTINE = 0x80 | 0x100  # CO_COROUTINE, CO_ITERABLE_COROUTINE


class StateDetails:
    """Whose state it is, and when it is scheduled for."""

    __slots__ = ("cache_key", "flow_run_id", "pause_key", "pause_timeout", "scheduled_time", "task_run_id")

    def __init__(
        self,
        flow_run_id: str | None = None,
        task_run_id: str | None = None,
        scheduled_time: datetime | None = None,
        cache_key: str | None = None,
        pause_timeout: datetime | None = None,
        pause_key: str | None = None,
    ) -> None:
        self.flow_run_id = flow_run_id
        self.task_run_id = task_run_id
        self.scheduled_time = scheduled_time
        self.cache_key = cache_key
        self.pause_timeout = pause_timeout
        self.pause_key = pause_key


class State:
    """The state of a run: type, name, message, and what the run gave (``data``: a result or an exception).

    >>> Completed(data=3).result()
    3
    """

    __slots__ = ("_details", "data", "message", "name", "timestamp", "type")

    def __init__(
        self,
        type: StateType,
        name: str | None = None,
        message: str | None = None,
        data: Any = None,
        timestamp: datetime | None = None,
        state_details: StateDetails | None = None,
    ) -> None:
        self.type: StateType = type if type in PLAIN_NAMES else StateType(type)
        self.name = name or PLAIN_NAMES[self.type]
        self.message = message
        self.data = data
        self.timestamp = timestamp if timestamp is not None else _NOW()
        self._details = state_details

    @property
    def state_details(self) -> StateDetails:
        if self._details is None:
            self._details = StateDetails()
        return self._details

    @property
    def is_of_a_run(self) -> bool:
        """Whether the engine gave this state to a run, as opposed to one that flow code has made."""
        return self._details is not None and (
            self._details.task_run_id is not None or self._details.flow_run_id is not None
        )

    def result(self, raise_on_failure: bool = True) -> Any:
        """Return what the run gave. A failed, crashed or cancelled run raises its exception, or gives it back where
        ``raise_on_failure`` is False. Raises ``UnfinishedRun``, ``PausedRun`` or ``MissingResult`` where there is none.

        Called directly in an ``async def`` it has to be awaited, as in Prefect.
        """
        if sys._getframe(1).f_code.co_flags & _COROUTINE:
            return self.aresult(raise_on_failure)
        return result_of(self, raise_on_failure)

    async def aresult(self, raise_on_failure: bool = True) -> Any:
        """Return what :meth:`result` returns."""
        return result_of(self, raise_on_failure)

    def is_scheduled(self) -> bool:
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        return self.type is StateType.CANCELLED

    def is_cancelling(self) -> bool:
        return self.type is StateType.CANCELLING

    def is_paused(self) -> bool:
        return self.type is StateType.PAUSED

    def is_final(self) -> bool:
        return self.type in TERMINAL

    def told(self, data: Any = None) -> core.State:
        """Return the state as it leaves the process, with ``data`` that is JSON."""
        return core.State(
            type=self.type, name=self.name, timestamp=self.timestamp, message=bounded(self.message), data=data
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return (self.type, self.name, self.message, self.data) == (other.type, other.name, other.message, other.data)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        parts = [f"message={self.message!r}"] if self.message else []
        parts += [f"type={self.type.value}"] if self.name != PLAIN_NAMES[self.type] else []
        return f"{self.name}({', '.join(parts)})"

    __str__ = __repr__


MAX_MESSAGE = 2000  # characters


def bounded(message: str | None) -> str | None:
    """Return a message as it may be kept: short enough, and Unicode."""
    if message is None:
        return None
    message = unicode_text(message)
    if len(message) <= MAX_MESSAGE:
        return message
    return f"{message[:MAX_MESSAGE]} … [{len(message) - MAX_MESSAGE} more characters cut]"


PLAIN_NAMES = {type_: names[0] for type_, names in core.NAMES.items()}


def result_of(state: State, raise_on_failure: bool = True) -> Any:
    """Return the result of a state, as :meth:`State.result` says."""
    type_ = state.type
    if type_ is StateType.COMPLETED:
        if state.data is _NO_RESULT:
            raise MissingResult("the run completed, and its result was not kept")
        return state.data
    if type_ is StateType.PAUSED:
        raise PausedRun("the run is paused, its result is not available; resume it first")
    if type_ not in TERMINAL:
        raise UnfinishedRun(f"the run is {state.name}, its result is not available; wait for it first")
    if raise_on_failure:
        raise get_state_exception(state)
    return state.data if state.data is not None else get_state_exception(state)


_WRAPPERS: dict[StateType, tuple[type[Exception], str]] = {
    StateType.FAILED: (FailedRun, "Run failed."),
    StateType.CRASHED: (CrashedRun, "Run crashed."),
    StateType.CANCELLED: (CancelledRun, "Run cancelled."),
}


def get_state_exception(state: State) -> BaseException:
    """Return the exception of a failed, crashed or cancelled state: the one it carries, its inner state's, that of the
    first failure among its states, or one made of its message. Raises ``ValueError`` for other states."""
    if state.type not in _WRAPPERS:
        raise ValueError(f"expected a failed, crashed or cancelled state, not {state!r}")
    wrapper, default = _WRAPPERS[state.type]
    data = state.data
    if data is None:
        return wrapper(state.message or default)
    if isinstance(data, BaseException):
        return data
    if isinstance(data, str):
        return wrapper(data)
    if isinstance(data, State):
        return get_state_exception(data)
    if is_state_iterable(data):
        for inner in data:
            if inner.type in _WRAPPERS:
                return get_state_exception(inner)
        raise ValueError("a failed state holds states none of which failed")
    raise TypeError(f"a failed state holds {type(data).__name__}, which is no exception")


def raise_state_exception(state: State) -> None:
    """Raise the exception of a failed, crashed or cancelled state; do nothing for others."""
    if state.type in _WRAPPERS:
        raise get_state_exception(state)


async def aget_state_exception(state: State) -> BaseException:
    """Return what :func:`get_state_exception` returns."""
    return get_state_exception(state)


async def araise_state_exception(state: State) -> None:
    """Do what :func:`raise_state_exception` does."""
    raise_state_exception(state)


def is_state_iterable(value: Any) -> TypeGuard[list[State]]:
    """Whether a value is a list, tuple or set of nothing but states, and not empty."""
    return isinstance(value, _COLLECTIONS) and bool(value) and all(isinstance(each, State) for each in value)


def aggregate(states: Iterable[State], data: Any) -> State:
    """Return what many states amount to: COMPLETED if all are; else CANCELLED if any is; else PAUSED if any is; else
    FAILED."""
    found = list(states)
    total = len(found)
    counts = Counter(state.type for state in found)
    failed = counts[StateType.FAILED] + counts[StateType.CRASHED]
    unfinished = sum(1 for state in found if not state.is_final())
    if counts[StateType.COMPLETED] == total:
        type_, message = StateType.COMPLETED, "All states completed."
    elif counts[StateType.CANCELLED]:
        type_, message = StateType.CANCELLED, f"{counts[StateType.CANCELLED]}/{total} states cancelled."
    elif counts[StateType.PAUSED]:
        type_, message = StateType.PAUSED, f"{counts[StateType.PAUSED]}/{total} states paused."
    elif failed:
        type_, message = StateType.FAILED, f"{failed}/{total} states failed."
    elif unfinished:
        type_, message = StateType.FAILED, f"{unfinished}/{total} states are not final."
    else:
        type_, message = StateType.FAILED, "Given states: " + ", ".join(f"{each}={n}" for each, n in counts.items())
    return State(type_, message=message, data=data)


def state_of_return(value: Any) -> State:
    """Return the state that a function's return value means, as Prefect's rules have it.

    A state that the code made is the outcome as it is; a run's state, or a list of states, is aggregated; anything else
    is the result of a completed run. Futures have been resolved to states before.
    """
    if isinstance(value, State):
        return aggregate([value], value) if value.is_of_a_run else value
    if is_state_iterable(value):
        return aggregate(value, value)
    return State(StateType.COMPLETED, data=value)


def Completed(**fields: Any) -> State:  # noqa: N802 - Prefect's name, as all below
    """Return a Completed state."""
    return State(StateType.COMPLETED, **fields)


def Failed(**fields: Any) -> State:  # noqa: N802
    """Return a Failed state; ``message`` says why."""
    return State(StateType.FAILED, **fields)


def Crashed(**fields: Any) -> State:  # noqa: N802
    """Return a Crashed state."""
    return State(StateType.CRASHED, **fields)


def Cancelled(**fields: Any) -> State:  # noqa: N802
    """Return a Cancelled state."""
    return State(StateType.CANCELLED, **fields)


def Cancelling(**fields: Any) -> State:  # noqa: N802
    """Return a Cancelling state."""
    return State(StateType.CANCELLING, **fields)


def Running(**fields: Any) -> State:  # noqa: N802
    """Return a Running state."""
    return State(StateType.RUNNING, **fields)


def Retrying(**fields: Any) -> State:  # noqa: N802
    """Return a Running state named Retrying."""
    return State(StateType.RUNNING, **{"name": "Retrying", **fields})


def Pending(**fields: Any) -> State:  # noqa: N802
    """Return a Pending state."""
    return State(StateType.PENDING, **fields)


def Submitting(**fields: Any) -> State:  # noqa: N802
    """Return a Pending state named Submitting."""
    return State(StateType.PENDING, **{"name": "Submitting", **fields})


def InfrastructurePending(**fields: Any) -> State:  # noqa: N802
    """Return a Pending state named InfrastructurePending."""
    return State(StateType.PENDING, **{"name": "InfrastructurePending", **fields})


def Scheduled(scheduled_time: datetime | None = None, **fields: Any) -> State:  # noqa: N802
    """Return a Scheduled state for ``scheduled_time`` (now, if None)."""
    state = State(StateType.SCHEDULED, **fields)
    if state.state_details.scheduled_time is None:
        state.state_details.scheduled_time = scheduled_time or state.timestamp
    return state


def AwaitingRetry(scheduled_time: datetime | None = None, **fields: Any) -> State:  # noqa: N802
    """Return a Scheduled state named AwaitingRetry."""
    return Scheduled(scheduled_time, **{"name": "AwaitingRetry", **fields})


def AwaitingConcurrencySlot(scheduled_time: datetime | None = None, **fields: Any) -> State:  # noqa: N802
    """Return a Scheduled state named AwaitingConcurrencySlot."""
    return Scheduled(scheduled_time, **{"name": "AwaitingConcurrencySlot", **fields})


def Late(scheduled_time: datetime | None = None, **fields: Any) -> State:  # noqa: N802
    """Return a Scheduled state named Late."""
    return Scheduled(scheduled_time, **{"name": "Late", **fields})


def Paused(  # noqa: N802
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    pause_key: str | None = None,
    **fields: Any,
) -> State:
    """Return a Paused state that expires after ``timeout_seconds``, or at ``pause_expiration_time``."""
    if timeout_seconds is not None and pause_expiration_time is not None:
        raise ValueError("give timeout_seconds or pause_expiration_time, not both")
    state = State(StateType.PAUSED, **fields)
    if timeout_seconds is not None:
        pause_expiration_time = state.timestamp + timedelta(seconds=timeout_seconds)
    state.state_details.pause_timeout = pause_expiration_time
    state.state_details.pause_key = pause_key
    return state


def Suspended(**fields: Any) -> State:  # noqa: N802
    """Return a Paused state named Suspended."""
    return Paused(**{"name": "Suspended", **fields})


def awaited(caller_depth: int = 1) -> bool:
    """Whether the function that asks was called directly from an ``async def``: its answer has to be awaited then."""
    return bool(sys._getframe(caller_depth + 1).f_code.co_flags & _COROUTINE)
