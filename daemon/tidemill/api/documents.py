"""Values as JSON documents, in Prefect's field names; what Prefect has no word for stands beside them under our own.

Instants are RFC 3339 text in UTC with ``Z``, durations seconds. Configured things have UUIDs made of the instance's id
and their name, so that a client may keep them over restarts.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.core import zones
from tidemill.core.deployments import Deployment, WorkPool, WorkQueue
from tidemill.core.events import (
    ArtifactStored,
    ArtifactUpdated,
    Emitted,
    Event,
    FiresSkipped,
    RunChanged,
    RunDeleted,
    TaskRunChanged,
)
from tidemill.core.runs import Artifact, FlowRun, LogRow, SkippedFire, TaskRun
from tidemill.core.schedules import Schedule
from tidemill.core.states import State, StateType
from tidemill.durations import format_duration
from tidemill.ids import stable_id

Document = dict[str, Any]

# Few configured things, asked for with every run that names them.
id_of = functools.lru_cache(maxsize=50_000)(stable_id)


def instant(when: datetime | None) -> str | None:
    """Return RFC 3339 text in UTC: ``2026-03-29T01:00:00Z``."""
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def state(instance: str, owner_id: str, number: int, value: State) -> Document:
    """Return a state; ``number`` counts the owner's states from 1."""
    return {
        "id": stable_id(instance, "state", f"{owner_id}/{number}"),
        "type": str(value.type),
        "name": value.name,
        "timestamp": instant(value.timestamp),
        "message": value.message,
        "data": value.data,
    }


def history(instance: str, run_id: str, states: Sequence[State]) -> list[Document]:
    """Return all states of a run, oldest first."""
    return [
        state(instance, run_id, number, value) | {"state_details": {"flow_run_id": run_id}}
        for number, value in enumerate(states, start=1)
    ]


def flow_run(instance: str, run: FlowRun, now: datetime) -> Document:
    """Return a flow run."""
    present = state(instance, run.id, run.state_number, run.state)
    waits = run.state.type is StateType.SCHEDULED
    present["state_details"] = {"flow_run_id": run.id, "scheduled_time": instant(run.expected_start) if waits else None}
    started = run.start_time or (now if waits else None)
    return {
        "id": run.id,
        "name": run.name,
        "created": instant(run.created),
        "updated": instant(run.state.timestamp),
        "flow": run.flow,
        "flow_id": id_of(instance, "flow", run.flow),
        "deployment": run.deployment,
        "deployment_id": None if run.deployment is None else id_of(instance, "deployment", run.deployment),
        "work_pool_name": run.work_pool,
        "work_pool_id": id_of(instance, "work_pool", run.work_pool),
        "work_queue_name": run.work_queue,
        "work_queue_id": id_of(instance, "work_queue", run.work_queue),
        "parameters": run.parameters,
        "tags": list(run.tags),
        "labels": {},
        "context": {},
        "empirical_policy": {},
        "idempotency_key": run.idempotency_key,
        "auto_scheduled": run.created_by == "schedule",
        "created_by": {"id": None, "type": run.created_by.upper(), "display_value": run.created_by},
        "schedule": run.schedule,
        "due": instant(run.due),
        "state_id": present["id"],
        "state_type": present["type"],
        "state_name": present["name"],
        "state": present,
        "run_count": run.attempt,
        "expected_start_time": instant(run.expected_start),
        "next_scheduled_start_time": instant(run.expected_start) if waits else None,
        "start_time": instant(run.start_time),
        "end_time": instant(run.end_time),
        "total_run_time": run.run_time_s,
        "estimated_run_time": estimated_run_time(run, now),
        "estimated_start_time_delta": max(0.0, (started - run.expected_start).total_seconds()) if started else 0.0,
        "parent_flow_run_id": run.parent_run_id,
        "parent_task_run_id": run.parent_task_run_id,
    }


