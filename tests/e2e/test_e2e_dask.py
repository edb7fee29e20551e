"""A daemon with a real Dask cluster beside it: what one of them does when the other goes away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemons import Daemon, until

from dask_cluster import DaskCluster

pytestmark = [pytest.mark.slow, pytest.mark.network]
Make = Callable[..., Daemon]

FLOWS = """
import asyncio
from pathlib import Path
from tidemill import flow
from tidemill.artifacts import create_json_artifact
from helper import word

@flow(log_prints=True)
async def counts(gate: str, lines: int = 40):
    "Prints a line now and then, until the gate file is there and all lines are said."
    for number in range(lines):
        print("line", number)
        await asyncio.sleep(0.02)
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    create_json_artifact("word", {"word": word})
    return lines
"""


ENGINE = """
import asyncio
from pathlib import Path
from tidemill import flow, task
from tidemill.concurrency.asyncio import concurrency
from tidemill.variables import Variable

@task
async def double(number):
    async with concurrency("database"):
        return number * 2

@flow(log_prints=True)
async def inner(gate):
    print("inner is there")
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    return "inner"

@flow(log_prints=True)
async def outer(gate):
    doubled = [await double(number) for number in range(5)]
    region = await Variable.aget("region") if hasattr(Variable, "aget") else await Variable.get("region")
    return {"doubled": doubled, "region": region, "inner": await inner(gate)}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    folder = tmp_path / "dask"
    folder.mkdir()
    found = DaskCluster(folder)
    try:
        yield found
    finally:
        found.stop()


def with_pool(make: Make, cluster: DaskCluster, gate: Path, extra: str = "", pool: str = "") -> Daemon:
    daemon = make(
        f"""
        [work_pools.cluster]
        type = "dask"
        address = "{cluster.address}"
        {pool}
        [deployments.counts]
        flow = "counting.py:counts"
        work_pool = "cluster"
        parameters = {{ gate = "{gate}" }}
        late_after = "1s"
        {extra}
        """
    )
    (daemon.flows / "counting.py").write_text(FLOWS)
    (daemon.flows / "helper.py").write_text("word = 'sent along'\n")
    return daemon


def lines_of(daemon: Daemon) -> list[str]:
    return [
        message for (message,) in daemon.rows("SELECT message FROM log ORDER BY rowid") if message.startswith("line")
    ]


@pytest.mark.parametrize("how", ["kill -9", "SIGTERM"])
def test_a_run_goes_on_while_the_daemon_is_away_and_is_followed_again(
    make: Make, cluster: DaskCluster, tmp_path: Path, how: str
) -> None:
    """P4: what is elsewhere is neither crashed nor begun twice, and not a line of it is lost.

    A stop says which lines it has. A daemon that is killed cannot, and may be told its last ones again.
    """
    cluster.start("one", "two")
    gate = tmp_path / "open"
    daemon = with_pool(make, cluster, gate).start()
    assert daemon.command("deployment", "run", "counts")[0] == 0
    until(lambda: len(lines_of(daemon)) > 3, "it has begun")
    if how == "SIGTERM":
        assert daemon.stop() == 0
        assert "1 runs go on elsewhere" in daemon.log
    else:
        daemon.kill()
    assert [run["state"] for run in daemon.runs()] == ["RUNNING"]
    daemon.start()
    daemon.says("went on elsewhere")
    gate.touch()
    run = daemon.run_in("COMPLETED")
    assert run["attempt"] == 1
    lines = lines_of(daemon) if how == "SIGTERM" else list(dict.fromkeys(lines_of(daemon)))
    assert lines == [f"line {number}" for number in range(40)]
    assert daemon.ask("artifact", "inspect", "word")["data"] == {"word": "sent along"}


def test_a_run_that_ended_while_the_daemon_was_away_has_ended_so(
    make: Make, cluster: DaskCluster, tmp_path: Path
) -> None:
    cluster.start("one")
    gate = tmp_path / "open"
    daemon = with_pool(make, cluster, gate).start()
    assert daemon.command("deployment", "run", "counts")[0] == 0
    until(lambda: len(lines_of(daemon)) > 3, "it has begun")
    daemon.kill()
    gate.touch()
    until(lambda: not cluster.busy("one"), "it has ended")
    daemon.start()
    daemon.run_in("COMPLETED")
    assert list(dict.fromkeys(lines_of(daemon))) == [f"line {number}" for number in range(40)]


def test_a_run_cancelled_after_the_restart_hears_of_it(make: Make, cluster: DaskCluster, tmp_path: Path) -> None:
    cluster.start("one")
    daemon = with_pool(make, cluster, tmp_path / "never").start()
    assert daemon.command("deployment", "run", "counts")[0] == 0
    until(lambda: lines_of(daemon), "it has begun")
    daemon.kill()
    daemon.start()
    assert daemon.command("flow-run", "cancel", daemon.runs()[0]["id"])[0] == 0
    daemon.run_in("CANCELLED")
    until(lambda: not cluster.busy("one"), "its code has ended")


