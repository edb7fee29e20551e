"""``tidemill why``: why a run is late, skipped or tried again, and why there was no run."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any
from zoneinfo import ZoneInfo

from tidemill.cli import text, times
from tidemill.cli.session import Session

INDENT = "  "
_DATED = re.compile(r"\d{4}-\d\d-\d\d")


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name, help=line, parents=[common],
        description=line + ". It also answers while the daemon is down.",
    )  # fmt: skip
    parser.add_argument("name", metavar="RUN|DEPLOYMENT", help="a run's name or id, or a deployment's name")
    parser.add_argument(
        "--at", metavar="TIME",
        help='what became of a deployment at a time: "2026-03-29 02:30", "09:00", "yesterday", in its time zone',
    )  # fmt: skip
    parser.set_defaults(run=show)


def show(session: Session) -> None:
    """Explain a run or a deployment."""
    args = session.args
    found = session.get("/why", name=args.name, at=args.at)
    if session.json:
        session.show(found)
        return
    kind = "Flow run" if found["kind"] == "flow_run" else "Deployment"
    at = f" at {_moment(found)} ({found['timezone']})" if found.get("at") else ""
    print(text.clean(f"{kind} {found['name']}{at}"))
    told = {run["id"]: run for run in found.get("runs", [])}
    remedies: set[str | None] = set()
    for finding in found["findings"]:
        _tell(finding, INDENT, remedies)
        run = told.pop(finding["facts"].get("run") or "", None)
        if run is not None:
            for each in run["findings"]:
                _tell(each, INDENT * 3, remedies)


def _moment(found: dict[str, Any]) -> str:
    """Return the time that was asked about, with its day where that was left to be understood."""
    said: str = found["at"]
    if _DATED.search(said) or not found.get("first"):
        return said
    return f"{said}, {times.parse(found['first']).astimezone(ZoneInfo(found['timezone'])):%Y-%m-%d}"


def _tell(finding: dict[str, Any], indent: str, told: set[str | None]) -> None:
    limit = text.width()
    sentence = text.clean(finding["sentence"])
    if limit is None:
        print(f"{indent}{sentence}")
    else:
        print(textwrap.fill(sentence, limit, initial_indent=indent, subsequent_indent=indent, break_long_words=False))
    if finding["remedy"] not in {*told, None}:
        told.add(finding["remedy"])
        print(f"{indent}-> {finding['remedy']}")
