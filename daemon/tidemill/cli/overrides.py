"""What a person sets by hand over the file: the verbs that deployments, work queues and work pools have alike."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from tidemill.cli import flow_runs, run_filters, text, times
from tidemill.cli.session import Session, segment

# The verbs' nouns as routes.
_ROUTES = {"deployment": "deployments", "work_queue": "work_queues", "work_pool": "work_pools"}
KEYS = {
    "deployment": ("paused", "concurrency_limit"),
    "work_queue": ("paused", "concurrency_limit", "priority"),
    "work_pool": ("paused", "concurrency_limit"),
}


def add_verbs(verbs: Any, kind: str, common: argparse.ArgumentParser) -> None:
    """Add the verbs that set and clear limits (and of queues, priorities) by hand."""
    verb = _Verb(verbs, kind, common)
    setting = verb("set-concurrency-limit", "let at most so many of its runs go at a time", set_limit)
    setting.add_argument("limit", type=flow_runs.count, metavar="N", help="runs at a time, from 1 up")
    about = "the file's limit holds again" if kind == "work_pool" else "let as many of its runs go as come"
    verb("clear-concurrency-limit", about, clear_limit)
    if kind == "work_queue":
        ranking = verb("set-priority", "say how far in front its runs stand", set_priority)
        ranking.add_argument("priority", type=flow_runs.count, metavar="N", help="a lower number goes first")
    clearing = verb("clear-override", "let the file's values hold again", clear_override)
    keys = KEYS[kind]
    clearing.add_argument("key", nargs="?", choices=keys, metavar="KEY", help=f"{', '.join(keys)} (all)")


class _Verb:
    def __init__(self, verbs: Any, kind: str, common: argparse.ArgumentParser) -> None:
        self._verbs, self._kind, self._common = verbs, kind, common

    def __call__(self, name: str, about: str, run: Callable[[Session], None]) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._verbs.add_parser(name, help=about, parents=[self._common])
        called = "name, flow/name, or id" if self._kind == "deployment" else "name or id"
        parser.add_argument("name", metavar="NAME", help=called)
        parser.set_defaults(run=run, kind=self._kind)
        return parser


def set_limit(session: Session) -> None:
    """Set a concurrency limit by hand."""
    _set(session, "concurrency_limit", session.args.limit)


def clear_limit(session: Session) -> None:
    """Take a concurrency limit away by hand; of a pool, let the file's hold again."""
    _set(session, "concurrency_limit", None)


def set_priority(session: Session) -> None:
    """Set a queue's priority by hand."""
    _set(session, "priority", session.args.priority)


def clear_override(session: Session) -> None:
    """Let the file's values hold again."""
    kind, key = session.args.kind, session.args.key
    found = _find(session)
    body = {"kind": kind, "name": found["name"]} | ({"key": key} if key else {})
    cleared = session.post("/overrides/clear", body)["cleared"]
    after = _find(session)
    if session.json:
        session.show(after)
    elif not cleared:
        print(f"{found['name']}: nothing {f'of {key} ' if key else ''}was set by hand.")
    else:
        values = {each: _shown(_in_force(after, each)) for each in cleared}
        now = ", ".join(value if each == "paused" else f"{each} is {value}" for each, value in values.items())
        print(f"{found['name']}: the file's word holds again: {now}.")


def _find(session: Session) -> dict[str, Any]:
    kind, name = session.args.kind, session.args.name
    if kind == "deployment":
        return run_filters.find_deployment(session, name)
    found: dict[str, Any] = session.get(f"/{_ROUTES[kind]}/{segment(name)}")
    return found


def _set(session: Session, key: str, value: Any) -> None:
    kind = session.args.kind
    found = _find(session)
    where = segment(found["name"]) if kind == "work_pool" else found["id"]
    session.link.ask("PATCH", f"/{_ROUTES[kind]}/{where}", {key: value})
    after = _find(session)
    if session.json:
        session.show(after)
        return
    said = f"{found['name']}: {key} is {_shown(_in_force(after, key))}"
    held = next((each for each in after["set_by_hand"] if each["key"] == key), None)
    if held is None:
        print(f"{said}, as the file says.")
    else:
        noun = kind.replace("_", "-")
        print(f"{said} (the file says {_shown(held['file_value'])}).")
        print(f"It holds until the file says otherwise, or: tidemill {noun} clear-override {found['name']} {key}")


def _in_force(document: dict[str, Any], key: str) -> Any:
    return document[key] if key in document else document["is_paused"]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "paused" if value else "not paused"
    return "none" if value is None else str(value)


def sentence(held: dict[str, Any]) -> str:
    """Return what was set by hand, in words: ``work queue slow: paused by hand since … by ada``."""
    thing = f"{held['kind'].replace('_', ' ')} {held['name']}"
    since = f"since {times.local(held['at'])}" + (f" by {held['by']}" if held["by"] else "")
    if held["key"] == "paused":
        other = "" if held["file_value"] is False or held["value"] else " (the file pauses it)"
        return text.clean(f"{thing}: {'paused' if held['value'] else 'resumed'} by hand {since}{other}")
    value, own = _shown(held["value"]), _shown(held["file_value"])
    return text.clean(f"{thing}: {held['key']} is {value} by hand {since} (the file says {own})")
