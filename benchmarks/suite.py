"""The suite: which benchmarks there are, each a module with a TITLE and ``measure(quick)``."""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from benchmarks.figures import Figure

NAMES = (
    "throughput", "lateness", "store_groups", "inline_overhead", "tasks", "process_start", "startup", "http", "history",
    "simulation",
)  # fmt: skip


def measured(name: str, quick: bool) -> tuple[str, list[Figure]]:
    """Measure one benchmark in this process: its title and its figures."""
    module = importlib.import_module(f"benchmarks.{name}")
    return module.TITLE, module.measure(quick)


def measured_apart(name: str, quick: bool) -> tuple[str, list[Figure]]:
    """The same in a new process, so that none inherits another's memory, modules and threads."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, name, quick).result()
