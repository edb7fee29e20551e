"""``tidemill flow-run cancel``, ``retry`` and ``delete``: of one run, of several, or of all that fit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from tidemill.cli import run_filters, text
from tidemill.cli.progress import Progress
from tidemill.cli.session import Session
from tidemill.errors import EXIT_FAILED, EXIT_OK, TidemillError, WrongUsageError

PAGE = 200
MOST = 10_000  # runs of one command
BATCH = 50  # runs of one request
SHOWN = 10


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """One of the three: what it does, and which runs it means where no state is named."""

    name: str
    done: str
    types: tuple[str, ...]
    due_only: bool = False  # of runs that wait, those whose time has come


VERBS = {
    each.name: each
    for each in (
        Verb(
            name="cancel",
            done="cancelled",
            types=("SCHEDULED", "PENDING", "RUNNING", "PAUSED"),
            due_only=True,
        ),
        Verb(name="retry", done="retried", types=("FAILED", "CRASHED")),
        Verb(name="delete", done="deleted", types=("COMPLETED", "FAILED", "CRASHED", "CANCELLED")),
    )
}


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    abouts = {
        "cancel": "cancel runs that have not ended",
        "retry": "run finished runs again",
        "delete": "delete finished runs, their histories and logs",
    }
    means = {
        "cancel": "Without --state: those that run, and those that wait and are due.",
        "retry": "Without --state: those that failed or crashed.",
        "delete": "Without --state: all that have ended.",
    }
    for verb, about in abouts.items():
        parser = verbs.add_parser(
            verb, help=about, parents=[common],
            description=f"{about[0].upper()}{about[1:]}: those that are named, or all that fit --deployment, "
            f"--flow-name, --state and --tag. {means[verb]}",
        )  # fmt: skip
        parser.add_argument(
            "flow_run",
            nargs="*",
            metavar="RUN",
            help="its name, its id, or the last eight characters of its id, as lists show them",
        )
        run_filters.add(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say which runs are meant")
        parser.add_argument("--yes", "-y", action="store_true", help="do not ask before changing all that fit")
        if verb == "cancel":
            parser.add_argument("--reason", metavar="TEXT", help="kept in the histories (who cancelled)")
        parser.set_defaults(run=change, verb=verb)


def change(session: Session) -> int:
    """Change the runs that the command line names."""
    args, verb = session.args, VERBS[session.args.verb]
    by_filter = bool(args.deployment or args.flow_name or args.state or args.tag)
    if bool(args.flow_run) == by_filter:
        raise WrongUsageError(
            "name runs, or say which by --deployment, --flow-name, --state or --tag"
            + ("; not both" if by_filter else "")
        )
    if args.flow_run:
        runs = [run_filters.find_run(session, each) for each in dict.fromkeys(args.flow_run)]
    else:
        runs = _fitting(session, verb)
    if args.dry_run:
        return _show(session, verb, runs)
    if not runs:
        return _nothing(session, verb)
    if by_filter and not args.yes and not _agreed(session, verb, runs):
        print("Nothing was changed.", file=sys.stderr)
        return EXIT_FAILED
    changed, refused = _carry_out(session, verb, runs)
    if len(args.flow_run) == 1:
        return _tell_one(session, verb, runs[0], refused)
    return _tell(session, verb, changed, refused)


def _fitting(session: Session, verb: Verb) -> list[dict[str, Any]]:
    """Return all runs that fit the options, oldest first."""
    wanted = run_filters.wanted(session)
    if not session.args.state:
        wanted["flow_runs"]["state"] = {"type": {"any_": list(verb.types)}}
    found: list[dict[str, Any]] = []
    now = session.now()
    while len(found) < MOST:
        page = session.post(
            "/flow_runs/filter",
            wanted | {"sort": "EXPECTED_START_TIME_ASC", "limit": PAGE, "offset": len(found)},
        )
        found += page
        if len(page) < PAGE:
            break
    if verb.due_only and not session.args.state:
        found = [run for run in found if run["state_type"] != "SCHEDULED" or run["expected_start_time"] <= _text(now)]
    return found[:MOST]


def _text(now: Any) -> str:
    return str(now.isoformat().replace("+00:00", "Z"))


def _carry_out(
    session: Session, verb: Verb, runs: Sequence[dict[str, Any]]
) -> tuple[list[str], list[tuple[dict[str, Any], str]]]:
    """Return the ids of the runs that were changed, and those that were not, each with the reason."""
    changed: list[str] = []
    refused: list[tuple[dict[str, Any], str]] = []
    by_id = {run["id"]: run for run in runs}
    ids = list(by_id)
    with Progress() as progress:
        for first in range(0, len(ids), BATCH):
            progress.share(verb.done, first, len(ids))
            batch = {"flow_runs": {"id": {"any_": ids[first : first + BATCH]}}, "limit": BATCH}
            if verb.name == "delete":
                results = session.post("/flow_runs/bulk_delete", batch)
                changed += results["deleted"]
                refused += [(by_id[each["flow_run_id"]], each["reason"]) for each in results["kept"]]
                continue
            results = session.post("/flow_runs/bulk_set_state", batch | {"state": _state(session, verb)})["results"]
            changed += [each["flow_run_id"] for each in results if each["status"] == "ACCEPT"]
            refused += [
                (by_id[each["flow_run_id"]], each["details"]["reason"])
                for each in results
                if each["status"] != "ACCEPT"
            ]
    gone = set(ids) - set(changed) - {run["id"] for run, _ in refused}
    return changed, refused + [(by_id[each], f"flow run {by_id[each]['name']} is gone") for each in ids if each in gone]


def _state(session: Session, verb: Verb) -> dict[str, Any]:
    if verb.name == "retry":
        return {"type": "SCHEDULED", "name": "AwaitingRetry"}
    return {"type": "CANCELLING", "name": "Cancelling", "message": session.args.reason}


def _tell_one(session: Session, verb: Verb, run: dict[str, Any], refused: Sequence[tuple[dict[str, Any], str]]) -> int:
    if refused:
        raise TidemillError(refused[0][1])
    if verb.name == "delete":
        if session.json:
            session.show({"deleted": run["id"]})
        else:
            print(f"{_call(run)} is deleted")
        return EXIT_OK
    after = session.get(f"/flow_runs/{run['id']}")
    if session.json:
        session.show(after)
    else:
        print(f"{_call(after)} is {text.paint(after['state_name'], after['state_type'])}")
    return EXIT_OK


def _tell(session: Session, verb: Verb, changed: Sequence[str], refused: Sequence[tuple[dict[str, Any], str]]) -> int:
    if session.json:
        kept = [{"flow_run_id": run["id"], "reason": reason} for run, reason in refused]
        session.show({verb.done: list(changed), "refused": kept})
    else:
        print(f"{len(changed)} run{'' if len(changed) == 1 else 's'} {verb.done}.")
        for _, reason in refused[:SHOWN]:
            session.note(reason)
        if refused[SHOWN:]:
            session.note(f"and {len(refused) - SHOWN} more could not be {verb.done}")
    return EXIT_FAILED if refused else EXIT_OK


def _show(session: Session, verb: Verb, runs: Sequence[dict[str, Any]]) -> int:
    if session.json:
        session.show(list(runs))
    elif runs:
        print(f"{len(runs)} run{'' if len(runs) == 1 else 's'} would be {verb.done}:")
        print(_list(runs))
    else:
        return _nothing(session, verb)
    return EXIT_OK


def _nothing(session: Session, verb: Verb) -> int:
    if session.json:
        session.show({verb.done: [], "refused": []})
    else:
        print(f"No runs fit, so none is {verb.done}.")
    return EXIT_OK


def _agreed(session: Session, verb: Verb, runs: Sequence[dict[str, Any]]) -> bool:
    """Ask before what cannot be undone is done to many."""
    if not sys.stdin.isatty() or session.json:
        raise WrongUsageError(f"{len(runs)} runs would be {verb.done}; say --yes, or look first with --dry-run")
    print(_list(runs), file=sys.stderr)
    answer = input(f"{verb.name.capitalize()} {len(runs)} run{'' if len(runs) == 1 else 's'}? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _list(runs: Sequence[dict[str, Any]]) -> str:
    lines = [f"  {run['deployment'] or run['flow']}  {_call(run)}  {run['state_name']}" for run in runs[:SHOWN]]
    return "\n".join([*lines, f"  … and {len(runs) - SHOWN} more"] if runs[SHOWN:] else lines)


def _call(run: dict[str, Any]) -> str:
    return text.clean(f"{run['name']} ({run['id'][-8:]})")
