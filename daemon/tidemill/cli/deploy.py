"""``tidemill deploy``: a deployment without editing a file."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from tidemill.cli import drop_ins, text, times
from tidemill.cli.finding import find
from tidemill.cli.given import parameter, parameters
from tidemill.cli.session import Session, segment
from tidemill.core.builtins import BUILTIN_PARAMETERS
from tidemill.errors import TidemillError

# Options that are keys of the same name, each given once.
_PLAIN = {
    "work_pool": ("NAME", "where it runs"),
    "work_queue": ("NAME", "the line it waits in"),
    "description": ("TEXT", "what it is for"),
    "concurrency_limit": ("N", "how many of its runs may go at a time"),
    "collision_strategy": ("WORD", "what to do beyond that: enqueue, cancel_new or cancel_running"),
    "retries": ("N", "attempts after the first"),
    "retry_delay": ("DURATION", "wait before each retry: 10s, 5m"),
    "timeout": ("DURATION", "of one attempt: 30s, 10m"),
    "catch_up": ("WORD", "fires missed while the daemon was down: skip, latest or all"),
    "mode": ("WORD", "shadow: record what would have run, and run nothing"),
}
_RULES = {
    "cron": ("EXPRESSION", 'minute hour day month weekday, such as "0 9 * * mon-fri"; may repeat'),
    "interval": ("DURATION", "every so often: 30s, 15m, 1d; may repeat"),
    "rrule": ("RULE", "a recurrence rule (RFC 5545); may repeat"),
    "at": ("INSTANT", "once, then: 2030-01-01T09:00; may repeat"),
}
_PATHS = frozenset({"python", "project"})


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name, help=line, parents=[common],
        description="Make a deployment, or make it anew. It is kept beside your own files, which win; "
        "`tidemill adopt NAME` prints it for pasting into one, `tidemill deployment delete NAME` removes it.",
    )  # fmt: skip
    parser.add_argument(
        "entrypoint", metavar="ENTRYPOINT",
        help="file.py:function in the flows folder, package.module:function, http_request or shell",
    )  # fmt: skip
    parser.add_argument("--name", metavar="NAME", help="its name (the function's)")
    for option, (metavar, about) in _RULES.items():
        parser.add_argument(f"--{option}", action="append", default=[], metavar=metavar, help=about)
    parser.add_argument("--timezone", metavar="ZONE", help="of these schedules ([daemon] timezone)")
    parser.add_argument(
        "--param", "-p", action="append", default=[], type=parameter, metavar="KEY=VALUE",
        help="a parameter; the value is JSON, or else text; may repeat",
    )  # fmt: skip
    parser.add_argument("--params", type=parameters, default={}, metavar="JSON", help="parameters as a JSON object")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="a free word; may repeat")
    parser.add_argument("--paused", action="store_true", help="its schedules make no runs until it is resumed")
    for key, (metavar, about) in _PLAIN.items():
        kind = int if metavar == "N" else str
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, metavar=metavar, help=about)
    parser.add_argument(
        "--set", action="append", default=[], type=parameter, metavar="KEY=VALUE",
        help="any other key of a deployment, as in the file; the value is JSON, or else text; may repeat",
    )  # fmt: skip
    drop_ins.add_config(parser)
    parser.set_defaults(run=deploy)


def deploy(session: Session) -> None:
    """Make a deployment, and say when it runs."""
    args = session.args
    made = drop_ins.open_drop_ins(session)
    entrypoint = _entrypoint(args.entrypoint, made)
    name = args.name or _name(entrypoint)
    made.put("deployments", name, _table(args, entrypoint))
    document = {"table": "deployments", "name": name}
    if not made.live:
        drop_ins.told(session, made, document, f"deployment {name} is made")
        return
    state_dir: Path | None = getattr(args, "state_dir", None)
    link = find(session.environ, session.now, api=getattr(args, "api", None), state_dir=state_dir)
    try:
        found = link.ask("GET", f"/deployments/{segment(name)}")
    finally:
        link.close()
    if session.json:
        session.show(found)
        return
    when = ", ".join(found["schedule_texts"]) or "no schedule: start it with `tidemill deployment run`"
    print(text.clean(f"deployment {name} is made: {found['entrypoint']}, {when}"))
    if found["paused"]:
        print("It is paused.")
    elif found.get("next_scheduled_start_time"):
        zone = times.zone(found.get("timezone"))
        print(f"It runs next at {times.local(found['next_scheduled_start_time'], zone)}.")


def _table(args: argparse.Namespace, entrypoint: str) -> dict[str, Any]:
    table: dict[str, Any] = {"flow": entrypoint}
    given = {**args.params, **dict(args.param)}
    # In a file a built-in flow's parameters may stand beside the other keys.
    beside = [(key, value) for key, value in args.set if key in BUILTIN_PARAMETERS.get(entrypoint, ())]
    for key, value in beside:
        if key in given:
            raise TidemillError(f"{key} is given twice")
        given[key] = value
    if given:
        table["parameters"] = given
    zone = {"timezone": args.timezone} if args.timezone is not None else {}
    schedules = [{rule: value, **zone} for rule in _RULES for value in getattr(args, rule)]
    if len(schedules) == 1:
        table |= schedules[0]
    elif schedules:
        table["schedules"] = schedules
    elif zone:
        raise TidemillError("--timezone is of schedules, and there is none: add --cron, --interval, --rrule or --at")
    if args.tag:
        table["tags"] = list(dict.fromkeys(args.tag))
    if args.paused:
        table["paused"] = True
    table |= {key: value for key in _PLAIN if (value := getattr(args, key)) is not None}
    for key, value in args.set:
        if (key, value) in beside:
            continue
        if key in table:
            raise TidemillError(f"{key} is given twice")
        table[key] = str(Path(value).expanduser().absolute()) if key in _PATHS else value
    return table


def _entrypoint(given: str, made: drop_ins.DropIns) -> str:
    """Return an entrypoint as the file would name it: a path of here, seen from the flows folder."""
    place, colon, function = given.rpartition(":")
    if not place.endswith(".py"):
        if not colon and given.endswith(".py"):
            raise TidemillError(f"{given}: name the function, too: {given}:NAME")
        return given
    folder = made.flows_dir()
    here = Path(place).expanduser()
    if here.exists():
        try:
            inside = here.resolve().relative_to(folder.resolve())
        except ValueError:
            remedy = "copy it there, or set [daemon] flows"
            raise TidemillError(f"{here.resolve()} is not in the flows folder {folder}; {remedy}") from None
        return f"{inside.as_posix()}:{function}"
    if here.is_absolute() or not (folder / here).exists():
        raise TidemillError(f"there is no file {place}, neither here nor in the flows folder {folder}")
    return f"{here.as_posix()}:{function}"


def _name(entrypoint: str) -> str:
    word = entrypoint.rpartition(":")[2].rpartition(".")[2].lower()
    return re.sub(r"[^a-z0-9]+", "-", word).strip("-")
