"""``tidemill deployment``."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from typing import Any

from tidemill.cli import backfills, flow_runs, making, overrides, run_filters, text, times, watching
from tidemill.cli.given import parameter, parameters
from tidemill.cli.session import Session
from tidemill.errors import EXIT_OK, TidemillError

COLUMNS = (
    text.Column("NAME", below=False),
    text.Column("SCHEDULE", below=True),
    text.Column("NEXT"),
    text.Column("LAST", optional=True),
    text.Column("QUEUE", optional=True),
)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    ls = verbs.add_parser("ls", help="list deployments", parents=[common])
    ls.add_argument("--limit", type=flow_runs.limit, default=200, metavar="N", help="at most so many (200)")
    ls.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N")
    ls.set_defaults(run=show_list)
    inspect = verbs.add_parser("inspect", help="show one deployment", parents=[common])
    run = verbs.add_parser("run", help="start a run now, or later", parents=[common])
    run.add_argument(
        "--param", "-p", action="append", default=[], type=parameter, metavar="KEY=VALUE",
        help="a parameter that the deployment lets be overridden; the value is JSON, or else text; may repeat",
    )  # fmt: skip
    run.add_argument("--params", type=parameters, default={}, metavar="JSON", help="parameters as a JSON object")
    run.add_argument("--name", metavar="NAME", help="the run's name (a made-up one)")
    run.add_argument("--tag", action="append", default=[], metavar="TAG", help="a tag of this run; may repeat")
    run.add_argument("--at", type=instant, metavar="INSTANT", help="when, such as 2026-03-29T01:00:00Z (now)")
    run.add_argument("--idempotency-key", metavar="KEY", help="a second run with the same key is the first one")
    run.add_argument("--watch", action="store_true", help="follow the run; exit 1 if it fails")
    pause = verbs.add_parser("pause", help="let its schedules make no runs", parents=[common])
    resume = verbs.add_parser("resume", help="let its schedules make runs again", parents=[common])
    for parser, call in ((inspect, show_one), (run, run_now), (pause, pause_one), (resume, resume_one)):
        parser.add_argument("deployment", metavar="NAME", help="name, flow/name, or id")
        parser.set_defaults(run=call)
    overrides.add_verbs(verbs, "deployment", common)
    backfills.add(verbs, common, parameter)
    making.add_deployment(verbs, common)


def instant(value: str) -> datetime:
    try:
        return times.parse(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def show_list(session: Session) -> None:
    """List deployments with what comes next and what was last."""
    found = session.post("/deployments/filter", {"limit": session.args.limit, "offset": session.args.offset})
    if session.json:
        session.show(found)
    elif found:
        now = session.now()
        print(text.table(COLUMNS, [_row(each, now) for each in found]))
        if len(found) == session.args.limit:
            session.note(f"the first {len(found)}; more with --offset {session.args.offset + len(found)}")
    elif session.args.offset:
        print(f"There are no more than {session.args.offset} deployments.")
    else:
        print("No deployments. Add one to the configuration: `tidemill init` shows how.")


def _row(each: dict[str, Any], now: datetime) -> tuple[str, ...]:
    coming, last = each["next_scheduled_start_time"], each["last_run"]
    return (
        each["name"],
        "; ".join(each["schedule_texts"]) or "by hand",
        "paused" if each["paused"] else times.ago(coming, now).replace(" ago", " late"),
        f"{last['state_name']} {times.ago(last['start_time'] or last['expected_start_time'], now)}" if last else "",
        each["work_queue_name"],
    )


def _find(session: Session) -> dict[str, Any]:
    return run_filters.find_deployment(session, session.args.deployment)


def show_one(session: Session) -> None:
    """Show what a deployment runs, when, under which policies, and what was left out."""
    found = _find(session)
    if session.json:
        session.show(found)
        return
    coming, zone = found["next_scheduled_start_time"], times.zone(found.get("timezone"))
    print(
        text.fields(
            [
                ("Deployment", found["name"]),
                ("Id", found["id"]),
                ("Description", found["description"]),
                ("Flow", found["flow"]),
                ("Entrypoint", found["entrypoint"]),
                ("Schedules", "\n".join(found["schedule_texts"]) or "none: runs are made by hand"),
                ("Paused", "yes" if found["paused"] else None),
                ("Set by hand", "\n".join(overrides.sentence(each) for each in found["set_by_hand"])),
                (
                    "Next",
                    f"{times.local(coming, zone)} ({times.ago(coming, session.now()).replace(' ago', ' late')})"
                    if coming
                    else None,
                ),
                ("Work queue", f"{found['work_queue_name']} (pool {found['work_pool_name']})"),
                ("Parameters", json.dumps(found["parameters"], indent=2, ensure_ascii=False)),
                ("Overridable", _overridable(found["overridable"])),
                ("Retries", found["retries"] or None),
                ("Timeout", times.span(found["timeout_seconds"])),
                ("Concurrency", _concurrency(found)),
                ("Missed fires", f"{found['catch_up']}, up to {times.span(found['catch_up_window_seconds'])} old"),
                ("Tags", ", ".join(found["tags"])),
            ]
        )
    )
    if found["skipped_fires"]:
        print("\nFires that made no run")
    for each in found["skipped_fires"]:
        until = f" to {times.local(each['last'], zone)}" if each["count"] > 1 else ""
        number = f"{each['count']}{'' if each['exact'] else ' or more'} times " if each["count"] > 1 else ""
        print(f"  {number}{times.local(each['first'], zone)}{until}  {text.clean(each['reason'])}")
    runs = session.post(
        "/flow_runs/filter",
        {
            "flow_runs": {"expected_start_time": {"before_": session.now().isoformat()}},
            "deployments": {"name": {"any_": [found["name"]]}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": 5,
        },
    )
    if runs:
        print("\nLast runs")
        print(flow_runs.run_table(session, runs))


def _overridable(names: list[str] | None) -> str:
    return "all" if names is None else ", ".join(names) or "none"


def _concurrency(found: dict[str, Any]) -> str:
    if found["concurrency_limit"] is None:
        return ""
    return f"{found['concurrency_limit']}, then {found['concurrency_options']['collision_strategy'].lower()}"


def run_now(session: Session) -> int:
    """Make a run of a deployment; with ``--watch`` follow it to its end."""
    args = session.args
    found = _find(session)
    body: dict[str, Any] = {"parameters": args.params | dict(args.param), "tags": args.tag}
    if args.name:
        body["name"] = args.name
    if args.idempotency_key:
        body["idempotency_key"] = args.idempotency_key
    if args.at:
        body["state"] = {"type": "SCHEDULED", "state_details": {"scheduled_time": args.at.isoformat()}}
    run = session.post(f"/deployments/{found['id']}/create_flow_run", body)
    if not args.watch:
        if session.json:
            session.show(run)
        else:
            print(f"{text.clean(run['name'])} ({run['id'][-8:]}) of {found['name']}: {run['state_name']}")
            print(f"Follow it: tidemill flow-run logs -f {run['id'][-8:]}")
        return EXIT_OK
    if not session.json:
        print(f"{text.clean(run['name'])} ({run['id'][-8:]}) of {found['name']}", flush=True)
    return watching.watch(session, run["id"])


def pause_one(session: Session) -> None:
    """Pause a deployment: its schedules make no runs until it is resumed."""
    _set_paused(session, "pause")


def resume_one(session: Session) -> None:
    """Resume a deployment."""
    _set_paused(session, "resume")


def _set_paused(session: Session, verb: str) -> None:
    found = _find(session)
    session.post(f"/deployments/{found['id']}/{verb}_deployment", {})
    after = run_filters.find_deployment(session, found["name"])
    if after["paused"] != (verb == "pause"):
        raise TidemillError(f"{found['name']} is still {'paused' if after['paused'] else 'not paused'}")
    if session.json:
        session.show(after)
    elif verb == "pause":
        print(
            f"{found['name']} is paused: its schedules make no runs. Undo: tidemill deployment resume {found['name']}"
        )
    else:
        coming, zone = after["next_scheduled_start_time"], times.zone(after.get("timezone"))
        print(f"{found['name']} is resumed" + (f"; next at {times.local(coming, zone)}" if coming else ""))
