"""``tidemill init``: a commented configuration to start from."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from tidemill.cli import configuration
from tidemill.cli.schedules import machine_zone
from tidemill.cli.session import Session
from tidemill.errors import TidemillError


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(name, help=line, parents=[common])
    parser.add_argument(
        "path", nargs="?", type=Path, default=Path(configuration.FILE), metavar="PATH", help="tidemill.toml"
    )
    parser.add_argument("--timezone", "--tz", metavar="ZONE", help="the zone of its schedules (the machine's)")
    parser.set_defaults(run=write)


def write(session: Session) -> None:
    """Write the file; one that is there is never overwritten."""
    from tidemill.config import init_text

    path = session.args.path
    if path.is_dir():
        path /= configuration.FILE
    asked = session.args.timezone
    zone = asked if asked is not None else machine_zone(session)
    text = init_text(_known(zone))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError as error:
        raise TidemillError(f"{path} is there already and stays as it is; name another path or move it away") from error
    except OSError as error:
        raise TidemillError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    if session.json:
        session.show({"path": str(path.absolute()), "timezone": zone})
    else:
        shown = "" if path == Path(configuration.FILE) else f" {path}"
        print(f"{path} is written, in the zone {zone}.")
        print(f"Next: tidemill check{shown} && tidemill start{shown}")


def _known(zone: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise TidemillError(f'there is no time zone "{zone}"; write for example Europe/Helsinki') from error
    return zone
