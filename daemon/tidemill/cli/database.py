"""``tidemill db``: the database itself: copies of it, whether it is whole, and what may go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tidemill.cli import backups, inspections, pruning


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)

    about = "copy the whole database, also while the daemon runs"
    backup = verbs.add_parser(
        "backup", help=about, description=f"{about}; the copy is looked through.", parents=[common]
    )
    backup.add_argument("file", metavar="FILE", help="the copy; in a folder it is named by the time")
    backup.add_argument("--force", action="store_true", help="replace a FILE that is there already")
    backup.set_defaults(run=backups.backup)

    about = "put a copy in the place of the database, which is kept beside it"
    restore = verbs.add_parser("restore", help=about, description=f"{about}; no daemon may run.", parents=[common])
    restore.add_argument("file", type=Path, metavar="FILE", help="a copy that db backup, or an upgrade, has made")
    restore.set_defaults(run=backups.restore)

    about = "look whether the database is whole, and what is in it"
    check = verbs.add_parser("check", help=about, parents=[common])
    check.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a copy; absent: the daemon's own")
    check.add_argument("--full", action="store_true", help="compare every index and every history, which takes longer")
    check.set_defaults(run=inspections.check)

    about = "delete now what [retention] lets go"
    prune = verbs.add_parser("prune", help=about, parents=[common])
    prune.add_argument("--dry-run", action="store_true", help="count what would go; change nothing")
    prune.add_argument("--keep", metavar="DURATION", help="instead of [retention] keep: 30d, or forever")
    prune.add_argument("--keep-runs", metavar="N", help="instead of keep_runs_per_deployment: a number, or unlimited")
    prune.add_argument("--keep-logs", metavar="DURATION", help="instead of keep_logs: 7d, or forever")
    prune.add_argument("--max-size", metavar="SIZE", help="instead of max_database_size: 1GiB, or unlimited")
    prune.add_argument(
        "--config", type=Path, metavar="CONFIG", help="whose [retention] holds while no daemon runs (as for start)"
    )
    prune.set_defaults(run=pruning.prune)
