"""The unit files: where they lie, what an installed one differs in, and whether somebody has edited it since."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tidemill import __version__
from tidemill.errors import TidemillError

SERVICE, INSTANCE, JOBS, OWN = "tidemill.service", "tidemill@.service", "tidemill-jobs.service", "user/tidemill.service"
SYSTEM_CONFIG = Path("/etc/tidemill")

# What ProtectHome= and PrivateTmp= hide; a program or flows that lie there are shown again, each by itself.
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
HIDDEN = (*HOMES, Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - named, not used

_MARK = re.compile(r"# Written by tidemill \S+, sha256 (?P<hash>[0-9a-f]{64})\..*\n")


class Credential(NamedTuple):
    """A secret for ``LoadCredential=``."""

    name: str
    path: Path


def template(name: str) -> str:
    """Return a unit file as it is shipped."""
    package = Path(__file__).parents[1]
    # In a wheel the files are below the package; in a checkout they are where the project keeps them.
    for folder in (package / "systemd_units", package.parents[1] / "systemd"):
        path = folder / name
        if path.is_file():
            return path.read_text()
    raise TidemillError(f"{name}: the unit file is missing from this installation of tidemill; install it again")


def written(
    name: str,
    *,
    program: Sequence[str],
    config: str,
    user: str | None = None,
    credentials: Iterable[Credential] = (),
    show: Iterable[Path] = (),
) -> str:
    """Return the text of an installed unit: the shipped one for this program, configuration and user.

    ``config`` may hold systemd's specifiers. ``show``: folders that the unit would hide and that the daemon needs.
    """
    text = template(name)
    command = " ".join([*map(word, program), "start", config])
    text = _set(text, "ExecStart", command)
    if user is not None:
        text = _set(text, "User", user)
    lines = [f"LoadCredential={each.name}:{_path(each.path)}" for each in credentials]
    if lines:
        text = _replace(text, r"^#LoadCredential=.*$", "\n".join(lines))
    shown = sorted(set(show))
    if shown:
        binds = [f"BindReadOnlyPaths={_path(each)}" for each in shown]
        if any(each.is_relative_to(home) for each in shown for home in HOMES):
            # "yes" would leave the homes' own modes in the way of what is shown again below them.
            text = _set(text, "ProtectHome", "tmpfs")
            binds.insert(0, "TemporaryFileSystem=/home:ro /root:ro /run/user:ro")
        why = "# What the program needs and would not see there: it is installed below a home, or its flows are."
        text = _replace(text, r"^PrivateTmp=yes$", "\n".join(["PrivateTmp=yes", why, *binds]))
    return text


def signed(text: str) -> str:
    """Return a unit's text below a line by which a later look sees whether somebody has edited it."""
    mark = f"# Written by tidemill {__version__}, sha256 {_hash(text)}. Once it is edited, tidemill leaves it alone."
    return f"{mark}\n{text}"


def edited(found: str) -> bool:
    """Say whether somebody has edited an installed unit, or written it by hand."""
    mark = _MARK.match(found)
    if mark is None:
        return True
    return mark["hash"] != _hash(found[mark.end() :])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _set(text: str, key: str, value: str) -> str:
    return _replace(text, rf"^{key}=.*$", f"{key}={value}")


def _replace(text: str, pattern: str, by: str) -> str:
    text, count = re.subn(pattern, lambda _: by, text, count=1, flags=re.MULTILINE)
    if count == 0:
        raise TidemillError(f"the shipped unit file has no line {pattern}; install tidemill again")
    return text


def word(text: str) -> str:
    """Return a word of a command line as systemd.service(5) reads it."""
    text = text.replace("%", "%%").replace("$", "$$")
    if re.search(r"[\s\"'\\;]", text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _path(path: Path) -> str:
    text = str(path)
    if re.search(r"[:\"'\\\s]", text):
        raise TidemillError(f"{text}: systemd takes no path with a colon, quote or space here; install elsewhere")
    return text.replace("%", "%%")


# --- what a daemon needs ----------------------------------------------------------------------------------------------


def hidden(paths: Iterable[Path]) -> list[Path]:
    """Return those of ``paths`` that a closed unit would not see, without those inside of others."""
    found = sorted({path for path in paths if any(path.is_relative_to(place) for place in HIDDEN)})
    return [path for path in found if not any(path != other and path.is_relative_to(other) for other in found)]


def python_folders(executable: str = sys.executable, search: Sequence[str] = tuple(sys.path)) -> Iterator[Path]:
    """Yield the folders that this Python and what it imports lie in."""
    yield Path(sys.prefix)
    yield Path(sys.base_prefix)
    yield from interpreter_folders(Path(executable))
    for each in search:
        path = Path(each)
        if each and path.is_dir() and path.is_absolute():
            yield path


def interpreter_folders(executable: Path) -> Iterator[Path]:
    """Yield the folders of an interpreter: its environment's and its installation's."""
    yield executable.absolute().parents[1]
    yield executable.resolve().parents[1]


def credentials_named(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every ``{ credential = "name" }`` in a parsed file, and the table that it stands in."""
    for path, name in _walk(tables, ()):
        yield name, ".".join(path[:2])


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, path)
    elif isinstance(value, Mapping):
        if set(value) == {"credential"} and isinstance(value["credential"], str):
            yield path, value["credential"]
            return
        for key, item in value.items():
            yield from _walk(item, (*path, key))


def barred(path: Path, *, uid: int | None, groups: frozenset[int]) -> Path | None:
    """Return the first folder on the way to ``path``, or itself, that a user may not enter or read; None: all are open.

    ``uid`` None is a user that owns nothing.
    """
    folders = [*reversed(path.parents), path]
    for each in folders:
        try:
            found = each.stat()
        except OSError:
            return None  # not there, or not for us to see: told elsewhere
        shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
        need = 0o1 if each.is_dir() else 0o4
        if uid != 0 and not (found.st_mode >> shift) & need:
            return each
    return None
