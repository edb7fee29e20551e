"""``tidemill work-pool``."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill.cli import making, overrides, text
from tidemill.cli.session import Session, segment

COLUMNS = (
    text.Column("NAME", below=False),
    text.Column("TYPE"),
    text.Column("LIMIT", right=True),
    text.Column("RUNNING", right=True),
    text.Column("STATUS"),
)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verbs.add_parser("ls", help="list work pools", parents=[common]).set_defaults(run=show_list)
    for verb, about, run in (
        ("inspect", "show one work pool and its queues", show_one),
        ("pause", "let all its runs wait", pause_one),
        ("resume", "let its runs start again", resume_one),
    ):
        parser = verbs.add_parser(verb, help=about, parents=[common])
        parser.add_argument("pool", metavar="NAME", help="name or id")
        parser.set_defaults(run=run)
    overrides.add_verbs(verbs, "work_pool", common)
    making.add_pool(verbs, common)


def show_list(session: Session) -> None:
    """List the pools in which runs execute."""
    found = session.post("/work_pools/filter", {})
    if session.json:
        session.show(found)
    elif found:
        print(text.table(COLUMNS, [_row(each) for each in found]))
    else:
        print("No work pools are known yet; the daemon makes `default` when it starts.")


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    return each["name"], each["type"], each["concurrency_limit"], each["running"], each["status"].lower()


def _find(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = session.get(f"/work_pools/{segment(session.args.pool)}")
    return found


def show_one(session: Session) -> None:
    """Show a pool and the queues in front of it."""
    found = _find(session)
    queues = session.post(f"/work_pools/{segment(found['name'])}/queues/filter", {})
    if session.json:
        session.show(found)
        return
    print(
        text.fields(
            [
                ("Work pool", found["name"]),
                ("Id", found["id"]),
                ("Description", found["description"]),
                ("Type", found["type"]),
                ("Limit", found["concurrency_limit"]),
                ("Running", str(found["running"])),
                ("Status", found["status"].lower()),
                ("Set by hand", "\n".join(overrides.sentence(each) for each in found["set_by_hand"])),
                ("Queues", ", ".join(each["name"] for each in queues)),
            ]
        )
    )


def pause_one(session: Session) -> None:
    """Pause a pool: the runs of all its queues wait."""
    _set_paused(session, paused=True)


def resume_one(session: Session) -> None:
    """Resume a pool."""
    _set_paused(session, paused=False)


def _set_paused(session: Session, *, paused: bool) -> None:
    found = _find(session)
    session.link.ask("PATCH", f"/work_pools/{segment(found['name'])}", {"is_paused": paused})
    if session.json:
        session.show(_find(session))
    else:
        print(f"{found['name']} is {'paused: its runs wait' if paused else 'resumed'}")
