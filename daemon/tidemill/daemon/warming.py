"""What the first run of each flow would wait for is loaded before it comes."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tidemill.core.deployments import FlowKind
from tidemill.flows.builtins import BuiltinFlow
from tidemill.runners.nursery import InterpreterError
from tidemill.runners.process import ProcessRunner
from tidemill.services.house import House

logger = logging.getLogger("tidemill")


async def warm(house: House, flows: Mapping[str, BuiltinFlow]) -> None:
    """Start the interpreters of process pools, and load the built-in flows that are in use."""
    settings = house.catalogue.settings
    deployments = settings.deployments.values()
    for worker in list(house.workers.values()):
        refs = [(each.flow, each.python) for each in deployments if each.work_pool == worker.pool.name]
        if isinstance(worker.runner, ProcessRunner) and refs:
            try:
                await worker.runner.warm(refs)
            except InterpreterError as error:
                logger.error("work pool %s: %s", worker.pool.name, error)
    used = {
        each.flow.entrypoint
        for each in deployments
        if each.flow.kind is FlowKind.BUILTIN and settings.work_pools[each.work_pool].type != "process"
    }
    for name in used:
        load = getattr(flows[name], "warm", None)
        if load is not None:
            await load()
