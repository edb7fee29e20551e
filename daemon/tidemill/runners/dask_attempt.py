"""One attempt on a Dask cluster as the daemon sees it: what was heard of it, in order and once, and how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tidemill.core.ports import Cancellation, Detached, Job, Outcome, Recorder
from tidemill.core.states import StateType
from tidemill.errors import StoreUnavailableError, TidemillError
from tidemill.runners.protocol import Answer, Ask, Done, ProtocolError, answer_error, from_child

HEAL_S = 1.0

logger = logging.getLogger("tidemill.dask")


class Attempt:
    """An attempt on its way. ``nonce`` is the start of its body that was told to begin; None: none, that we know."""

    def __init__(self, key: str, job: Job, recorder: Recorder, cancellation: Cancellation, *, placed: bool) -> None:
        self.job = job
        self.cancellation = cancellation
        self.key = key
        self.placed = placed  # Dask has it, or had it
        self.adopted = placed  # an earlier daemon began it
        self.starts = 0
        self.future: Any = None
        self.nonce: str | None = None
        self.worker: str | None = None  # its address
        self.worker_name: str | None = None
        self.acknowledged = 0  # letters up to this one are durable here
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.published = asyncio.Event()
        self.answering = asyncio.Lock()
        self.answer: Callable[[Attempt, Any], Coroutine[Any, Any, None]] | None = None
        self.timers: list[asyncio.TimerHandle] = []
        self._recorder = recorder
        self._taking = asyncio.Lock()
        self._taken = 0  # letters up to this one were handed on
        self._asking: set[asyncio.Task[None]] = set()
        if placed:
            self.published.set()

    @property
    def has_ended(self) -> bool:
        return self.ended.done()

    @property
    def is_detached(self) -> bool:
        return self.has_ended and not self.ended.cancelled() and isinstance(self.ended.exception(), Detached)

    def end(self, outcome: Outcome) -> None:
        """It ended so; what is said later does not count."""
        if not self.ended.done():
            self.ended.set_result(outcome)
            self._quit()

    def crash(self, message: str) -> None:
        """Something that is not its code ended it; a cancelled one it ended as it was to end."""
        cancellation = self.cancellation
        if cancellation.requested and not cancellation.crashed:
            message = f"{cancellation.reason}; {message}"
            self.end(Outcome(type=StateType.CANCELLED, name="Cancelled", message=message))
        else:
            self.end(Outcome(type=StateType.CRASHED, name="Crashed", message=message))

    def let_go(self) -> None:
        """Nobody here follows it any longer; it goes on."""
        if not self.ended.done():
            self.ended.set_exception(Detached(began=self.placed))
            self._quit()

    def release(self) -> None:
        """Say that this client no longer wants the Dask task."""
        future, self.future = self.future, None
        if future is not None:
            future.release()

    async def take(self, nonce: str, first: int, letters: Sequence[bytes]) -> None:
        """Hand on the letters that are new, the first of which has that number. Those of another start are refused."""
        async with self._taking:
            if nonce != self.nonce and self.nonce is not None:
                return
            outcome = None
            for letter in letters[max(0, self._taken + 1 - first) :]:
                try:
                    said = from_child(letter)
                except ProtocolError as error:
                    logger.warning("a letter of %s is none: %s", self.job.run_name, error)
                    continue
                if isinstance(said, Done):
                    outcome = said.outcome
                elif isinstance(said, Ask):
                    task = asyncio.get_running_loop().create_task(self._ask(said))
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)
                else:
                    self._report(said)
            self._taken = max(self._taken, first + len(letters) - 1)
            await self._make_durable()
            self.acknowledged = self._taken
            if outcome is not None:
                self.end(outcome)

    async def part(self) -> int:
        """Make durable what was handed on, and return the number of the last letter of it."""
        async with self._taking:
            await self._make_durable()
            self.acknowledged = self._taken
            return self._taken

    def _report(self, said: Any) -> None:
        try:
            self._recorder.report(said)
        except ValueError as error:
            logger.warning("a report of %s was refused: %s", self.job.run_name, error)

    async def _make_durable(self) -> None:
        while True:
            try:
                await self._recorder.flush()
            except StoreUnavailableError:
                await asyncio.sleep(HEAL_S)  # it waits at the worker meanwhile
            else:
                return

    async def _ask(self, ask: Ask) -> None:
        try:
            answer = Answer(id=ask.id, value=await self._recorder.ask(ask.question))
        except TidemillError as error:
            answer = answer_error(ask.id, error)
        except Exception as error:
            logger.exception("a question of %s could not be answered", self.job.run_name)
            answer = Answer(id=ask.id, error=f"the daemon could not answer: {type(error).__name__}: {error}")
        if self.answer is not None:
            await self.answer(self, answer)

    def _quit(self) -> None:
        for timer in self.timers:
            timer.cancel()
        for task in self._asking:
            task.cancel()
