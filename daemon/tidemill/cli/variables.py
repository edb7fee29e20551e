"""``tidemill variable``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tidemill.cli import flow_runs, making, text, times
from tidemill.cli.session import Session, segment

COLUMNS = (
    text.Column("NAME", below=False),
    text.Column("VALUE", below=True),
    text.Column("FROM"),
    text.Column("UPDATED", optional=True),
)
LONGEST = 60  # characters of a value in a list


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    ls = verbs.add_parser("ls", help="list variables by name", parents=[common])
    ls.add_argument("--limit", type=flow_runs.limit, default=200, metavar="N", help="at most so many (200)")
    ls.set_defaults(run=show_list)
    for verb, about, run in (("get", "print a variable's value", show_value), ("inspect", "show a variable", show_one)):
        parser = verbs.add_parser(verb, help=about, parents=[common])
        parser.add_argument("variable", metavar="NAME")
        parser.set_defaults(run=run)
    making.add_variable(verbs, common)


def show_list(session: Session) -> None:
    """List variables with the values that hold."""
    found = session.post("/variables/filter", {"limit": session.args.limit})
    if session.json:
        session.show(found)
    elif found:
        now = session.now()
        rows = [(each["name"], _short(each["value"]), _source(each), times.ago(each["updated"], now)) for each in found]
        print(text.table(COLUMNS, rows))
    else:
        print("No variables. [variables] in the configuration states some; flows set them with Variable.set.")


def show_value(session: Session) -> None:
    """Print a value: a text as it is, anything else as JSON."""
    value = _find(session)["value"]
    if session.json:
        session.show(value)
    else:
        print(text.clean(value, one_line=False) if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def show_one(session: Session) -> None:
    """Show a variable: its value and where it is from."""
    found = _find(session)
    if session.json:
        session.show(found)
        return
    print(
        text.fields(
            [
                ("Variable", found["name"]),
                ("Value", json.dumps(found["value"], ensure_ascii=False)),
                ("From", _source(found)),
                ("In the file", None if found["file_value"] is None else json.dumps(found["file_value"])),
                ("Updated", times.local(found["updated"])),
                ("Tags", ", ".join(found["tags"])),
            ]
        )
    )


def _find(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = session.get(f"/variables/name/{segment(session.args.variable)}")
    return found


def _source(each: dict[str, Any]) -> str:
    if not each["set_by_hand"]:
        return "file"
    return "set" if each["file_value"] is None else "set, over the file"


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
