"""``tidemill deployment backfill``: runs for fires in the past."""

from __future__ import annotations

import argparse
from datetime import tzinfo
from typing import Any

from tidemill.cli import flow_runs, run_filters, text, times
from tidemill.cli.progress import Progress
from tidemill.cli.session import Session
from tidemill.errors import EXIT_FAILED, EXIT_OK, TidemillError

LOOK_MS = 10_000  # the daemon answers sooner when it got further
SHOWN = 20
COLUMNS = (
    text.Column("BACKFILL"),
    text.Column("FROM"),
    text.Column("TO", optional=True),
    text.Column("FIRES", right=True),
    text.Column("RUNS", right=True),
    text.Column("ENDED", below=True),
)


def add(verbs: Any, common: argparse.ArgumentParser, parameter: Any) -> None:
    parser = verbs.add_parser(
        "backfill", help="make runs for fires that lie in the past", parents=[common],
        description="Make runs for fires that lie in the past, oldest first, a few at a time. Fires that have a "
        "completed run are passed over. The runs never take the place of those of the schedules. Without --from: "
        "list the backfills of the deployment.",
    )  # fmt: skip
    parser.add_argument("deployment", metavar="NAME", help="name, flow/name, or id")
    parser.add_argument(
        "--from", dest="first", metavar="TIME", help='from here, such as 2026-03-01 or "2026-03-01 09:00"'
    )
    parser.add_argument(
        "--to", dest="last", default="now", metavar="TIME", help="to here, included; a day is all of it (now)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only show which runs would be made")
    parser.add_argument("--limit", type=flow_runs.count, default=1, metavar="N", help="at most so many at a time (1)")
    parser.add_argument("--again", action="store_true", help="also fires that have a completed run")
    parser.add_argument(
        "--param", "-p", action="append", default=[], type=parameter, metavar="KEY=VALUE",
        help="a parameter that the deployment lets be overridden; may repeat",
    )  # fmt: skip
    parser.add_argument("--detach", action="store_true", help="do not wait until its runs have ended")
    parser.add_argument("--cancel", metavar="ID", help="make no further runs of a backfill; what runs goes on")
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Begin a backfill and follow it, show what it would make, end one, or list what there was."""
    args = session.args
    found = run_filters.find_deployment(session, args.deployment)
    if args.cancel:
        return _cancel(session)
    if args.first is None:
        return _show_all(session, found["name"])
    body = {
        "first": args.first,
        "last": args.last,
        "at_a_time": args.limit,
        "again": args.again,
        "parameters": dict(args.param) or None,
        "dry_run": args.dry_run,
    }
    answer = session.post(f"/deployments/{found['id']}/backfill", body)
    if args.dry_run:
        return _show_preview(session, answer)
    if args.detach:
        if session.json:
            session.show(answer)
        else:
            print(f"Backfill {answer['id'][-8:]} of {answer['deployment']}: {_fires(answer['total'])}.")
            print(f"Its runs: tidemill flow-run ls --tag {answer['tag']}")
        return EXIT_OK
    return _follow(session, answer)


def _follow(session: Session, found: dict[str, Any]) -> int:
    own = found["id"][-8:]
    if not session.json:
        print(f"Backfill {own} of {found['deployment']}: {_fires(found['total'])}.", flush=True)
    try:
        with Progress() as progress:
            while found["ended"] is None:
                progress.say(_progress(found))
                found = session.get(f"/backfills/{found['id']}", wait_ms=LOOK_MS)
    except KeyboardInterrupt:
        name = found["deployment"]
        session.note(f"the backfill goes on; end it with: tidemill deployment backfill {name} --cancel {own}")
        raise
    if session.json:
        session.show(found)
    else:
        ended = f": {ended}" if (ended := _ended(found)) else ""
        print(f"{_runs(found['made'])} made, {_fires(found['passed_over'])} had one already{ended}.")
        if bad := sum(count for name, count in found["ended_runs"].items() if name != "Completed"):
            print(f"{_runs(bad)} did not complete: tidemill flow-run ls --tag {found['tag']}")
    completed = found["outcome"] == "completed" and set(found["ended_runs"]) <= {"Completed"}
    return EXIT_OK if completed else EXIT_FAILED


def _progress(found: dict[str, Any]) -> str:
    done = found["made"] + found["passed_over"]
    parts = (f"{done} of {found['total']} fires", f"{found['running']} running", _ended(found))
    return ", ".join(each for each in parts if each)


def _ended(found: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in found["ended_runs"].items())
    outcome = f"{found['outcome']}" if found["outcome"] not in (None, "completed") else ""
    none = "none has ended yet" if found["made"] else ""
    return "; ".join(each for each in (counts or none, outcome) if each)


def _show_preview(session: Session, found: dict[str, Any]) -> int:
    if session.json:
        session.show(found)
        return EXIT_OK
    zone = times.zone(found.get("timezone"))
    print(
        f"{_runs(found['runs'])} would be made for {_fires(found['total'])} of {found['deployment']}, "
        f"from {times.local(found['first'], zone)} to {times.local(found['last'], zone)}."
    )
    for each in found["fires"][:SHOWN]:
        print(f"  {times.local(each['due'], zone)}  {'would run' if each['runs'] else each['reason']}")
    if found["total"] > SHOWN:
        print(f"  … and {found['total'] - SHOWN} more")
    return EXIT_OK


def _show_all(session: Session, name: str) -> int:
    found = session.get("/backfills", deployment=name)
    if session.json:
        session.show(found)
    elif found:
        zone = run_filters.zone_of(session, name)
        print(text.table(COLUMNS, [_row(each, zone) for each in found]))
    else:
        print(f"{name} was never backfilled. Begin: tidemill deployment backfill {name} --from TIME [--dry-run]")
    return EXIT_OK


def _row(each: dict[str, Any], zone: tzinfo | None) -> tuple[Any, ...]:
    state = each["outcome"] or f"under way, {each['running']} running, {each['left']} left"
    return (
        each["id"][-8:],
        times.local(each["first"], zone, seconds=False),
        times.local(each["last"], zone, seconds=False),
        each["total"],
        each["made"],
        state,
    )


def _cancel(session: Session) -> int:
    if session.args.first is not None:
        raise TidemillError("--cancel and --from do not go together")
    found = session.link.ask("DELETE", f"/backfills/{session.args.cancel}")
    if session.json:
        session.show(found)
    else:
        print(f"Backfill {found['id'][-8:]} of {found['deployment']} makes no more runs; {found['made']} were made.")
    return EXIT_OK


def line(each: dict[str, Any]) -> str:
    """Return a line of ``status`` for one that is under way."""
    done = each["made"] + each["passed_over"]
    by = f" by {each['by']}" if each["by"] else ""
    return text.clean(
        f"{each['deployment']} ({each['id'][-8:]}){by}: {done} of {each['total']} fires, {each['running']} running"
    )


def _fires(count: int) -> str:
    return f"{count} fire{'' if count == 1 else 's'}"


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
