"""Reading pools, and what their runs run with: the interpreter and the limits of a process of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidemill.config.faults import Faults, show
from tidemill.config.keys import INTERPRETER, LIMITS
from tidemill.config.keys import PROCESS as PROCESS_KEYS
from tidemill.config.pool_keys import POOLS, WORK_POOL
from tidemill.config.tables import Entry, read_keys
from tidemill.core.deployments import Deployment, FlowKind, Limits, PoolType, WorkPool

# These two are always there; a table of the name says more of it.
DEFAULT = "default"
PROCESS = "process"


def read_pool(name: str, entry: Entry, faults: Faults) -> WorkPool:
    """Return the pool in ``entry``. One called "process" is a process pool unless it says otherwise."""
    values = read_keys(entry, WORK_POOL, faults)
    kind = values.setdefault("type", PoolType.PROCESS if name == PROCESS else PoolType.INLINE)
    for key in values.keys() & WORK_POOL.keys() - POOLS[kind].keys():
        faults.warn(
            entry.document, (*entry.path, key), f"has no effect in {_article(kind)} pool", "delete it", at_key=True
        )
    take_process(entry, values, faults)
    if kind == PoolType.DASK:
        _check_dask(entry, values, faults)
    return WorkPool(name=name, **values)


def _check_dask(entry: Entry, values: Mapping[str, Any], faults: Faults) -> None:
    if importlib.util.find_spec("distributed") is None:
        problem = '"dask" needs the package distributed, which is not installed'
        faults.add(entry.document, (*entry.path, "type"), problem, 'run: pip install "tidemill[dask]"')
    if "address" not in entry.value:
        problem = "lacks address: a dask pool is a Dask scheduler that runs already"
        faults.add(entry.document, entry.path, problem, 'add address = "tcp://HOST:8786"')
    elif "address" in values and values["address"].startswith("tls:") != bool(entry.value.get("tls")):
        told = "tls:// in address and the table tls go together"
        faults.add(
            entry.document, (*entry.path, "address"), told, "write tls = { ca = …, cert = …, key = … }, or tcp://"
        )


def take_process(entry: Entry, values: dict[str, Any], faults: Faults) -> None:
    """Turn the keys about a run's process into the fields ``python`` and ``limits``, in place."""
    project = values.pop("project", None)
    if project is not None:
        if "python" in values:
            faults.add(entry.document, (*entry.path, "project"), 'stands beside "python"', "keep one", at_key=True)
        values["python"] = str(Path(project, ".venv", "bin", "python"))
    values["limits"] = Limits(**{field: values.pop(key) for key, field in LIMITS.items() if key in values})


def settle_process(entry: Entry, deployment: Deployment, pool: WorkPool, faults: Faults) -> Deployment:
    """Return the deployment with what its pool says where it is silent itself; a key without effect is a warning."""
    if pool.type != PoolType.PROCESS:
        for key in PROCESS_KEYS:
            if key in entry.value:
                problem = f"has no effect: work pool {show(pool.name)} is {_article(pool.type)} pool"
                remedy = f'run it in a process pool: work_pool = "{PROCESS}"'
                faults.warn(entry.document, (*entry.path, key), problem, remedy, at_key=True)
        return msgspec.structs.replace(deployment, python=None, limits=Limits())
    if deployment.flow.kind is FlowKind.BUILTIN:
        for key in INTERPRETER:
            if key in entry.value:
                problem = f"has no effect: {deployment.flow.entrypoint} is tidemill's own code"
                faults.warn(entry.document, (*entry.path, key), problem, "delete it", at_key=True)
    limits = {name: getattr(deployment.limits, name) or getattr(pool.limits, name) for name in LIMITS.values()}
    python = None if deployment.flow.kind is FlowKind.BUILTIN else deployment.python or pool.python
    return msgspec.structs.replace(deployment, python=python, limits=Limits(**limits))


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
