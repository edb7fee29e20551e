"""The flows folder on its way to Dask workers: its Python files as they are now, under a digest of all of them."""

from __future__ import annotations

import hashlib
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidemill.errors import EntrypointError

MAX_FILES = 2_000
MAX_BYTES = 8 * 1024 * 1024


class Bundle(msgspec.Struct, frozen=True):
    """Files by their path in the folder."""

    digest: str
    files: Mapping[str, bytes]


class Folder:
    """The flows folder, read anew where something in it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._bundle: Bundle | None = None

    def bundle(self) -> Bundle:
        """Return the folder's files; blocks. Left out is what anybody may write, and what leads out of the folder.

        Raises EntrypointError where they are too many or too large to be sent with a run.
        """
        found = list(_files(self._path))
        seen = tuple((name, path.stat().st_mtime_ns, path.stat().st_size) for name, path in found)
        if self._bundle is None or seen != self._seen:
            if len(seen) > MAX_FILES or sum(size for _, _, size in seen) > MAX_BYTES:
                raise EntrypointError(
                    f"{self._path}: {len(seen)} Python files of {sum(size for _, _, size in seen):,} bytes do not go "
                    f"to Dask workers (at most {MAX_FILES:,} of {MAX_BYTES:,} bytes); install what is large there, and "
                    'name it "package.module:flow"'
                )
            files = {name: path.read_bytes() for name, path in found}
            digest = hashlib.sha256()
            for name, content in files.items():
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
            self._seen, self._bundle = seen, Bundle(digest.hexdigest()[:32], files)
        return self._bundle


def _files(folder: Path) -> list[tuple[str, Path]]:
    try:
        home = folder.resolve(strict=True)
    except OSError:
        return []  # flows of installed packages need none
    found: list[tuple[str, Path]] = []
    for path in sorted(home.rglob("*.py")):
        name = path.relative_to(home)
        if any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            continue
        real = path.resolve()
        if real.is_file() and real.is_relative_to(home) and not real.stat().st_mode & stat.S_IWOTH:
            found.append((name.as_posix(), real))
    return found


def unpack(bundle: Bundle, parent: Path) -> Path:
    """Write the files below ``parent`` and return their folder; what stands there already is complete.

    Modules of other digests below ``parent`` are forgotten, so that code that begins now imports what is there now;
    code that runs keeps its own.
    """
    folder = parent / bundle.digest
    if not folder.exists():
        making = parent / f".{bundle.digest}"
        making.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in bundle.files.items():
            path = making / name
            if not path.resolve().is_relative_to(making.resolve()):
                raise EntrypointError(f"{name} leads out of the flows folder")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(content)
        making.rename(folder)
    _forget_others(folder, parent)
    return folder


def _forget_others(folder: Path, parent: Path) -> None:
    own, all_ = f"{folder}/", f"{parent}/"
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(all_) and not file.startswith(own):
            sys.modules.pop(name, None)
    sys.path[:] = [each for each in sys.path if not f"{each}/".startswith(all_) or f"{each}/" == own]
