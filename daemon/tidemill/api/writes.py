"""The changes: what a request asks of ``Control``. Names and parameters go in; code, commands and URLs never do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from tidemill.api import documents, lookup
from tidemill.api.asker import asker
from tidemill.api.bodies import BadRequestError
from tidemill.api.ports import Control
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.errors import TransitionError

MAX_NAME = 256
MAX_TAGS = 100


class Answer(msgspec.Struct, frozen=True):
    """A status and a JSON document; None: no body."""

    status: int
    document: Any = None


Write = Callable[[Control, Mapping[str, str], Any], Awaitable[Answer]]


# Prefect's client sends more fields than are meant here; a value that would change the run is refused below.
class _StateDetails(msgspec.Struct, forbid_unknown_fields=False):
    scheduled_time: datetime | None = None


class _State(msgspec.Struct):
    type: StateType
    name: str | None = None
    message: str | None = None
    state_details: _StateDetails | None = None


class _CreateFlowRun(msgspec.Struct, forbid_unknown_fields=True):
    parameters: dict[str, Any] | None = None
    tags: list[str] | None = None
    name: str | None = None
    state: _State | None = None
    idempotency_key: str | None = None
    # Sent by Prefect's client whatever is asked for. Anything but nothing is refused.
    context: dict[str, Any] | None = None
    empirical_policy: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None
    job_variables: dict[str, Any] | None = None
    infrastructure_document_id: str | None = None
    parent_task_run_id: str | None = None
    work_queue_name: str | None = None
    enforce_parameter_schema: bool | None = None


class _SetState(msgspec.Struct):
    state: _State
    force: bool = False


class _QueuePatch(msgspec.Struct, forbid_unknown_fields=True):
    is_paused: bool | msgspec.UnsetType = msgspec.UNSET
    concurrency_limit: int | msgspec.UnsetType | None = msgspec.UNSET
    priority: int | msgspec.UnsetType = msgspec.UNSET


class _PoolPatch(msgspec.Struct, forbid_unknown_fields=True):
    is_paused: bool | msgspec.UnsetType = msgspec.UNSET
    concurrency_limit: int | msgspec.UnsetType | None = msgspec.UNSET


class _DeploymentPatch(msgspec.Struct, forbid_unknown_fields=True):
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    concurrency_limit: int | msgspec.UnsetType | None = msgspec.UNSET


def read_body(body: Any, shape: type[Any]) -> Any:
    """Return a body as what it is to be. Raises BadRequestError."""
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"the body does not fit: {error}") from error


async def create_flow_run(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Make a run of a deployment."""
    asked: _CreateFlowRun = read_body(body, _CreateFlowRun)
    for field in ("job_variables", "work_queue_name", "infrastructure_document_id", "parent_task_run_id"):
        if getattr(asked, field):
            raise BadRequestError(f"{field} cannot be given here; the configuration says it")
    if asked.state is not None and asked.state.type is not StateType.SCHEDULED:
        raise BadRequestError(f"a new run is SCHEDULED, not {asked.state.type}")
    if asked.name is not None and not 0 < len(asked.name) <= MAX_NAME:
        raise BadRequestError(f"the run's name has {len(asked.name)} characters; 1 to {MAX_NAME} are possible")
    if asked.tags and (len(asked.tags) > MAX_TAGS or any(len(tag) > MAX_NAME for tag in asked.tags)):
        raise BadRequestError(f"too many tags ({MAX_TAGS} are possible), or too long ones ({MAX_NAME} characters)")
    details = asked.state.state_details if asked.state is not None else None
    when = details.scheduled_time if details is not None else None
    if when is not None and when.tzinfo is None:
        raise BadRequestError("scheduled_time has no offset; write for example 2026-03-29T01:00:00Z")
    name = await control.store.read(lambda connection: lookup.deployment(connection, path["id"]).value.name)
    run = await control.create_run(
        name,
        parameters=asked.parameters,
        tags=tuple(asked.tags or ()),
        name=asked.name,
        scheduled_time=when,
        idempotency_key=asked.idempotency_key,
    )
    return Answer(201, documents.flow_run(control.instance_id, run, control.clock.now()))


def read_state(body: Any) -> _State:
    """Return the state that a body asks for. Raises BadRequestError."""
    asked: _SetState = read_body(body, _SetState)
    return asked.state


