"""The child's end of its pipe: what it says goes out without waiting, questions wait for their answer.

What is said goes straight into the socket, so that a process that dies in its next instruction has said it. Reports of
task runs may wait a few milliseconds for company: waking the daemon for each costs more than the task. When the
daemon does not keep up, the rest is gathered, bounded, and a thread of its own sends it; another one, begun by the
first question, reads. Neither is there before it is needed: flow code may fork, and a process of one thread forks best.

Flow code is interrupted anywhere, here too: by signals, and by deadlines that are set in its threads. So nothing is
locked here, and every step that changes something is one call that cannot be torn.
"""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tidemill.errors import TidemillError
from tidemill.runners import protocol
from tidemill.runners.protocol import PACKET, Answer, Ask, Cancel, Flush, Flushed, Packets

# Packets that may wait to be sent. Lines of output beyond the first number are dropped; everything else waits at the
# second, or at the third where it is large.
MOST_LINES, MOST, MOST_LARGE = 2_000, 20_000, 256
_LARGE = 4096  # bytes
_LOOK_S = 0.002
# How long, and in what company, something waits that may.
_SOON_S, _COMPANY = 0.005, 16
_GONE = "the daemon is gone; nobody answers"


class Channel:
    """The child's end. Everything may be called from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._packets = Packets()
        self._waiting: deque[bytes] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._held: deque[bytes] = deque()
        self._hold: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._holding = False
        self._numbers = itertools.count(1)
        self._questions: dict[int, Future[Any]] = {}
        # Taken by whoever starts the thread.
        self._unread, self._unwritten, self._unheld = [None], [None], [None]
        self.closed = False
        self.on_cancel: Callable[[Cancel], None] = lambda cancel: None
        self.told = threading.Event()  # a Cancel came

    # --- what goes out ----------------------------------------------------------------------------------------------

    def say(self, message: Any, *, droppable: bool = False) -> bool:
        """Send a message; False: it was dropped, because too much waits already or nobody listens any more.

        Raises ``ValueError`` for what is not JSON.
        """
        if self.closed:
            return False
        packets = protocol.packets(message)
        if self._held:
            packets = [*self._let_go(), *packets]
        if not self._waiting:
            packets = self._send_now(packets)
            if not packets:
                return not self.closed
        if droppable and len(self._waiting) > MOST_LINES:
            return False
        most = MOST if len(packets[0]) < _LARGE else MOST_LARGE
        while len(self._waiting) > most and not self.closed:
            time.sleep(_LOOK_S)
        self._waiting.extend(packets)
        self._send_on()
        return not self.closed

    def say_soon(self, message: Any) -> None:
        """Send a message with the next ones, or after a few milliseconds. Raises ``ValueError`` as :meth:`say`."""
        if self.closed:
            return
        packets = protocol.packets(message)
        if len(packets) > 1 or self._waiting:
            self.say(message)
            return
        self._held.append(packets[0])
        if len(self._held) >= _COMPANY:
            self._send_held()
        elif not self._holding:
            self._holding = True
            with contextlib.suppress(IndexError):
                self._unheld.pop()
                _thread.start_new_thread(self._hold_on, ())
            self._hold.put(None)

    def settle(self) -> None:
        """Return when everything said is sent."""
        self._send_held()
        while self._waiting and not self.closed:
            self._send_on()
            time.sleep(_LOOK_S)

    def _let_go(self) -> list[bytes]:
        """Take what was held. Where the taker is torn out of it, reports are missing, and none is false."""
        held: list[bytes] = []
        with contextlib.suppress(IndexError):
            while True:
                held.append(self._held.popleft())
        return held

    def _send_held(self) -> None:
        packets = self._let_go()
        if not self._waiting:
            packets = self._send_now(packets)
        if packets:
            self._waiting.extend(packets)
            self._send_on()

    def _hold_on(self) -> None:
        while True:
            self._hold.get()
            time.sleep(_SOON_S)
            self._holding = False
            self._send_held()

    def _send_now(self, packets: list[bytes]) -> list[bytes]:
        """Send as much as the socket takes; return the rest."""
        while packets:
            packet, count = protocol.joined(packets)
            try:
                self._sock.send(packet, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return packets
            except OSError:
                self.closed = True
                return []
            packets = packets[count:]
        return packets

    def _send_on(self) -> None:
        with contextlib.suppress(IndexError):
            self._unwritten.pop()
            _thread.start_new_thread(self._write, ())
        self._wake.put(None)

    def _write(self) -> None:
        while True:
            self._wake.get()
            while self._waiting:
                packet, count = protocol.joined(self._waiting)
                try:
                    self._sock.send(packet)
                except OSError:
                    self.closed = True
                    self._waiting.clear()
                    return
                for _ in range(count):
                    self._waiting.popleft()

    # --- what comes in ----------------------------------------------------------------------------------------------

    def ask(self, question: Any) -> Any:
        """Ask, and wait for the answer. Raises the TidemillError that is the answer instead."""
        return self._request(lambda number: Ask(id=number, question=question))

    def flush(self) -> None:
        """Return when everything said so far is durable."""
        self._request(lambda number: Flush(id=number))

    def receive(self) -> Any:
        """Wait for one message, before there is a thread that reads; None: the daemon hung up."""
        while packet := self._sock.recv(PACKET):
            payloads = self._packets.feed(packet)
            for payload in payloads[1:]:
                self._hear(protocol.to_child(payload))
            if payloads:
                return protocol.to_child(payloads[0])
        return None

    def listen(self) -> None:
        """Begin to read, in a thread of its own; once. A signal's handler may call it."""
        with contextlib.suppress(IndexError):
            self._unread.pop()
            _thread.start_new_thread(self._read, ())

    def _request(self, message: Callable[[int], Any]) -> Any:
        future: Future[Any] = Future()
        number = next(self._numbers)
        self._questions[number] = future
        try:
            if not self.say(message(number)):
                raise TidemillError(_GONE)
            self.listen()
            return future.result()
        finally:
            self._questions.pop(number, None)

    def _read(self) -> None:
        with contextlib.suppress(OSError, protocol.ProtocolError):
            while packet := self._sock.recv(PACKET):
                for payload in self._packets.feed(packet):
                    self._hear(protocol.to_child(payload))
        self.closed = True
        for future in list(self._questions.values()):
            _resolve(future, TidemillError(_GONE))

    def _hear(self, message: Any) -> None:
        if isinstance(message, Cancel):
            self.on_cancel(message)
            self.told.set()
        elif isinstance(message, Answer | Flushed):
            future = self._questions.get(message.id)
            if future is None:
                return  # whoever asked was interrupted meanwhile
            if isinstance(message, Answer) and message.error is not None:
                _resolve(future, protocol.raised(message))
            else:
                _resolve(future, message.value if isinstance(message, Answer) else None)

    # --- copies -----------------------------------------------------------------------------------------------------

    def forsake(self) -> None:
        """In a process that flow code has forked: leave the pipe to the run's own process, which speaks for all."""
        self.closed = True
        self._waiting.clear()
        self._held.clear()
        for threads in (self._unread, self._unwritten, self._unheld):
            threads.clear()
        with contextlib.suppress(OSError):
            os.close(self._sock.detach())


def _resolve(future: Future[Any], value: Any) -> None:
    if future.done():
        return
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)
