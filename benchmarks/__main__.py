"""Run the benchmarks: ``python -m benchmarks [--only NAME] [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure, table
from benchmarks.suite import NAMES, measured_apart


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What tidemill costs, beside its floors.")
    parser.add_argument("--only", metavar="NAME", action="append", choices=NAMES, help=f"one of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller databases: under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too; - is stdout")
    given = parser.parse_args()
    found: dict[str, list[Figure]] = {}
    spent: dict[str, float] = {}
    failed: list[str] = []
    for name in given.only or NAMES:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            title, figures = measured_apart(name, given.quick)
        except (Exception, SystemExit) as error:  # the others are measured all the same
            print(f"failed: {error}", file=sys.stderr)
            failed.append(name)
            continue
        found[title] = figures
        spent[name] = round(time.monotonic() - started, 1)
        print(f"{spent[name]:.0f} s", file=sys.stderr)
    machine = {
        "cpus": os.cpu_count(),
        "load": [round(each, 2) for each in os.getloadavg()],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": platform.release(),
    }
    if given.json is not None:
        figures_by_title = {title: [each.document() for each in figures] for title, figures in found.items()}
        document = {"quick": given.quick, "machine": machine, "seconds": spent, "figures": figures_by_title}
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if str(given.json) == "-":
            print(text, end="")
            sys.exit(1 if failed else 0)
        given.json.write_text(text)
    print(table(found))
    print()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    missed = [each.name.strip() for figures in found.values() for each in figures if each.reached is False]
    print(f"Not reached in this run: {'; '.join(missed)}" if missed else "Every target was reached in this run.")
    if failed:
        sys.exit(f"Could not be measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
