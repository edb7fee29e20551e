"""``tidemill version``."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill import __version__
from tidemill.cli.session import Session


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(name, help=line, parents=[common])
    parser.set_defaults(run=show)


def show(session: Session) -> None:
    """Print the version of the program, and with JSON those that it stands on."""
    if session.json:
        import platform
        import sqlite3

        session.show({"version": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version})
    else:
        print(f"tidemill {__version__}")
