"""What is the Dask runner's own, on a real scheduler with workers in processes of their own.

The conformance suite holds it to what every runner does; tests/e2e/test_e2e_dask.py has daemons that come and go.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dask_cluster import DaskCluster
from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation, Detached, Job, Outcome
from tidemill.core.reports import SecretQuestion
from tidemill.core.states import StateType
from tidemill.errors import TidemillError
from tidemill.runners import dask_body
from tidemill.runners.dask import DaskRunner
from tidemill.sdk.memory import MemoryRecorder

pytestmark = [pytest.mark.slow, pytest.mark.network]

FLOWS = """
import asyncio, os, time
from pathlib import Path
from tidemill.core.deployments import SecretRef
from tidemill.sdk import create_json_artifact, run_context

async def where():
    from distributed import get_worker
    return os.getpid()

async def waits(begun, gate):
    with open(begun, "a") as file:
        file.write(str(os.getpid()) + " ")
    print("started")
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    print("went on")
    return "done"

async def asks(gate):
    print("started")
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    return len(await run_context().secret(SecretRef(env="TOKEN")))

def floods(lines):
    for number in range(lines):
        print("line", number)

def keeps(count, size):
    for number in range(count):
        create_json_artifact(f"a{number}", {"text": "x" * size})

def hangs(gate):
    print("started")
    Path(gate).read_text()

async def says():
    from helper import word
    return word
"""


class Told(MemoryRecorder):
    """Keeps reports; a test can wait until there are enough, and hold questions up."""

    def __init__(self) -> None:
        super().__init__({"TOKEN": "s3cret"})
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.order: list[str] = []

    async def ask(self, question: Any) -> Any:
        assert isinstance(question, SecretQuestion)
        self.asked.set()
        await self.may_answer.wait()
        return await super().ask(question)

    async def said(self, message: str) -> None:
        async with asyncio.timeout(120):
            while message not in self.messages:  # noqa: ASYNC110 - reports have no event
                await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    found = DaskCluster(tmp_path_factory.mktemp("dask")).start("one", "two")
    yield found
    found.stop()


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "flows.py").write_text(FLOWS)
    (folder / "helper.py").write_text("word = 'first'\n")
    return folder


@asynccontextmanager
async def runner(cluster: DaskCluster, flows: Path, *, boot: str = "boot-1", **pool: Any) -> AsyncIterator[DaskRunner]:
    found = DaskRunner(
        pool=WorkPool(name="cluster", type="dask", **{"address": cluster.address, **pool}),
        flows_dir=flows,
        mailbox=f"tidemill-test-{flows}",
        boot=boot,
        clock=SystemClock(),
        grace=timedelta(seconds=0.5),
        source=random.Random(7),
    )
    try:
        yield found
    finally:
        await found.aclose()


def job(entrypoint: str, run_id: str, timeout: float | None = None, **parameters: Any) -> Job:
    return Job(
        run_id=run_id,
        run_name="brisk-otter",
        attempt=1,
        flow=FlowRef(kind=FlowKind.FILE, entrypoint=f"flows.py:{entrypoint}", name=entrypoint),
        deployment="daily",
        parameters=parameters,
        timeout=None if timeout is None else timedelta(seconds=timeout),
        expected_start=SystemClock().now(),
    )


async def carry(runner: DaskRunner, job: Job, recorder: Told, cancellation: Cancellation | None = None) -> Outcome:
    async with asyncio.timeout(120):
        return await runner.run(job, recorder, cancellation or Cancellation())


async def adopt(runner: DaskRunner, job: Job, recorder: Told, cancellation: Cancellation | None = None) -> Outcome:
    async with asyncio.timeout(120):
        return await runner.adopt(job, recorder, cancellation or Cancellation())


async def test_code_runs_on_a_worker_and_not_here(cluster: DaskCluster, flows: Path) -> None:
    before = set(sys.modules)
    async with runner(cluster, flows) as dask:
        outcome = await carry(dask, job("where", "w1"), Told())
    assert outcome.data in {process.pid for process in cluster.workers.values()} - {os.getpid()}
    assert not [name for name in set(sys.modules) - before if name.startswith("tidemill_flows")]


@pytest.mark.parametrize("name", ["one", "two"])
async def test_a_pool_may_name_its_workers(cluster: DaskCluster, flows: Path, name: str) -> None:
    async with runner(cluster, flows, workers=(name,)) as dask:
        outcome = await carry(dask, job("where", f"n-{name}"), Told())
    assert outcome.data == cluster.workers[name].pid


async def test_a_run_that_needs_what_no_worker_has_waits_and_can_be_cancelled(
    cluster: DaskCluster, flows: Path, tmp_path: Path
) -> None:
    async with runner(cluster, flows, resources={"GPU": 1.0}) as dask:
        cancellation = Cancellation()
        begun = tmp_path / "begun"
        running = asyncio.ensure_future(
            carry(dask, job("waits", "gpu", begun=str(begun), gate=""), Told(), cancellation)
        )
        await published(dask, "gpu")
        cancellation.request("no such worker")
        assert (await running).type is StateType.CANCELLED
    assert not begun.exists()


async def test_a_killed_worker_crashes_its_run_by_name_and_dask_does_not_run_it_again(
    flows: Path, tmp_path: Path
) -> None:
    """P10: whether an attempt may begin twice is not Dask's to decide, though another worker is there at once."""
    own = DaskCluster(tmp_path).start("first", "second")
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    try:
        async with runner(own, flows, workers=()) as dask:
            recorder = Told()
            running = asyncio.ensure_future(
                carry(dask, job("waits", "killed", begun=str(begun), gate=str(gate)), recorder)
            )
            await recorder.said("started")
            (pid,) = begun.read_text().split()
            (name,) = [name for name, process in own.workers.items() if process.pid == int(pid)]
            own.kill_worker(name)
            outcome = await running
            assert (outcome.type, outcome.name) == (StateType.CRASHED, "Crashed")
            assert str(outcome.message).startswith(f"Dask worker {name} (tcp://127.0.0.1:")
            gate.touch()
            # The other worker has done with what Dask gave it before this one ends.
            assert (await carry(dask, job("where", "after"), Told())).type is StateType.COMPLETED
            assert begun.read_text().split() == [pid]
    finally:
        own.stop()


