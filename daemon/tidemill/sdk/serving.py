"""Serving a flow: the script becomes a daemon with one deployment, until Ctrl-C.

It writes a configuration into a state directory and replaces its own process by ``tidemill start`` on it, so what runs
is the real daemon, with nothing of its own to learn.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from tidemill.durations import format_duration
from tidemill.sdk.definitions import FlowDefinition
from tidemill.sdk.documents import as_document
from tidemill.sdk.entrypoints import is_loading

_START = "import sys; from tidemill.cli.main import main; sys.exit(main())"


class ServedFlow:
    """A flow with what its deployment says; made by :func:`to_deployment`."""

    def __init__(self, flow: FlowDefinition, name: str, table: dict[str, Any], folder: Path) -> None:
        self.flow = flow
        self.name = name
        self.table = table
        self.folder = folder


def to_deployment(
    flow: FlowDefinition,
    name: str | None = None,
    *,
    interval: float | timedelta | None = None,
    cron: str | None = None,
    rrule: str | None = None,
    timezone: str | None = None,
    at: datetime | None = None,
    paused: bool = False,
    parameters: Mapping[str, Any] | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    concurrency_limit: int | None = None,
    work_pool_name: str | None = None,
) -> ServedFlow:
    """Return a deployment of ``flow`` to be served. ``interval`` is seconds or a timedelta.

    Raises ``ValueError`` for a flow that stands in no file, or with more than one schedule.
    """
    source = inspect.getsourcefile(flow.fn)
    if source is None or not Path(source).is_file() or "<locals>" in flow.fn.__qualname__:
        raise ValueError(f"flow {flow.name} is not at the top of a file, so no daemon could load it; put it into one")
    path = Path(source).resolve()
    if sum(each is not None for each in (interval, cron, rrule, at)) > 1:
        raise ValueError("give one of interval, cron, rrule and at; more schedules go into the configuration")
    every = interval if isinstance(interval, timedelta) or interval is None else timedelta(seconds=interval)
    table: dict[str, Any] = {
        "flow": f"{path.name}:{flow.fn.__qualname__}",
        "work_pool": work_pool_name or "process",
        "description": description,
        "interval": None if every is None else format_duration(every),
        "cron": cron,
        "rrule": rrule,
        "at": None if at is None else at.isoformat(),
        "timezone": timezone,
        "paused": paused or None,
        "tags": list(tags or ()) or None,
        "version": version,
        "concurrency_limit": concurrency_limit,
        "parameters": {key: as_document(value) for key, value in (parameters or {}).items()} or None,
    }
    told = name or flow.name
    return ServedFlow(flow, told, {key: value for key, value in table.items() if value is not None}, path.parent)


def serve(*deployments: ServedFlow, state_dir: Path | str | None = None, listen: Iterable[str] = ()) -> None:
    """Run a daemon with these deployments in place of this process, until Ctrl-C; does not come back.

    ``state_dir``: where runs and results are kept; None: a new temporary directory, which is named and stays.
    ``listen``: addresses for the API beside the control socket, such as "127.0.0.1:4200". The configuration that would
    do the same for good is printed. While the file is loaded by a daemon this does nothing.
    """
    if is_loading():
        return
    if not deployments:
        raise ValueError("there is nothing to serve")
    folders = {each.folder for each in deployments}
    if len(folders) > 1:
        raise ValueError(f"flows to be served together stand in one folder, not in {', '.join(map(str, folders))}")
    state = Path(state_dir).absolute() if state_dir is not None else Path(tempfile.mkdtemp(prefix="tidemill-"))
    state.mkdir(parents=True, exist_ok=True)
    config = state / "served.toml"
    text = configuration(deployments, folders.pop(), listen)
    config.write_text(text)
    names = ", ".join(f"{each.flow.name}/{each.name}" for each in deployments)
    print(  # noqa: T201 - what a person at the terminal is told
        f"Serving {names}; state in {state}.\nTo run one now: tidemill --state-dir {state} deployment run "
        f"{deployments[0].name}\nTo have it for good, put this into your configuration:\n\n{text}",
        flush=True,
    )
    _become([sys.executable, "-c", _START, "start", str(config), "--state-dir", str(state)])


def configuration(deployments: Iterable[ServedFlow], folder: Path, listen: Iterable[str]) -> str:
    """Return the TOML that states the same."""
    lines = ["[daemon]", f"flows = {_toml(str(folder))}", "", "[api]", f"listen = {_toml(list(listen))}"]
    for each in deployments:
        name = each.name.lower().replace(" ", "-")
        lines += ["", f"[deployments.{_toml(name)}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in each.table.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Return a value as TOML; strings as JSON writes them, which TOML reads."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if value is None:
        raise ValueError("TOML has no null: leave the parameter out")
    return json.dumps(value, ensure_ascii=False)


def _become(argv: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], argv)  # noqa: S606 - there is no shell, and is to be none
