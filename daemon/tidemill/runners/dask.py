"""The runner of Dask pools: runs on the workers of an existing Dask cluster, for those who outgrow the machine.

An attempt is one Dask task (dask_body.py), under a key made of its run and its number, so that a daemon that was
restarted finds it again. The task is published under that key as well: Dask forgets what no client wants.

Words between daemon and body do not go through Dask's queues or events. Measured with two workers on one machine: a
queue passes 400 messages a second, each a round trip; events pass 7,700, but the scheduler keeps the last hundred
thousand of each topic for ever. The daemon calls at the worker instead, through the scheduler's ``proxy``: it fetches
what waits there, in order, as much as there is (130,000 small messages a second), and says what it has, so that what
waits is bounded and nothing is lost on the way. Only that a body is there, and that it was told to begin, are events.

Dask's own answer to a lost worker, to run its tasks again elsewhere, is declined: the run is CRASHED, or tried again
by the deployment's own ``on_crash``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

import tidemill
from tidemill.clock import Clock
from tidemill.core.deployments import FlowKind, WorkPool
from tidemill.core.ports import Cancellation, Detached, Job, Outcome, Recorder
from tidemill.errors import EntrypointError
from tidemill.runners import dask_body
from tidemill.runners.dask_attempt import Attempt
from tidemill.runners.dask_body import OPERATION, Begin, Ring
from tidemill.runners.dask_cluster import Cluster, ClusterLostError
from tidemill.runners.dask_code import Folder
from tidemill.runners.outcomes import failed, stopped, timed_out
from tidemill.runners.protocol import Cancel
from tidemill.sdk.entrypoints import locate

LISTEN_S = 10.0  # a call waits so long for letters
AGAIN_S = 0.5  # between two tries of a call that failed
CLOSE_S = 5.0
# Beyond the grace, until code that does not say that it has ended counts as abandoned.
PATIENCE = timedelta(seconds=30)
MOST_STARTS = 3  # of a task whose body never began: workers that go as soon as they come

logger = logging.getLogger("tidemill.dask")


class DaskRunner:
    """Carries attempts on a Dask cluster. What it began goes on while the daemon is away (:meth:`adopt`)."""

    def __init__(
        self,
        *,
        pool: WorkPool,
        flows_dir: Path,
        mailbox: str,
        boot: str,
        clock: Clock,
        grace: timedelta,
        source: random.Random,
    ) -> None:
        self.pool = pool
        self._flows_dir = flows_dir
        self._folder = Folder(flows_dir)
        self._mailbox = mailbox  # the same over restarts of the daemon
        self._boot = boot  # another one each time
        self._clock = clock
        self._grace = pool.grace if pool.grace is not None else grace
        self._cluster = Cluster(pool, clock=clock, source=source, lease=pool.lease, connected=self._connected)
        self._attempts: dict[str, Attempt] = {}
        self._lines: dict[str, asyncio.Task[None]] = {}  # by worker's address
        self._left: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, str] = {}  # the start that was told to begin, by key, as the scheduler's log has it
        self._tasks: set[asyncio.Task[Any]] = set()
        self._detached = False
        self._parting: list[Attempt] = []

    # --- the port ---------------------------------------------------------------------------------------------------

    @property
    def abandoned(self) -> int:
        return len(self._left)

    @property
    def problem(self) -> str | None:
        """Why nothing can be started now, in words; None: it can."""
        return self._cluster.problem

    def start(self, changed: Callable[[], None]) -> None:
        """Connect to the scheduler; ``changed`` is called whenever ``problem`` is another one."""
        self._cluster.changed = changed
        self._cluster.start()

    async def run(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        if cancellation.requested:
            return stopped(cancellation, abandoned=False)
        try:
            if job.flow.kind is FlowKind.FILE:
                await asyncio.to_thread(locate, job.flow, self._flows_dir)
        except EntrypointError as error:
            return failed(error)
        return await self._carry(Attempt(self.key(job), job, recorder, cancellation, placed=False))

    async def adopt(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        """Go on with an attempt that an earlier daemon began; like :meth:`run` from then on."""
        return await self._carry(Attempt(self.key(job), job, recorder, cancellation, placed=True))

    def detach(self) -> None:
        """Let go of every attempt without an end: ``run`` and ``adopt`` raise Detached. They are adopted later."""
        self._detached = True
        self._parting += [attempt for attempt in self._attempts.values() if attempt.worker is not None]
        for attempt in list(self._attempts.values()):
            attempt.let_go()

    def key(self, job: Job) -> str:
        """Return the key of an attempt's Dask task: the same for whoever looks for it."""
        return f"tidemill-{job.run_id}-{job.attempt}"

    async def left(self, job: Job) -> None:
        task = self._left.get(self.key(job))
        if task is not None:
            await asyncio.wait([task])

    async def aclose(self) -> None:
        self.detach()
        for task in (*self._lines.values(), *self._left.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._lines.values(), *self._left.values(), *self._tasks, return_exceptions=True)
        await asyncio.gather(*map(self._part, self._parting), return_exceptions=True)
        await self._cluster.aclose()

    async def _part(self, attempt: Attempt) -> None:
        """Say what is durable here, so that whoever adopts the attempt is not told it again."""
        async with asyncio.timeout(CLOSE_S):
            data = {"key": attempt.key, "nonce": attempt.nonce, "acknowledged": await attempt.part()}
            if self._cluster.holds() and attempt.worker is not None:
                await self._call(self._cluster.client, attempt.worker, "part", data)

    # --- one attempt ------------------------------------------------------------------------------------------------

    async def _carry(self, attempt: Attempt) -> Outcome:
        key = attempt.key
        if self._detached:
            raise Detached(began=attempt.placed)
        self._attempts[key] = attempt
        attempt.answer = self._send
        attempt.cancellation.on_request(lambda: self._cancel(attempt))
        driving = asyncio.get_running_loop().create_task(self._drive(attempt))
        try:
            outcome = await attempt.ended
        finally:
            del self._attempts[key]
            self._told.pop(key, None)
            driving.cancel()
            if attempt.is_detached:
                attempt.release()
        if outcome.abandoned and attempt.future is not None:
            left = asyncio.get_running_loop().create_task(self._until_gone(attempt))
            self._left[key] = left
            left.add_done_callback(lambda _: self._left.pop(key, None))
        else:
            self._spawn(self._forget(attempt))
        return outcome

    async def _drive(self, attempt: Attempt) -> None:
        """See an attempt through, over lost connections, until it has ended."""
        try:
            while not attempt.has_ended:
                client, lost = await self._cluster.get()
                try:
                    await self._watch(client, lost, attempt)
                except Exception as error:
                    if not self._cluster.holds():
                        continue
                    attempt.crash(_could_not(error))
        except ClusterLostError as error:
            attempt.crash(str(error))

    async def _watch(self, client: Any, lost: asyncio.Event, attempt: Attempt) -> None:
        if not await self._place(client, attempt):
            return
        result = asyncio.ensure_future(_result_of(attempt.future, self._spawn))
        gone = asyncio.ensure_future(lost.wait())
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                await self._came_back(attempt, result.result())
        finally:
            result.cancel()
            gone.cancel()

    async def _place(self, client: Any, attempt: Attempt) -> bool:
        """Bring the attempt to Dask, or find it there; False: it is gone, and has ended so."""
        key = attempt.key
        if attempt.placed:
            found = await client.get_dataset(key, default=None)
            if found is not None:
                attempt.future = found
                self._listen_at(attempt)
                return True
            if attempt.nonce is not None or attempt.adopted:
                attempt.crash(
                    f"Dask scheduler {self._cluster.address} no longer knows the run: it was restarted, or has lost it"
                )
                return False
        attempt.published.clear()
        attempt.starts += 1
        if attempt.starts > MOST_STARTS:
            attempt.crash("every Dask worker it was given to was lost before the run could begin")
            return False
        attempt.future = client.submit(
            dask_body.carry,
            key,
            self._mailbox,
            dask_body.VERSION,
            tidemill.__version__,
            key=key,
            pure=False,
            retries=0,
            workers=list(self.pool.workers) or None,
            resources=dict(self.pool.resources) or None,
        )
        # Nobody is told to begin before this: what has begun can be found again.
        await client.publish_dataset(attempt.future, name=key, override=True)
        attempt.placed = True
        attempt.published.set()
        return True

    async def _came_back(self, attempt: Attempt, result: dict[str, Any] | BaseException) -> None:
        """The Dask task has ended, one way or another."""
        if attempt.has_ended or not self._cluster.holds():
            return
        if isinstance(result, BaseException):
            attempt.crash(_lost(attempt) if attempt.nonce is not None else _could_not(result))
            return
        nonce = attempt.nonce or self._told.get(attempt.key)
        if not result["begun"] and nonce in (None, result["nonce"]):
            # Nobody told it to begin in time: once more.
            await self._forget(attempt)
            attempt.placed, attempt.adopted, attempt.nonce = False, False, None
            return
        if result["begun"]:
            await attempt.take(result["nonce"], result["first"], result["letters"])
        if not attempt.has_ended:
            attempt.crash(_lost(attempt))

    async def _forget(self, attempt: Attempt) -> None:
        """Let Dask forget the task."""
        client = self._cluster.client
        attempt.release()
        if client is not None and self._cluster.holds():
            try:
                async with asyncio.timeout(CLOSE_S):
                    await client.unpublish_dataset(attempt.key)
            except Exception as error:
                logger.debug("dask task %s stays published: %s", attempt.key, error)

    async def _until_gone(self, attempt: Attempt) -> None:
        """Wait until code that was left behind has ended, or nobody can say."""
        await _result_of(attempt.future, self._spawn)
        await self._forget(attempt)

    # --- cancelling -------------------------------------------------------------------------------------------------

    def _cancel(self, attempt: Attempt) -> None:
        cancellation = attempt.cancellation
        if attempt.nonce is None and not attempt.adopted:
            attempt.end(stopped(cancellation, abandoned=False))
            return
        why = "crash" if cancellation.crashed else "cancel"
        self._spawn(self._send(attempt, Cancel(why=why, reason=cancellation.reason or "")))
        self._expect_end(attempt, self._grace + PATIENCE, lambda: stopped(cancellation, abandoned=True))

    def _expect_end(self, attempt: Attempt, within: timedelta, outcome: Callable[[], Outcome]) -> None:
        """Count the attempt as abandoned when its end has not been heard of by then: the body itself may be stuck."""
        attempt.timers.append(
            asyncio.get_running_loop().call_later(within.total_seconds(), lambda: attempt.end(outcome()))
        )

    # --- calls ------------------------------------------------------------------------------------------------------

    async def _call(self, client: Any, worker: str, what: str, data: dict[str, Any]) -> dict[str, Any]:
        message = {"op": OPERATION, "what": what, "mailbox": self._mailbox, "data": data}
        answer: dict[str, Any] | None = await client.scheduler.proxy(msg=message, worker=worker)
        if answer is None:
            raise OSError(f"the worker at {worker} has no desk")
        return answer

    async def _send(self, attempt: Attempt, message: Any) -> None:
        """Bring a message to the attempt's body, trying again until it is there or the attempt has ended."""
        data = {"key": attempt.key, "message": msgspec.json.encode(message)}
        while not attempt.has_ended:
            if attempt.nonce is not None and attempt.worker is not None and self._cluster.holds():
                try:
                    await self._call(self._cluster.client, attempt.worker, "tell", {**data, "nonce": attempt.nonce})
                    return
                except Exception as error:
                    logger.debug("%s could not be told: %s", attempt.key, error)
            await asyncio.sleep(AGAIN_S)

    # --- rings ------------------------------------------------------------------------------------------------------

    async def _connected(self, client: Any) -> None:
        """Look through what was rung while nobody listened, and listen."""
        client.subscribe_topic(self._mailbox, self._heard)
        rings: dict[str, Any] = {}
        for _, event in await client.get_events(self._mailbox):
            key = event["ring"]["key"] if "ring" in event else event["begin"]
            if key not in self._attempts:
                continue  # long gone; a body that is still there rings again
            if "ring" in event:
                rings[key] = event
            else:
                self._told[key] = event["nonce"]
        for event in rings.values():
            self._heard((0.0, event))

    def _heard(self, event: Any) -> None:
        if "ring" in event[1] and not self._detached:
            self._spawn(self._answer(msgspec.convert(event[1]["ring"], Ring)))

    async def _answer(self, ring: Ring) -> None:
        attempt = self._attempts.get(ring.key)
        try:
            client, _ = await self._cluster.get()
            if attempt is None:
                if ring.key not in self._left:
                    await self._dismiss(client, ring, "its run has ended")
                return
            async with attempt.answering:
                await self._tell_to_begin(client, attempt, ring)
        except Exception as error:
            logger.debug("the ring of %s was not answered: %s", ring.key, error)  # it rings again

    async def _tell_to_begin(self, client: Any, attempt: Attempt, ring: Ring) -> None:
        await attempt.published.wait()
        told = attempt.nonce or self._told.get(ring.key)
        if told is not None and told != ring.nonce:
            # Dask has given the task to another worker: the one that had begun it is lost.
            await self._dismiss(client, ring, "its attempt had begun elsewhere")
            attempt.crash(_lost(attempt))
            return
        if told is None and not ring.begun:
            # In the scheduler's log before it is told: whoever comes after us knows that it may have begun.
            await client.log_event(self._mailbox, {"begin": ring.key, "nonce": ring.nonce})
            self._told[ring.key] = ring.nonce
        job = attempt.job
        bundle = None
        if job.flow.kind is not FlowKind.BUILTIN:
            try:
                bundle = await asyncio.to_thread(self._folder.bundle)
            except (EntrypointError, OSError) as error:
                await self._dismiss(client, ring, str(error))
                attempt.end(failed(error))
                return
        begin = {
            "key": ring.key,
            "nonce": ring.nonce,
            "begin": msgspec.json.encode(Begin(job=job, grace_s=self._grace.total_seconds())),
            "digest": bundle.digest if bundle is not None else "",
        }
        if attempt.has_ended:
            await self._dismiss(client, ring, "its run has ended")
            return
        attempt.nonce, attempt.worker, attempt.worker_name = ring.nonce, ring.worker, ring.name
        if not ring.begun:
            reply = await self._call(client, ring.worker, "begin", begin)
            if "need" in reply and bundle is not None:
                reply = await self._call(client, ring.worker, "begin", {**begin, "files": dict(bundle.files)})
            timeout = job.timeout
            if timeout is not None:
                self._expect_end(attempt, timeout + self._grace + PATIENCE, lambda: timed_out(timeout, abandoned=True))
        self._listen_at(attempt)

    async def _dismiss(self, client: Any, ring: Ring, reason: str) -> None:
        await self._call(client, ring.worker, "dismiss", {"key": ring.key, "nonce": ring.nonce, "reason": reason})

    # --- lines: one for each worker that has something of ours --------------------------------------------------------

    def _listen_at(self, attempt: Attempt) -> None:
        worker = attempt.worker
        if worker is not None and worker not in self._lines and not self._detached:
            line = asyncio.get_running_loop().create_task(self._listen(worker), name=f"dask worker {worker}")
            self._lines[worker] = line

    async def _listen(self, worker: str) -> None:
        try:
            while True:
                attempts = {key: each for key, each in self._attempts.items() if each.worker == worker}
                if not attempts:
                    return
                client, _ = await self._cluster.get()
                data = {
                    "daemon": self._boot,
                    "acks": {key: each.acknowledged for key, each in attempts.items()},
                    "wait_s": LISTEN_S,
                }
                try:
                    letters = (await self._call(client, worker, "listen", data))["letters"]
                except Exception as error:
                    await self._call_failed(client, worker, error)
                    continue
                taking = [
                    self._attempts[key].take(*waiting) for key, waiting in letters.items() if key in self._attempts
                ]
                await asyncio.gather(*taking)
        except ClusterLostError:
            return  # the attempts themselves hear of it, too
        finally:
            if self._lines.get(worker) is asyncio.current_task():
                del self._lines[worker]

    async def _call_failed(self, client: Any, worker: str, error: Exception) -> None:
        """Find out whether the worker is lost; what it had of ours has crashed then."""
        await asyncio.sleep(AGAIN_S)
        if not self._cluster.holds():
            return
        try:
            known = (await client.scheduler.identity())["workers"]
        except Exception as gone:  # the scheduler itself is out of reach, in whatever way: its loss is told elsewhere
            logger.debug("dask worker %s: %s, and the scheduler does not say whether it lives: %s", worker, error, gone)
            return
        if worker in known:
            logger.debug("dask worker %s: %s", worker, error)
            return
        for attempt in list(self._attempts.values()):
            if attempt.worker == worker:
                attempt.crash(_lost(attempt))

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _lost(attempt: Attempt) -> str:
    where = f"Dask worker {attempt.worker_name} ({attempt.worker})" if attempt.worker is not None else "its Dask worker"
    return f"{where} was lost while it ran the flow"


def _could_not(error: BaseException) -> str:
    kind, text = type(error).__name__, " ".join(str(error).split())[:1000]
    if kind == "KilledWorker":
        return f"it could not begin: Dask gave it up, as its workers were lost one after another ({text})"
    if isinstance(error, ImportError):
        return f"it could not begin: {text}; install tidemill {tidemill.__version__} on the Dask scheduler and workers"
    return f"it could not be run by Dask: {kind}: {text}" if text else f"it could not be run by Dask: {kind}"


async def _result_of(future: Any, spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]) -> Any:
    """Return what the task returned, or the exception that tells what became of it."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ended(_: Any) -> None:  # in a thread of Dask's, and maybe after our time
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(ended)
    await done.wait()
    # Dask fetches results together, and who is cancelled while it waits for its own cancels the others': so that is a
    # task of its own, which nobody cancels.
    return await asyncio.shield(spawn(_fetched(future)))


async def _fetched(future: Any) -> Any:
    try:
        return await future
    except (Exception, asyncio.CancelledError) as error:
        return error  # the latter is Dask's word for a task that nobody knows any more
