"""What a pool's runs run with, and which keys mean nothing where they stand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import Loaded
from tidemill.core.deployments import Deployment, Limits, PoolType, WorkPool

Load = Callable[..., Loaded]
MIB = 1024 * 1024

# One row a key: what stands in the table of a process pool -> the field and its value.
POOLS: dict[str, tuple[str, str, Any]] = {
    "python": ('python = "/srv/etl/bin/python"', "python", "/srv/etl/bin/python"),
    "project": ('project = "/srv/etl"', "python", "/srv/etl/.venv/bin/python"),
    "neither": ("", "python", None),
    "preload": ('preload = ["pandas", "numpy.linalg"]', "preload", ("pandas", "numpy.linalg")),
    "memory_limit": ('memory_limit = "64MiB"', "limits", Limits(memory=64 * MIB)),
    "cpu_limit": ('cpu_limit = "90s"', "limits", Limits(cpu=timedelta(seconds=90))),
    "open_files": ("open_files = 64", "limits", Limits(open_files=64)),
    "processes": ("processes = 9", "limits", Limits(processes=9)),
    "env": ('env = { LC_ALL = "C.UTF-8", EMPTY = "" }', "env", {"LC_ALL": "C.UTF-8", "EMPTY": ""}),
    "spares": ("spares = 0", "spares", 0),
    "grace": ('grace = "5s"', "grace", timedelta(seconds=5)),
    "no grace": ("", "grace", None),
}


@pytest.mark.parametrize(("lines", "field", "value"), POOLS.values(), ids=POOLS.keys())
def test_a_key_of_a_process_pool_becomes_its_field(lines: str, field: str, value: Any, load_text: Load) -> None:
    loaded = load_text(f'[work_pools.etl]\ntype = "process"\n{lines}\n')
    pool = loaded.settings.work_pools["etl"]
    assert (pool.type, getattr(pool, field)) == (PoolType.PROCESS, value)
    assert loaded.warnings == ()


def test_the_pool_called_process_needs_no_type(load_text: Load) -> None:
    settings = load_text("[work_pools.process]\nspares = 1").settings
    assert settings.work_pools["process"] == WorkPool(name="process", type="process", spares=1)


def test_a_relative_interpreter_stands_beside_the_file(load_text: Load) -> None:
    loaded = load_text('[work_pools.process]\nproject = "etl"')
    python = loaded.settings.work_pools["process"].python
    assert python == str(Path(loaded.files[0]).parent / "etl" / ".venv" / "bin" / "python")


# Keys of the pool, keys of the deployment -> the deployment's interpreter and limits.
SETTLED = {
    "the pool's": ('python = "/p"\nprocesses = 5', "", "/p", Limits(processes=5)),
    "the deployment's": ("", 'python = "/d"\nprocesses = 6', "/d", Limits(processes=6)),
    "the deployment's before the pool's": (
        'python = "/p"\nprocesses = 5',
        'python = "/d"\nprocesses = 6',
        "/d",
        Limits(processes=6),
    ),
    "each limit by itself": (
        'processes = 5\nmemory_limit = "64MiB"',
        "processes = 6",
        None,
        Limits(memory=64 * MIB, processes=6),
    ),
}


@pytest.mark.parametrize(("pool", "deployment", "python", "limits"), SETTLED.values(), ids=SETTLED.keys())
def test_a_deployment_says_what_its_pool_says_unless_it_says_otherwise(
    pool: str, deployment: str, python: str | None, limits: Limits, load_text: Load
) -> None:
    text = f'[work_pools.process]\n{pool}\n[deployments.a]\nflow = "a.py:b"\nwork_pool = "process"\n{deployment}\n'
    found: Deployment = load_text(text).settings.deployments["a"]
    assert (found.python, found.limits) == (python, limits)


def test_a_built_in_flow_runs_with_tidemills_own_interpreter_and_the_pools_limits(load_text: Load) -> None:
    text = '[work_pools.process]\npython = "/p"\nprocesses = 5\n[deployments.a]\ncommand = "x"\nwork_pool = "process"'
    found = load_text(text).settings.deployments["a"]
    assert (found.python, found.limits) == (None, Limits(processes=5))


# What stands where it means nothing -> the warning.
WITHOUT_EFFECT = {
    "threads of a process pool": (
        "[work_pools.process]\nthreads = 3",
        "2:1 work_pools.process.threads: has no effect in a process pool; delete it",
    ),
    "limits of an inline pool": (
        '[work_pools.etl]\nmemory_limit = "1GiB"',
        "2:1 work_pools.etl.memory_limit: has no effect in an inline pool; delete it",
    ),
    "limits of an inline deployment": (
        '[deployments.a]\ncommand = "x"\nprocesses = 3',
        '3:1 deployments.a.processes: has no effect: work pool "default" is an inline pool; run it in a process pool: '
        'work_pool = "process"',
    ),
    "an interpreter for a built-in flow": (
        '[deployments.a]\ncommand = "x"\nwork_pool = "process"\npython = "/bin/python3"',
        "4:1 deployments.a.python: has no effect: shell is tidemill's own code; delete it",
    ),
}


@pytest.mark.parametrize(("text", "warning"), WITHOUT_EFFECT.values(), ids=WITHOUT_EFFECT.keys())
def test_a_key_without_effect_is_a_warning(text: str, warning: str, load_text: Load) -> None:
    (found,) = load_text(text).warnings
    assert str(found) == f"tidemill.toml:{warning}"