def estimated_run_time(run: FlowRun, now: datetime) -> float:
    """Return how long all attempts ran, in seconds, the one under way included."""
    if run.state.type in (StateType.RUNNING, StateType.CANCELLING) and run.start_time is not None:
        return run.run_time_s + max(0.0, (now - run.state.timestamp).total_seconds())
    return run.run_time_s


def task_run(instance: str, run: TaskRun) -> Document:
    """Return a task run."""
    present = state(instance, run.id, run.state_number, run.state)
    return {
        "id": run.id,
        "name": run.name,
        "created": instant(run.created),
        "updated": instant(run.state.timestamp),
        "flow_run_id": run.run_id,
        "task_key": run.task_key,
        "dynamic_key": run.dynamic_key,
        "cache_key": run.cache_key,
        "tags": list(run.tags),
        "state_type": present["type"],
        "state_name": present["name"],
        "state": present,
        "run_count": run.attempt,
        "expected_start_time": instant(run.expected_start),
        "start_time": instant(run.start_time),
        "end_time": instant(run.end_time),
        "total_run_time": run.run_time_s,
    }


def flow(instance: str, name: str) -> Document:
    """Return a flow: nothing but a name that deployments and runs share."""
    return {"id": id_of(instance, "flow", name), "name": name, "tags": [], "labels": {}}


def deployment(instance: str, value: Deployment, *, paused: bool) -> Document:
    """Return a deployment; ``paused`` is what holds now, which a person may have overridden."""
    own_id = id_of(instance, "deployment", value.name)
    return {
        "id": own_id,
        "name": value.name,
        "description": value.description,
        "version": value.version,
        "flow": value.flow.name,
        "flow_id": id_of(instance, "flow", value.flow.name),
        "entrypoint": value.flow.entrypoint,
        "path": None,
        "parameters": value.parameters,
        "overridable": None if value.overridable is None else sorted(value.overridable),
        "parameter_openapi_schema": {},
        "enforce_parameter_schema": True,
        "tags": list(value.tags),
        "labels": {},
        "job_variables": {},
        "pull_steps": None,
        "paused": paused,
        "status": "NOT_READY" if paused else "READY",
        "schedules": [
            schedule(instance, value.name, own_id, index, each) for index, each in enumerate(value.schedules)
        ],
        "schedule_texts": [schedule_text(each) for each in value.schedules],
        "work_pool_name": value.work_pool,
        "work_queue_name": value.work_queue,
        "work_queue_id": id_of(instance, "work_queue", value.work_queue),
        "concurrency_limit": value.concurrency_limit,
        "concurrency_options": {"collision_strategy": value.collision_strategy.value.upper()},
        "retries": None if value.retry is None else value.retry.retries,
        "timeout_seconds": _seconds(value.timeout),
        "catch_up": value.catch_up.value,
        "catch_up_window_seconds": _seconds(value.catch_up_window),
        "on_crash": value.on_crash.value,
        "late_after_seconds": _seconds(value.late_after),
    }


def schedule(instance: str, owner: str, owner_id: str, index: int, value: Schedule) -> Document:
    """Return a deployment's schedule. Prefect's client refuses further fields here; the rest is in the text."""
    if value.cron is not None:
        when: Document = {"cron": value.cron, "timezone": value.timezone, "day_or": True}
    elif value.interval is not None:
        when = {"interval": value.interval.total_seconds(), "timezone": value.timezone}
        if value.anchor is not None:
            when["anchor_date"] = instant(_in_zone(value.anchor, value.timezone))
    elif value.rrule is not None:
        when = {"rrule": value.rrule, "timezone": value.timezone}
    else:
        # Prefect has no one-shot: a rule of one occurrence says the same.
        at = _in_zone(value.at or datetime.max.replace(tzinfo=UTC), value.timezone).astimezone(UTC)
        when = {"rrule": f"DTSTART:{at:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=DAILY;COUNT=1", "timezone": "UTC"}
    return {
        "id": id_of(instance, "schedule", f"{owner}/{value.name or index}"),
        "deployment_id": owner_id,
        "schedule": when,
        "active": value.active,
        "max_scheduled_runs": None,
        "parameters": {},
        "slug": value.name,
    }


