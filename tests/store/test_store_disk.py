"""A disk that is really full, and a file that really cannot be written (P11)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_making import new_run, opened

from tidemill.errors import DatabaseError, StoreUnavailableError
from tidemill.store import aiosqlite_doors, runs

pytestmark = pytest.mark.root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("a full disk needs root, to mount a small tmpfs")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a full disk needs a small tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_refuses_new_writes_loses_nothing_told_and_heals(small_disk: Path) -> None:
    """P11."""
    filler = small_disk / "filler"
    big = {"parameters": {"x": "y" * 20_000}}
    acknowledged: list[str] = []
    async with opened(small_disk, doors=aiosqlite_doors) as store:
        for seq in range(1, 10):
            run = new_run(seq)
            await store.write(runs.CREATE_RUNS, run)
            acknowledged.append(run.id)
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"x" * 4096)
        refused = 0
        for seq in range(10, 200):
            run = new_run(seq, **big)
            try:
                await store.write(runs.CREATE_RUNS, run)
                acknowledged.append(run.id)
            except StoreUnavailableError as error:
                refused += 1
                assert "make room" in str(error) or "look at the disk" in str(error)
            if refused == 5:
                break
        assert refused == 5
        assert store.degraded is not None
        for run_id in acknowledged:
            assert await store.read(lambda connection, run_id=run_id: runs.get(connection, run_id)) is not None
        filler.unlink()
        run = new_run(500, **big)
        assert await store.write(runs.CREATE_RUNS, run)
        acknowledged.append(run.id)
        assert store.degraded is None
    async with opened(small_disk, doors=aiosqlite_doors) as store:
        for run_id in acknowledged:
            assert await store.read(lambda connection, run_id=run_id: runs.get(connection, run_id)) is not None


async def test_a_disk_without_room_for_a_database_is_named(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(DatabaseError, match=r"tidemill\.db: .*(full|I/O|No space)"):
        async with opened(small_disk, doors=aiosqlite_doors):
            pass


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


async def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    async with opened(small_disk):
        pass
    make_read_only(small_disk)
    with pytest.raises(DatabaseError, match=r"tidemill\.db: cannot be opened: Read-only file system"):
        async with opened(small_disk):
            pass
