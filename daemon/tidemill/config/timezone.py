"""Which time zone this machine is in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tidemill.config.faults import Wrong
from tidemill.config.kinds import zone


class ZonePaths(NamedTuple):
    """The files in which systems keep their zone."""

    localtime: Path = Path("/etc/localtime")  # a symlink into the zone database
    timezone: Path = Path("/etc/timezone")  # Debian: the name on one line


SYSTEM = ZonePaths()


def machine_zone(environ: Mapping[str, str], paths: ZonePaths = SYSTEM) -> str:
    """Return the machine's IANA zone: of ``TZ``, else of /etc/localtime, else of /etc/timezone, else UTC.

    A ``TZ`` that is a rule ("CET-1CEST") or a file outside the zone database names no zone and is passed over.
    """
    for found in (environ.get("TZ", "").removeprefix(":"), _link(paths.localtime), _first_line(paths.timezone)):
        name = _inside_database(found)
        if name and _is_zone(name):
            return name
    return "UTC"


def _inside_database(place: str) -> str:
    """Return the zone's name of a path into the zone database; what is no path is a name already."""
    if not place.startswith("/"):
        return place
    name = place.rpartition("/zoneinfo/")[2] if "/zoneinfo/" in place else ""
    return name.removeprefix("posix/").removeprefix("right/")


def _is_zone(name: str) -> bool:
    try:
        zone().convert(name, Path())
    except Wrong:
        return False
    return True


def _link(path: Path) -> str:
    try:
        target = path.readlink()
    except OSError:
        return ""
    return str(path.parent / target)


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(200).decode("ascii", "replace").partition("\n")[0].strip()
    except OSError:
        return ""
