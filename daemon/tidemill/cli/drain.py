"""``tidemill drain``: let what runs end and start nothing new, before an upgrade or a restart."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from tidemill.cli import text, times
from tidemill.cli.progress import Progress
from tidemill.cli.session import Session
from tidemill.durations import format_duration, parse_duration
from tidemill.errors import EXIT_FAILED, EXIT_OK

LOOK_S = 10.0  # the daemon answers sooner when a run has ended
SHOWN = 10


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name, help=line, parents=[common],
        description=line + ". What is due meanwhile waits, also for the next daemon. Exits 0 once nothing runs, 1 "
        "where something still does after --timeout; it drains on until the daemon ends or --undo.",
    )  # fmt: skip
    parser.add_argument("--timeout", type=duration, metavar="DURATION", help='wait no longer, such as "30m" (for ever)')
    parser.add_argument("--undo", action="store_true", help="start again what waits, and what comes")
    parser.set_defaults(run=run)


def duration(value: str) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(session: Session) -> int:
    """Drain, saying what is waited for, or end the draining."""
    if session.args.undo:
        found = session.link.ask("DELETE", "/drain")
        if session.json:
            session.show(found)
        else:
            print(f"The daemon starts runs again; {found['waiting']} were waiting.")
        return EXIT_OK
    found = session.post("/drain", {})
    if not session.json:
        print(_waits(found, session), flush=True)
    found = _wait(session, found)
    left = found["waits_for"]
    if session.json:
        session.show(found)
    elif not found["draining"]:
        print("Somebody ended the draining; the daemon starts runs again.")
    elif left:
        print(f"After {format_duration(session.args.timeout)} there still run:")
        print(_list(left))
        print("It goes on draining. Wait again: tidemill drain. Start runs again: tidemill drain --undo")
    else:
        print(_done(found))
    return EXIT_OK if found["draining"] and not left else EXIT_FAILED


def _wait(session: Session, found: dict[str, Any]) -> dict[str, Any]:
    limit: timedelta | None = session.args.timeout
    began = session.now()
    with Progress() as progress:
        while found["draining"] and found["waits_for"]:
            left = LOOK_S if limit is None else min(LOOK_S, (limit - (session.now() - began)).total_seconds())
            if left <= 0:
                break
            names = ", ".join(_name(each) for each in found["waits_for"][:3])
            progress.say(f"waiting for {len(found['waits_for'])}: {names}")
            found = session.get("/drain", wait_ms=round(left * 1000))
    return found


def _waits(found: dict[str, Any], session: Session) -> str:
    count = len(found["waits_for"])
    if not count:
        return "Nothing new starts."
    return f"Nothing new starts. Waiting for {count} run{'' if count == 1 else 's'}:\n{_list(found['waits_for'])}"


def _list(runs: list[dict[str, Any]]) -> str:
    lines = [f"  {_name(each)}, {_doing(each)}" for each in runs[:SHOWN]]
    if runs[SHOWN:]:
        lines.append(f"  … and {len(runs) - SHOWN} more")
    return "\n".join(lines)


def _name(run: dict[str, Any]) -> str:
    return text.clean(f"{run['deployment'] or '(no deployment)'}  {run['name']} ({run['id'][-8:]})")


def _doing(run: dict[str, Any]) -> str:
    span = times.span(run["seconds"])
    if run["state_name"] == "Paused":
        return f"paused for {span}: tidemill flow-run resume {run['id'][-8:]}"
    if run["state_name"] == "Cancelling":
        return f"told to end {span} ago"
    return f"for {span}"


def _done(found: dict[str, Any]) -> str:
    waiting = f"; {found['waiting']} wait for the next daemon" if found["waiting"] else ""
    elsewhere = f"; {found['elsewhere']} go on in a cluster without it" if found["elsewhere"] else ""
    return f"Nothing runs{waiting}{elsewhere}. Stop it now, or start runs again: tidemill drain --undo"
