"""``tidemill flow-run``."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta
from typing import Any

from tidemill.cli import run_changes, run_filters, task_table, text, times, watching
from tidemill.cli.session import Session
from tidemill.cli.watching import LEVELS, print_line
from tidemill.errors import EXIT_FAILED, EXIT_OK, DaemonUnreachableError, TidemillError

ENDED = run_filters.STATE_TYPES[5:]
# Of a list, how many may be runs that are yet to come: what happened is what people look for.
UPCOMING_SHARE = 4
UPCOMING_MOST = 5
PAGE = 500
TASKS_SHOWN = 20  # of a run, in its inspection
MOST_TAIL = 1000

COLUMNS = (
    text.Column("ID"),
    text.Column("NAME", below=True),
    text.Column("DEPLOYMENT", below=True),
    text.Column("STATE"),
    text.Column("START"),
    text.Column("TOOK", right=True),
)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)

    ls = verbs.add_parser("ls", help="list flow runs, newest first", parents=[common])
    ls.add_argument("--limit", type=limit, default=20, metavar="N", help="at most so many (20; up to 200)")
    ls.add_argument("--offset", type=int, default=0, metavar="N", help="leave out so many of the newest")
    run_filters.add(ls)
    ls.add_argument("--upcoming", action="store_true", help="only runs yet to come, soonest first")
    ls.set_defaults(run=show_list)

    inspect = verbs.add_parser("inspect", help="show one flow run with its history", parents=[common])
    logs = verbs.add_parser("logs", help="show what a run printed and logged", parents=[common])
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    logs.add_argument("--level", choices=tuple(LEVELS), type=str.upper, help="only lines of at least this level")
    ends = logs.add_mutually_exclusive_group()
    ends.add_argument("--head", type=count, metavar="N", help="only the first N lines")
    ends.add_argument("--tail", type=tail, metavar="N", help="only the last N lines (at most 1000)")
    watch = verbs.add_parser(
        "watch", help="follow a run until it has ended: its log, states and progress; exit 1 unless it completed",
        parents=[common],
    )  # fmt: skip
    resume = verbs.add_parser("resume", help="let a paused run go on", parents=[common])
    resume.add_argument("--input", metavar="JSON", help="what its code gets as the answer to its pause")
    for parser, run in (
        (inspect, show_one), (logs, show_logs), (watch, watch_run), (resume, resume_run),
    ):  # fmt: skip
        parser.add_argument(
            "flow_run",
            metavar="RUN",
            help="its name, its id, or the last eight characters of its id, as lists show them",
        )
        parser.set_defaults(run=run)
    run_changes.add(verbs, common)


def limit(value: str) -> int:
    number = count(value)
    if number > 200:
        raise argparse.ArgumentTypeError("at most 200; page with --offset")
    return number


def tail(value: str) -> int:
    number = count(value)
    if number > MOST_TAIL:
        raise argparse.ArgumentTypeError(f"at most {MOST_TAIL}; leave it out for all lines")
    return number


def count(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number from 1 up")
    return int(value)


def show_list(session: Session) -> None:
    """List runs: the newest, and above them the few that come next."""
    args = session.args
    wanted = run_filters.wanted(session)
    now = session.now().isoformat()
    later = (session.now() + timedelta(microseconds=1)).isoformat()  # bounds are included
    if args.upcoming:
        runs = _runs(session, wanted, "EXPECTED_START_TIME_ASC", args.limit, args.offset, after=later)
    elif args.state or args.offset:
        runs = _runs(session, wanted, "EXPECTED_START_TIME_DESC", args.limit, args.offset)
    else:
        share = min(UPCOMING_MOST, args.limit // UPCOMING_SHARE)
        coming = _runs(session, wanted, "EXPECTED_START_TIME_ASC", share, 0, after=later) if share else []
        past = _runs(session, wanted, "EXPECTED_START_TIME_DESC", args.limit - len(coming), 0, before=now)
        runs = [*reversed(coming), *past]
    if session.json:
        session.show(runs)
    elif runs:
        print(run_table(session, runs))
    else:
        print(_nothing(session))


def _start(run: dict[str, Any], now: datetime) -> str:
    if run["start_time"]:
        return times.short(run["start_time"], now)
    if run["end_time"]:
        return "never"  # skipped, in shadow, or cancelled in line: it is late no more
    return times.ago(run["expected_start_time"], now).replace(" ago", " late")


def run_table(session: Session, runs: list[dict[str, Any]]) -> str:
    """Return runs as a table."""
    now = session.now()
    rows = [
        (
            run["id"][-8:],
            run["name"],
            run["deployment"] or run["flow"],
            run["state_name"],
            _start(run, now),
            times.run_time(run),
        )
        for run in runs
    ]
    columns = list(COLUMNS)
    if any(run["parent_flow_run_id"] for run in runs):
        columns.append(text.Column("PARENT"))
    shown = [
        (*row, (run["parent_flow_run_id"] or "")[-8:])[: len(columns)] for row, run in zip(rows, runs, strict=True)
    ]
    return text.table(columns, shown, states=[run["state_type"] for run in runs])


def _runs(
    session: Session, wanted: dict[str, Any], sort: str, most: int, offset: int, **window: str
) -> list[dict[str, Any]]:
    runs = dict(wanted["flow_runs"])
    if window:
        runs["expected_start_time"] = {f"{edge}_": instant for edge, instant in window.items()}
    body = wanted | {"flow_runs": runs, "sort": sort, "limit": most, "offset": offset}
    found: list[dict[str, Any]] = session.post("/flow_runs/filter", body)
    return found


def _nothing(session: Session) -> str:
    args = session.args
    if args.state or args.tag or args.deployment or args.flow_name or args.offset:
        return "No flow runs match. `tidemill flow-run ls` lists all."
    coming = session.post("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "limit": 1})
    if coming:
        zone = run_filters.zone_of(session, coming[0]["deployment"])
        at = times.local(coming[0]["expected_start_time"], zone)
        return f"No flow runs yet. Next: {coming[0]['deployment']} at {at}"
    names = [each["name"] for each in session.post("/deployments/filter", {"limit": 1})]
    if not names:
        return "No flow runs yet, and no deployments. Add one to the configuration: `tidemill init` shows how."
    if args.upcoming:
        return "No runs are to come. `tidemill deployment ls` shows what is scheduled."
    return f"No flow runs yet. Start one: tidemill deployment run {names[0]}"


def show_one(session: Session) -> None:
    """Show a run, its history, and what it made."""
    run = run_filters.find_run(session, session.args.flow_run)
    states = session.get("/flow_run_states/", flow_run_id=run["id"])
    of_run = {"flow_run_id": {"any_": [run["id"]]}}
    tasks = session.post("/task_runs/filter", {"task_runs": of_run, "limit": 200 if session.json else TASKS_SHOWN})
    children = session.get(f"/flow_runs/{run['id']}/children")
    if session.json:
        session.show(run | {"states": states, "task_runs": tasks, "children": children})
        return
    state, zone = run["state"], run_filters.zone_of(session, run["deployment"])
    print(
        text.fields(
            [
                ("Flow run", f"{run['name']}"),
                ("Id", run["id"]),
                ("State", text.paint(run["state_name"], run["state_type"])),
                ("Message", state["message"]),
                ("Deployment", run["deployment"]),
                ("Flow", run["flow"]),
                ("Parent", run["parent_flow_run_id"]),
                ("Work queue", f"{run['work_queue_name']} (pool {run['work_pool_name']})"),
                ("Expected", times.local(run["expected_start_time"], zone)),
                ("Due", times.local(run["due"], zone)),
                ("Started", times.local(run["start_time"], zone)),
                ("Ended", times.local(run["end_time"], zone)),
                ("Took", times.run_time(run)),
                ("Attempts", run["run_count"] or None),
                ("Made by", run["created_by"]["display_value"]),
                ("Parameters", compact(run["parameters"])),
                ("Tags", ", ".join(run["tags"])),
            ]
        )
    )
    print("\nHistory")
    for each in states:
        message = f"  {text.clean(each['message'])}" if each["message"] else ""
        print(f"  {times.local(each['timestamp'], zone)}  {text.paint(each['name'], each['type'])}{message}")
    if tasks:
        total = session.post("/task_runs/count", {"task_runs": {"flow_run_id": {"any_": [run["id"]]}}})
        print(f"\nTask runs ({total})")
        print(task_table.table(session, tasks))
        if total > len(tasks):
            print(f"… all of them: tidemill task-run ls --flow-run {run['id'][-8:]}")
    if children:
        print("\nBegan")
        print(run_table(session, children))
    if state["data"] is not None:
        title = "Pause" if state["type"] == "PAUSED" else "Result"
        print(f"\n{title}\n  {text.clean(compact(state['data']))}")
    print(f"\nLog: tidemill flow-run logs {run['id'][-8:]}")


def show_logs(session: Session) -> int:
    """Print a run's log; with ``--follow`` until the run has ended."""
    args = session.args
    run = run_filters.find_run(session, session.args.flow_run)
    level = LEVELS[args.level] if args.level else None
    if args.follow and session.link.live:
        if args.head:
            raise TidemillError("--head and --follow do not go together")
        return watching.follow(session, run["id"], level=level, tail=args.tail)
    found = _log_lines(session, run["id"], level, args.head, args.tail)
    if session.json:
        session.show(list(found))
        return EXIT_OK
    silent = True
    for each in found:
        silent = False
        print_line(session, each)
    if silent:
        why = "it has not started" if run["start_time"] is None else "nothing was printed or logged"
        session.note(f"no log lines of {run['name']}: {why}")
    return EXIT_OK


