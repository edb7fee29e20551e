"""From how an attempt was ended to the outcome of its run."""

from __future__ import annotations

from datetime import timedelta

from tidemill.core.ports import Cancellation, Outcome
from tidemill.core.states import StateType
from tidemill.durations import format_duration
from tidemill.sdk.outcomes import MAX_RESULT_BYTES, completed, failed, told_traceback
from tidemill.sdk.states import MAX_MESSAGE

__all__ = [
    "MAX_MESSAGE",
    "MAX_RESULT_BYTES",
    "completed",
    "failed",
    "not_imported",
    "stopped",
    "timed_out",
    "told_traceback",
]


def timed_out(timeout: timedelta, *, abandoned: bool) -> Outcome:
    """Return the outcome of code that had its time."""
    still = "; its code was told to end and still runs" if abandoned else ""
    return Outcome(
        type=StateType.FAILED,
        name="TimedOut",
        message=f"did not end within its timeout, {format_duration(timeout)}{still}",
        abandoned=abandoned,
    )


def not_imported(entrypoint: str, timeout: timedelta, *, abandoned: bool) -> Outcome:
    """Return the outcome of a run whose code was never there to begin with."""
    still = "; its code was told to end and still runs" if abandoned else ""
    after = f"did not end within {format_duration(timeout)} ([daemon] import_timeout)"
    return Outcome(
        type=StateType.FAILED,
        name="TimedOut",
        message=f'importing "{entrypoint}" {after}; move what waits at import into the flow, or allow more{still}',
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
