"""What running code may ask about itself: ``from tidemill.runtime import flow_run; flow_run.name``.

Outside a run every attribute is empty. An environment variable such as ``TIDEMILL__RUNTIME__FLOW_RUN__NAME`` stands in
for one, for tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tidemill.clock import SystemClock
from tidemill.sdk.context import current
from tidemill.sdk.runs import FlowRun
from tidemill.sdk.scopes import FlowRunContext, TaskRunContext


def _flow(name: str, empty: Any = None) -> Callable[[], Any]:
    def read() -> Any:
        run = _flow_run()
        return empty if run is None else getattr(run, name)

    return read


def _flow_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return context.flow_run if context is not None else None


def _job(name: str) -> Callable[[], Any]:
    def read() -> Any:
        context = current.get()
        return None if context is None else getattr(context.job, name)

    return read


def _scheduled() -> datetime:
    run = _flow_run()
    return SystemClock().now() if run is None else run.expected_start_time


def _tags() -> list[str]:
    run = _flow_run()
    return [] if run is None else sorted(run.tags)


def _root() -> str | None:
    run = _flow_run()
    return None if run is None else run.root_flow_run_id


def _parameters() -> dict[str, Any]:
    context = FlowRunContext.get()
    return {} if context is None else dict(context.parameters)


def _deployment_parameters() -> dict[str, Any]:
    context = current.get()
    return {} if context is None or context.job.deployment is None else dict(context.job.parameters)


def _deployment_run() -> str | None:
    context = current.get()
    return None if context is None or context.job.deployment is None else context.job.run_id


def _deployment_id() -> str | None:
    context = current.get()
    return None if context is None else context.job.deployment_id


def _task(name: str, empty: Any = None) -> Callable[[], Any]:
    def read() -> Any:
        context = TaskRunContext.get()
        return empty if context is None else getattr(context.task_run, name)

    return read


def _task_tags() -> list[str]:
    context = TaskRunContext.get()
    return [] if context is None else sorted(context.task_run.tags)


def _task_name() -> str | None:
    context = TaskRunContext.get()
    return None if context is None else context.task.name


def _task_parameters() -> dict[str, Any]:
    context = TaskRunContext.get()
    return {} if context is None else dict(context.parameters)


FLOW_RUN: Mapping[str, Callable[[], Any]] = {
    "id": _flow("id"),
    "tags": _tags,
    "scheduled_start_time": _scheduled,
    "name": _flow("name"),
    "flow_name": _flow("flow_name"),
    "flow_version": _flow("flow_version"),
    "parameters": _parameters,
    "parent_flow_run_id": _flow("parent_flow_run_id"),
    "parent_deployment_id": _flow("parent_deployment"),
    "root_flow_run_id": _root,
    "run_count": _flow("run_count", 0),
    "work_pool_name": _flow("work_pool_name"),
    "work_queue_name": _flow("work_queue_name"),
}

TASK_RUN: Mapping[str, Callable[[], Any]] = {
    "id": _task("id"),
    "tags": _task_tags,
    "name": _task("name"),
    "task_name": _task_name,
    "parameters": _task_parameters,
    "run_count": _task("run_count", 0),
}

DEPLOYMENT: Mapping[str, Callable[[], Any]] = {
    "id": _deployment_id,
    "name": _job("deployment"),
    "flow_run_id": _deployment_run,
    "parameters": _deployment_parameters,
}


def attribute(module: str, fields: Mapping[str, Callable[[], Any]], name: str) -> Any:
    """Return one attribute of ``flow_run``, ``task_run`` or ``deployment``; for their modules' ``__getattr__``."""
    if name not in fields:
        raise AttributeError(f"tidemill.runtime.{module} has no {name}; it has {', '.join(sorted(fields))}")
    value = fields[name]()
    mocked = os.environ.get(f"TIDEMILL__RUNTIME__{module.upper()}__{name.upper()}")
    if mocked is None:
        return value
    if isinstance(value, bool):
        return mocked.lower() == "true"
    if isinstance(value, datetime):
        return datetime.fromisoformat(mocked)
    if value is None or isinstance(value, str | int | float):
        return mocked if value is None else type(value)(mocked)
    raise ValueError(f"tidemill.runtime.{module}.{name} is {type(value).__name__}, which no text stands in for")


class Room:
    """What templates name as ``{flow_run.name}``: the attributes of one of the modules."""

    def __init__(self, module: str, fields: Mapping[str, Callable[[], Any]]) -> None:
        self._module, self._fields = module, fields

    def __getattr__(self, name: str) -> Any:
        return attribute(self._module, self._fields, name)


ROOMS = {
    "flow_run": Room("flow_run", FLOW_RUN),
    "task_run": Room("task_run", TASK_RUN),
    "deployment": Room("deployment", DEPLOYMENT),
}
