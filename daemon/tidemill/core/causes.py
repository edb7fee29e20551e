"""Causes that are about a run, and the words that they are told in."""

from __future__ import annotations

from datetime import datetime

from tidemill.core.automations import Cause
from tidemill.core.runs import FlowRun
from tidemill.core.states import State

MOST_TEXT = 2000  # characters of a state's message
SUBFLOW = "parent"  # created_by of a run that is a part of another


def cause_of(run: FlowRun, key: str, reason: str, *, state: State, at: datetime | None = None) -> Cause:
    """Return a cause that is about a run."""
    return Cause(
        key=key,
        at=at or state.timestamp,
        reason=reason,
        deployment=run.deployment,
        run=run.id,
        run_name=run.name,
        flow=run.flow,
        state=state.name,
        message=None if state.message is None else state.message[:MOST_TEXT],
    )


def mark(run: FlowRun) -> tuple[str, int]:
    return run.id, run.state_number


def whose(run: FlowRun) -> str:
    return run.deployment or run.flow


def because(state: State) -> str:
    if not state.message:
        return ""
    line = state.message.strip().splitlines()[0] if state.message.strip() else ""
    return f": {line[:300]}" if line else ""


def utc(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%SZ}"
