"""What is said to a child goes over its pipe in order, as fast as the child takes it; nobody waits for that."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any

from tidemill.runners import protocol


class Sender:
    """Says things over one pipe, on its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipe: socket.socket) -> None:
        self._loop = loop
        self._pipe = pipe
        self._unsent: deque[bytes] = deque()

    def say(self, message: Any) -> None:
        """Send a message, or queue what the pipe does not take yet. Nothing is said over a closed one."""
        if self._pipe.fileno() >= 0:
            self._unsent.extend(protocol.packets(message))
            self._send()

    def close(self) -> None:
        """Say nothing more; the pipe is closed by who has it."""
        self._loop.remove_writer(self._pipe)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._pipe.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._pipe, self._send)
            return
        except OSError:
            self._unsent.clear()  # nobody listens any more
        self._loop.remove_writer(self._pipe)
