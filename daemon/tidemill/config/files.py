"""Reading the files: the one that is named, those it includes, and those the daemon made."""

from __future__ import annotations

import errno
import glob
import os
import stat
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tidemill.config import bounds
from tidemill.config.documents import Document, Origin, parse
from tidemill.config.faults import Faults, Wrong, show
from tidemill.config.keys import DAEMON
from tidemill.config.positions import Positions
from tidemill.errors import Fault


class Sources(NamedTuple):
    """The files in their order, each with its data; None where it could not be parsed."""

    documents: tuple[Document, ...]
    data: tuple[dict[str, Any] | None, ...]

    @property
    def complete(self) -> bool:
        return all(data is not None for data in self.data)


class _Unreadable(Exception):  # noqa: N818 -- turned into a fault at once
    def __init__(self, problem: str, remedy: str, line: int = 0, column: int = 0) -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.line, self.column = problem, remedy, line, column


def gather(path: Path, made_dir: Path | None, faults: Faults) -> Sources:
    """Read ``path``, what it includes, and ``made_dir/*.toml``; what cannot be read goes to ``faults``."""
    reader = _Reader(faults)
    main = reader.take(path, path, Origin.MAIN)
    if main is not None:
        _include(reader, *main)
    if made_dir is not None:
        try:
            made = sorted(p for p in made_dir.iterdir() if p.suffix == ".toml" and not p.name.startswith("."))
        except FileNotFoundError:
            made = []
        except OSError as error:
            made = []
            problem, remedy = _why(made_dir, error)
            faults.extend([Fault(file=_label(made_dir), line=0, column=0, key="", problem=problem, remedy=remedy)])
        for place in made:
            reader.take(place, place, Origin.MADE)
    return Sources(tuple(reader.documents), tuple(reader.data))


