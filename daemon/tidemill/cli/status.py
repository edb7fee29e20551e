"""``tidemill status``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill.api import places
from tidemill.cli import automations, backfills, overrides, text, times
from tidemill.cli.session import Session
from tidemill.errors import EXIT_FAILED, EXIT_NO_DAEMON, EXIT_OK

MOST = 20  # lines of a section
MESSAGE = 300  # characters of why a run failed
SHADOWS = 5  # deployments in shadow mode, by name


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
    print(f"Start it: {start_command(Path(session.link.where))}")


def start_command(database: Path) -> str:
    """Return the command that starts the daemon of a database: that of its service, where it has one."""
    unit = database.parent.name
    if database.parent.parent != places.SYSTEM_STATE.parent or not unit.startswith("tidemill"):
        return "tidemill start"
    return "systemctl start " + (unit if unit in ("tidemill", "tidemill-jobs") else unit.replace("-", "@", 1))


def _show_live(session: Session, found: dict[str, Any]) -> None:
    now = times.parse(found["now"])
    lines = [
        ("Daemon", f"{found['state']}, version {found['version']}, process {found['pid']}, "
                   f"up {times.span((now - times.parse(found['started'])).total_seconds())}"),
        ("Configuration", _configuration(found, now)),
        ("Addresses", ", ".join(found["addresses"]) or "control socket only"),
        ("Time zone", found["timezone"]),
        ("Deployments", _deployments(found)),
        ("Runs", f"{len(found['running'])} running{_starting(found['work_queues'])}, {found['waiting']} waiting"),
        ("Last day", _lately(found.get("lately"))),
        ("Lines dropped", found["dropped_log_lines"] or None),
        ("Told", _told(found.get("notify"), now)),
        ("Automations", automations.summary(found.get("automations") or [], now)),
    ]  # fmt: skip
    print(text.fields(lines))
    _section("Wrong", [text.clean(each) for each in found["problems"]])
    _section("Draining", _draining(found.get("drain")))
    _section("Running", _most(found["running"], lambda each: f"{_name(each)}, for {times.span(each['seconds'])}"))
    _section(
        "Late",
        [f"{_name(each)}, by {times.span(each['seconds_late'])}: {text.clean(each['reason'] or 'about to start')}"
         for each in found["late"]],
    )  # fmt: skip
    _section("Failed in the last day", _all_failed(found.get("lately") or {}, now))
    _section("Backfills", [backfills.line(each) for each in found.get("backfills") or []])
    _section("Next", [_next(each, now) for each in found["next"]])
    _section("Queues", [line for each in found["work_queues"] if (line := _queue(each))])
    _section("Paused by the file", _most(_by_file(found), text.clean))
    _section("Set by hand", [overrides.sentence(each) for each in found["overrides"]])
    if found["late"] or (found.get("lately") or {}).get("failed"):
        print("\nWhy? tidemill why RUN, or: tidemill why DEPLOYMENT")


def _configuration(found: dict[str, Any], now: datetime) -> str:
    """Return the file, and how its last reload went."""
    reload = found.get("reload")
    file = found["config_file"] or ""
    if not reload:
        return file
    ago = times.ago(reload["at"], now)
    if reload["outcome"] == "ok":
        restart = ", ".join(reload.get("restart") or ())
        needs = f"\nonly a restart takes over: {restart}" if restart else ""
        return f"{file}\nreloaded {ago}: {reload['summary']}{needs}"
    faults = len(reload.get("faults") or ())
    what = f"{faults} fault{'' if faults == 1 else 's'}, below" if faults else reload["summary"]
    return f"{file}\nlast reload refused {ago}: {what}; what was in force before goes on"


def _deployments(found: dict[str, Any]) -> str:
    shadow = found.get("shadow") or []
    more = f", and {len(shadow) - SHADOWS} more" if shadow[SHADOWS:] else ""
    return f"{found['deployments']}" + (f"; in shadow mode: {', '.join(shadow[:SHADOWS])}{more}" if shadow else "")


def _told(notify: dict[str, Any] | None, now: datetime) -> str | None:
    """Return who hears of what goes wrong, and whether the last try worked."""
    if notify is None:
        return None
    if not notify["channels"]:
        return "nobody, whatever goes wrong: [notify] in the configuration says who"
    return "\n".join(_channel(each, now) for each in notify["channels"])


def _channel(each: dict[str, Any], now: datetime) -> str:
    said = f"{each['name']} ({each['type']})"
    if each["error"]:
        since = times.ago(each["failing_since"], now).removesuffix(" ago")
        return f"{said}: failing for {since}: {each['error']}; {_waiting(each)}"
    wait = ""
    if each["waiting"] and each.get("next"):
        wait = f"; {_waiting(each)}, the next goes {times.ago(each['next'], now)}"
    if each["delivered"]:
        return f"{said}: last told {times.ago(each['delivered'], now)}{wait}"
    if wait:
        return f"{said}{wait.replace('; ', ': ', 1)}"
    return f"{said}: nothing to tell so far; try it: tidemill notify test {each['name']}"


def _waiting(channel: dict[str, Any]) -> str:
    return f"{channel['waiting']} {'waits' if channel['waiting'] == 1 else 'wait'}"


def _lately(lately: dict[str, Any] | None) -> str | None:
    if lately is None:
        return None
    return ", ".join(f"{count} {name}" for name, count in sorted(lately["ended"].items())) or "no runs ended"


def _draining(drain: dict[str, Any] | None) -> list[str]:
    if drain is None or not drain["draining"]:
        return []
    count = len(drain["waits_for"])
    waits = f"waits for {count} run{'' if count == 1 else 's'}" if count else "nothing runs any more"
    by = f" by {drain['by']}" if drain["by"] else ""
    return [text.clean(f"since {times.local(drain['since'])}{by}: {waits}. Undo: tidemill drain --undo")]


def _all_failed(lately: dict[str, Any], now: datetime) -> list[str]:
    """Return a line for each run that is shown, and one for how many there are besides."""
    from tidemill.core.states import NAMES, StateType

    failed, ended = lately.get("failed", []), lately.get("ended", {})
    rest = sum(ended.get(name, 0) for kind in (StateType.FAILED, StateType.CRASHED) for name in NAMES[kind])
    more = [f"… and {rest - len(failed)} more"] if failed and rest > len(failed) else []
    return [_failed(each, now) for each in failed] + more


def _failed(run: dict[str, Any], now: datetime) -> str:
    message = text.clean(run["message"] or "")
    said = f": {message if len(message) <= MESSAGE else f'{message[:MESSAGE]}…'}" if message else ""
    return text.clean(f"{_name(run)}, {run['state_name']} {times.ago(run['at'], now)}{said}")


def _by_file(found: dict[str, Any]) -> list[str]:
    things = [f"deployment {each['name']}" for each in found.get("paused") or [] if not each["by_hand"]]
    by_hand = {(each["kind"], each["name"]) for each in found["overrides"] if each["key"] == "paused"}
    for kind, listed in (("work_queue", found["work_queues"]), ("work_pool", found["work_pools"])):
        things += [
            f"{kind.replace('_', ' ')} {each['name']}"
            for each in listed
            if each["paused"] and (kind, each["name"]) not in by_hand
        ]
    return things


def _starting(queues: list[dict[str, Any]]) -> str:
    """Return how many hold slots and have no code yet: their start is not on record, as the disk may be full."""
    count = sum(each.get("starting", 0) for each in queues)
    return f", {count} about to start" if count else ""


def _most(items: list[Any], line: Callable[[Any], str]) -> list[str]:
    shown = [line(each) for each in items[:MOST]]
    return [*shown, f"… and {len(items) - MOST} more"] if items[MOST:] else shown


def _section(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title}")
        for line in lines:
            print(f"  {line}")


def _name(run: dict[str, Any]) -> str:
    return text.clean(f"{run['deployment'] or '(no deployment)'}  {run['name']} ({run['id'][-8:]})")


def _next(run: dict[str, Any], now: datetime) -> str:
    when, zone = run["expected_start_time"], times.zone(run.get("timezone"))
    return f"{times.local(when, zone)}  {text.clean(run['deployment'] or run['name'])}  ({times.ago(when, now)})"


def _queue(queue: dict[str, Any]) -> str:
    """Return a line for a queue that has something to tell."""
    limit = "" if queue["concurrency_limit"] is None else f" of {queue['concurrency_limit']}"
    if not (queue["paused"] or queue["waiting"] or queue["running"] or queue.get("starting")):
        return ""
    paused = "paused, " if queue["paused"] else ""
    late = f", {queue['late']} late" if queue.get("late") else ""
    running = f"{queue['running']}{limit} running{_starting([queue])}"
    return f"{queue['name']}: {paused}{running}, {queue['waiting']} waiting{late}"
