"""The plan: what a checked configuration would change in the daemon that runs by the same file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tidemill.cli import finding, text, times
from tidemill.cli.schedules import fire_lines
from tidemill.cli.session import Session
from tidemill.errors import TidemillError

if TYPE_CHECKING:
    from tidemill.config import Loaded


class Running(NamedTuple):
    """The daemon that runs by a file, and what it has in force."""

    status: dict[str, Any]
    settings: dict[str, Any]
    made_dir: Path


def running(session: Session, path: Path) -> Running | None:
    """Return the daemon that runs by this file; None: none does, or it tells others only what it has in force."""
    try:
        state_dir: Path | None = getattr(session.args, "state_dir", None)
        link = finding.find(session.environ, session.now, api=getattr(session.args, "api", None), state_dir=state_dir)
    except TidemillError:
        return None
    try:
        if not link.live:
            return None
        status = link.ask("GET", "/status")
        if Path(status["config_file"] or "").resolve() != path.resolve():
            return None
        found = link.ask("GET", "/configuration")
    except TidemillError as error:
        session.note(f"what this would change in the daemon that runs is not known: {error}")
        return None
    finally:
        link.close()
    return Running(status, found["settings"], Path(found["made_dir"]))


def plan(daemon: Running, loaded: Loaded) -> dict[str, Any]:
    """Return what taking it over would change, as JSON values."""
    from tidemill.config.changes import compare, stated

    changes = compare(daemon.settings, stated(loaded.settings))
    return {
        "pid": daemon.status["pid"],
        "changes": [
            {"table": each.table, "name": each.name, "how": each.how, "text": str(each)} for each in changes.all
        ],
        "restart": list(changes.restart),
        "overrides": daemon.status["overrides"],
    }


def show(found: dict[str, Any], deployments: list[dict[str, Any]]) -> None:
    """Print a plan. ``deployments`` are the checked ones, with their next fires."""
    print(f"The daemon that runs by it (process {found['pid']})", end="")
    if found["changes"]:
        print(" would change:")
    else:
        print(" has it in force already.")
    by_name = {each["name"]: each for each in deployments}
    for change in found["changes"]:
        print(f"  {text.clean(change['text'])}")
        each = by_name.get(change["name"]) if change["table"] == "deployments" else None
        if each is not None and each["fires"] and not each["paused"]:
            print(fire_lines(each["fires"], indent="      "))
    if found["restart"]:
        print(f"  only from its next start on: {', '.join(found['restart'])}")
    for each in found["overrides"]:
        print(
            f"  set by hand: {each['kind'].replace('_', ' ')} {each['name']}: {each['key']} = {each['value']} "
            f"(the file says {each['file_value']}), since {times.local(each['at'])}"
        )
    print()