def _in_zone(when: datetime, timezone: str) -> datetime:
    """Return an instant of a schedule; one without an offset is a local time of its zone."""
    return when if when.tzinfo is not None else zones.read(when, zones.zone(timezone)).instant


def schedule_text(value: Schedule) -> str:
    """Return a schedule in a few words: ``0 9 * * * Europe/Helsinki``, ``every 15s``."""
    if value.cron is not None:
        text = f"{value.cron} {value.timezone}"
    elif value.interval is not None:
        text = f"every {format_duration(value.interval)}"
    elif value.rrule is not None:
        text = f"{value.rrule.splitlines()[-1].removeprefix('RRULE:')} {value.timezone}"
    else:
        at = value.at  # without an offset where the file says none: a local time of its zone
        text = f"once at {at} {value.timezone}" if at is not None and at.tzinfo is None else f"once at {instant(at)}"
    if value.jitter:
        text += f" + up to {format_duration(value.jitter)}"
    return text if value.active else f"{text} (inactive)"


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def work_pool(instance: str, value: WorkPool, *, paused: bool) -> Document:
    """Return a work pool."""
    return {
        "id": id_of(instance, "work_pool", value.name),
        "name": value.name,
        "type": value.type,
        "description": value.description,
        "is_paused": paused,
        "status": "PAUSED" if paused else "READY",
        "concurrency_limit": value.concurrency_limit,
        "base_job_template": {},
        "default_queue_id": id_of(instance, "work_queue", "default") if value.name == "default" else None,
    }


def work_queue(instance: str, value: WorkQueue, *, paused: bool) -> Document:
    """Return a work queue."""
    return {
        "id": id_of(instance, "work_queue", value.name),
        "name": value.name,
        "description": value.description or "",
        "is_paused": paused,
        "status": "PAUSED" if paused else "READY",
        "concurrency_limit": value.concurrency_limit,
        "priority": value.priority,
        "work_pool_id": id_of(instance, "work_pool", value.work_pool),
        "work_pool_name": value.work_pool,
        "automatic": value.automatic,
    }


def log(instance: str, row_id: int, row: LogRow) -> Document:
    """Return a line of a run's log; ``number`` grows along the run and is what a reader goes on from."""
    return {
        "id": stable_id(instance, "log", str(row_id)),
        "number": row_id,
        "name": row.logger,
        "level": row.level,
        "message": row.message,
        "timestamp": instant(row.at),
        "flow_run_id": row.run_id,
        "task_run_id": row.task_run_id,
    }


def artifact(value: Artifact) -> Document:
    """Return one version of an artifact with its data; in lists, which come without texts, the data is null."""
    return {
        "id": value.id,
        "created": instant(value.created),
        "updated": instant(value.created),
        "key": value.key,
        "version": value.version,
        "type": value.type,
        "description": value.description,
        "data": json.loads(value.text),
        "metadata_": {},
        "flow_run_id": value.run_id,
        "task_run_id": value.task_run_id,
        "deployment": value.deployment,
    }


def artifact_collection(instance: str, value: Artifact) -> Document:
    """Return what a key stands for now: its latest version."""
    return artifact(value) | {"id": stable_id(instance, "artifact", value.key or value.id), "latest_id": value.id}


def skipped(value: SkippedFire) -> Document:
    """Return fires of a schedule that made no run, and why."""
    return {
        "deployment": value.deployment,
        "schedule": value.schedule,
        "first": instant(value.first),
        "last": instant(value.last),
        "count": value.count,
        "exact": value.exact,
        "reason": value.reason,
        "at": instant(value.at),
    }


