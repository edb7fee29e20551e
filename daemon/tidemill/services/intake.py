"""Where the reports of all runs come in, from any thread, and go on to the store in groups and in order.

Lines go on at once. Task runs wait up to 60 ms, in which later states of one replace earlier ones, unless a barrier
(an artifact, a cached result, a flush, the end of a run) sends them off; what is posted after them is never durable
before them. What is kept of a state is made when it is sent: most are replaced before.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from tidemill.core.events import TaskRunChanged
from tidemill.core.reports import TaskReport
from tidemill.core.runs import FlowRun, LogRow, TaskRun
from tidemill.errors import TidemillError
from tidemill.store import Store, logs, task_runs

TASKS_WAIT_S = 0.05
# Task reports alone do not wake the loop at once: each wake-up takes the interpreter from the thread that reports.
GATHER_S = 0.01
BATCH = 500  # task runs in one change: a few milliseconds of a commit that a starting run may share
MOST_TASKS = 100_000  # that wait at a time; beyond it new ones are dropped, counted and said
MOST_GATHERED = 200_000  # reports that wait for the loop; beyond it task runs are dropped likewise
AGAIN_S = 1.0  # after the store refused a batch

logger = logging.getLogger("tidemill.recorder")
Task = TaskReport | TaskRun


class Reporter(Protocol):
    """Who reported: the recorder of one attempt."""

    def take_over(self, run: FlowRun, told: object) -> bool:
        """Deal with what is no line, on the loop and in order; False: it is refused."""
        ...

    @property
    def sealed(self) -> bool:
        """Whether the attempt has ended and nothing of it is taken any more."""
        ...

    def dropped_task(self, task: Task) -> None:
        """Count a task run that was not kept."""
        ...


class Intake:
    """Gathers reports under a lock and takes them over on the loop: one wake-up for as many as came meanwhile."""

    def __init__(
        self,
        *,
        store: Store,
        tell_lines: Callable[[Sequence[tuple[FlowRun, LogRow]]], None],
        task_run: Callable[[FlowRun, TaskReport], TaskRun],
        tell_tasks: Callable[[Sequence[TaskRunChanged]], None] | None = None,
        tasks_wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._tell_lines = tell_lines
        self._task_run = task_run
        self._tell_tasks = tell_tasks
        self._tasks_wanted = tasks_wanted
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._gathered: deque[tuple[Reporter, FlowRun, object]] = deque()
        self._called = False  # a drain is on its way
        self._awaited = False  # one will be, soon
        self._lock = threading.Lock()
        self._tasks: dict[str, tuple[FlowRun, Task]] = {}  # by id, in the order in which they came
        self._timer: asyncio.TimerHandle | None = None
        self._on_their_way: set[asyncio.Future[None]] = set()

    def put(self, reporter: Reporter, run: FlowRun, told: object) -> None:
        """Take what was reported of ``run``, the reporter's own or a subflow; callable from any thread."""
        is_task = isinstance(told, TaskReport)
        with self._lock:
            if len(self._gathered) >= MOST_GATHERED and isinstance(told, TaskReport):
                reporter.dropped_task(told)
                return
            self._gathered.append((reporter, run, told))
            if self._called or (is_task and self._awaited):
                return
            if is_task:
                self._awaited = True
            else:
                self._called = True
        wake = self._drain_soon if is_task else self.drain
        if threading.get_ident() == self._thread:
            self._loop.call_soon(wake)
        else:
            try:
                self._loop.call_soon_threadsafe(wake)
            except RuntimeError:
                return  # the loop is closed: an abandoned thread outlived the daemon's work

    def _drain_soon(self) -> None:
        self._loop.call_later(GATHER_S, self._drain_awaited)

    def _drain_awaited(self) -> None:
        if self._awaited:  # else it was drained meanwhile
            self.drain()

    def drain(self) -> None:
        """Take over what was gathered."""
        with self._lock:
            gathered, self._gathered = self._gathered, deque()
            self._called = self._awaited = False
        lines: list[tuple[FlowRun, LogRow]] = []
        for reporter, run, told in gathered:
            if isinstance(told, LogRow):
                self._store.post(logs.LOGS, told)
                lines.append((run, told))
            elif not reporter.sealed and reporter.take_over(run, told) and isinstance(told, TaskReport):
                self.take_task(reporter, run, told)
        if lines:
            self._tell_lines(lines)

    def take_task(self, reporter: Reporter, run: FlowRun, task: Task) -> None:
        """Take over a task run's state, on the loop; a later one of the same task run replaces it until it is sent."""
        known = self._tasks.get(task.id)
        if known is not None:
            if task.state_number > known[1].state_number:
                self._tasks[task.id] = (run, task)
            return
        if len(self._tasks) >= MOST_TASKS:
            reporter.dropped_task(task)
            return
        self._tasks[task.id] = (run, task)
        if self._timer is None:
            self._timer = self._loop.call_later(TASKS_WAIT_S, self._pump)

    def _pump(self) -> None:
        """Send off a batch at a time, so that states of flow runs never wait behind thousands of tasks."""
        self._timer = None
        if self._tasks and not self._on_their_way:
            self._send(BATCH)

    def send_tasks(self) -> None:
        """Send off every task run that waits: what is handed to the store from now on is durable after them."""
        while self._tasks:
            self._send(BATCH)

    def _send(self, most: int) -> None:
        batch: list[tuple[FlowRun, TaskRun]] = []
        for each in list(itertools.islice(self._tasks, most)):
            run, task = self._tasks.pop(each)
            try:
                batch.append((run, task if isinstance(task, TaskRun) else self._task_run(run, task)))
            except ValueError as error:
                logger.error("%s", error)
        future = self._store.submit(task_runs.TASK_RUN_BATCHES, tuple(task for _, task in batch))
        self._on_their_way.add(future)
        future.add_done_callback(lambda done: self._sent(batch, done))

    def _sent(self, batch: list[tuple[FlowRun, TaskRun]], done: asyncio.Future[None]) -> None:
        self._on_their_way.discard(done)
        error = None if done.cancelled() else done.exception()
        if error is None:
            if self._tell_tasks is not None and self._tasks_wanted():
                self._tell_tasks([TaskRunChanged(run, task) for run, task in batch])
        elif isinstance(error, TidemillError):
            for run, task in batch:  # the store is not well: tried again, unless there is a later state by now
                if len(self._tasks) < MOST_TASKS:
                    self._tasks.setdefault(task.id, (run, task))
        else:
            logger.error("%d task runs could not be kept: %s", len(batch), error)
        if self._tasks and self._timer is None and not self._loop.is_closed():
            self._timer = self._loop.call_later(0.0 if error is None else AGAIN_S, self._pump)

    async def tasks_sent(self) -> None:
        """Return when every task run taken over before is durable. Raises StoreUnavailableError where it cannot be."""
        self.send_tasks()
        for future in list(self._on_their_way):
            await asyncio.shield(future)
