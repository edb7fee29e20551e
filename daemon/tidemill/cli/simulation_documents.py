"""What a simulation came to, for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tidemill.config.settings import Settings
from tidemill.core import simulations
from tidemill.core.clock_changes import ClockChange
from tidemill.core.simulations import Simulated, SimulatedRun

MINUTES = 20  # the busiest
Document = dict[str, Any]


def document(
    simulated: Simulated, changes: Sequence[ClockChange], settings: Settings, notes: Sequence[str], source: str
) -> Document:
    """Return it as JSON values. Instants are in UTC, spans are seconds."""
    return {
        "config": source,
        "from": _instant(simulated.start),
        "to": _instant(simulated.end),
        "timezone": settings.daemon.timezone,
        "seed": simulated.seed,
        "cut_short": simulated.cut_short,
        "flow_runs": dict(Counter(run.state.name for run in simulated.runs)),
        "deployments": [_summary(each) for each in simulations.summaries(simulated, settings.deployments)],
        "waiting": [
            {
                "reason": each.reason,
                "runs": each.runs,
                "late": each.late,
                "total": _seconds(each.total),
                "longest": _seconds(each.longest),
                "longest_of": each.worst.deployment if each.worst else None,
                "longest_at": _instant(each.worst.expected_start) if each.worst else None,
                "deployments": dict(each.deployments),
            }
            for each in simulations.waitings(simulated)
        ],
        "ended_otherwise": [
            {
                "deployment": each.deployment,
                "state_name": each.state,
                "message": each.reason,
                "runs": each.runs,
                "first": _instant(each.first),
                "last": _instant(each.last),
            }
            for each in simulations.endings(simulated)
        ],
        "clock_changes": [_change(each) for each in changes],
        "busiest_minutes": [
            {"minute": _instant(each.begin), "starts": each.starts, "deployments": list(each.deployments)}
            for each in simulations.busiest_minutes(simulated, MINUTES)
        ],
        "most_at_a_time": [
            {"work_pool_name": each.pool, "runs": each.runs, "at": _instant(each.at)}
            for each in simulations.crowds(simulated)
        ],
        "notes": list(notes),
        "runs": [_run(run, simulated.end) for run in simulated.runs],
    }


def _summary(each: simulations.Summary) -> Document:
    return {
        "deployment": each.deployment,
        "runs": each.runs,
        "states": dict(each.states),
        "late": each.late,
        "retried": each.retried,
        "overlaps": each.overlaps,
        "longest_wait": _seconds(each.longest_wait),
        "busy": _seconds(each.busy),
        "first": _instant(each.first),
        "last": _instant(each.last),
    }


def _change(each: ClockChange) -> Document:
    return {
        "at": _instant(each.at),
        "timezone": each.zone,
        "wall_before": each.before.replace(tzinfo=None).isoformat(),
        "wall_after": each.after.replace(tzinfo=None).isoformat(),
        "affected": [
            {
                "deployment": affected.deployment,
                "note": affected.note,
                "fires": affected.fires,
                "first": affected.first.isoformat(),
            }
            for affected in each.affected
        ],
    }


def _run(run: SimulatedRun, end: datetime) -> Document:
    return {
        "deployment": run.deployment,
        "due": _instant(run.due),
        "expected_start_time": _instant(run.expected_start),
        "start_time": _instant(run.begin),
        "end_time": _instant(run.attempts[-1].end) if run.attempts and run.state.is_terminal else None,
        "attempts": len(run.attempts),
        "state_type": run.state.type,
        "state_name": run.state.name,
        "state_message": run.state.message,
        "late": run.late,
        "waited": _seconds(run.wait(end)),
        "waited_for": run.waited_for,
    }


def _instant(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")


def _seconds(span: timedelta) -> float:
    return round(span.total_seconds(), 3)
