"""A workflow orchestrator for one machine: one asyncio process, one TOML file, one SQLite database."""

import importlib as _importlib
from typing import Any

__version__ = "0.1.0"

# Loaded when first used: the commands need none of it, and start the faster.
_PUBLIC = {
    "Flow": "sdk.flows",
    "State": "sdk.states",
    "Task": "sdk.tasks",
    "Transaction": "sdk.transactions",
    "allow_failure": "sdk.annotations",
    "apause_flow_run": "sdk.pauses",
    "aresume_flow_run": "sdk.pauses",
    "flow": "sdk.flows",
    "get_run_logger": "sdk.logging",
    "pause_flow_run": "sdk.pauses",
    "resume_flow_run": "sdk.pauses",
    "serve": "sdk.serving",
    "tags": "sdk.scopes",
    "task": "sdk.tasks",
    "unmapped": "sdk.annotations",
}
_ROOMS = ("runtime", "variables")

__all__ = ["__version__", *_PUBLIC, *_ROOMS]  # noqa: PLE0604 - texts, all of them


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        found = getattr(_importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        globals()[name] = found
        return found
    if name in _ROOMS:
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
