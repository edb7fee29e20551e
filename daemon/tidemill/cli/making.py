"""The verbs that make queues, pools and variables, and those that remove what was made."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill.cli import drop_ins
from tidemill.cli.given import parameter
from tidemill.cli.session import Session

# Options of `create` that are keys of the same name: what each takes, and what it says.
_Keys = dict[str, tuple[str, str]]
_QUEUE: _Keys = {
    "work_pool": ("NAME", "the pool it stands in front of"),
    "priority": ("N", "a lower number goes first"),
}
_POOL: _Keys = {
    "type": ("WORD", "inline, process or dask"),
    "python": ("PATH", "process pools: the interpreter that runs the code"),
}
_BOTH: _Keys = {
    "concurrency_limit": ("N", "how many runs may go at a time"),
    "description": ("TEXT", "what it is for"),
}


def add_queue(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add ``work-queue create`` and ``delete``."""
    _creating(verbs, common, "work_queues", {**_QUEUE, **_BOTH})
    drop_ins.removing(verbs, "delete", "remove a queue that `create` made", "work_queues", common)


def add_pool(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add ``work-pool create`` and ``delete``."""
    _creating(verbs, common, "work_pools", {**_POOL, **_BOTH})
    drop_ins.removing(verbs, "delete", "remove a pool that `create` made", "work_pools", common)


def add_deployment(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add ``deployment delete``."""
    drop_ins.removing(verbs, "delete", "remove a deployment that `tidemill deploy` made", "deployments", common)


def add_variable(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add ``variable set`` and ``unset``."""
    setting = verbs.add_parser("set", help="set a variable, or set it anew", parents=[common])
    setting.add_argument("name", metavar="NAME", help="its name")
    setting.add_argument("value", metavar="VALUE", help="JSON, or else text")
    drop_ins.add_config(setting)
    setting.set_defaults(run=set_variable)
    drop_ins.removing(verbs, "unset", "take back what was set, by a command or by a flow", "variables", common)


def _creating(verbs: Any, common: argparse.ArgumentParser, table: str, keys: _Keys) -> None:
    parser = verbs.add_parser("create", help="make one, or make it anew", parents=[common])
    parser.add_argument("name", metavar="NAME", help="its name")
    for key, (metavar, about) in keys.items():
        kind = int if metavar == "N" else str
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, metavar=metavar, help=about)
    parser.add_argument("--paused", action="store_true", help="nothing starts until it is resumed")
    parser.add_argument(
        "--set", action="append", default=[], type=parameter, metavar="KEY=VALUE",
        help="any other key, as in the file; the value is JSON, or else text; may repeat",
    )  # fmt: skip
    drop_ins.add_config(parser)
    parser.set_defaults(run=create, table=table, keys=tuple(keys))


def create(session: Session) -> None:
    """Make a queue or a pool."""
    args = session.args
    table = {key: value for key in args.keys if (value := getattr(args, key)) is not None}
    table |= {"paused": True} if args.paused else {}
    table |= dict(args.set)
    _put(session, args.table, args.name, table, "is made")


def set_variable(session: Session) -> None:
    """Set a variable."""
    _, value = parameter(f"value={session.args.value}")
    _put(session, "variables", session.args.name, value, "is set")


def _put(session: Session, table: str, name: str, value: Any, done: str) -> None:
    made = drop_ins.open_drop_ins(session)
    made.put(table, name, value)
    document = {"table": table, "name": name, "value": value}
    drop_ins.told(session, made, document, f"{drop_ins.noun(table)} {name} {done}")
