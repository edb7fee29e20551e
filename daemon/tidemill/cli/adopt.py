"""``tidemill adopt``: from what a command made to a table of a person's own file."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill.cli import drop_ins
from tidemill.cli.session import Session
from tidemill.errors import NotFoundError, TidemillError


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name, help=line, parents=[common],
        description="Print a deployment, work queue, work pool or variable that a command made, as a table to paste "
        "into a file of yours, which wins from then on. Then --remove drops what the command made.",
    )  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME", help="its name, or TABLE.NAME (list what there is)")
    parser.add_argument("--remove", action="store_true", help="drop it, now that a file of yours states it")
    drop_ins.add_config(parser)
    parser.set_defaults(run=adopt)


def adopt(session: Session) -> None:
    """Print what was made, or drop it."""
    made = drop_ins.open_drop_ins(session)
    everything = made.all(fresh=session.args.remove)  # what was pasted a moment ago is to be known
    if session.args.name is None:
        if session.args.remove:
            raise TidemillError("say what to remove: tidemill adopt NAME --remove")
        _list(session, everything)
        return
    found = _find(everything, session.args.name)
    if not session.args.remove:
        if session.json:
            session.show(found)
        else:
            print(found["toml"], end="")
        return
    if found["shadowed_by"] is None:
        raise TidemillError(
            f"no file of yours states {drop_ins.noun(found['table'])} {found['name']}; paste it first: "
            f"tidemill adopt {found['name']} >> tidemill.toml"
        )
    made.remove(found["table"], found["name"])
    sentence = f"{drop_ins.noun(found['table'])} {found['name']} is {found['shadowed_by']}'s alone now"
    drop_ins.told(session, made, found, sentence)


def _list(session: Session, everything: list[dict[str, Any]]) -> None:
    if session.json:
        session.show(everything)
    elif not everything:
        print("Nothing was made by a command: all there is stands in your files.")
    for each in everything if not session.json else []:
        also = f"  (shadowed by {each['shadowed_by']})" if each["shadowed_by"] else ""
        print(f"{each['table']}.{each['name']}{also}")


def _find(everything: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    found = [each for each in everything if wanted in (each["name"], f"{each['table']}.{each['name']}")]
    if not found:
        known = ", ".join(each["name"] for each in everything[:10]) or "none"
        raise NotFoundError(f"nothing called {wanted} was made by a command; there are: {known}")
    if len(found) > 1:
        names = " or ".join(f"{each['table']}.{each['name']}" for each in found)
        raise TidemillError(f"{wanted} is several things; say {names}")
    return found[0]
