"""``tidemill task-run``."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill.cli import flow_runs, run_filters, task_table, text, times
from tidemill.cli.session import Session, segment


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    ls = verbs.add_parser("ls", help="list task runs: a flow run's in order, else newest first", parents=[common])
    ls.add_argument("--flow-run", metavar="RUN", help="only of this flow run: id, a part of one, or a name")
    ls.add_argument("--limit", type=flow_runs.limit, default=50, metavar="N", help="at most so many (50; up to 200)")
    ls.add_argument("--offset", type=int, default=0, metavar="N", help="leave out so many of the first")
    ls.add_argument(
        "--state",
        type=run_filters.state,
        action="append",
        default=[],
        metavar="NAME",
        help="a state's name or type; may repeat",
    )
    ls.add_argument("--name", metavar="TEXT", help="only with this in their name")
    ls.set_defaults(run=show_list)
    inspect = verbs.add_parser("inspect", help="show one task run", parents=[common])
    inspect.add_argument("task_run", metavar="ID", help="its id, or the beginning of it, as lists show it")
    inspect.set_defaults(run=show_one)


def show_list(session: Session) -> None:
    """List task runs."""
    args = session.args
    given: dict[str, Any] = {}
    if args.flow_run:
        given["flow_run_id"] = {"any_": [session.get(f"/flow_runs/{segment(args.flow_run)}")["id"]]}
    if args.state:
        given["state"] = run_filters.states_filter(args.state)
    if args.name:
        given["name"] = {"like_": args.name}
    found = session.post("/task_runs/filter", {"task_runs": given, "limit": args.limit, "offset": args.offset})
    if session.json:
        session.show(found)
    elif found:
        print(task_table.table(session, found))
    else:
        print("No task runs match." if given else "No task runs yet: flows with @task make them.")


def show_one(session: Session) -> None:
    """Show a task run."""
    found = session.get(f"/task_runs/{segment(session.args.task_run)}")
    if session.json:
        session.show(found)
        return
    state = found["state"]
    zone = run_filters.zone_of(session, session.get(f"/flow_runs/{found['flow_run_id']}")["deployment"])
    print(
        text.fields(
            [
                ("Task run", found["name"]),
                ("Id", found["id"]),
                ("State", text.paint(found["state_name"], found["state_type"])),
                ("Message", state["message"]),
                ("Flow run", found["flow_run_id"]),
                ("Task", found["task_key"]),
                ("Started", times.local(found["start_time"], zone)),
                ("Ended", times.local(found["end_time"], zone)),
                ("Attempts", found["run_count"] or None),
                ("Cache key", found["cache_key"]),
                ("Tags", ", ".join(found["tags"])),
                ("Result", flow_runs.compact(state["data"])),
            ]
        )
    )
