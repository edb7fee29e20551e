"""The machine and what is installed on it, for a report: nothing that names a person or another program."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sqlite3
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import tidemill


def versions() -> dict[str, Any]:
    """Return the versions of tidemill, of what it runs on and of the packages it names."""
    packages: dict[str, str | None] = {}
    for requirement in metadata.requires("tidemill") or []:
        name = requirement.split(";")[0].strip()
        for index, letter in enumerate(name):
            if not (letter.isalnum() or letter in "._-"):
                name = name[:index]
                break
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "tidemill": tidemill.__version__,
        "python": sys.version,
        "sqlite": sqlite3.sqlite_version,
        "packages": packages,
    }


def facts(folder: Path) -> dict[str, Any]:
    """Return what a daemon may run short of. ``folder``: the state directory."""
    limits = {
        name: resource.getrlimit(getattr(resource, name))
        for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_AS", "RLIMIT_CORE")
    }
    room = shutil.disk_usage(folder) if folder.is_dir() else None
    return {
        "system": _release(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "processors": os.cpu_count(),
        "usable_processors": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "memory": _memory(),
        "state_directory": {"path": str(folder), "bytes_free": room and room.free, "bytes": room and room.total},
        "file_system": _file_system(folder),
        "limits": limits,
        "systemd": Path("/run/systemd/system").is_dir(),
        "user": os.geteuid(),
    }


def _release() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _memory() -> dict[str, int]:
    """Return what /proc/meminfo says, in bytes."""
    wanted = {"MemTotal", "MemAvailable", "SwapTotal", "SwapFree"}
    try:
        pairs = [line.split(":") for line in Path("/proc/meminfo").read_text().splitlines()]
    except OSError:
        return {}
    return {name: int(rest.split()[0]) * 1024 for name, rest in pairs if name in wanted}


def _file_system(folder: Path) -> str | None:
    """Return the type of the file system that holds a folder: SQLite's log does not work on every one."""
    best: tuple[str, str | None] = ("", None)
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, point, kind, *_ = line.split()
        point = point.encode().decode("unicode_escape")
        if folder.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]