async def test_an_attempt_goes_on_while_its_daemon_is_away_and_says_everything_once(
    cluster: DaskCluster, flows: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    again = job("waits", "adopted", begun=str(tmp_path / "begun"), gate=str(gate))
    first, second = Told(), Told()
    async with runner(cluster, flows) as dask:
        running = asyncio.ensure_future(carry(dask, again, first))
        await first.said("started")
        dask.detach()
        with pytest.raises(Detached) as detached:
            await running
        assert detached.value.began
    async with runner(cluster, flows, boot="boot-2") as dask:
        following = asyncio.ensure_future(adopt(dask, again, second))
        gate.touch()
        outcome = await following
    assert (outcome.type, outcome.data) == (StateType.COMPLETED, "done")
    assert first.messages + second.messages == ["started", "went on"]
    assert len((tmp_path / "begun").read_text().split()) == 1


async def test_an_attempt_that_ended_meanwhile_is_told_of(cluster: DaskCluster, flows: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    again = job("waits", "ended", begun=str(tmp_path / "begun"), gate=str(gate))
    first, second = Told(), Told()
    async with runner(cluster, flows) as dask:
        running = asyncio.ensure_future(carry(dask, again, first))
        await first.said("started")
        dask.detach()
        with pytest.raises(Detached):
            await running
    gate.touch()
    await asyncio.to_thread(until_idle, cluster)
    async with runner(cluster, flows, boot="boot-2") as dask:
        assert (await adopt(dask, again, second)).data == "done"
    assert second.messages == ["went on"]


async def test_a_question_that_was_not_answered_is_asked_again_of_the_next_daemon(
    cluster: DaskCluster, flows: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    asking = job("asks", "asking", gate=str(gate))
    first, second = Told(), Told()
    first.may_answer.clear()
    async with runner(cluster, flows) as dask:
        running = asyncio.ensure_future(carry(dask, asking, first))
        async with asyncio.timeout(120):
            await first.asked.wait()
        dask.detach()
        with pytest.raises(Detached):
            await running
    async with runner(cluster, flows, boot="boot-2") as dask:
        assert (await adopt(dask, asking, second)).data == len("s3cret")


async def test_an_attempt_that_nobody_knows_any_more_has_crashed(cluster: DaskCluster, flows: Path) -> None:
    async with runner(cluster, flows) as dask:
        outcome = await adopt(dask, job("where", "unknown"), Told())
    assert outcome.type is StateType.CRASHED
    assert (
        outcome.message == f"Dask scheduler {cluster.address} no longer knows the run: it was restarted, or has lost it"
    )


async def test_a_body_whose_run_has_ended_is_sent_away(cluster: DaskCluster, flows: Path) -> None:
    """Whoever rings and is not known begins nothing, and gives its thread back."""
    from distributed import Client

    async with runner(cluster, flows) as dask:
        await carry(dask, job("where", "connects"), Told())
        async with Client(cluster.address, asynchronous=True, set_as_default=False) as client:
            arguments = ("tidemill-nobody-1", f"tidemill-test-{flows}", dask_body.VERSION, "0")
            async with asyncio.timeout(120):
                result = await client.submit(dask_body.carry, *arguments, key="nobody", pure=False)
    assert (result["begun"], result["letters"]) == (False, [])


async def test_a_worker_of_another_version_says_so() -> None:
    with pytest.raises(TidemillError, match=r"the worker has tidemill .*, the daemon 9\.9: they do not understand"):
        dask_body.carry("key", "mailbox", dask_body.VERSION + 1, "9.9")


async def test_a_flood_is_bounded_counted_and_in_order(cluster: DaskCluster, flows: Path) -> None:
    """P13: a hundred thousand lines at once; what does not fit is dropped where it is made, and said."""
    recorder = Told()
    async with runner(cluster, flows) as dask:
        assert (await carry(dask, job("floods", "flood", lines=100_000), recorder)).type is StateType.COMPLETED
    numbers = [int(message.split()[1]) for message in recorder.messages if message.startswith("line ")]
    dropped = sum(int(message.split()[0]) for message in recorder.messages if message.endswith(" lines dropped"))
    assert numbers == sorted(set(numbers))
    assert len(numbers) + dropped == 100_000
    assert len(numbers) >= 20_000


async def test_large_documents_come_through_whole(cluster: DaskCluster, flows: Path) -> None:
    recorder = Told()
    async with runner(cluster, flows) as dask:
        outcome = await carry(dask, job("keeps", "large", count=20, size=1_000_000), recorder)
    assert outcome.type is StateType.COMPLETED
    assert [(kept.key, len(kept.data["text"])) for kept in recorder.artifacts] == [
        (f"a{number}", 1_000_000) for number in range(20)
    ]


async def test_sync_code_that_does_not_end_keeps_its_worker_thread_and_is_counted(
    cluster: DaskCluster, flows: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    recorder = Told()
    async with runner(cluster, flows) as dask:
        stuck = job("hangs", "stuck", timeout=0.3, gate=str(gate))
        outcome = await carry(dask, stuck, recorder)
        assert (outcome.name, outcome.abandoned, dask.abandoned) == ("TimedOut", True, 1)
        left = asyncio.ensure_future(dask.left(stuck))
        await asyncio.to_thread(gate.write_text, "")
        async with asyncio.timeout(120):
            await left
        await until(lambda: dask.abandoned == 0)


async def test_what_begins_after_a_change_of_the_flows_folder_has_the_new_code(
    cluster: DaskCluster, flows: Path
) -> None:
    async with runner(cluster, flows, workers=("one",)) as dask:
        assert (await carry(dask, job("says", "before"), Told())).data == "first"
        (flows / "helper.py").write_text("word = 'changed'\n")
        assert (await carry(dask, job("says", "after-change"), Told())).data == "changed"


async def test_a_file_that_anybody_may_write_is_not_sent(cluster: DaskCluster, flows: Path) -> None:
    (flows / "flows.py").chmod(0o666)
    async with runner(cluster, flows) as dask:
        outcome = await carry(dask, job("where", "open"), Told())
    assert (outcome.type, outcome.retriable) == (StateType.FAILED, False)
    assert "anybody may write" in str(outcome.message)


async def test_many_runs_at_once_share_one_line_to_each_worker(cluster: DaskCluster, flows: Path) -> None:
    async with runner(cluster, flows) as dask:
        outcomes = await asyncio.gather(*(carry(dask, job("where", f"m{number}"), Told()) for number in range(60)))
        assert {(outcome.type, outcome.message) for outcome in outcomes} == {(StateType.COMPLETED, None)}
        assert len(dask._lines) <= len(cluster.workers)


async def test_reach_is_told_and_regained(flows: Path, tmp_path: Path) -> None:
    """While the scheduler is away nothing can start, which is said; when it comes the runner is there by itself."""
    own = DaskCluster(tmp_path)
    changes: asyncio.Queue[str | None] = asyncio.Queue()
    try:
        async with runner(own, flows) as dask:
            dask.start(lambda: changes.put_nowait(dask.problem))
            assert f"Dask scheduler {own.address} does not answer" in str(await changes.get())
            await asyncio.to_thread(own.start, "late")
            assert await changes.get() is None
            assert (await carry(dask, job("where", "late"), Told())).type is StateType.COMPLETED
            await asyncio.to_thread(own.stop)
            assert await changes.get() == f"the connection to Dask scheduler {own.address} is lost"
    finally:
        own.stop()


async def test_a_run_that_had_not_begun_is_given_to_a_restarted_scheduler_again(flows: Path, tmp_path: Path) -> None:
    own = DaskCluster(tmp_path).start("plain")
    try:
        async with runner(own, flows, resources={"GPU": 1.0}) as dask:
            running = asyncio.ensure_future(carry(dask, job("where", "again"), Told()))
            await published(dask, "again")
            await asyncio.to_thread(own.stop)
            await asyncio.to_thread(own.start_scheduler)
            await asyncio.to_thread(own.start_worker, "special", "--resources", "GPU=1")
            assert (await running).data == own.workers["special"].pid
    finally:
        own.stop()


def until_idle(cluster: DaskCluster) -> None:
    while any(cluster.busy(name) for name in cluster.workers):
        pass


async def published(runner: DaskRunner, run_id: str) -> None:
    """Wait until Dask has the attempt."""
    async with asyncio.timeout(120):
        while (attempt := runner._attempts.get(f"tidemill-{run_id}-1")) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await attempt.published.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - a number has no event
            await asyncio.sleep(0.005)