async def set_state(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Cancel a run (CANCELLING, CANCELLED) or retry one (SCHEDULED). Other states are the daemon's to set."""
    state = read_state(body)
    return await change_state(control, await _run(control, path["id"]), state)


async def change_state(control: Control, run: FlowRun, state: _State) -> Answer:
    """Bring a run into a state that a person may ask for."""
    try:
        if state.type in (StateType.CANCELLING, StateType.CANCELLED):
            after = await control.cancel_run(run.id, state.message or f"cancelled by {asker.get()}")
        elif state.type is StateType.SCHEDULED:
            after = await control.retry_run(run.id, by=asker.get())
        else:
            raise BadRequestError(
                f"a run cannot be set to {state.type}; cancel it (CANCELLING) or retry it (SCHEDULED)"
            )
    except TransitionError as error:
        # Prefect's way: the answer is a result with a reason, whose reader decides.
        rejected = documents.state(control.instance_id, run.id, run.state_number, run.state)
        return Answer(
            200, {"state": rejected, "status": "REJECT", "details": {"type": "reject_details", "reason": str(error)}}
        )
    accepted = documents.state(control.instance_id, after.id, after.state_number, after.state)
    return Answer(201, {"state": accepted, "status": "ACCEPT", "details": {"type": "accept_details"}})


class _Resume(msgspec.Struct, forbid_unknown_fields=True):
    run_input: Any = None


async def resume_flow_run(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Let a paused run go on; ``run_input`` is what its code gets as the answer."""
    asked: _Resume = read_body(body, _Resume)
    run = await _run(control, path["id"])
    try:
        after = await control.resume_run(run.id, asked.run_input)
    except TransitionError as error:
        rejected = documents.state(control.instance_id, run.id, run.state_number, run.state)
        return Answer(
            200, {"state": rejected, "status": "REJECT", "details": {"type": "reject_details", "reason": str(error)}}
        )
    accepted = documents.state(control.instance_id, after.id, after.state_number, after.state)
    return Answer(201, {"state": accepted, "status": "ACCEPT", "details": {"type": "accept_details"}})


async def delete_flow_run(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Delete a finished run."""
    run = await _run(control, path["id"])
    await control.delete_run(run.id, by=asker.get())
    return Answer(204)


async def pause_deployment(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Let a deployment's schedules make no runs."""
    return await _pause_deployment(control, path["id"], paused=True)


async def resume_deployment(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Let a deployment's schedules make runs again."""
    return await _pause_deployment(control, path["id"], paused=False)


async def patch_deployment(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Pause, resume, limit; the rest of a deployment is the configuration's."""
    asked: _DeploymentPatch = read_body(body, _DeploymentPatch)
    name = await control.store.read(lambda connection: lookup.deployment(connection, path["id"]).value.name)
    return await _set(control, "deployment", name, asked)


async def _pause_deployment(control: Control, text: str, *, paused: bool) -> Answer:
    name = await control.store.read(lambda connection: lookup.deployment(connection, text).value.name)
    await (control.pause if paused else control.resume)("deployment", name, by=asker.get())
    return Answer(204)


async def patch_work_queue(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Pause, resume, limit a queue, or give it another priority."""
    asked: _QueuePatch = read_body(body, _QueuePatch)
    name = await control.store.read(lambda connection: lookup.work_queue(connection, path["id"]).value.name)
    return await _set(control, "work_queue", name, asked)


async def patch_work_pool(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Pause, resume or limit a pool; without a limit of its own the configuration's is in force."""
    asked: _PoolPatch = read_body(body, _PoolPatch)
    name = await control.store.read(lambda connection: lookup.work_pool(connection, path["name"]).value.name)
    return await _set(control, "work_pool", name, asked)


async def _set(control: Control, kind: str, name: str, asked: msgspec.Struct) -> Answer:
    """Set by hand what a body names."""
    given = {key: value for key, value in msgspec.structs.asdict(asked).items() if value is not msgspec.UNSET}
    if not given:
        raise BadRequestError(f"the body names nothing to set; {', '.join(asked.__struct_fields__)} can be")
    for key, value in given.items():
        if key in ("paused", "is_paused"):
            await (control.pause if value else control.resume)(kind, name, by=asker.get())
        elif value is None and kind == "work_pool":
            await control.overrides.clear(kind, name, key, by=asker.get())
        else:
            await control.overrides.set(kind, name, key, value, by=asker.get())
    return Answer(204)


class _Clear(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    name: str
    key: str | None = None


async def clear_overrides(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Let the configuration's own values be in force again, of one key or of all that was set by hand."""
    asked: _Clear = read_body(body, _Clear)
    return Answer(200, {"cleared": await control.overrides.clear(asked.kind, asked.name, asked.key, by=asker.get())})


async def drain(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Start nothing new from now on."""
    control.draining.begin(asker.get())
    return Answer(200, control.draining.document())


async def undo_drain(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Start again what waits, and what comes."""
    control.draining.undo(asker.get())
    return Answer(200, control.draining.document())


async def _run(control: Control, text: str) -> FlowRun:
    return await control.store.read(lambda connection: lookup.flow_run(connection, text))


WRITES: Mapping[tuple[str, str], Write] = {
    ("POST", "/deployments/{id}/create_flow_run"): create_flow_run,
    ("POST", "/deployments/{id}/pause_deployment"): pause_deployment,
    ("POST", "/deployments/{id}/resume_deployment"): resume_deployment,
    ("PATCH", "/deployments/{id}"): patch_deployment,
    ("POST", "/flow_runs/{id}/set_state"): set_state,
    ("POST", "/flow_runs/{id}/resume"): resume_flow_run,
    ("DELETE", "/flow_runs/{id}"): delete_flow_run,
    ("PATCH", "/work_queues/{id}"): patch_work_queue,
    ("PATCH", "/work_pools/{name}"): patch_work_pool,
    ("POST", "/overrides/clear"): clear_overrides,
    ("POST", "/drain"): drain,
    ("DELETE", "/drain"): undo_drain,
}
