"""A daemon's services on a database of their own, as the daemon builds them, without process, signals and sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from benchmarks import flows
from tidemill.clock import SystemClock
from tidemill.config import load
from tidemill.core.events import Event, RunChanged
from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType
from tidemill.daemon import SWITCH_INTERVAL_S, Daemon
from tidemill.flows.builtins import builtins
from tidemill.ids import Ids
from tidemill.services.house import House
from tidemill.store import Store, catalogue
from tidemill.telemetry.logs import setup
from tidemill.telemetry.redaction import Redactor

CLOCK = SystemClock()
TWO_FLOWS = """\
[deployments.noop]
flow = "benchmarks.flows:nothing"

[deployments.note]
flow = "benchmarks.flows:note"
"""


@contextmanager
def folder() -> Iterator[Path]:
    """A place for databases, on the disk that TMPDIR names."""
    with TemporaryDirectory(prefix="tidemill-bench-") as name:
        yield Path(name)


class Trouble(logging.Handler):
    """Fails the benchmark where the daemon would only say in its log that something went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.rig: Rig | None = None

    def emit(self, record: logging.LogRecord) -> None:
        ended = self.rig.awaited if self.rig is not None else None
        if ended is not None and not ended.done():
            cause = record.exc_info[1] if record.exc_info else None
            ended.set_exception(RuntimeError(f"{record.getMessage()}: {cause!r}"))


class Rig:
    """The running services, and what the benchmarks do with them."""

    def __init__(self, house: House, ids: Ids) -> None:
        self.house = house
        self.ids = ids
        self._left = 0
        self.awaited: asyncio.Future[None] | None = None
        house.bus.listen(self._hear)

    def _hear(self, events: Sequence[Event]) -> None:
        if self.awaited is None:
            return
        self._left -= sum(isinstance(each, RunChanged) and each.run.state.is_terminal for each in events)
        if self._left <= 0 and not self.awaited.done():
            self.awaited.set_result(None)

    def ended(self, count: int) -> asyncio.Future[None]:
        """Return a future of the moment when ``count`` more runs have ended, durably."""
        self._left = count
        self.awaited = asyncio.get_running_loop().create_future()
        return self.awaited

    def run(self, deployment: str, expected_start: datetime) -> FlowRun:
        """Return a new run, not stored yet."""
        now = CLOCK.now()
        return FlowRun(
            seq=self.house.store.next_seq(),
            id=self.ids.new(now),
            name=self.ids.name(),
            flow=self.house.catalogue.deployments[deployment].flow.name,
            deployment=deployment,
            expected_start=expected_start,
            state=State(type=StateType.SCHEDULED, name="Scheduled", timestamp=now),
            created=now,
        )

    async def store(self, made: Sequence[FlowRun]) -> None:
        """Store runs through the one door, so that the queue hears of them."""
        await asyncio.gather(*(self.house.orchestrator.create(each) for each in made))

    async def lateness(self, dues: Sequence[datetime]) -> list[float]:
        """Run a flow at each of these times; return by how many seconds each was late."""
        flows.started.clear()
        made = [self.run("note", due) for due in dues]
        ended = self.ended(len(made))
        await self.store(made)
        await ended
        return list(flows.started)


@asynccontextmanager
async def services(directory: Path, text: str = TWO_FLOWS, *, start: bool = True) -> AsyncIterator[Rig]:
    """The daemon's services on ``directory``, by a configuration of ``text``; its log goes to /dev/null."""
    (directory / "tidemill.toml").write_text(text)
    loaded = load(directory / "tidemill.toml", environ=os.environ)
    redactor = Redactor()
    ids = Ids(random.Random(1))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Not a context manager's business: the log's own thread writes to it until the log is closed.
    nowhere = open(os.devnull, "w")  # noqa: SIM115, PTH123, ASYNC230
    log = setup(redactor=redactor, clock=CLOCK, stream=nowhere)
    trouble = Trouble()
    logging.getLogger("tidemill").addHandler(trouble)
    daemon = Daemon(
        loaded=loaded,
        read_at_ns=time.time_ns(),
        faults=(),
        config=directory / "tidemill.toml",
        state=directory,
        flows=builtins(environ=os.environ),
        redactor=redactor,
        log=log,
        sockets=[],
        environ=os.environ,
        strict=False,  # its probe does not find the flows, which are no installed module
    )
    store = await Store.open(directory / "tidemill.db", clock=CLOCK, ids=ids)
    try:
        house = await daemon.assembly.build(store)
    except BaseException:
        await store.aclose()
        raise
    try:
        await house.recover()
        await store.write(
            catalogue.SYNC_CATALOGUE,
            catalogue.Listing(
                deployments=tuple(loaded.settings.deployments.values()),
                work_queues=tuple(loaded.settings.work_queues.values()),
                work_pools=tuple(loaded.settings.work_pools.values()),
                at=CLOCK.now(),
            ),
        )
        trouble.rig = rig = Rig(house, ids)
        if start:
            house.start()
            await rig.lateness([CLOCK.now()] * 200)  # what a run needs is loaded
        gc.collect()
        gc.freeze()
        yield rig
    finally:
        logging.getLogger("tidemill").removeHandler(trouble)
        await house.stop(timedelta(seconds=5))
        await store.aclose()
        log.close()
        nowhere.close()
        gc.unfreeze()


@contextmanager
def busy_thread() -> Iterator[None]:
    """A thread that computes and never waits, as a badly placed sync flow does."""
    ending = False

    def compute() -> None:
        number = 0
        while not ending:
            number = (number * 31 + 7) % 1_000_003

    thread = Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending = True
        thread.join()


async def at_rest() -> None:
    """Let the loop come to rest, so that what went before is not measured."""
    gc.collect()
    await asyncio.sleep(0.3)


def spaced(count: int, apart_s: float, *, in_s: float) -> list[datetime]:
    """Return times ``apart_s`` apart, the first ``in_s`` from now, at no even fractions of a second."""
    first = time.time() + in_s
    return [datetime.fromtimestamp(first + number * apart_s, tz=CLOCK.now().tzinfo) for number in range(count)]
