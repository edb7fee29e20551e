"""A daemon's services on a database of their own, as the daemon builds them, without its process, signals and sockets."""

from __future__ import annotations

import asyncio
import gc
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
from tidemill.daemon import SWITCH_INTERVAL_S
from tidemill.flows.builtins import builtins
from tidemill.ids import Ids
from tidemill.runners.inline import InlineRunner
from tidemill.runners.threads import PoolThreads
from tidemill.services.catalogue import Catalogue
from tidemill.services.house import House
from tidemill.services.recorder import RecorderHouse
from tidemill.store import Store, catalogue, instance, runs
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


class Rig:
    """The running services, and what the benchmarks do with them."""

    def __init__(self, house: House, ids: Ids) -> None:
        self.house = house
        self.ids = ids
        self._awaited = 0
        self._ended: asyncio.Future[None] | None = None
        house.bus.listen(self._hear)

    def _hear(self, events: Sequence[Event]) -> None:
        if self._ended is None:
            return
        self._awaited -= sum(isinstance(each, RunChanged) and each.run.state.is_terminal for each in events)
        if self._awaited <= 0 and not self._ended.done():
            self._ended.set_result(None)

    def ended(self, count: int) -> asyncio.Future[None]:
        """Return a future of the moment when ``count`` more runs have ended, durably."""
        self._awaited = count
        self._ended = asyncio.get_running_loop().create_future()
        return self._ended

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
    nowhere = open(os.devnull, "w")  # noqa: SIM115, PTH123
    log = setup(redactor=redactor, clock=CLOCK, stream=nowhere)
    built_in = builtins(environ=os.environ)
    store = await Store.open(directory / "tidemill.db", clock=CLOCK, ids=ids)
    known = Catalogue(loaded.settings, instance=store.instance_id, compiled=loaded.compiled)
    recorders = RecorderHouse(
        store=store,
        clock=CLOCK,
        ids=ids,
        redactor=redactor,
        secret=lambda ref: "",
        tell=log.output,
        publish=lambda events: house.bus.publish(events),  # noqa: PLW0108 - there is no house yet
        lines_per_second=loaded.settings.log.max_lines_per_second,
    )
    house = House(
        store=store,
        catalogue=known,
        clock=CLOCK,
        ids=ids,
        runner=lambda pool: InlineRunner(
            pool=pool,
            builtins=built_in,
            flows_dir=loaded.settings.daemon.flows,
            threads=PoolThreads(pool.threads),
            clock=CLOCK,
            grace=timedelta(seconds=15),
        ),
        recorder=recorders.recorder,
        check_parameters=lambda deployment, parameters: None,
        last_alive=await store.read(instance.last_alive),
    )
    house.bus.listen(log.write)
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
        rig = Rig(house, ids)
        if start:
            house.start()
            await rig.lateness([CLOCK.now()] * 200)  # what a run needs is loaded
        gc.collect()
        gc.freeze()
        yield rig
    finally:
        await house.stop(timedelta(seconds=5))
        await store.aclose()
        log.close()
        nowhere.close()


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


__all__ = ["CLOCK", "TWO_FLOWS", "Rig", "at_rest", "busy_thread", "folder", "runs", "services", "spaced"]
