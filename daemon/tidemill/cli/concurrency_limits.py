"""``tidemill concurrency-limit``."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill.cli import text
from tidemill.cli.session import Session, segment

COLUMNS = (
    text.Column("NAME", below=False),
    text.Column("LIMIT", right=True),
    text.Column("TAKEN", right=True),
    text.Column("WAITING", right=True),
    text.Column("BACK PER SECOND", right=True),
    text.Column("ACTIVE"),
)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verbs.add_parser("ls", help="list concurrency limits and what is taken", parents=[common]).set_defaults(
        run=show_list
    )
    inspect = verbs.add_parser("inspect", help="show one concurrency limit", parents=[common])
    inspect.add_argument("limit", metavar="NAME", help="name or id; tag:NAME for a tag's")
    inspect.set_defaults(run=show_one)


def show_list(session: Session) -> None:
    """List the limits that flows and tasks keep among themselves."""
    found = session.post("/v2/concurrency_limits/filter", {})
    if session.json:
        session.show(found)
    elif found:
        print(text.table(COLUMNS, [_row(each) for each in found]))
    else:
        print("No concurrency limits. [concurrency_limits.NAME] in the configuration states them.")


def show_one(session: Session) -> None:
    """Show one limit."""
    found = session.get(f"/v2/concurrency_limits/{segment(session.args.limit)}")
    if session.json:
        session.show(found)
        return
    name, limit, taken, waiting, back, active = _row(found)
    print(
        text.fields(
            [
                ("Limit", name),
                ("Id", found["id"]),
                ("Description", found["description"]),
                ("Slots", f"{taken} of {limit} taken, {waiting} waiting"),
                ("Rate", f"{back} slots a second" if back else None),
                ("Active", active),
            ]
        )
    )


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    decay = each["slot_decay_per_second"]
    back = f"{decay:g}" if decay else ""
    taken = f"{each['active_slots']:g}"
    return each["name"], each["limit"], taken, str(each["waiting"]), back, "yes" if each["active"] else "no"
