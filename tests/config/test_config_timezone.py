"""The machine's zone is found where systems keep it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.config.timezone import ZonePaths, machine_zone

# TZ, target of /etc/localtime, text of /etc/timezone -> the zone.
MACHINES = {
    "TZ": ("Asia/Tokyo", "/usr/share/zoneinfo/Europe/Berlin", "Europe/Paris\n", "Asia/Tokyo"),
    "TZ with a colon": (":Asia/Tokyo", None, None, "Asia/Tokyo"),
    "TZ as a path": (":/usr/share/zoneinfo/Asia/Tokyo", None, None, "Asia/Tokyo"),
    "TZ as a rule": ("CET-1CEST,M3.5.0,M10.5.0/3", "/usr/share/zoneinfo/Europe/Berlin", None, "Europe/Berlin"),
    "TZ of no zone": ("Mars/Olympus", None, None, "UTC"),
    "TZ that leads out": ("../../etc/passwd", None, None, "UTC"),
    "localtime": (None, "/usr/share/zoneinfo/Europe/Berlin", "Europe/Paris\n", "Europe/Berlin"),
    "localtime, relative": (None, "../usr/share/zoneinfo/Europe/Berlin", None, "Europe/Berlin"),
    "localtime, three words": (
        None,
        "/usr/share/zoneinfo/America/Argentina/Buenos_Aires",
        None,
        "America/Argentina/Buenos_Aires",
    ),
    "localtime, posix": (None, "/usr/share/zoneinfo/posix/Europe/Berlin", None, "Europe/Berlin"),
    "localtime elsewhere": (None, "/srv/zone", "Europe/Paris\n", "Europe/Paris"),
    "timezone": (None, None, "Europe/Paris\n", "Europe/Paris"),
    "timezone of no zone": (None, None, "nonsense\n", "UTC"),
    "nothing": (None, None, None, "UTC"),
    "empty": ("", None, "", "UTC"),
}


@pytest.mark.parametrize(("tz", "link", "text", "zone"), MACHINES.values(), ids=MACHINES.keys())
def test_the_zone_is_found(tz: str | None, link: str | None, text: str | None, zone: str, tmp_path: Path) -> None:
    paths = ZonePaths(tmp_path / "localtime", tmp_path / "timezone")
    if link is not None:
        paths.localtime.symlink_to(link)
    if text is not None:
        paths.timezone.write_text(text)
    assert machine_zone({} if tz is None else {"TZ": tz}, paths) == zone


def test_a_localtime_that_is_a_copy_is_passed_over(tmp_path: Path) -> None:
    paths = ZonePaths(tmp_path / "localtime", tmp_path / "timezone")
    paths.localtime.write_bytes(b"TZif2")
    paths.timezone.write_text("Europe/Paris")
    assert machine_zone({}, paths) == "Europe/Paris"


def test_this_machine_has_a_zone() -> None:
    assert machine_zone({})
