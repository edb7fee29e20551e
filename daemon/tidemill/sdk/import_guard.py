"""A guard over the flows folders: what flow code imports from there is held to what holds for the entrypoint itself.

A file that anybody may write, or that is a link to somewhere else, would let others run code as the daemon's user.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class ImportGuard:
    """A finder in front of Python's own that finds nothing, and refuses what may not be imported."""

    def __init__(self) -> None:
        self.folders: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None, so that the finders after this one do their work; raises ImportError that says why not."""
        if path is None and not any(_may_be_in(folder, name) for folder in self.folders):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            for folder in self.folders:
                if spec.origin.startswith(f"{folder}/"):
                    refuse(Path(spec.origin), Path(folder))
        return None


def refuse(file: Path, folder: Path) -> None:
    """Raise ImportError where ``file``, which stands in the flows folder, may not be trusted."""
    home, real = folder.resolve(), file.resolve()
    if not real.is_relative_to(home):
        raise ImportError(f"{file} is a symlink that leads out of the flows folder, to {real}; copy it into the folder")
    place = open_to_anybody(real, home)
    if place is not None:
        raise ImportError(f"anybody may write {place}; run: chmod o-w {place}")


def open_to_anybody(path: Path, home: Path) -> Path | None:
    """Return the file, or the folder above it up to ``home``, that anybody may write; None: there is none."""
    for place in (path, *path.parents):
        mode = place.stat().st_mode
        sticky_folder = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not sticky_folder:
            return place
        if place == home:
            break
    return None


def _may_be_in(folder: str, name: str) -> bool:
    place = Path(folder, name)
    return place.is_dir() or place.with_suffix(".py").exists()


_guard = ImportGuard()


def guard(folder: Path) -> None:
    """Hold whatever is imported from a flows folder to the rules, from now on."""
    _guard.folders.add(str(folder))
    if _guard not in sys.meta_path:
        sys.meta_path.insert(0, _guard)
