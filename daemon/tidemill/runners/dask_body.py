"""What runs on a Dask worker: the body that carries one attempt, and the desk at which the daemon finds it.

Dask starts a body in one of the worker's threads and does not stop it. A body begins no code before the daemon tells it
to: Dask may start a task again elsewhere when its worker is lost, and whether an attempt may begin a second time is not
Dask's to decide. So a body rings (a tiny event in the scheduler's log) and waits to be told. The daemon then calls at
the worker's desk, through the scheduler: it brings the job, fetches letters, brings answers and cancellations. The code
itself runs through the inline runner, on an event loop of the body's own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
import weakref
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec

import tidemill
from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, WorkPool
from tidemill.core.ports import Cancellation, Job
from tidemill.errors import TidemillError
from tidemill.flows.builtins import BuiltinFlow, builtins
from tidemill.runners.dask_code import Bundle, unpack
from tidemill.runners.dask_outbox import BATCH_BYTES, Outbox
from tidemill.runners.inline import InlineRunner
from tidemill.runners.protocol import Answer, Cancel, to_child
from tidemill.runners.threads import PoolThreads
from tidemill.sdk import capture
from tidemill.sdk.entrypoints import Generation

VERSION = 1  # of what daemon and body say to each other
OPERATION = "tidemill"  # the name of the desk among a worker's handlers
BEGIN_S = 600.0  # a body that nobody tells to begin gives its thread back
RING_S = 5.0  # a body that nobody listens to rings again after it, and then more and more rarely
RING_MAX_S = 60.0
THREADS = 40  # for sync code of one run

_NUMBERS = itertools.count(1)
_GENERATIONS: dict[Path, Generation] = {}
_GENERATING = threading.Lock()


class Begin(msgspec.Struct, frozen=True):
    """What the daemon tells a body to do."""

    job: Job
    grace_s: float


class Ring(msgspec.Struct, frozen=True):
    """That a body is there: ``nonce`` is this start of it, of all that there may be."""

    key: str
    nonce: str
    worker: str  # its address
    name: str
    begun: bool


def carry(key: str, mailbox: str, version: int, tidemill_version: str) -> dict[str, Any]:
    """Carry one attempt through: the Dask task. Returns the letters that the daemon has not fetched.

    Raises TidemillError where the worker's tidemill is not the daemon's.
    """
    if version != VERSION:
        raise TidemillError(
            f"the worker has tidemill {tidemill.__version__}, the daemon {tidemill_version}: they do not understand "
            "each other; install the same version on both"
        )
    from distributed import get_worker

    worker = get_worker()
    capture.install()
    return asyncio.run(Body(key, mailbox, Desk.of(worker)).live())


def generation_of(folder: Path) -> Generation:
    """Return the modules of a folder: one set of them for all runs that were given the same files."""
    with _GENERATING:
        generation = _GENERATIONS.get(folder)
        if generation is None:
            generation = _GENERATIONS[folder] = Generation(folder)
        return generation


class Body:
    """One start of an attempt on a worker. Made on a loop of its own, known at the desk on the worker's loop."""

    def __init__(self, key: str, mailbox: str, desk: Desk) -> None:
        self.key = key
        self.mailbox = mailbox
        self.nonce = f"{desk.address} {os.getpid()}/{time.monotonic_ns()}/{next(_NUMBERS)}"
        self.begun = False
        self.listener: str | None = None  # which daemon listened last
        self.heard = time.monotonic()  # when somebody listened last
        self.ring_s = 0.0  # how long to wait for a listener before the next ring
        self._desk = desk
        self._cancellation = Cancellation()

    async def live(self) -> dict[str, Any]:
        self._loop = asyncio.get_running_loop()
        self._order: asyncio.Future[tuple[Begin, Path] | None] = self._loop.create_future()
        self.outbox = Outbox(clock=SystemClock(), loop=self._loop, rouse=lambda: self._desk.rouse(self.mailbox))
        self._desk.enter(self)
        try:
            order = await asyncio.wait_for(self._order, BEGIN_S)
            if order is not None:
                await self._carry(*order)
        except TimeoutError:
            pass
        finally:
            self._desk.leave(self)
        first, letters = self.outbox.take(0, 1 << 40)
        return {"begun": self.begun, "nonce": self.nonce, "first": first, "letters": letters}

    async def _carry(self, begin: Begin, folder: Path) -> None:
        flows: dict[str, BuiltinFlow] = {}
        if begin.job.flow.kind is FlowKind.BUILTIN:
            flows = builtins(environ=os.environ)
        runner = InlineRunner(
            pool=WorkPool(name=begin.job.work_pool),
            builtins=flows,
            flows_dir=folder,
            threads=PoolThreads(THREADS),
            clock=SystemClock(),
            grace=timedelta(seconds=begin.grace_s),
            generation=generation_of(folder),
        )
        try:
            outcome = await runner.run(begin.job, self.outbox, self._cancellation)
            self.outbox.finish(outcome)
            if outcome.abandoned:
                await runner.left(begin.job)  # its thread is not free, so this one is not given back either
            await runner.aclose()
        finally:
            for flow in flows.values():
                await flow.aclose()

    # --- at the desk, on the worker's loop --------------------------------------------------------------------------

    def begin(self, begin: Begin, folder: Path) -> None:
        if not self.begun:
            self.begun = True
            self._loop.call_soon_threadsafe(self._told, (begin, folder))

    def dismiss(self, reason: str) -> None:
        """Nobody wants it: end what has begun, begin nothing."""
        if self.begun:
            self.hear(Cancel(why="cancel", reason=reason))
        else:
            self._loop.call_soon_threadsafe(self._told, None)

    def hear(self, message: Answer | Cancel) -> None:
        if isinstance(message, Answer):
            self._loop.call_soon_threadsafe(self.outbox.answered, message)
        else:
            self._loop.call_soon_threadsafe(self._cancel, message)

    def _cancel(self, message: Cancel) -> None:
        self._cancellation.request(message.reason, crashed=message.why == "crash")

    def _told(self, order: tuple[Begin, Path] | None) -> None:
        if not self._order.done():
            self._order.set_result(order)


