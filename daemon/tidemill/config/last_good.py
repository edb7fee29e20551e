"""The last set of files that held, kept in the state directory: what a start runs when the files are broken (P8)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidemill.config.documents import Document, Origin
from tidemill.config.faults import Faults
from tidemill.config.files import parse_all
from tidemill.config.loading import Loaded, build, text_hash, without_collector
from tidemill.errors import ConfigError, Fault

FILE_NAME = "last-good.json"
_VERSION = 1


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    label: str
    path: bytes  # a file's name may be no text
    origin: Origin
    text: str


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    text_hash: str
    files: list[_File]


def save_last_good(loaded: Loaded, state_dir: Path) -> Path:
    """Keep the texts of all files as one snapshot, for this user only, durable when it returns.

    It replaces the one before in one step: a crash leaves the old or the new one. Raises ``OSError``.
    """
    files = [
        _File(label=document.label, path=os.fsencode(document.path), origin=document.origin, text=document.text)
        for document in loaded.documents
    ]
    raw = msgspec.json.encode(_Snapshot(version=_VERSION, text_hash=loaded.text_hash, files=files))
    target = state_dir / FILE_NAME
    temporary = state_dir / f".{FILE_NAME}.new"  # one name is enough: a state directory has one daemon
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 -- an open descriptor, not a path
            file.write(raw)
            file.flush()
            os.fsync(fd)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return target


def load_last_good(state_dir: Path, *, environ: Mapping[str, str]) -> Loaded | None:
    """Return the settings of the snapshot, checked again; None where there is none. The original files are not read.

    A secret that is missing now is a warning here. Raises :class:`ConfigError` where the snapshot is damaged or does
    not hold any more.
    """
    path = state_dir / FILE_NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError([_damaged(path, f"cannot be read: {error.strerror}")]) from error
    try:
        snapshot = msgspec.json.decode(raw, type=_Snapshot)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError([_damaged(path, "is damaged")]) from error
    documents = tuple(
        Document(label=file.label, path=Path(os.fsdecode(file.path)), origin=file.origin, text=file.text)
        for file in snapshot.files
    )
    if snapshot.version != _VERSION or not documents or text_hash(documents) != snapshot.text_hash:
        raise ConfigError([_damaged(path, "is damaged, or of another version")])
    faults = Faults()
    with without_collector():
        return build(parse_all(documents, faults), environ=environ, faults=faults, lenient_secrets=True)


def last_good_path(state_dir: Path) -> Path | None:
    """Return the file that the last daemon here ran by; None: none did, or it is not known."""
    try:
        snapshot = msgspec.json.decode((state_dir / FILE_NAME).read_bytes(), type=_Snapshot)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return next((Path(os.fsdecode(file.path)) for file in snapshot.files if file.origin is Origin.MAIN), None)


def _damaged(path: Path, problem: str) -> Fault:
    remedy = "mend the configuration and start: it is written anew then"
    return Fault(file=str(path), line=0, column=0, key="", problem=problem, remedy=remedy)
