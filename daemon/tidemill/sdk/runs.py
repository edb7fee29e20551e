"""Flow runs and task runs as flow code, hooks and conditions see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tidemill.core.reports import TaskReport
from tidemill.core.states import StateType
from tidemill.sdk.canonical import unicode_text
from tidemill.sdk.states import State

ZERO = timedelta(0)


def name_by(
    named: str | Callable[..., str], parameters: Mapping[str, Any], option: str, takes_parameters: bool = False
) -> str:
    """Return a run's name by its template or function, which ``option`` of the decorator gave.

    Raises ``ValueError`` for a template that does not fit the parameters, and what the function raises.
    """
    if callable(named):
        name = named(parameters=parameters) if takes_parameters else named()
        if not isinstance(name, str):
            raise TypeError(f"{option} gave {type(name).__name__}, and a name is a text")
        return unicode_text(name)
    try:
        return unicode_text(named.format(**parameters))
    except KeyError as error:
        there = ", ".join(parameters) or "none"
        raise ValueError(f"{option} {named!r}: there is no parameter {error}; there are: {there}") from None
    except Exception as error:
        raise ValueError(f"{option} {named!r} does not fit the parameters: {error}") from None


class FlowRun:
    """One run of a flow. Changed by the engine while the run goes on."""

    __slots__ = (
        "deployment",
        "deployment_id",
        "expected_start_time",
        "flow_name",
        "flow_version",
        "id",
        "name",
        "parameters",
        "parent_deployment",
        "parent_flow_run_id",
        "parent_task_run_id",
        "root_flow_run_id",
        "run_count",
        "start_time",
        "state",
        "tags",
        "work_pool_name",
        "work_queue_name",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        flow_name: str,
        expected_start_time: datetime,
        state: State,
        flow_version: str | None = None,
        parameters: dict[str, Any] | None = None,
        tags: frozenset[str] = frozenset(),
        run_count: int = 0,
        deployment: str | None = None,
        deployment_id: str | None = None,
        parent_flow_run_id: str | None = None,
        parent_task_run_id: str | None = None,
        parent_deployment: str | None = None,
        root_flow_run_id: str | None = None,
        work_pool_name: str | None = None,
        work_queue_name: str | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.flow_name = flow_name
        self.flow_version = flow_version
        self.parameters = parameters or {}
        self.tags = tags
        self.run_count = run_count
        self.state = state
        self.expected_start_time = expected_start_time
        self.start_time: datetime | None = None
        self.deployment = deployment
        self.deployment_id = deployment_id
        self.parent_flow_run_id = parent_flow_run_id
        self.parent_task_run_id = parent_task_run_id
        self.parent_deployment = parent_deployment
        self.root_flow_run_id = root_flow_run_id or id
        self.work_pool_name = work_pool_name
        self.work_queue_name = work_queue_name

    def __repr__(self) -> str:
        return f"FlowRun({self.name!r}, {self.id}, {self.state})"


class TaskRun:
    """One run of a task."""

    __slots__ = (
        "cache_key",
        "created",
        "dynamic_key",
        "end_time",
        "flow_run_id",
        "id",
        "name",
        "run_count",
        "start_time",
        "state",
        "state_number",
        "subflow_id",
        "tags",
        "task_key",
        "total_run_time",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        task_key: str,
        dynamic_key: str,
        created: datetime,
        state: State,
        flow_run_id: str | None,
        subflow_id: str | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        self.id = id
        self.name = name
        self.task_key = task_key
        self.dynamic_key = dynamic_key
        self.created = created
        self.state = state
        self.state_number = 1
        self.flow_run_id = flow_run_id
        self.subflow_id = subflow_id  # the flow run's id where it is a subflow: reports carry it
        self.tags = tags
        self.run_count = 0
        self.start_time: datetime | None = None
        self.end_time: datetime | None = None
        self.total_run_time = ZERO
        self.cache_key: str | None = None

    def enter(self, state: State) -> None:
        """Come into a state; times and counts follow."""
        before = self.state
        at = state.timestamp
        if before.type is StateType.RUNNING:
            self.total_run_time += max(ZERO, at - before.timestamp)
        if state.type is StateType.RUNNING:
            self.run_count += 1
            if self.start_time is None:
                self.start_time = at
        elif state.is_final() and self.end_time is None:
            self.end_time = at
        details = state.state_details
        details.task_run_id = self.id
        details.flow_run_id = self.flow_run_id
        self.state = state
        self.state_number += 1

    def report(self) -> TaskReport:
        """Return the run as it is told to the recorder."""
        return TaskReport(
            id=self.id,
            name=self.name,
            task_key=self.task_key,
            dynamic_key=self.dynamic_key,
            state=self.state.told(),
            state_number=self.state_number,
            attempt=self.run_count,
            tags=tuple(sorted(self.tags)) if self.tags else (),
            created=self.created,
            expected_start=self.created,
            start_time=self.start_time,
            end_time=self.end_time,
            run_time_s=self.total_run_time.total_seconds(),
            cache_key=self.cache_key,
            flow_run_id=self.subflow_id,
        )

    def __repr__(self) -> str:
        return f"TaskRun({self.name!r}, {self.id}, {self.state})"