class Desk:
    """Where the daemon calls at one worker. Its methods run on the worker's loop, but for those that say otherwise."""

    _desks: ClassVar[weakref.WeakKeyDictionary[Any, Desk]] = weakref.WeakKeyDictionary()
    _making: ClassVar = threading.Lock()

    def __init__(self, worker: Any) -> None:
        self.address: str = worker.address
        self._name = str(worker.name)
        self._worker = weakref.proxy(worker)
        self._loop: asyncio.AbstractEventLoop = worker.loop.asyncio_loop
        self._folder = Path(worker.local_directory) / "tidemill-flows"
        self._bodies: dict[str, Body] = {}
        self._roused: dict[str, asyncio.Event] = {}
        self._ringing: asyncio.Task[None] | None = None
        self._unpacking = asyncio.Lock()
        worker.handlers[OPERATION] = self.call

    @classmethod
    def of(cls, worker: Any) -> Desk:
        """Return the worker's desk, from any thread."""
        with cls._making:
            desk = cls._desks.get(worker)
            if desk is None:
                desk = cls._desks[worker] = cls(worker)
            return desk

    def enter(self, body: Body) -> None:
        """A body is there; from its own thread."""
        self._loop.call_soon_threadsafe(self._enter, body)

    def leave(self, body: Body) -> None:
        """It is there no longer; from its own thread."""
        self._loop.call_soon_threadsafe(self._leave, body)

    def rouse(self, mailbox: str) -> None:
        """There are letters; from any thread."""
        self._loop.call_soon_threadsafe(self._rouse, mailbox)

    def _enter(self, body: Body) -> None:
        self._bodies[body.key] = body
        self._ring(body)
        if self._ringing is None:
            self._ringing = asyncio.get_running_loop().create_task(self._ring_on())

    def _leave(self, body: Body) -> None:
        if self._bodies.get(body.key) is body:
            del self._bodies[body.key]
        self._rouse(body.mailbox)

    def _rouse(self, mailbox: str) -> None:
        event = self._roused.get(mailbox)
        if event is not None:
            event.set()

    # --- ringing ----------------------------------------------------------------------------------------------------

    def _ring(self, body: Body) -> None:
        ring = Ring(key=body.key, nonce=body.nonce, worker=self.address, name=self._name, begun=body.begun)
        self._worker.log_event(body.mailbox, {"ring": msgspec.to_builtins(ring)})
        body.heard = time.monotonic()
        body.ring_s = min(RING_MAX_S, body.ring_s * 2 or RING_S)

    async def _ring_on(self) -> None:
        while self._bodies:
            await asyncio.sleep(1.0)
            for body in list(self._bodies.values()):
                if time.monotonic() - body.heard > body.ring_s:
                    self._ring(body)
        self._ringing = None

    # --- calls ------------------------------------------------------------------------------------------------------

    async def call(self, what: str, mailbox: str, data: dict[str, Any]) -> dict[str, Any]:
        """Answer a call of the daemon that owns ``mailbox``."""
        if what == "listen":
            return {"letters": await self._listen(mailbox, data["daemon"], dict(data["acks"]), data["wait_s"])}
        body = self._bodies.get(data["key"])
        if body is None or body.mailbox != mailbox or body.nonce != data["nonce"]:
            return {"gone": True}
        if what == "begin":
            return await self._begin(body, data)
        if what == "dismiss":
            body.dismiss(data["reason"])
        elif what == "part":
            body.outbox.take(data["acknowledged"])
            body.heard = body.ring_s = 0.0  # nobody listens any more
        else:
            body.hear(to_child(data["message"]))
        return {}

    async def _begin(self, body: Body, data: dict[str, Any]) -> dict[str, Any]:
        folder = self._folder / (data["digest"] or "none")
        if data["digest"]:
            files = data.get("files")
            async with self._unpacking:
                if not folder.exists() and files is None:
                    return {"need": data["digest"]}
                bundle = Bundle(data["digest"], dict(files or {}))
                await asyncio.to_thread(unpack, bundle, self._folder)
        body.heard = time.monotonic()
        body.begin(msgspec.json.decode(data["begin"], type=Begin), folder)
        return {}

    async def _listen(self, mailbox: str, daemon: str, acks: dict[str, int], wait_s: float) -> dict[str, Any]:
        event = self._roused.setdefault(mailbox, asyncio.Event())
        until = time.monotonic() + wait_s
        while True:
            event.clear()
            letters: dict[str, Any] = {}
            left = BATCH_BYTES
            for body in self._bodies.values():
                if body.mailbox != mailbox:
                    continue
                body.heard, body.ring_s = time.monotonic() + wait_s, RING_S
                if body.listener != daemon:
                    if body.listener is not None:
                        body.outbox.ask_again()
                    body.listener = daemon
                first, waiting = body.outbox.take(acks.get(body.key, 0), left)
                if waiting:
                    letters[body.key] = [body.nonce, first, waiting]
                    left -= sum(map(len, waiting))
                if left <= 0:
                    break
            if letters or (remaining := until - time.monotonic()) <= 0:
                return letters
            try:
                await asyncio.wait_for(event.wait(), remaining)
            except TimeoutError:
                return {}
