"""The reads: one table from route to function, for the HTTP handlers and, while the daemon is down, for the commands.

A read needs the database and nothing else, so that both give the same answer.
"""

from __future__ import annotations

from urllib.parse import unquote

from tidemill.api import (
    artifact_reads,
    automation_reads,
    backfill_reads,
    block_reads,
    catalogue_reads,
    limit_reads,
    run_reads,
    task_reads,
    why_reads,
)
from tidemill.api.ask import Ask, Read

__all__ = ["READS", "Ask", "Read", "find"]

READS: dict[tuple[str, str], Read] = {
    ("POST", "/flow_runs/filter"): run_reads.flow_runs,
    ("POST", "/flow_runs/count"): run_reads.count_flow_runs,
    ("GET", "/flow_runs/{id}"): run_reads.flow_run,
    ("GET", "/flow_runs/{id}/logs"): run_reads.flow_run_logs,
    ("GET", "/flow_run_states/"): run_reads.flow_run_states,
    ("POST", "/logs/filter"): run_reads.filter_logs,
    ("GET", "/flow_runs/{id}/children"): run_reads.flow_run_children,
    ("POST", "/task_runs/filter"): task_reads.filter_task_runs,
    ("POST", "/task_runs/count"): task_reads.count_task_runs,
    ("GET", "/task_runs/{id}"): task_reads.task_run,
    ("POST", "/deployments/filter"): catalogue_reads.filter_deployments,
    ("GET", "/deployments/name/{flow}/{name}"): catalogue_reads.deployment_by_name,
    ("GET", "/deployments/{id}"): catalogue_reads.deployment,
    ("POST", "/flows/filter"): catalogue_reads.filter_flows,
    ("GET", "/flows/name/{name}"): catalogue_reads.flow_by_name,
    ("GET", "/flows/{id}"): catalogue_reads.flow,
    ("POST", "/work_queues/filter"): catalogue_reads.filter_work_queues,
    ("GET", "/work_queues/{id}"): catalogue_reads.work_queue,
    ("POST", "/work_pools/filter"): catalogue_reads.filter_work_pools,
    ("GET", "/work_pools/{name}"): catalogue_reads.work_pool,
    ("POST", "/work_pools/{name}/queues/filter"): catalogue_reads.filter_queues_of_pool,
    ("GET", "/work_pools/{name}/queues/{queue}"): catalogue_reads.queue_of_pool,
    ("GET", "/overrides"): catalogue_reads.list_overrides,
    ("GET", "/backfills"): backfill_reads.list_backfills,
    ("POST", "/artifacts/filter"): artifact_reads.filter_artifacts,
    ("POST", "/artifacts/latest/filter"): artifact_reads.filter_latest_artifacts,
    ("GET", "/artifacts/find"): artifact_reads.find_artifact,
    ("GET", "/artifacts/{id}"): artifact_reads.artifact,
    ("GET", "/artifacts/{key}/latest"): artifact_reads.latest_artifact,
    ("POST", "/variables/filter"): artifact_reads.filter_variables,
    ("GET", "/variables/name/{name}"): artifact_reads.variable,
    ("POST", "/block_documents/filter"): block_reads.filter_blocks,
    ("GET", "/block_documents/{id}"): block_reads.block,
    ("POST", "/automations/filter"): automation_reads.filter_automations,
    ("GET", "/automations/{id}"): automation_reads.automation,
    ("GET", "/automations/{id}/fires"): automation_reads.fires,
}
"""Every read. Of two that fit a path the earlier one is meant."""


# What only the database can tell, because the daemon that would is down.
WHILE_DOWN: dict[tuple[str, str], Read] = {
    ("GET", "/status"): run_reads.status,
    ("GET", "/backfills/{id}"): backfill_reads.backfill,
    ("GET", "/why"): why_reads.explain,
    ("POST", "/v2/concurrency_limits/filter"): limit_reads.filter_limits,
    ("GET", "/v2/concurrency_limits/{id}"): limit_reads.limit,
}


def find(method: str, path: str) -> tuple[Read, dict[str, str]] | None:
    """Return the read that a path without the prefix means while the daemon is down, with the path's parts."""
    parts = path.split("/")
    for (wanted, template), read in (READS | WHILE_DOWN).items():
        names = template.split("/")
        if wanted != method or len(names) != len(parts):
            continue
        pairs = list(zip(names, parts, strict=True))
        if all(name == part or (name.startswith("{") and part) for name, part in pairs):
            return read, {name.strip("{}"): unquote(part) for name, part in pairs if name.startswith("{")}
    return None
