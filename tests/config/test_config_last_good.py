"""The last good set: kept whole, read without the original files, checked again (P8)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.config import last_good, load, load_last_good, save_last_good
from tidemill.errors import ConfigError

ENV = {"TZ": "UTC"}
FILE = "last-good.json"


@pytest.fixture
def state(folder: Path) -> Path:
    path = folder / "state"
    path.mkdir()
    return path


def write_files(folder: Path) -> None:
    (folder / "tidemill.toml").write_text('[daemon]\ninclude = ["d/*.toml"]\n[deployments.a]\ncommand = "ä"\n')
    (folder / "d").mkdir(exist_ok=True)
    (folder / "d" / os.fsdecode(b"n\xe9.toml")).write_text('[deployments.b]\nflow = "b.py:f"\ncron = "@daily"\n')
    (folder / "made.d").mkdir(exist_ok=True)
    (folder / "made.d" / "c.toml").write_text('[deployments.a]\ncommand = "shadowed"\n[variables]\nv = 1\n')


def test_what_is_kept_is_what_was_loaded(folder: Path, state: Path) -> None:
    write_files(folder)
    loaded = load(Path("tidemill.toml"), made_dir=Path("made.d"), environ=ENV)
    save_last_good(loaded, state)
    for path in loaded.files:
        path.write_text("[[[ broken")
    again = load_last_good(state, environ=ENV)
    assert again is not None
    assert again.settings == loaded.settings
    assert again.warnings == loaded.warnings
    assert again.files == loaded.files
    assert again.text_hash == loaded.text_hash
    assert again.locate("deployments.b.cron") == loaded.locate("deployments.b.cron")


def test_the_original_files_are_not_needed(folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(folder)
    loaded = load(Path("tidemill.toml"), environ=ENV)
    save_last_good(loaded, state)
    for path in loaded.files:
        path.unlink()
    monkeypatch.chdir("/")
    again = load_last_good(state, environ=ENV)
    assert again is not None
    assert again.settings == loaded.settings


def test_there_is_none_before_the_first(state: Path) -> None:
    assert load_last_good(state, environ=ENV) is None


def test_it_is_for_its_owner_alone_and_leaves_nothing_beside_it(
    load_text: Callable[..., object], folder: Path, state: Path
) -> None:
    """A literal secret in the file is in the copy, too."""
    old = os.umask(0)
    try:
        for text in ("# one", "# two"):
            (folder / "tidemill.toml").write_text(text)
            path = save_last_good(load(Path("tidemill.toml"), environ=ENV), state)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in state.iterdir()] == [FILE]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_one_before(
    step: str, folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11."""
    (folder / "tidemill.toml").write_text("[daemon]\nupcoming = 1")
    save_last_good(load(Path("tidemill.toml"), environ=ENV), state)
    (folder / "tidemill.toml").write_text("[daemon]\nupcoming = 2")
    loaded = load(Path("tidemill.toml"), environ=ENV)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(last_good.os if step == "fsync" else last_good.Path, step, full)
    with pytest.raises(OSError, match="No space left"):
        save_last_good(loaded, state)
    monkeypatch.undo()
    again = load_last_good(state, environ=ENV)
    assert again is not None
    assert again.settings.daemon.upcoming == 1
    assert [found.name for found in state.iterdir()] == [FILE]


def test_it_is_on_the_disk_before_it_has_its_name(folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3: file synced, renamed, folder synced; in this order."""
    (folder / "tidemill.toml").write_text("# a")
    loaded = load(Path("tidemill.toml"), environ=ENV)
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        last_good.os,
        "fsync",
        lambda fd: (steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))[1],
    )
    monkeypatch.setattr(
        last_good.Path, "replace", lambda self, target: (steps.append("rename"), replace(self, target))[1]
    )
    save_last_good(loaded, state)
    assert steps == ["file", "rename", "folder"]


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


# What happened to the copy.
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": cut,
    "emptied": lambda _: b"",
    "zeros": lambda raw: bytes(len(raw)),
    "another text": lambda raw: raw.replace(b"upcoming = 1", b"upcoming = 2"),
    "another version": lambda raw: raw.replace(b'"version":1', b'"version":2'),
    "no JSON": lambda _: b"\xff\xfe",
    "brackets": lambda _: b"[" * 100_000,
    "no files": lambda _: b'{"version":1,"text_hash":"","files":[]}',
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_copy_is_a_fault_that_names_it(damage: str, folder: Path, state: Path) -> None:
    (folder / "tidemill.toml").write_text("[daemon]\nupcoming = 1")
    path = save_last_good(load(Path("tidemill.toml"), environ=ENV), state)
    raw = path.read_bytes()
    assert DAMAGE[damage](raw) != raw
    path.write_bytes(DAMAGE[damage](raw))
    with pytest.raises(ConfigError) as caught:
        load_last_good(state, environ=ENV)
    assert str(caught.value).startswith(f"{path}: is damaged")
    assert str(caught.value).endswith("; mend the configuration and start: it is written anew then")


def test_a_copy_that_does_not_hold_any_more_tells_its_faults(
    folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written by another version, or the zone database has changed."""
    (folder / "tidemill.toml").write_text('[daemon]\ntimezone = "UTC"')
    loaded = load(Path("tidemill.toml"), environ=ENV)
    loaded.documents[0].text = '[daemon]\ntimezone = "Mars/Olympus"'
    save_last_good(loaded, state)
    with pytest.raises(ConfigError, match=r'tidemill\.toml:2:12 daemon\.timezone: "Mars/Olympus" is not a time zone'):
        load_last_good(state, environ=ENV)
