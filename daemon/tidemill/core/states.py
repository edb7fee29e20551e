"""What state a run can be in, and which may follow which.

The words are Prefect's. A state has a type, which the rules go by, and a name, which says more to people: a run that is
``SCHEDULED`` may be called Scheduled, Late, AwaitingRetry or AwaitingConcurrencySlot.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec


class StateType(enum.StrEnum):
    """What a state is, to the rules; its name says more to people."""

    # As the text it is: an enum's own hash is a Python function, and each change of state looks in a dozen tables.
    __hash__ = str.__hash__

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    CANCELLED = "CANCELLED"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a run's history. ``data`` is any JSON value; ``timestamp`` is an aware UTC instant."""

    type: StateType
    name: str
    timestamp: datetime
    message: str | None = None
    data: Any = None

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL


TERMINAL = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED})
# Holding a slot of every limit that applies: taken by a worker and not finished.
ACTIVE = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING})

# The names each type goes by; the first is the plain one.
NAMES: Mapping[StateType, tuple[str, ...]] = {
    StateType.SCHEDULED: ("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming"),
    StateType.PENDING: ("Pending",),
    StateType.RUNNING: ("Running", "Retrying"),
    StateType.PAUSED: ("Paused", "Suspended"),
    StateType.CANCELLING: ("Cancelling",),
    StateType.COMPLETED: ("Completed", "Cached"),
    StateType.FAILED: ("Failed", "TimedOut", "NotReady"),
    StateType.CRASHED: ("Crashed",),
    StateType.CANCELLED: ("Cancelled", "Skipped", "Shadow"),
}

_S = StateType
# None: the run is being made. A terminal state is left only by a person's retry, which goes by RETRY_FROM.
FOLLOWS: Mapping[StateType | None, frozenset[StateType]] = {
    None: frozenset({_S.SCHEDULED, _S.PENDING, _S.CANCELLED}),
    _S.SCHEDULED: frozenset({_S.SCHEDULED, _S.PENDING, _S.CANCELLED}),
    _S.PENDING: frozenset({_S.RUNNING, _S.SCHEDULED, _S.FAILED, _S.CRASHED, _S.CANCELLING, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.COMPLETED, _S.FAILED, _S.CRASHED, _S.CANCELLED, _S.CANCELLING, _S.PAUSED, _S.SCHEDULED}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.SCHEDULED, _S.FAILED, _S.CRASHED, _S.CANCELLING, _S.CANCELLED}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.CRASHED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CRASHED: frozenset(),
    _S.CANCELLED: frozenset(),
}
RETRY_FROM = TERMINAL


def may_follow(before: StateType | None, after: StateType, *, by_person: bool = False) -> bool:
    """Say whether a run in state ``before`` may enter ``after``; ``by_person`` lets a person retry a finished run."""
    if after in FOLLOWS[before]:
        return True
    return by_person and before in RETRY_FROM and after is StateType.SCHEDULED
