"""A runner to carry flows, a folder of flows, and a recorder that one can wait on."""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dask_cluster import DaskCluster
from fakes import FakeClock
from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, Limits, WorkPool
from tidemill.core.ports import Cancellation, Job, Outcome, Runner
from tidemill.core.reports import ArtifactReport, LogReport, Report
from tidemill.flows.builtins import builtins
from tidemill.runners.dask import DaskRunner
from tidemill.runners.inline import InlineRunner
from tidemill.runners.process import ProcessRunner
from tidemill.runners.threads import PoolThreads
from tidemill.sdk.capture import install, uninstall
from tidemill.sdk.memory import MemoryRecorder

CASES = Path(__file__).parent / "cases"


class HeardRecorder(MemoryRecorder):
    """Keeps reports, and lets a test on the loop wait for one. Reports may come from any thread."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(secrets)
        self.others: list[Report] = []
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()

    def report(self, report: Report) -> None:
        super().report(report)
        if not isinstance(report, LogReport | ArtifactReport):
            self.others.append(report)
        self._loop.call_soon_threadsafe(self._more.set)

    async def said(self, message: str) -> LogReport:
        """Wait until the run's log has this line."""
        async with asyncio.timeout(120):
            while True:
                self._more.clear()
                for log in self.logs:
                    if log.message == message:
                        return log
                await self._more.wait()


class House:
    """One runner and what a test does with it."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.recorder = HeardRecorder()
        self.cancellation = Cancellation()
        self.clock = FakeClock()

    def job(
        self,
        entrypoint: str,
        parameters: dict[str, Any],
        timeout: float | None = None,
        run_id: str = "run-1",
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> Job:
        kind = FlowKind.FILE if ".py:" in entrypoint else FlowKind.BUILTIN
        return Job(
            run_id=run_id,
            run_name="brisk-otter",
            attempt=1,
            flow=FlowRef(kind=kind, entrypoint=entrypoint, name=entrypoint.rpartition(":")[2]),
            deployment="daily",
            parameters=parameters,
            timeout=None if timeout is None else timedelta(seconds=timeout),
            expected_start=self.clock.now(),
            limits=limits,
        )

    async def run(self, entrypoint: str, *, timeout: float | None = None, **parameters: Any) -> Outcome:
        """Carry one run through, with capture as in the daemon."""
        return await self.carry(self.job(entrypoint, parameters, timeout), self.recorder, self.cancellation)

    def start(self, entrypoint: str, *, timeout: float | None = None, **parameters: Any) -> asyncio.Task[Outcome]:
        return asyncio.ensure_future(self.run(entrypoint, timeout=timeout, **parameters))

    async def carry(self, job: Job, recorder: HeardRecorder, cancellation: Cancellation) -> Outcome:
        install()
        try:
            return await asyncio.wait_for(self.runner.run(job, recorder, cancellation), 30)
        finally:
            uninstall()

    async def until_abandoned(self, count: int) -> None:
        """Wait until so many are left behind; the end of code in a thread comes to the loop by itself."""
        async with asyncio.timeout(120):
            while self.runner.abandoned != count:  # noqa: ASYNC110 - a number has no event
                await asyncio.sleep(0.001)


class Gate:
    """A pipe that blocks who reads it, in this process or another, until it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)

    async def open(self) -> None:
        await asyncio.to_thread(Path(self.path).write_text, "")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture(autouse=True)
def forget_modules() -> Iterator[None]:
    """What a test imported from a flows folder is forgotten after it."""
    path = list(sys.path)
    yield
    for name in [name for name in sys.modules if name.startswith("tidemill_flows.")]:
        del sys.modules[name]
    sys.path[:] = path


def inline(grace: float, threads: int, flows_dir: Path = CASES) -> Runner:
    return InlineRunner(
        pool=WorkPool(name="default"),
        builtins=builtins(environ={"PATH": "/usr/bin:/bin"}, grace=timedelta(seconds=grace)),
        flows_dir=flows_dir,
        threads=PoolThreads(threads),
        clock=FakeClock(),
        grace=timedelta(seconds=grace),
    )


