"""``tidemill artifact``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tidemill.cli import flow_runs, run_filters, text, times
from tidemill.cli.session import Session
from tidemill.errors import EXIT_FAILED, EXIT_OK

COLUMNS = (
    text.Column("KEY", below=False),
    text.Column("TYPE"),
    text.Column("VERSION", right=True),
    text.Column("UPDATED"),
    text.Column("DEPLOYMENT", below=True),
    text.Column("DESCRIPTION", optional=True),
)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    ls = verbs.add_parser("ls", help="list artifacts by key", parents=[common])
    ls.add_argument("--limit", type=flow_runs.limit, default=50, metavar="N", help="at most so many (50; up to 200)")
    ls.set_defaults(run=show_list)
    inspect = verbs.add_parser("inspect", help="show an artifact with its data", parents=[common])
    diff = verbs.add_parser("diff", help="compare two versions; exit 1 where they differ", parents=[common])
    get = verbs.add_parser("get", help="print an artifact's data and nothing else", parents=[common])
    get.add_argument("--raw", action="store_true", help="the JSON as it is stored, on one line")
    for parser, run in ((inspect, show_one), (diff, show_diff), (get, show_data)):
        parser.add_argument("key", metavar="KEY", help="the artifact's key or id")
        parser.set_defaults(run=run)
    for parser in (inspect, get):
        parser.add_argument("--version", type=flow_runs.count, metavar="N", help="this version (the latest)")
    diff.add_argument("a", type=flow_runs.count, metavar="A", help="a version")
    diff.add_argument("b", type=flow_runs.count, metavar="B", help="another one")


def show_list(session: Session) -> None:
    """List the keys and what each stands for now."""
    found = session.post("/artifacts/latest/filter", {"limit": session.args.limit})
    if session.json:
        session.show(found)
    elif found:
        now = session.now()
        rows = [
            (
                each["key"],
                each["type"],
                each["version"],
                times.ago(each["created"], now),
                each["deployment"],
                each["description"],
            )
            for each in found
        ]
        print(text.table(COLUMNS, rows))
    else:
        coming = session.post("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "limit": 1,
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}})  # fmt: skip
        when = ""
        if coming:
            zone = run_filters.zone_of(session, coming[0]["deployment"])
            at = times.local(coming[0]["expected_start_time"], zone)
            when = f" Next run: {coming[0]['deployment']} at {at}"
        print(f"No artifacts yet.{when}")


def _find(session: Session, version: int | None) -> dict[str, Any]:
    found: dict[str, Any] = session.get("/artifacts/find", key=session.args.key, version=version)
    return found


def show_one(session: Session) -> None:
    """Show an artifact: who made it when, and its data."""
    found = _find(session, session.args.version)
    if session.json:
        session.show(found)
        return
    versions = found["versions"]
    print(
        text.fields(
            [
                ("Artifact", found["key"] or found["id"]),
                ("Type", found["type"]),
                ("Version", f"{found['version']} (kept: {_ranges(versions)})"),
                ("Description", found["description"]),
                ("Created", times.local(found["created"])),
                ("Deployment", found["deployment"]),
                ("Flow run", found["flow_run_id"]),
            ]
        )
    )
    print(f"\n{_readable(found)}")


def _ranges(numbers: list[int]) -> str:
    """Return 1, 2, 3, 7 as ``1-3, 7``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _readable(found: dict[str, Any]) -> str:
    data = found["data"]
    if found["type"] == "markdown" and isinstance(data, str):
        return text.clean(data, one_line=False)
    if found["type"] == "table" and isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        titles = list(dict.fromkeys(name for row in data for name in row))
        rows = [[_cell(row.get(name)) for name in titles] for row in data]
        return text.table([text.Column(name, below=True) for name in titles], rows)
    return json.dumps(data, indent=2, ensure_ascii=False)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def show_data(session: Session) -> None:
    """Print the data alone: readable, or with ``--raw`` or ``--output json`` as JSON for other programs."""
    found = _find(session, session.args.version)
    if session.args.raw:
        print(json.dumps(found["data"], ensure_ascii=False, sort_keys=True, separators=(",", ":")))
    elif session.json:
        session.show(found["data"])
    else:
        print(_readable(found))


def show_diff(session: Session) -> int:
    """Compare two versions of an artifact, as ``diff -u`` does."""
    import difflib

    args = session.args
    old, new = _find(session, args.a), _find(session, args.b)
    same = old["data"] == new["data"]
    before, after = (
        json.dumps(each["data"], indent=2, ensure_ascii=False, sort_keys=True).splitlines() for each in (old, new)
    )
    names = [f"{each['key']} version {each['version']} of {times.local(each['created'])}" for each in (old, new)]
    lines = list(difflib.unified_diff(before, after, names[0], names[1], lineterm=""))
    if session.json:
        session.show({"key": old["key"], "a": args.a, "b": args.b, "equal": same, "diff": lines})
    elif same:
        print(f"Versions {args.a} and {args.b} of {old['key']} are equal.")
    else:
        print("\n".join(text.clean(line) for line in lines))
    return EXIT_OK if same else EXIT_FAILED
