"""``tidemill block``. Secrets are shown by no command."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tidemill.cli import text, times
from tidemill.cli.session import Session, segment

COLUMNS = (
    text.Column("NAME", below=False),
    text.Column("TYPE"),
    text.Column("SECRETS"),
    text.Column("DESCRIPTION", optional=True),
)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verbs.add_parser("ls", help="list blocks by name", parents=[common]).set_defaults(run=show_list)
    inspect = verbs.add_parser("inspect", help="show a block, its secrets masked", parents=[common])
    inspect.add_argument("block", metavar="NAME", help="name or id")
    inspect.set_defaults(run=show_one)


def show_list(session: Session) -> None:
    """List blocks."""
    found = session.post("/block_documents/filter", {})
    if session.json:
        session.show(found)
    elif found:
        rows = [
            (each["name"], each["block_type_name"], ", ".join(each["secrets"]) or "none", each["description"])
            for each in found
        ]
        print(text.table(COLUMNS, rows))
    else:
        print("No blocks. [blocks.NAME] in the configuration states them.")


def show_one(session: Session) -> None:
    """Show a block."""
    found = session.get(f"/block_documents/{segment(session.args.block)}")
    if session.json:
        session.show(found)
        return
    fields = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in found["data"].items()]
    print(
        text.fields(
            [
                ("Block", found["name"]),
                ("Id", found["id"]),
                ("Type", found["block_type_name"]),
                ("Description", found["description"]),
                ("Updated", times.local(found["updated"])),
                *fields,
            ]
        )
    )
