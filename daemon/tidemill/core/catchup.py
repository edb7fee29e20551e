"""What to do about fires that were missed while the daemon was down. A plain decision: it changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tidemill.core.deployments import CatchUp
from tidemill.durations import format_duration

_SUPERSEDED = "runs only the last one"
_UNCOUNTED = "fires were missed; the latest"
_NOT_WANTED = "is paused or no longer in the configuration"


def catch_up(
    dues: Sequence[datetime],
    policy: CatchUp,
    window: timedelta,
    now: datetime,
    *,
    why: str = "while the daemon was down",
) -> tuple[list[datetime], list[tuple[datetime, str]]]:
    """Split missed due times into those to run and those to skip, each with its reason; both in order of time.

    Every due time is in exactly one of the two. One as old as ``window`` is still inside it; ``window`` 0 leaves
    nothing that is older than ``now``. A due time later than ``now`` was not missed and always runs, at its time.
    ``why`` says in the reasons what made them be missed.
    """
    ordered = sorted(set(dues))
    coming = [due for due in ordered if due > now]
    missed = [due for due in ordered if due <= now]
    if policy is CatchUp.SKIP:
        return coming, [(due, f'missed {why}; catch_up = "skip"') for due in missed]
    horizon = now - window
    old = f"missed {why}, longer ago than catch_up_window = {format_duration(window)}"
    skipped = [(due, old) for due in missed if due < horizon]
    recent = [due for due in missed if due >= horizon]
    if policy is CatchUp.LATEST:
        reason = f'missed {why}; catch_up = "latest" {_SUPERSEDED}'
        skipped += [(due, reason) for due in recent[:-1]]
        recent = recent[-1:]
    return recent + coming, skipped


def is_lost(reason: str, policy: CatchUp) -> bool:
    """Say whether a fire that was skipped for ``reason`` is one that people miss.

    It is not where a later one runs in its place, where it collided, or where nobody wanted it any more.
    """
    if _UNCOUNTED in reason:
        return policy is not CatchUp.LATEST
    return reason.startswith("missed ") and not reason.endswith((_SUPERSEDED, _NOT_WANTED))
