"""The workers of all pools, as the configuration has them: a new pool gets one, one that is gone ends with its runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from tidemill.config.settings import Settings
from tidemill.core.deployments import WorkPool
from tidemill.core.ports import Runner
from tidemill.runners.inline import InlineRunner
from tidemill.services.catalogue import Catalogue
from tidemill.services.wake import Pulse
from tidemill.services.worker import Worker

logger = logging.getLogger("tidemill.worker")


class Workforce:
    """Has a worker for each pool, and keeps to the catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        worker: Callable[[WorkPool, Runner], Worker],
        runner: Callable[[WorkPool], Runner],
    ) -> None:
        self._worker = worker
        self._runner = runner
        self._tasks: dict[Worker, asyncio.Task[None]] = {}
        self._changed = Pulse()
        self._at_work = False
        # By pool. Those of pools that are gone stand here until what they carry has ended.
        self.workers = {pool.name: worker(pool, runner(pool)) for pool in catalogue.pools.values()}
        catalogue.on_replaced.append(self.take_over)

    async def run(self) -> None:
        """Let every worker work until the dispatcher hands out nothing more. Raises what ended one that should not."""
        self._at_work = True
        for worker in self.workers.values():
            self._start(worker)
        try:
            while self._tasks:
                for worker, task in list(self._tasks.items()):
                    if task.done():
                        task.result()
                        del self._tasks[worker]
                        await self._let_go(worker)
                if self._tasks:
                    await self._changed.wait()
        finally:
            self._at_work = False
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def take_over(self, before: Settings, after: Settings) -> None:
        """Bring the workers in line with a configuration that is in force now."""
        for name, pool in after.work_pools.items():
            known = self.workers.get(name)
            try:
                if known is not None and (task := self._tasks.get(known)) is not None and task.done():
                    known = None  # it has just ended, for a pool that was gone and is back
                if known is None:
                    worker = self.workers[name] = self._worker(pool, self._runner(pool))
                    if self._at_work:
                        self._start(worker)
                else:
                    same = name in before.work_pools and _runs_with(before, name) == _runs_with(after, name)
                    known.take_over(pool, None if same else self._runner(pool))
            except Exception:
                logger.exception("work pool %s goes on as it was: its new settings cannot be taken over", name)
        for name, worker in self.workers.items():
            if name not in after.work_pools and not worker.retiring:
                worker.retire()

    def renew_code(self) -> None:
        """Let runs that begin from now on find flow code as it is by now. Runs that have begun keep theirs."""
        for worker in self.workers.values():
            if isinstance(worker.runner, InlineRunner):
                worker.runner.reload()
            elif worker.pool.preload and not worker.retiring:
                worker.take_over(worker.pool, self._runner(worker.pool))  # its interpreter has imported some already

    def _start(self, worker: Worker) -> None:
        task = asyncio.create_task(worker.run(), name=f"worker {worker.pool.name}")
        self._tasks[worker] = task
        task.add_done_callback(lambda _: self._changed.tell())
        self._changed.tell()

    async def _let_go(self, worker: Worker) -> None:
        if not worker.retiring:
            return  # the daemon stops; it closes the runners when all is recorded
        if self.workers.get(worker.pool.name) is worker:
            del self.workers[worker.pool.name]
        await worker.aclose()
        logger.info("work pool %s is no longer in the configuration, and its last run has ended", worker.pool.name)


def _runs_with(settings: Settings, name: str) -> object:
    """Return all that a pool's runner is made of."""
    pool = replace(settings.work_pools[name], paused=False, description=None, concurrency_limit=1)
    return (pool, settings.daemon.flows, settings.daemon.grace_period, settings.log.max_lines_per_second)