def _log_lines(session: Session, run_id: str, level: int | None, head: int | None, tail: int | None) -> Any:
    if tail:
        yield from session.get(f"/flow_runs/{run_id}/logs", level=level, limit=tail, tail="true")
        return
    after, left = 0, head
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = session.get(f"/flow_runs/{run_id}/logs", level=level, limit=size, after=after)
        yield from page
        if len(page) < size:
            return
        after = page[-1]["number"]
        left = None if left is None else left - len(page)


def watch_run(session: Session) -> int:
    """Follow a run, with how far it is, until it has ended."""
    run = run_filters.find_run(session, session.args.flow_run)
    if not session.link.live and run["state_type"] not in ENDED:
        raise DaemonUnreachableError(f"the daemon is down: {run['name']} stays {run['state_name']} until it is back")
    if session.link.live:
        return watching.watch(session, run["id"])
    if session.json:
        session.show(run)
    else:
        for line in _log_lines(session, run["id"], None, None, None):
            print_line(session, line)
        print(f"{run['name']} is {text.paint(run['state_name'], run['state_type'])}")
    return EXIT_OK if run["state_type"] == "COMPLETED" else EXIT_FAILED


def resume_run(session: Session) -> int:
    """Let a paused run go on, with what its code is to get."""
    import json

    given: Any = None
    if session.args.input is not None:
        try:
            given = json.loads(session.args.input)
        except ValueError:
            raise TidemillError("--input is not JSON; a text stands in two kinds of quotes: '\"yes\"'") from None
    run = run_filters.find_run(session, session.args.flow_run)
    result = session.post(f"/flow_runs/{run['id']}/resume", {"run_input": given})
    return _changed(session, run["id"], result)


def _changed(session: Session, run_id: str, result: dict[str, Any]) -> int:
    if result["status"] != "ACCEPT":
        raise TidemillError(result["details"]["reason"])
    after = session.get(f"/flow_runs/{run_id}")
    if session.json:
        session.show(after)
    else:
        print(f"{after['name']} ({after['id'][-8:]}) is {text.paint(after['state_name'], after['state_type'])}")
    return EXIT_OK


def compact(value: Any) -> str:
    """Return a value as JSON on one line; "" for none."""
    import json

    return json.dumps(value, ensure_ascii=False) if value not in (None, {}, []) else ""
