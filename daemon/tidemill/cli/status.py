"""``tidemill status``."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from tidemill.cli import text, times
from tidemill.cli.session import Session
from tidemill.errors import EXIT_FAILED, EXIT_NO_DAEMON, EXIT_OK


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name, help=line, parents=[common],
        description=line + ". Exits 0 where it is well, 1 where something is wrong, 3 where it is down.",
    )  # fmt: skip
    parser.set_defaults(run=show)


def show(session: Session) -> int:
    """Show how the daemon is."""
    found = session.get("/status")
    if session.json:
        session.show(found)
    elif found["state"] == "down":
        _show_down(session, found)
    else:
        _show_live(session, found)
    if found["state"] == "down":
        return EXIT_NO_DAEMON
    return EXIT_FAILED if found["problems"] else EXIT_OK


def _show_down(session: Session, found: dict[str, Any]) -> None:
    alive = found["last_alive"]
    seen = f"last alive {times.local(alive)} ({times.ago(alive, session.now())})" if alive else "never ran here"
    print(f"The daemon is down; {seen}.")
    counts = ", ".join(f"{number} {name}" for name, number in found["flow_runs"].items() if number)
    print(f"Its database {session.link.where} holds: {counts or 'no flow runs'}.")
    print("Start it: tidemill start")


def _show_live(session: Session, found: dict[str, Any]) -> None:
    now = times.parse(found["now"])
    lines = [
        ("Daemon", f"{found['state']}, version {found['version']}, process {found['pid']}, "
                   f"up {times.span((now - times.parse(found['started'])).total_seconds())}"),
        ("Configuration", found["config_file"]),
        ("Addresses", ", ".join(found["addresses"]) or "control socket only"),
        ("Time zone", found["timezone"]),
        ("Deployments", str(found["deployments"])),
        ("Runs", f"{len(found['running'])} running, {found['waiting']} waiting"),
        ("Lines dropped", found["dropped_log_lines"] or None),
    ]  # fmt: skip
    print(text.fields(lines))
    _section("Wrong", [text.clean(each) for each in found["problems"]])
    _section("Running", [f"{_name(each)}, for {times.span(each['seconds'])}" for each in found["running"]])
    _section(
        "Late",
        [f"{_name(each)}, by {times.span(each['seconds_late'])}: {text.clean(each['reason'] or 'about to start')}"
         for each in found["late"]],
    )  # fmt: skip
    _section("Next", [_next(each, now) for each in found["next"]])
    _section("Queues", [line for each in found["work_queues"] if (line := _queue(each))])
    _section(
        "Set by hand",
        [f"{each['kind'].replace('_', ' ')} {each['name']}: {each['key']} = {each['value']} (the file says "
         f"{each['file_value']}), since {times.local(each['at'])}" for each in found["overrides"]],
    )  # fmt: skip


def _section(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title}")
        for line in lines:
            print(f"  {line}")


def _name(run: dict[str, Any]) -> str:
    return text.clean(f"{run['deployment'] or '(no deployment)'}  {run['name']} ({run['id'][-8:]})")


def _next(run: dict[str, Any], now: datetime) -> str:
    when = run["expected_start_time"]
    return f"{times.local(when)}  {text.clean(run['deployment'] or run['name'])}  ({times.ago(when, now)})"


def _queue(queue: dict[str, Any]) -> str:
    """Return a line for a queue that has something to tell."""
    limit = "" if queue["concurrency_limit"] is None else f" of {queue['concurrency_limit']}"
    if not (queue["paused"] or queue["waiting"] or queue["running"]):
        return ""
    paused = "paused, " if queue["paused"] else ""
    return f"{queue['name']}: {paused}{queue['running']}{limit} running, {queue['waiting']} waiting"