def _label(path: Path) -> str:
    """Return a path as people see it; what is no text, or would steer a terminal, is shown as a sign for it."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def parse_all(documents: tuple[Document, ...], faults: Faults) -> Sources:
    """Parse files whose texts are at hand already."""
    data = []
    for document in documents:
        parsed = parse(document)
        if isinstance(parsed, Fault):
            faults.extend([parsed])
        data.append(None if isinstance(parsed, Fault) else parsed)
    return Sources(documents, tuple(data))


class _Reader:
    """Takes files one after another, each once, within the bounds of all together."""

    def __init__(self, faults: Faults) -> None:
        self.documents: list[Document] = []
        self.data: list[dict[str, Any] | None] = []
        self.faults = faults
        self._seen: set[tuple[int, int]] = set()
        self._bytes = 0

    def take(self, path: Path, shown: Path, origin: Origin) -> tuple[Document, dict[str, Any]] | None:
        """Read and parse one file; None where that failed or where it was read before under another name."""
        label = _label(shown)
        try:
            if len(self.documents) >= bounds.MAX_FILES:
                raise _Unreadable(f"is one of more than {bounds.MAX_FILES} files", "put tables together")
            text = self._text(path)
        except _Unreadable as error:
            place = {"line": error.line, "column": error.column}
            self.faults.extend([Fault(file=label, key="", problem=error.problem, remedy=error.remedy, **place)])
            return None
        if text is None:
            return None
        document = Document(label=label, path=path.absolute(), origin=origin, text=text)
        self.documents.append(document)
        parsed = parse(document)
        if isinstance(parsed, Fault):
            self.faults.extend([parsed])
            self.data.append(None)
            return None
        self.data.append(parsed)
        return document, parsed

    def _text(self, path: Path) -> str | None:
        raw = _read(path, self._seen)
        if raw is None:
            return None
        self._bytes += len(raw)
        if self._bytes > bounds.MAX_TOTAL_BYTES:
            limit = bounds.MAX_TOTAL_BYTES // 1024**2
            raise _Unreadable(f"with this file all files together are larger than {limit} MiB", "say less")
        if not raw.strip():
            # Half-written files look like this; nobody's deployments end by that.
            raise _Unreadable("is empty", "a file that is meant to say nothing holds a comment: # nothing here")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode("utf-8-sig", "replace")
            line, column = Positions(before).line_column(len(before))
            problem = f"byte 0x{raw[error.start]:02x} is not UTF-8"
            raise _Unreadable(problem, "save the file as UTF-8", line, column) from None


def _read(path: Path, seen: set[tuple[int, int]]) -> bytes | None:
    """Return the bytes of a file, None for one in ``seen``. Never waits: a pipe or device is refused."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise _Unreadable("is a folder", "name the file in it")
            if not stat.S_ISREG(status.st_mode):
                raise _Unreadable("is no regular file", "name a file")
            if (status.st_dev, status.st_ino) in seen:
                return None
            seen.add((status.st_dev, status.st_ino))
            with open(fd, "rb", closefd=False) as file:
                raw = file.read(bounds.MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise _Unreadable(*_why(path, error)) from None
    except ValueError:  # a NUL in the name
        raise _Unreadable("is no name of a file", "mend the name") from None
    if len(raw) > bounds.MAX_FILE_BYTES:
        raise _Unreadable(
            f"is larger than {bounds.MAX_FILE_BYTES // 1024**2} MiB", "split it with [daemon] include, or say less"
        )
    return raw


def _why(path: Path, error: OSError) -> tuple[str, str]:
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"is a symlink to {path.readlink()}, which is missing", "restore that file, or mend the link"
    reasons = {
        errno.ENOENT: ("is missing", "make one: tidemill init"),
        errno.ENOTDIR: ("is missing: a part of its path is no folder", "mend the path"),
        errno.EACCES: ("may not be read by this user", "give the daemon's user the right to read it"),
        errno.ELOOP: ("is a symlink that leads to itself", "mend the link"),
        errno.ENAMETOOLONG: ("has too long a name", "shorten it"),
    }
    return reasons.get(error.errno or 0, (f"cannot be read: {error.strerror}", "see whether its disk is well"))


def _include(reader: _Reader, main: Document, data: dict[str, Any]) -> None:
    """Take the files that ``[daemon] include`` means: relative to the file, in the order of their names."""
    daemon = data.get("daemon")
    if not isinstance(daemon, dict) or "include" not in daemon:
        return
    try:
        patterns = DAEMON["include"].kind.convert(daemon["include"], main.folder)
    except Wrong:
        return  # the table's reader says so
    shown_folder = Path(main.label).parent
    for number, pattern in enumerate(patterns):
        try:
            found = _matches(main.folder, pattern)
        except OSError as error:
            problem, remedy = _why(main.folder / pattern, error)
            reader.faults.add(main, ("daemon", "include", number), f"the folder of {show(pattern)} {problem}", remedy)
            continue
        if not found and not glob.has_magic(pattern):
            problem = f"{show(pattern)} is no file beside this one"
            reader.faults.add(main, ("daemon", "include", number), problem, "mend the name, or write a pattern: *.toml")
        for place in found:
            taken = reader.take(main.folder / place, shown_folder / place, Origin.INCLUDE)
            if taken is None:
                continue
            document, included = taken
            if isinstance(included.get("daemon"), dict) and "include" in included["daemon"]:
                path = ("daemon", "include")
                reader.faults.add(document, path, "an included file includes no others", f"put it into {main.label}")


def _matches(folder: Path, pattern: str) -> list[str]:
    """Return matching paths, relative to ``folder`` where the pattern is, sorted; names that begin with a dot are none.

    Raises ``OSError`` where the pattern's folder is there and cannot be listed: glob would call it empty.
    """
    inside = os.path.dirname(pattern)  # noqa: PTH120 -- a pattern, not a path
    if not glob.has_magic(inside) and (folder / inside).exists():
        os.scandir(folder / inside).close()
    found = glob.iglob(pattern, root_dir=folder)  # noqa: PTH207 -- Path.glob takes no absolute pattern
    # One more than may be taken, so that a pattern over a whole disk ends.
    return sorted(islice(found, bounds.MAX_FILES + 1))
