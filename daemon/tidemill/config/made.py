"""Drop-ins: what the API and the commands have made, a file for each table in ``STATE_DIR/made.d``.

They are read after a person's files, which win. Written anew as a whole, in one step, durable when it returns.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidemill.config import kinds
from tidemill.config.faults import Wrong
from tidemill.config.keys import MADE_TABLES
from tidemill.errors import TidemillError

_HEADER = "# Made by tidemill. `tidemill adopt NAME` prints a table to paste into a file of your own.\n\n"
NOUNS: Mapping[str, str] = {
    "deployments": "deployment",
    "work_queues": "work queue",
    "work_pools": "work pool",
    "variables": "variable",
}

Undo = Callable[[], None]


def everything(made_dir: Path) -> dict[str, dict[str, Any]]:
    """Return all that was made, by table and name. Raises TidemillError for a file that cannot be read."""
    found = {}
    for table in NOUNS:
        values = of_table(made_dir, table)
        if values:
            found[table] = values
    return found


def of_table(made_dir: Path, table: str) -> dict[str, Any]:
    """Return what was made of one table, by name. Raises TidemillError where its file cannot be read."""
    path = _path(made_dir, table)
    try:
        values = tomllib.loads(path.read_text()).get(table, {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TidemillError(f"{path}: cannot be read ({error}); mend it, or move it away") from error
    if not isinstance(values, dict):
        raise TidemillError(f"{path}: holds no [{table}.NAME]; mend it, or move it away")
    return values


def put(made_dir: Path, table: str, name: str, value: Any) -> Undo:
    """Write one thing, in place of an earlier one of the name. Return what undoes it. Raises TidemillError, OSError."""
    if table not in NOUNS:
        raise TidemillError(f"[{table}] is not made by commands; write it into a file")
    try:
        kinds.name().convert(name, made_dir)
    except Wrong as wrong:
        raise TidemillError(f'{NOUNS[table]} "{name}": {wrong.problem}; {wrong.remedy}') from wrong
    return _replace(made_dir, table, {**of_table(made_dir, table), name: value})


def remove(made_dir: Path, table: str, name: str) -> Undo:
    """Take one thing out. Return what undoes it. Raises TidemillError where nothing of the name was made."""
    values = of_table(made_dir, table)
    if name not in values:
        raise TidemillError(f"no {NOUNS[table]} {name} was made here")
    del values[name]
    return _replace(made_dir, table, values)


def text(table: str, values: Mapping[str, Any]) -> str:
    """Return things of one table as TOML. Raises TidemillError for a value that TOML does not know (null)."""
    import tomli_w

    try:
        return tomli_w.dumps({table: dict(values)})
    except TypeError as error:
        raise TidemillError(f"[{table}]: null is no value of TOML, which has texts, numbers, lists, tables") from error


def _path(made_dir: Path, table: str) -> Path:
    assert table in MADE_TABLES
    return made_dir / f"{table}.toml"


def _replace(made_dir: Path, table: str, values: Mapping[str, Any]) -> Undo:
    path = _path(made_dir, table)
    before = path.read_bytes() if path.exists() else None
    _write(path, (_HEADER + text(table, values)).encode() if values else None)
    return lambda: _write(path, before)


def _write(path: Path, raw: bytes | None) -> None:
    """Put ``raw`` in the file's place, None: remove it; readable for this user only, durable when it returns."""
    folder = path.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    if raw is None:
        path.unlink(missing_ok=True)
    else:
        temporary = folder / f".{path.name}.new"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 -- an open descriptor, not a path
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