def process(
    grace: float, threads: int = 0, flows_dir: Path = CASES, import_timeout: timedelta | None = None, **pool: Any
) -> ProcessRunner:
    return ProcessRunner(
        pool=WorkPool(name="process", type="process", **pool),
        flows_dir=flows_dir,
        clock=SystemClock(),
        grace=timedelta(seconds=grace),
        environ={"PATH": "/usr/bin:/bin"},
        import_timeout=import_timeout,
    )


class OneKeyEach(DaskRunner):
    """Tests call every run "run-1"; to Dask a key is one task, for as long as anybody remembers it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._numbers = itertools.count()

    def key(self, job: Job) -> str:
        return f"{super().key(job)}-{next(self._numbers)}"


@functools.cache
def cluster() -> DaskCluster:
    """One cluster for all that runs in this process, from the first test that asks for it to the end."""
    folder = tempfile.TemporaryDirectory(prefix="tidemill-dask-")
    found = DaskCluster(Path(folder.name)).start("one", "two")
    atexit.register(folder.cleanup)
    atexit.register(found.stop)
    return found


def dask(grace: float, threads: int = 0, flows_dir: Path = CASES, **pool: Any) -> Runner:
    return OneKeyEach(
        pool=WorkPool(name="cluster", type="dask", **{"address": cluster().address, **pool}),
        flows_dir=flows_dir,
        mailbox="tidemill-conformance",
        boot="boot-1",
        clock=SystemClock(),
        grace=timedelta(seconds=grace),
        source=random.Random(7),
    )


# Every implementation of the Runner port stands here, and the conformance suite holds each to the same rules.
RUNNERS: dict[str, Callable[..., Runner]] = {"inline": inline, "process": process, "dask": dask}
# Those that need child processes on loopback.
MARKS = {"dask": [pytest.mark.slow, pytest.mark.network]}


# A runner serves all tests of a file: a fork server is not to be started for each. So their loop is the file's, too:
# pytestmark = pytest.mark.asyncio(loop_scope="module").


@pytest_asyncio.fixture(
    params=[pytest.param(name, marks=MARKS.get(name, ())) for name in sorted(RUNNERS)],
    scope="module",
    loop_scope="module",
)
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[Runner]:
    """A runner that has imported the cases, with a grace that is too long to be waited for."""
    runner = RUNNERS[request.param](grace=60, threads=4)
    await House(runner).run("endings.py:async_returns")
    yield runner
    await runner.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process_runner() -> AsyncIterator[ProcessRunner]:
    runner = process(grace=60)
    yield runner
    await runner.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty_process_runner() -> AsyncIterator[ProcessRunner]:
    """A runner with next to no grace."""
    runner = process(grace=0.4)
    yield runner
    await runner.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def house(runner: Runner) -> House:
    return House(runner)


@pytest_asyncio.fixture(loop_scope="module")
async def apart(process_runner: ProcessRunner) -> House:
    return House(process_runner)


@pytest_asyncio.fixture(loop_scope="module")
async def apart_with() -> AsyncIterator[Callable[..., House]]:
    """``apart_with(grace=…, …)``: a process runner of the test's own."""
    made: list[ProcessRunner] = []

    def make(**settings: Any) -> House:
        made.append(process(**settings))
        return House(made[-1])

    yield make
    for each in made:
        await each.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def hasty_apart(hasty_process_runner: ProcessRunner) -> House:
    return House(hasty_process_runner)


@pytest_asyncio.fixture(loop_scope="module")
async def within() -> AsyncIterator[House]:
    """An inline runner whose grace is too long to be waited for."""
    house = House(inline(grace=60, threads=4))
    await house.run("endings.py:async_returns")
    yield house
    await house.runner.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def hasty() -> AsyncIterator[House]:
    """An inline runner with next to no grace."""
    house = House(inline(grace=0.05, threads=4))
    await house.run("endings.py:async_returns")
    yield house
    await house.runner.aclose()
