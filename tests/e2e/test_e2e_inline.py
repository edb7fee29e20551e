"""Inline code that does not do as it should, in a real daemon: named, counted, and nobody else's end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from daemons import Daemon, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]

FLOWS = """
import asyncio
import time
from pathlib import Path

async def swallows(gate):
    "Does not heed its cancellation, until the gate is there."
    while not Path(gate).exists():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            print("ignored")

def hangs(gate):
    "In a call that nothing gets it out of."
    Path(gate + ".pipe").read_text()

async def quick():
    return "done"

async def blocks(told):
    "Blocks the loop until the daemon's own log has said so: it is said while it lasts."
    until = time.monotonic() + 15
    while "blocks the event loop for more than" not in Path(told).read_text() and time.monotonic() < until:
        time.sleep(0.05)  # this line
    return time.monotonic() < until
"""


def with_flows(make: Make, config: str) -> Daemon:
    daemon = make(config)
    (daemon.flows / "flows.py").write_text(FLOWS)
    return daemon


@pytest.mark.parametrize("flow", ["swallows", "hangs"])
def test_code_that_does_not_end_is_left_behind_counted_and_keeps_its_slot(
    make: Make, tmp_path: Path, flow: str
) -> None:
    """P10: both slots of the pool are held by such code, so nothing starts there; other pools do not notice."""
    gate, pipe = tmp_path / "gate", tmp_path / "gate.pipe"
    os.mkfifo(pipe)
    daemon = with_flows(
        make,
        f"""
        [daemon]
        grace_period = "0.4s"
        [work_pools.small]
        concurrency_limit = 2
        [deployments.stuck]
        flow = "flows.py:{flow}"
        work_pool = "small"
        timeout = "0.3s"
        parameters = {{ gate = "{gate}" }}
        [deployments.quick]
        flow = "flows.py:quick"
        work_pool = "small"
        late_after = "0.2s"
        [deployments.elsewhere]
        flow = "flows.py:quick"
        """,
    ).start()
    for _ in range(2):
        assert daemon.command("deployment", "run", "stuck")[0] == 0
    until(lambda: [run["state_name"] for run in daemon.runs("stuck")] == ["TimedOut"] * 2, "both are out of time")
    assert all("its code was told to end and still runs" in run["message"] for run in daemon.runs("stuck"))
    status = daemon.ask("status")
    assert status["problems"] == ["2 runs were abandoned: their code did not stop and still holds its slots"]
    assert {pool["name"]: pool["abandoned"] for pool in status["work_pools"]}["small"] == 2
    assert daemon.command("deployment", "run", "quick")[0] == 0
    run = until(lambda: next((run for run in daemon.runs("quick") if run["state_name"] == "Late"), None), "it is late")
    assert "work pool small is full: 2 of 2 slots held" in run["message"]
    assert daemon.command("deployment", "run", "elsewhere", "--watch")[0] == 0
    gate.touch()
    if flow == "hangs":
        pipe.write_text("")  # both read to its end
    daemon.run_in("COMPLETED", "quick")
    until(lambda: daemon.ask("status")["problems"] == [], "none is left behind any more")


def test_code_that_blocks_the_loop_is_told_while_it_does(make: Make) -> None:
    """P10: which run, and which line."""
    daemon = with_flows(make, '[deployments.bad]\nflow = "flows.py:blocks"\n')
    daemon.configure(f'[deployments.bad]\nflow = "flows.py:blocks"\nparameters = {{ told = "{daemon.log_file}" }}\n')
    daemon.start()
    assert daemon.command("deployment", "run", "bad")[0] == 0
    daemon.run_in("COMPLETED", "bad")
    begun, ended = daemon.says("blocks the event loop for more than"), daemon.says("no longer blocks the event loop")
    assert begun.partition("bad: ")[2].partition(" ")[0] == ended.partition("bad: ")[2].partition(" ")[0]
    assert f"{daemon.flows}/flows.py:" in begun
    assert daemon.rows("SELECT message FROM log WHERE message LIKE 'the flow''s code blocks the event loop%'")
    assert daemon.ask("status")["problems"] == []
