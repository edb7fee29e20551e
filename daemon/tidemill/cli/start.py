"""``tidemill start``: the daemon itself."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill import systemd
from tidemill.cli import configuration, text
from tidemill.cli.session import Session
from tidemill.errors import TidemillError


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
    import faulthandler

    # A crash in C code leaves every thread's stack, and so does the SIGABRT by which systemd ends what has frozen.
    faulthandler.enable(file=2)  # not sys.stderr, which may be no file
    # Nearly all that is made until the daemon is ready stays, and looking through it again and again is a tenth of the
    # start, a fifth with ten thousand deployments. The daemon switches it on when it is ready.
    gc.disable()
    try:
        from tidemill.daemon import run

        args = session.args
        state_dir: Path | None = getattr(args, "state_dir", None)
        return run(configuration.find(args.config, session.environ), state_dir, args.strict) or 0
    except TidemillError as error:
        if not _told_systemd(str(error), session.environ):
            raise
        return error.exit_code
    finally:
        gc.enable()


def _told_systemd(error: str, environ: Mapping[str, str]) -> bool:
    """Leave why the start was refused where ``systemctl status`` shows it; say whether the journal has it, too."""
    lines = error.splitlines() or [""]
    more = f" (and {len(lines) - 1} more)" if lines[1:] else ""
    notifier = systemd.Notifier(environ)
    notifier.status(f"not started: {lines[0]}{more}")
    notifier.close()
    if not systemd.is_journal(2, environ):
        return False
    error_priority = systemd.priority(40)
    sys.stderr.writelines(f"<{error_priority}>{text.clean(line)}\n" for line in lines)
    return True
