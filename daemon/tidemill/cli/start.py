"""``tidemill start``: the daemon itself."""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any

from tidemill.cli import configuration
from tidemill.cli.session import Session


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(name, help=line, description="Run the daemon until it is stopped (Ctrl-C, SIGTERM).")
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="the configuration (./tidemill.toml, ~/.config/tidemill/tidemill.toml, /etc/tidemill/tidemill.toml)",
    )  # fmt: skip
    parser.add_argument(
        "--state-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR",
        help="where database and control socket are ($STATE_DIRECTORY, else ~/.local/state/tidemill)",
    )  # fmt: skip
    parser.add_argument(
        "--strict", action="store_true", help="do not start on the last good configuration where this one is broken"
    )
    parser.set_defaults(run=run_daemon)


def run_daemon(session: Session) -> int:
    """Run the daemon; return its exit code."""
    # Nearly all that is made until the daemon is ready stays, and looking through it again and again is a tenth of the
    # start, a fifth with ten thousand deployments. The daemon switches it on when it is ready.
    gc.disable()
    try:
        from tidemill.daemon import run

        args = session.args
        state_dir: Path | None = getattr(args, "state_dir", None)
        return run(configuration.find(args.config, session.environ), state_dir, args.strict) or 0
    finally:
        gc.enable()
