"""``tidemill work-queue``."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill.cli import flow_runs, making, overrides, text
from tidemill.cli.session import Session, segment

COLUMNS = (
    text.Column("NAME", below=False),
    text.Column("POOL", below=True),
    text.Column("PRIORITY", right=True, optional=True),
    text.Column("LIMIT", right=True),
    text.Column("WAITING", right=True),
    text.Column("LATE", right=True),
    text.Column("RUNNING", right=True),
    text.Column("STATUS"),
)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verbs.add_parser("ls", help="list work queues", parents=[common]).set_defaults(run=show_list)
    for verb, about, run in (
        ("inspect", "show one work queue and what waits in it", show_one),
        ("pause", "let its runs wait", pause_one),
        ("resume", "let its runs start again", resume_one),
    ):
        parser = verbs.add_parser(verb, help=about, parents=[common])
        parser.add_argument("queue", metavar="NAME", help="name or id")
        parser.set_defaults(run=run)
    overrides.add_verbs(verbs, "work_queue", common)
    making.add_queue(verbs, common)


def show_list(session: Session) -> None:
    """List the queues in front of the pools, with what waits in each."""
    found = session.post("/work_queues/filter", {})
    if session.json:
        session.show(found)
    elif found:
        print(text.table(COLUMNS, [_row(each) for each in found]))
    else:
        print("No work queues. One is made for each name that a deployment's work_queue gives.")


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    limit = each["concurrency_limit"]
    return (
        each["name"],
        each["work_pool_name"],
        each["priority"],
        "-" if limit is None else limit,
        each["waiting"],
        each["late"],
        each["running"],
        each["status"].lower(),
    )


def _find(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = session.get(f"/work_queues/{segment(session.args.queue)}")
    return found


def show_one(session: Session) -> None:
    """Show a queue and the runs that wait in it."""
    found = _find(session)
    if session.json:
        session.show(found)
        return
    print(
        text.fields(
            [
                ("Work queue", found["name"]),
                ("Id", found["id"]),
                ("Description", found["description"]),
                ("Pool", found["work_pool_name"]),
                ("Priority", found["priority"]),
                ("Limit", "none" if found["concurrency_limit"] is None else found["concurrency_limit"]),
                ("Status", found["status"].lower()),
                ("Set by hand", "\n".join(overrides.sentence(each) for each in found["set_by_hand"])),
                ("Made", "automatically" if found["automatic"] else "by the configuration"),
            ]
        )
    )
    body = {
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING"]}}},
        "work_queues": {"name": {"any_": [found["name"]]}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 10,
    }
    runs = session.post("/flow_runs/filter", body)
    print(f"\n{flow_runs.run_table(session, runs)}" if runs else "\nNothing waits or runs in it.")


def pause_one(session: Session) -> None:
    """Pause a queue: its runs wait, and are Late once overdue."""
    _set_paused(session, paused=True)


def resume_one(session: Session) -> None:
    """Resume a queue: what waited starts, in order."""
    _set_paused(session, paused=False)


def _set_paused(session: Session, *, paused: bool) -> None:
    found = _find(session)
    session.link.ask("PATCH", f"/work_queues/{found['id']}", {"is_paused": paused})
    if session.json:
        session.show(_find(session))
    else:
        print(f"{found['name']} is {'paused: its runs wait' if paused else 'resumed'}")