@pytest.mark.parametrize("how", ["stays", "is killed"])
def test_tasks_slots_variables_and_subflows_are_as_everywhere(
    make: Make, cluster: DaskCluster, tmp_path: Path, how: str
) -> None:
    """A subflow that is at work while the daemon is restarted goes on as its parent does."""
    cluster.start("one")
    gate = tmp_path / "open"
    daemon = make(
        f"""
        [work_pools.cluster]
        type = "dask"
        address = "{cluster.address}"
        [concurrency_limits.database]
        limit = 1
        [variables]
        region = "fi"
        [deployments.outer]
        flow = "engine.py:outer"
        work_pool = "cluster"
        parameters = {{ gate = "{gate}" }}
        """
    )
    (daemon.flows / "engine.py").write_text(ENGINE)
    daemon.start()
    assert daemon.command("deployment", "run", "outer")[0] == 0
    daemon.says("inner is there")
    if how == "is killed":
        daemon.kill()
        daemon.start()
        daemon.says("went on elsewhere")
    gate.touch()
    until(lambda: len(daemon.completed()) == 2, "the flow and its subflow have ended")
    states = dict(daemon.rows("SELECT flow, state FROM flow_run"))
    assert states == {"outer": "COMPLETED", "inner": "COMPLETED"}
    outcome = daemon.ask("flow-run", "inspect", daemon.runs("outer")[0]["id"])
    assert outcome["state"]["data"] == {"doubled": [0, 2, 4, 6, 8], "region": "fi", "inner": "inner"}
    tasks = daemon.ask("task-run", "ls")
    assert [each["state"]["type"] for each in tasks if each["name"].startswith("double")] == ["COMPLETED"] * 5


def test_a_lost_worker_crashes_its_run_by_name_and_our_policy_tries_again(
    make: Make, cluster: DaskCluster, tmp_path: Path
) -> None:
    """Dask would have run it again by itself; whether it may is the deployment's to say."""
    cluster.start("one")
    gate = tmp_path / "open"
    daemon = with_pool(make, cluster, gate, 'on_crash = "retry"').start()
    assert daemon.command("deployment", "run", "counts")[0] == 0
    until(lambda: lines_of(daemon), "it has begun")
    cluster.kill_worker("one")
    cluster.start_worker("two")
    gate.touch()
    assert daemon.run_in("COMPLETED")["attempt"] == 2
    messages = [message for (message,) in daemon.rows("SELECT message FROM history WHERE message IS NOT NULL")]
    assert any("Dask worker one (tcp://127.0.0.1:" in each and "was lost while it ran" in each for each in messages)


def test_runs_wait_while_the_scheduler_is_away_and_start_when_it_comes(
    make: Make, cluster: DaskCluster, tmp_path: Path
) -> None:
    """Nothing is lost: late with the reason, degraded in the status, connected by itself."""
    gate = tmp_path / "open"
    gate.touch()
    daemon = with_pool(make, cluster, gate).start()
    assert daemon.command("deployment", "run", "counts")[0] == 0
    run = until(lambda: next((run for run in daemon.runs() if run["state_name"] == "Late"), None), "it is late")
    assert f"Dask scheduler {cluster.address}" in run["message"]
    problem = f"work pool cluster: Dask scheduler {cluster.address} does not answer"
    status = until(
        lambda: (found := daemon.ask("status")) and problem in str(found["problems"]) and found, "it says so"
    )
    assert status["state"] == "degraded"
    cluster.start("one")
    daemon.run_in("COMPLETED")
    assert daemon.ask("status")["state"] == "ok"


def test_a_scheduler_that_is_restarted_costs_what_it_ran_and_nothing_else(
    make: Make, cluster: DaskCluster, tmp_path: Path
) -> None:
    cluster.start("one")
    gate = tmp_path / "open"
    daemon = with_pool(make, cluster, gate).start()
    assert daemon.command("deployment", "run", "counts")[0] == 0
    until(lambda: lines_of(daemon), "it has begun")
    cluster.stop()
    daemon.says(f"the connection to Dask scheduler {cluster.address} is lost")
    assert daemon.command("deployment", "run", "counts")[0] == 0
    cluster.start("two")
    gate.touch()
    crashed = daemon.run_in("CRASHED")
    assert f"Dask scheduler {cluster.address} no longer knows the run" in crashed["message"]
    assert daemon.run_in("COMPLETED")["id"] != crashed["id"]


def test_a_scheduler_that_stays_away_beyond_the_lease_costs_its_runs(
    make: Make, cluster: DaskCluster, tmp_path: Path
) -> None:
    cluster.start("one")
    daemon = with_pool(make, cluster, tmp_path / "never", pool='lease = "1s"').start()
    assert daemon.command("deployment", "run", "counts")[0] == 0
    until(lambda: lines_of(daemon), "it has begun")
    cluster.stop()
    assert ", for 1s now" in daemon.run_in("CRASHED")["message"]
