"""Runs of deployments that flow code asks for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from tidemill.core.reports import RunDeploymentQuestion, RunStateQuestion
from tidemill.core.states import StateType
from tidemill.sdk.context import NoRunError, RunContext, current
from tidemill.sdk.documents import as_document
from tidemill.sdk.exceptions import FlowRunWaitTimeout
from tidemill.sdk.resolving import resolve
from tidemill.sdk.scripts import Wire, wire_to_daemon
from tidemill.sdk.states import State, awaited

POLL_S = 0.5


class DeploymentRun(msgspec.Struct, frozen=True, kw_only=True):
    """A flow run of a deployment as it was when it was looked at. ``state`` has its result where one was kept."""

    id: str
    name: str
    state: State
    parameters: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    deployment_id: str | None = None
    document: dict[str, Any] = {}  # all that the API tells of it


def run_deployment(
    name: str,
    client: None = None,
    parameters: Mapping[str, Any] | None = None,
    scheduled_time: datetime | None = None,
    flow_run_name: str | None = None,
    timeout: float | None = None,
    poll_interval: float | None = None,
    tags: Iterable[str] | None = None,
    idempotency_key: str | None = None,
    work_queue_name: str | None = None,
    as_subflow: bool | None = True,
    job_variables: Mapping[str, Any] | None = None,
) -> Any:
    """Make a run of a deployment ("flow/deployment" or its name) and wait until it has ended; return it.

    ``timeout``: seconds to wait at most, 0: do not wait, None: as long as it takes; the run goes on in any case.
    ``parameters`` are JSON; futures among them are waited for. ``client`` must be None; ``poll_interval`` is
    taken for Prefect's sake; the queue is the deployment's. The run is cancelled with the one that asks for it, unless
    ``as_subflow`` is False. To be awaited in async code.

    >>> run_deployment("report/daily", parameters={"region": "fi"}, timeout=60)  # doctest: +SKIP
    """
    question = _question(
        name,
        client,
        parameters,
        scheduled_time,
        flow_run_name,
        tags,
        idempotency_key,
        work_queue_name,
        job_variables,
        as_subflow,
    )
    context = current.get()
    if awaited():
        return _ran(context, question, timeout)
    if context is None:
        return _from_outside(question, timeout)
    document = context.ask_now(question)
    if timeout != 0:
        document = context.ask_now(RunStateQuestion(flow_run_id=document["id"], timeout_s=timeout))
    return run_of(document)


async def arun_deployment(name: str, **options: Any) -> DeploymentRun:
    """Do what :func:`run_deployment` does."""
    timeout = options.pop("timeout", None)
    options.pop("poll_interval", None)
    return await _ran(current.get(), _question(name, **options), timeout)


def _question(
    name: str,
    client: Any = None,
    parameters: Mapping[str, Any] | None = None,
    scheduled_time: datetime | None = None,
    flow_run_name: str | None = None,
    tags: Iterable[str] | None = None,
    idempotency_key: str | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    as_subflow: bool | None = True,
) -> RunDeploymentQuestion:
    if client is not None or job_variables:
        raise ValueError("run_deployment takes no client and no job_variables here: the deployment's table has it all")
    if work_queue_name is not None:
        raise ValueError("the work queue is the deployment's own; name another deployment, or change its table")
    return RunDeploymentQuestion(
        deployment=str(name),
        parameters={key: as_document(resolve(value)) for key, value in (parameters or {}).items()},
        tags=tuple(tags or ()),
        name=flow_run_name,
        scheduled_time=scheduled_time,
        idempotency_key=idempotency_key,
        as_subflow=as_subflow is not False,
    )


async def _ran(context: RunContext | None, question: RunDeploymentQuestion, timeout: float | None) -> DeploymentRun:
    if context is None:
        import asyncio

        return await asyncio.to_thread(_from_outside, question, timeout)
    document = await context.ask(question)
    if timeout != 0:
        document = await context.ask(RunStateQuestion(flow_run_id=document["id"], timeout_s=timeout))
    return run_of(document)


def _from_outside(question: RunDeploymentQuestion, timeout: float | None) -> DeploymentRun:
    wire = wire_to_daemon()
    if wire is None:
        raise NoRunError("no daemon was found to run the deployment; set TIDEMILL_API_URL")
    name = question.deployment.rpartition("/")[2]
    found = wire.ask("POST", "/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
    if not found:
        raise NoRunError(f"the daemon at {wire.where} has no deployment {question.deployment}")
    body: dict[str, Any] = {"parameters": question.parameters, "tags": list(question.tags)}
    if question.name is not None:
        body["name"] = question.name
    if question.idempotency_key is not None:
        body["idempotency_key"] = question.idempotency_key
    if question.scheduled_time is not None:
        at = question.scheduled_time.isoformat()
        body["state"] = {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}
    document = wire.ask("POST", f"/deployments/{found[0]['id']}/create_flow_run", body)
    return run_of(document if timeout == 0 else _ended(wire, document["id"], timeout))


def _ended(wire: Wire, run_id: str, timeout: float | None) -> dict[str, Any]:
    """Look until the run has ended: from outside nobody tells."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        document: dict[str, Any] = wire.ask("GET", f"/flow_runs/{run_id}")
        if run_of(document).state.is_final() or (deadline is not None and time.monotonic() >= deadline):
            return document
        time.sleep(POLL_S)


def run_of(document: Mapping[str, Any]) -> DeploymentRun:
    """Return a flow run's document as a value."""
    state = document.get("state") or {"type": document.get("state_type"), "name": document.get("state_name")}
    at = state.get("timestamp")
    told = State(
        StateType(state["type"]),
        name=state.get("name"),
        message=state.get("message"),
        data=state.get("data"),
        timestamp=datetime.fromisoformat(at) if isinstance(at, str) else at,
    )
    told.state_details.flow_run_id = document["id"]
    return DeploymentRun(
        id=document["id"],
        name=document.get("name") or "",
        state=told,
        parameters=dict(document.get("parameters") or {}),
        tags=tuple(document.get("tags") or ()),
        deployment_id=document.get("deployment_id"),
        document=dict(document),
    )


def wait_for_flow_run(flow_run_id: str, timeout: float | None = 10_800, **_others: Any) -> Any:
    """Wait until a flow run has ended and return it; ``FlowRunWaitTimeout`` after ``timeout`` seconds.

    To be awaited in async code.
    """
    context = current.get()
    if awaited():
        return _waited(context, str(flow_run_id), timeout)
    if context is None:
        wire = wire_to_daemon()
        if wire is None:
            raise NoRunError("no daemon was found to wait with; set TIDEMILL_API_URL")
        return _final(run_of(_ended(wire, str(flow_run_id), timeout)), timeout)
    return _final(run_of(context.ask_now(RunStateQuestion(flow_run_id=str(flow_run_id), timeout_s=timeout))), timeout)


async def _waited(context: RunContext | None, flow_run_id: str, timeout: float | None) -> DeploymentRun:
    if context is None:
        raise NoRunError("wait_for_flow_run in async code belongs into a flow")
    return _final(run_of(await context.ask(RunStateQuestion(flow_run_id=flow_run_id, timeout_s=timeout))), timeout)


def _final(run: DeploymentRun, timeout: float | None) -> DeploymentRun:
    if not run.state.is_final():
        raise FlowRunWaitTimeout(f"flow run {run.name} ({run.id}) did not end within {timeout:g} s")
    return run
