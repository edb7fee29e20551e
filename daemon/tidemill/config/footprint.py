"""What a configuration is made of on disk, told by its files' numbers, sizes and times: has anything been edited?

Cheap enough to be asked again and again, and it never fails: what cannot be seen is a fact like any other.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tidemill.config import bounds
from tidemill.config.documents import Document, Origin, parse
from tidemill.config.settings import DaemonSettings

MOST_CODE = 5_000  # files of flows that are looked at
MOST_FOLDERS = 1_000
_NO_FLOWS = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
# Up to the first line that begins with a bracket; and from [daemon] to the next such line.
_UNTIL_TABLE = re.compile(r"(?:(?![ \t]*\[).*(?:\n|\Z))*?(?=[ \t]*\[|\Z)")
_DAEMON = re.compile(r"^[ \t]*\[[ \t]*daemon[ \t]*\].*$(?:\n(?![ \t]*\[).*)*", re.MULTILINE)

Seen = tuple[str, int, int, int, int, int]  # path; device, number, size, times of content and of everything else


class Footprint(NamedTuple):
    """How the files stand. Two that are equal mean that nothing was edited between them."""

    config: tuple[Seen, ...]
    code: tuple[Seen, ...]  # the flows folders' Python files
    folders: frozenset[Path]  # where a change would show itself; they need not be there
    code_folders: frozenset[Path]


def footprint(path: Path, made_dir: Path | None, known: DaemonSettings) -> Footprint:
    """Look at the file, what it includes, ``made_dir`` and the flows.

    Both what ``known`` settings name and what the file itself names by now: one that was refused for what stands in a
    file that it includes is to be looked at again when that is mended.
    """
    path = path.absolute()
    include, flows = _named(path)
    folders = {path.parent}
    files = [path]
    for pattern in dict.fromkeys((*known.include, *include)):
        place = path.parent / pattern
        folders.add(_fixed_part(place))
        files += [path.parent / found for found in _matches(path.parent, pattern)]
    if made_dir is not None:
        folders.add(made_dir)
        files += [made_dir / found for found in _matches(made_dir, "*.toml")]
    seen = tuple(_look(file) for file in dict.fromkeys(files))
    folders |= {Path(os.path.realpath(file)).parent for file in files if os.path.islink(file)}  # noqa: PTH114 -- never raises
    code: list[Seen] = []
    code_folders: set[Path] = set()
    for folder in dict.fromkeys((known.flows, path.parent / flows)):
        for inside, names in _code(folder):
            code_folders.add(inside)
            code += [_look(inside / name) for name in names]
    return Footprint(seen, tuple(code), frozenset(folders), frozenset(code_folders))


def _look(file: Path) -> Seen:
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        return (str(file), -1, getattr(error, "errno", None) or 0, 0, 0, 0)
    return (str(file), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _named(path: Path) -> tuple[tuple[str, ...], str]:
    """Return the patterns and the flows folder that a file names, as far as it can be read."""
    try:
        with path.open("rb") as file:
            text = file.read(bounds.MAX_FILE_BYTES).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return (), "flows"
    # The table alone: thousands of deployments below it are not of interest, and may be broken.
    parts = [_UNTIL_TABLE.match(text), _DAEMON.search(text)]
    head = "\n".join(part.group() for part in parts if part is not None)
    data = parse(Document(label=path.name, path=path, origin=Origin.MAIN, text=head))
    daemon = data.get("daemon") if isinstance(data, dict) else None
    if not isinstance(daemon, dict):
        return (), "flows"
    include, flows = daemon.get("include"), daemon.get("flows")
    patterns = [include] if isinstance(include, str) else include if isinstance(include, list) else []
    return (
        tuple(each for each in patterns if isinstance(each, str) and "\0" not in each),
        flows if isinstance(flows, str) and "\0" not in flows else "flows",
    )


def _fixed_part(pattern: Path) -> Path:
    """Return the folder in which what a pattern matches begins."""
    folder = pattern.parent
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return folder


def _matches(folder: Path, pattern: str) -> list[str]:
    try:
        found = glob.iglob(pattern, root_dir=folder)  # noqa: PTH207 -- Path.glob takes no absolute pattern
        return sorted(islice(found, bounds.MAX_FILES + 1))
    except (OSError, ValueError):
        return []


def _code(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Give the folders with flows in them, and the Python files in each."""
    left = MOST_CODE
    for number, (inside, below, names) in enumerate(os.walk(folder)):
        below[:] = sorted(each for each in below if not each.startswith(".") and each not in _NO_FLOWS)
        files = sorted(each for each in names if each.endswith(".py"))[:left]
        left -= len(files)
        yield Path(inside), files
        if not left or number >= MOST_FOLDERS:
            return
    if not os.path.isdir(folder):  # noqa: PTH112 -- never raises
        yield folder, []