def events(instance: str, value: Event) -> Iterable[Document]:
    """Return what happened as events in Prefect's shape, one for each state that a run entered."""
    if isinstance(value, RunChanged):
        run = value.run
        first = run.state_number - len(value.states) + 1
        for number, each in enumerate(value.states, start=first):
            yield {
                "id": stable_id(instance, "event", f"{run.id}/{number}"),
                "occurred": instant(each.timestamp),
                "event": f"prefect.flow-run.{each.name}",
                "resource": {
                    "prefect.resource.id": f"prefect.flow-run.{run.id}",
                    "prefect.resource.name": run.name,
                    "prefect.state-type": str(each.type),
                    "prefect.state-name": each.name,
                    "prefect.state-message": each.message or "",
                },
                "related": _related(instance, run.deployment, run.flow),
                "payload": {"flow_run": flow_run(instance, run, each.timestamp), "state_number": number},
            }
    elif isinstance(value, TaskRunChanged):
        yield _task_event(instance, value)
    elif isinstance(value, Emitted):
        yield {
            "id": value.id,
            "occurred": instant(value.occurred),
            "event": value.event,
            "resource": value.resource,
            "related": [_run_related(value.run), *_related(instance, value.run.deployment, value.run.flow)],
            "payload": value.payload or {},
        }
    elif isinstance(value, RunDeleted):
        yield {
            "event": "prefect.flow-run.Deleted",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{value.run_id}"},
            "related": _related(instance, value.deployment, None),
            "payload": {},
        }
    elif isinstance(value, ArtifactUpdated):
        kept = value.artifact
        yield {
            "event": "prefect.artifact.updated",
            "resource": {"prefect.resource.id": f"prefect.artifact.{kept.id}", "prefect.resource.name": kept.key or ""},
            "related": _related(instance, kept.deployment, None),
            "payload": artifact(kept),
        }
    elif isinstance(value, ArtifactStored):
        kept = value.artifact
        yield {
            "id": stable_id(instance, "event", f"artifact/{kept.id}"),
            "occurred": instant(kept.created),
            "event": "prefect.artifact.created",
            "resource": {"prefect.resource.id": f"prefect.artifact.{kept.id}", "prefect.resource.name": kept.key or ""},
            "related": _related(instance, kept.deployment, None),
            "payload": {name: each for name, each in artifact(kept).items() if name != "data"},
        }
    elif isinstance(value, FiresSkipped):
        yield {
            "occurred": instant(value.skipped.at),
            "event": "tidemill.schedule.skipped",
            "resource": {"prefect.resource.id": f"tidemill.schedule.{value.skipped.schedule}"},
            "related": _related(instance, value.skipped.deployment, None),
            "payload": skipped(value.skipped),
        }


def _task_event(instance: str, value: TaskRunChanged) -> Document:
    task, present = value.task, value.task.state
    return {
        "id": stable_id(instance, "event", f"{task.id}/{task.state_number}"),
        "occurred": instant(present.timestamp),
        "event": f"prefect.task-run.{present.name}",
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{task.id}",
            "prefect.resource.name": task.name,
            "prefect.state-type": str(present.type),
            "prefect.state-name": present.name,
            "prefect.state-message": present.message or "",
        },
        "related": [_run_related(value.run), *_related(instance, value.run.deployment, value.run.flow)],
        "payload": {"task_run": task_run(instance, task), "state_number": task.state_number},
    }


def _run_related(run: FlowRun) -> Document:
    return {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.resource.role": "flow-run",
        "prefect.resource.name": run.name,
    }


def _related(instance: str, owner: str | None, flow_name: str | None) -> list[Document]:
    found = [("deployment", owner), ("flow", flow_name)]
    return [
        {
            "prefect.resource.id": f"prefect.{kind}.{id_of(instance, kind, name)}",
            "prefect.resource.role": kind,
            "prefect.resource.name": name,
        }
        for kind, name in found
        if name is not None
    ]
