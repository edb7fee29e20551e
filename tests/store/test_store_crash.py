"""Crashes: what was acknowledged is there after SIGKILL in the middle of writing (P3)."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from store_making import opened

from tidemill.core.states import StateType
from tidemill.store import aiosqlite_doors, connections, history, runs

WRITE = """
import asyncio, random, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from store_making import ended, new_run
from tidemill.clock import SystemClock
from tidemill.ids import Ids
from tidemill.store import Store, runs

async def main():
    store = await Store.open(Path(sys.argv[1]) / "tidemill.db", clock=SystemClock(), ids=Ids(random.Random(1)))

    async def carry():
        while True:
            run = new_run(store.next_seq())
            await store.write(runs.CREATE_RUNS, run)
            print(run.seq, 1, flush=True)
            for change in ended(run):
                await store.write(runs.TRANSITIONS, change)
                print(run.seq, change.run.state_number, flush=True)

    await asyncio.gather(*(carry() for _ in range(20)))

asyncio.run(main())
"""


def write_until_killed(folder: Path, after: int) -> dict[int, int]:
    """Let a process write and kill it after so many acknowledged commits; return each run's state number as told."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    told: dict[int, int] = {}
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(folder), *paths], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for count, line in enumerate(child.stdout, start=1):
            seq, number = map(int, line.split())
            told[seq] = number
            if count == after:
                child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    return told


@pytest.mark.parametrize("after", [1, 50, 700])
async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, after: int) -> None:
    told = write_until_killed(tmp_path, after)
    assert len(told) >= 1
    # First as a person finds it, without a daemon; then as the next daemon does.
    with closing(connections.open_reader(tmp_path / "tidemill.db")) as reader:
        assert runs.last_seq(reader) >= max(told)
    async with opened(tmp_path, doors=aiosqlite_doors) as store:
        for seq, number in told.items():
            states = await store.read(lambda connection, seq=seq: history.of(connection, seq))
            assert len(states) >= number
        for run in await store.read(runs.unfinished):
            states = await store.read(lambda connection, seq=run.seq: history.of(connection, seq))
            assert (len(states), states[-1]) == (run.state_number, run.state)
            assert run.state.type is StateType.RUNNING
        assert store.next_seq() > max(told)
