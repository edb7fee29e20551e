"""Changes of many runs in one request, in Prefect's shapes: each run is changed, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.api import documents, run_reads
from tidemill.api.ask import Ask
from tidemill.api.asker import asker
from tidemill.api.bodies import BadRequestError
from tidemill.api.ports import Control
from tidemill.api.writes import Answer, change_state, read_state
from tidemill.core.runs import FlowRun
from tidemill.errors import NotFoundError, TransitionError

_FILTERS = ("flow_runs", "flows", "deployments", "work_queues", "work_pools")


async def set_states(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Cancel (CANCELLING, CANCELLED) or retry (SCHEDULED) the runs that fit, at most 200."""
    state = read_state({name: value for name, value in body.items() if name in ("state", "force")})
    results = []
    for run in await _fitting(control, body, "state", "force"):
        try:
            answer = (await change_state(control, run, state)).document
        except NotFoundError:
            continue  # it went meanwhile
        results.append({"flow_run_id": run.id, **answer})
    return Answer(200, {"results": results})


async def delete(control: Control, path: Mapping[str, str], body: Any) -> Answer:
    """Delete the finished and waiting runs that fit, at most 200."""
    deleted: list[str] = []
    kept: list[documents.Document] = []
    for run in await _fitting(control, body):
        try:
            await control.delete_run(run.id, by=asker.get())
        except (TransitionError, NotFoundError) as error:
            kept.append({"flow_run_id": run.id, "reason": str(error)})
        else:
            deleted.append(run.id)
    return Answer(200, {"deleted": deleted, "kept": kept})


async def _fitting(control: Control, body: Any, *beside: str) -> list[FlowRun]:
    wanted = {name: value for name, value in body.items() if name not in beside}
    if not any(_says_something(wanted.get(name)) for name in _FILTERS):
        raise BadRequestError(f"the body does not say which runs; filter by {', '.join(_FILTERS)}")
    now = control.clock.now()
    return await control.store.read(lambda connection: run_reads.selected(Ask(connection, now, {}, {}, wanted)))


def _says_something(value: Any) -> bool:
    """Say whether a filter holds any condition, however deep: one of none would mean every run."""
    if isinstance(value, dict):
        return any(_says_something(each) for name, each in value.items() if name != "operator")
    return value is not None
