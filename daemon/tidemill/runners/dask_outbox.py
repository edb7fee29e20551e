"""The recorder of flow code on a Dask worker: letters that wait, numbered and in order, until the daemon has them.

A letter is kept until the daemon says that it is durable there, so nothing is lost when the daemon or the connection
goes away for a while. What waits is bounded: lines are dropped and counted first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.ports import Outcome
from tidemill.core.reports import ArtifactReport, CacheReport, EventReport, LogReport, Question, Report
from tidemill.runners.protocol import Answer, Ask, Done, raised
from tidemill.sdk.canonical import canonical

MAX_LINES = 20_000  # that wait; more are dropped
MAX_BYTES = (
    32 * 1024 * 1024
)  # of letters that wait: beyond it lines are dropped, and beyond four times of it everything
BATCH_BYTES = 2 * 1024 * 1024  # that leave together


def _plain(value: Any) -> Any:
    if isinstance(value, str):  # of a kind of its own, such as an artifact's id
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


class Outbox:
    """The three verbs of the Recorder port. ``rouse`` is called, from any thread, when letters begin to wait."""

    def __init__(self, *, clock: Clock, loop: asyncio.AbstractEventLoop, rouse: Callable[[], None]) -> None:
        self._clock = clock
        self._loop = loop
        self._rouse = rouse
        self._lock = threading.Lock()
        self._letters: deque[bytes] = deque()
        self._first = 1  # the number of the first letter that waits
        self._size = 0
        self._dropped = 0
        self._asked: dict[int, tuple[Ask, asyncio.Future[Any]]] = {}
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []
        self._ids = 0

    # --- the port ---------------------------------------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Put a report into the box. Raises ``ValueError`` for what is no JSON or too large."""
        if isinstance(report, ArtifactReport):
            report = replace(report, data=msgspec.Raw(canonical(report.data).encode()))
        elif isinstance(report, CacheReport):
            report = replace(report, value=msgspec.Raw(canonical(report.value).encode()))
        elif isinstance(report, EventReport):
            canonical([report.resource, report.payload])
        try:
            letter = _encoded(report)
        except ValueError:
            if not isinstance(report, LogReport):
                raise
            text = report.message.encode("utf-8", "backslashreplace").decode()  # printed, but no Unicode text
            letter = _encoded(replace(report, message=text))
        self._put(letter, droppable=isinstance(report, LogReport))

    async def flush(self) -> None:
        """Return when the daemon has everything reported so far, durably."""
        with self._lock:
            if not self._letters:
                return
            durable: asyncio.Future[None] = self._loop.create_future()
            self._flushes.append((self._first + len(self._letters) - 1, durable))
        await durable

    async def ask(self, question: Question) -> Any:
        """Return the daemon's answer; raises the TidemillError it gave."""
        self._ids += 1
        ask = Ask(id=self._ids, question=question)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked[ask.id] = ask, answer
        try:
            self._put(_encoded(ask))
            return await answer
        finally:
            del self._asked[ask.id]

    # --- the other side ---------------------------------------------------------------------------------------------

    def answered(self, answer: Answer) -> None:
        """Take an answer, on the loop of who asked."""
        _, future = self._asked.get(answer.id, (None, None))
        if future is None or future.done():
            return
        if answer.error is None:
            future.set_result(answer.value)
        else:
            future.set_exception(raised(answer))

    def ask_again(self) -> None:
        """Put every question that has no answer yet into the box once more: another daemon listens now."""
        for ask, _ in list(self._asked.values()):
            self._put(_encoded(ask))

    def finish(self, outcome: Outcome) -> None:
        """Put the last letter into the box."""
        with self._lock:
            dropped = self._tell_dropped()
        if dropped is not None:
            self._put(dropped)
        try:
            letter = _encoded(Done(outcome=outcome))
        except ValueError:  # half a surrogate pair in a message
            text = (outcome.message or "").encode("utf-8", "backslashreplace").decode()
            letter = _encoded(Done(outcome=replace(outcome, message=text)))
        self._put(letter)

    def take(self, acknowledged: int, limit: int = BATCH_BYTES) -> tuple[int, list[bytes]]:
        """Forget what the daemon has (up to the letter of that number) and return the next ones and their first number.

        The letters stay until they are acknowledged in turn.
        """
        with self._lock:
            while self._letters and self._first <= acknowledged:
                self._size -= len(self._letters.popleft())
                self._first += 1
            durable = [future for number, future in self._flushes if number < self._first]
            self._flushes = [each for each in self._flushes if each[0] >= self._first]
            taken: list[bytes] = []
            for letter in self._letters:
                taken.append(letter)
                limit -= len(letter)
                if limit <= 0:
                    break
            first = self._first
        for future in durable:
            self._loop.call_soon_threadsafe(_settle, future)
        return first, taken

    def _put(self, letter: bytes, *, droppable: bool = False) -> None:
        with self._lock:
            full = self._size > MAX_BYTES or len(self._letters) >= MAX_LINES
            if (full and droppable) or self._size > 4 * MAX_BYTES:
                self._dropped += 1
                return
            dropped = self._tell_dropped() if not full else None
            rouse = not self._letters
            for each in (dropped, letter):
                if each is not None:
                    self._letters.append(each)
                    self._size += len(each)
        if rouse:
            self._rouse()

    def _tell_dropped(self) -> bytes | None:
        if not self._dropped:
            return None
        message, self._dropped = f"{self._dropped} lines dropped", 0
        told = LogReport(at=self._clock.now(), level=logging.WARNING, logger="tidemill", message=message)
        return _encoded(told)


def _encoded(message: Any) -> bytes:
    try:
        return _ENCODER.encode(message)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
