"""Which runs a command means: by name or id, or by deployment, flow, state and tag."""

from __future__ import annotations

import argparse
from datetime import tzinfo
from typing import Any

from tidemill.cli import times
from tidemill.cli.session import Session, segment
from tidemill.errors import NotFoundError

STATE_TYPES = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which runs are meant."""
    parser.add_argument("--deployment", metavar="NAME", help="only of this deployment")
    parser.add_argument("--flow-name", "--flow", metavar="NAME", help="only of this flow")
    parser.add_argument(
        "--state", type=state, action="append", default=[], metavar="NAME", help="a state's name or type; may repeat"
    )
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="only with this tag; may repeat")


def state(value: str) -> str:
    """Return a state's type or name as it is written, whatever the case of its letters."""
    from tidemill.core.states import NAMES

    known = [*STATE_TYPES, *(name for names in NAMES.values() for name in names if name.upper() not in STATE_TYPES)]
    for each in known:
        if each.upper() == value.upper():
            return each
    raise argparse.ArgumentTypeError(f"{value!r} is no state; there are {', '.join(map(_as_name, known))}")


def _as_name(word: str) -> str:
    return word.capitalize() if word in STATE_TYPES else word


def states_filter(asked: list[str]) -> dict[str, Any]:
    """Return the filter for states of any of these types and names; a type stands for all its names."""
    from tidemill.core.states import NAMES, StateType

    if all(each in STATE_TYPES for each in asked):
        return {"type": {"any_": asked}}
    names = [name for each in asked for name in (NAMES[StateType(each)] if each in STATE_TYPES else (each,))]
    return {"name": {"any_": names}}


def wanted(session: Session) -> dict[str, Any]:
    """Return the filter that the options say."""
    args = session.args
    runs: dict[str, Any] = {}
    if args.state:
        runs["state"] = states_filter(args.state)
    if args.tag:
        runs["tags"] = {"all_": args.tag}
    found: dict[str, Any] = {"flow_runs": runs}
    if args.deployment:
        found["deployments"] = {"name": {"any_": [name_of_deployment(session, args.deployment)]}}
    if args.flow_name:
        found["flows"] = {"name": {"any_": [args.flow_name]}}
    return found


def find_deployment(session: Session, name: str) -> dict[str, Any]:
    """Return the deployment of that name, ``flow/name``, id or the beginning of one."""
    flow, slash, own = name.rpartition("/")
    path = f"/deployments/name/{segment(flow)}/{segment(own)}" if slash else f"/deployments/{segment(name)}"
    found: dict[str, Any] = session.get(path)
    return found


def name_of_deployment(session: Session, name: str) -> str:
    """Return a deployment's name; also of one that is no longer configured, while there are runs of it."""
    try:
        found: str = find_deployment(session, name)["name"]
        return found
    except NotFoundError:
        own = name.rpartition("/")[2]
        for each in dict.fromkeys((own, own.replace("_", "-"), own.replace("-", "_"))):
            wanted = {"deployments": {"name": {"any_": [each]}}, "limit": 1}
            if session.post("/flow_runs/filter", wanted):
                return each
        raise


def find_run(session: Session, text: str) -> dict[str, Any]:
    """Return the run of that name or id, or the beginning or end of one."""
    if "/" in text:  # which cannot stand in a path: only a name can have one
        named = session.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [text]}}, "limit": 1})
        if not named:
            raise NotFoundError(f'no flow run has the name "{text}"; `tidemill flow-run ls` lists them')
        run: dict[str, Any] = named[0]
        return run
    found: dict[str, Any] = session.get(f"/flow_runs/{segment(text)}")
    return found


def zone_of(session: Session, deployment: str | None) -> tzinfo | None:
    """Return the zone of a deployment's times; None, the machine's, where it has no schedule, or is gone."""
    if deployment is None:
        return None
    try:
        return times.zone(session.get(f"/deployments/{segment(deployment)}").get("timezone"))
    except NotFoundError:
        return None
