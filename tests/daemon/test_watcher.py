"""The watcher: every way in which files are edited is seen, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tidemill.clock import SystemClock
from tidemill.config.settings import DaemonSettings
from tidemill.daemon import watcher
from tidemill.daemon.inotify import Inotify
from tidemill.daemon.watcher import Watcher
from tidemill.services.reloader import Reloader

LONG_AGO_NS = 1
SOON_S = 10.0


class Asked:
    """A reloader that is only asked."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self.before_read: Callable[[], None] = lambda: None

    def request(self, reason: str, *, code: bool, only_code: bool, quiet: bool) -> None:
        self.requests.put_nowait((reason, code))

    async def next(self) -> tuple[str, bool]:
        return await asyncio.wait_for(self.requests.get(), SOON_S)


class Place:
    """A folder with a configuration, a drop-in folder and flows."""

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        self.file = self.etc / "tidemill.toml"
        self.flows = self.etc / "flows"
        self.made = folder / "state" / "made.d"
        for each in (self.flows / "deep", self.etc / "more.d", self.made.parent):
            each.mkdir(parents=True)
        self.file.write_text('[daemon]\ninclude = ["more.d/*.toml"]\n')
        (self.flows / "a.py").write_text("a = 1\n")
        (self.flows / "deep" / "b.py").write_text("b = 1\n")
        self.asked = Asked()

    @contextlib.asynccontextmanager
    async def watched(self, *, slow_s: float = 3600.0, read_at_ns: int = 2**62) -> AsyncIterator[Asked]:
        watching = Watcher(
            config=self.file,
            made_dir=self.made,
            known=lambda: DaemonSettings(timezone="UTC", flows=self.flows),
            reloader=cast(Reloader, self.asked),
            clock=SystemClock(),
            read_at_ns=read_at_ns,
            slow_s=slow_s,
        )
        ready = asyncio.Event()
        compare = watching._compare

        def compared(now: Any) -> None:
            compare(now)
            ready.set()

        watching._compare = compared  # type: ignore[method-assign]
        task = asyncio.create_task(watching.run())
        await asyncio.wait_for(ready.wait(), SOON_S)
        try:
            yield self.asked
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def rename_over(place: Place) -> None:
    beside = place.etc / ".swp"
    beside.write_text("# new\n")
    beside.rename(place.file)


def swap_link(place: Place) -> None:
    (place.etc / "target").write_text("# new\n")
    (place.etc / "link").symlink_to("target")
    (place.etc / "link").rename(place.file)


def swap_folder(place: Place) -> None:
    """As a package manager, or a volume of secrets, does it."""
    shutil.copytree(place.etc, place.etc.with_name("new"))
    place.etc.rename(place.etc.with_name("old"))
    place.etc.with_name("new").rename(place.etc)


EDITS: list[tuple[Callable[[Place], object], tuple[str, bool]]] = [
    (lambda place: place.file.write_text("# new\n"), ("the file was edited", False)),
    (rename_over, ("the file was edited", False)),
    (swap_link, ("the file was edited", False)),
    (lambda place: place.file.unlink(), ("the file was edited", False)),
    (lambda place: place.file.chmod(0o600), ("the file was edited", False)),
    (lambda place: (place.etc / "more.d" / "x.toml").write_text("# new\n"), ("the file was edited", False)),
    (lambda place: place.made.mkdir() or (place.made / "x.toml").write_text("#\n"), ("the file was edited", False)),
    (lambda place: (place.flows / "a.py").write_text("a = 22\n"), ("flow code was edited", True)),
    (lambda place: (place.flows / "deep" / "b.py").unlink(), ("flow code was edited", True)),
    (lambda place: (place.flows / "new.py").write_text("n = 1\n"), ("flow code was edited", True)),
    (lambda place: shutil.rmtree(place.flows), ("flow code was edited", True)),
    (swap_folder, ("the file was edited", True)),
]


@pytest.mark.parametrize(("edit", "wanted"), EDITS)
async def test_every_kind_of_edit_is_seen(
    tmp_path: Path, edit: Callable[[Place], object], wanted: tuple[str, bool]
) -> None:
    place = Place(tmp_path)
    async with place.watched() as asked:
        edit(place)
        assert await asked.next() == wanted


async def test_a_file_that_comes_back_is_seen_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with place.watched() as asked:
        for _ in range(3):
            place.file.unlink()
            await asked.next()
            place.file.write_text("# back\n")
            await asked.next()


async def test_a_folder_that_is_made_later_is_watched_with_what_is_in_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with place.watched() as asked:
        (place.flows / "later").mkdir()
        (place.flows / "later" / "c.py").write_text("c = 1\n")
        await asked.next()
        (place.flows / "later" / "c.py").write_text("c = 22\n")
        assert await asked.next() == ("flow code was edited", True)


async def test_what_flows_write_beside_themselves_is_no_edit(tmp_path: Path) -> None:
    """Nor is a file that merely stands beside the configuration."""
    place = Place(tmp_path)
    async with place.watched() as asked:
        for number in range(50):
            (place.flows / f"out-{number}.json").write_text("{}")
        (place.flows / "__pycache__").mkdir()
        (place.etc / "notes.txt").write_text("x")
        place.file.write_text("# an edit\n")
        assert await asked.next() == ("the file was edited", False)
        assert asked.requests.empty()


async def test_what_was_edited_since_the_start_read_it_is_asked_for_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with place.watched(read_at_ns=LONG_AGO_NS) as asked:
        assert await asked.next() == ("the file was edited", True)


async def test_a_reload_looks_before_it_reads(tmp_path: Path) -> None:
    """What it has read is not asked for a second time."""
    place = Place(tmp_path)
    async with place.watched() as asked:
        place.file.write_text("# by a command that reloads itself\n")
        asked.before_read()
        (place.flows / "a.py").write_text("a = 22\n")
        assert await asked.next() == ("flow code was edited", True)


async def test_where_the_kernel_watches_nothing_a_slow_look_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(hear: object) -> Inotify:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(watcher, "Inotify", none_left)
    place = Place(tmp_path)
    with caplog.at_level(logging.WARNING):
        async with place.watched(slow_s=0.05) as asked:
            place.file.write_text("# new\n")
            assert await asked.next() == ("the file was edited", False)
    assert "edits are noticed within 0.05 s instead of at once" in caplog.text
