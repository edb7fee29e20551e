"""A command in a session and process group of its own: its lines as they come, its end, and the end of its group.

What leaves the group (a process that calls setsid itself) is not followed.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tidemill.flows import process_table
from tidemill.sdk.lines import LineSplitter

STDOUT, STDERR = 1, 2
OnLine = Callable[[int, str], None]

LINES_PER_TURN = 200  # reported before other runs have their turn
QUIET_S = 1.0  # after the command has ended, output that is still open is read until it is quiet for so long,
DRAIN_S = 10.0  # or for so long in all
_REAP_S = 1.0
_POLL_S = (0.01, 0.25)  # from, to: how often a group is looked at that was told to end


class _Output(asyncio.SubprocessProtocol):
    """Turns what the pipes bring into lines, some at a time: a command that floods is slowed, not the loop."""

    def __init__(self, on_line: OnLine, stdin: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._on_line = on_line
        self.reported = 0
        self._stdin = stdin
        self._open = {STDOUT, STDERR}
        self._lines: dict[int, deque[str]] = {fd: deque() for fd in self._open}
        self._splitters = {fd: LineSplitter() for fd in self._open}
        self._decoders = {fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in self._open}
        self._ended: set[int] = set()
        self._turning: set[int] = set()
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        if self._stdin is not None:
            pipe = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
            pipe.write(self._stdin)
            pipe.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._lines[fd].extend(self._splitters[fd].feed(self._decoders[fd].decode(data)))
        self._turn(fd)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd not in self._open:
            return  # the command did not want its input
        rest = self._splitters[fd].feed(self._decoders[fd].decode(b"", final=True))
        self._lines[fd].extend([*rest, *self._splitters[fd].finish()])
        self._ended.add(fd)
        self._turn(fd)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def mute(self) -> None:
        """Report nothing more, whatever still comes."""
        self._on_line = lambda fd, line: None

    def _turn(self, fd: int) -> None:
        if fd not in self._turning:
            self._report(fd)

    def _report(self, fd: int) -> None:
        lines = self._lines[fd]
        turn = min(LINES_PER_TURN, len(lines))
        self.reported += turn
        for _ in range(turn):
            self._on_line(fd, lines.popleft())
        pipe = self._pipe(fd)
        if lines:
            self._turning.add(fd)
            if pipe is not None:
                pipe.pause_reading()
            self._loop.call_soon(self._report, fd)
            return
        self._turning.discard(fd)
        if fd in self._ended:
            self._open.discard(fd)
            if not self._open and not self.closed.done():
                self.closed.set_result(None)
        elif pipe is not None:
            pipe.resume_reading()

    def _pipe(self, fd: int) -> asyncio.ReadTransport | None:
        pipe = None if self._transport is None else self._transport.get_pipe_transport(fd)
        return None if pipe is None or pipe.is_closing() else cast(asyncio.ReadTransport, pipe)


class ProcessGroup:
    """A running command. Made by :meth:`start`; :meth:`close` it in any case."""

    def __init__(self, transport: asyncio.SubprocessTransport, output: _Output) -> None:
        self._transport = transport
        self._output = output
        self.id = transport.get_pid()  # of the leader, and so of the group

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        umask: int | None,
        stdin: str | None,
        on_line: OnLine,
    ) -> ProcessGroup:
        """Start ``argv``; raises ``OSError`` where it cannot be started.

        Not to be cancelled: asyncio would kill the leader alone, and wait for whoever else holds its output.
        """
        output = _Output(on_line, None if stdin is None else stdin.encode())
        more: dict[str, Any] = {} if umask is None else {"umask": umask}
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: output,
            *argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=str(cwd),
            start_new_session=True,
            **more,
        )
        return cls(transport, output)

    async def wait(self) -> tuple[int, bool]:
        """Wait for the command's end; return its status (negative: a signal) and whether all output was read.

        A process that it left behind may keep the output open: after a moment it is no longer read.
        """
        await asyncio.shield(self._output.exited)
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_S
        while not self._output.closed.done() and loop.time() < until:
            reported = self._output.reported
            await asyncio.wait({self._output.closed}, timeout=QUIET_S)
            if self._output.reported == reported:
                break
        all_read = self._output.closed.done()
        if not all_read:
            self._output.mute()
        return self._status(), all_read

    async def end(self, grace_s: float) -> str:
        """End the whole group: SIGTERM, the grace, SIGKILL. Return what was needed, in words."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        how = "ended by SIGTERM"
        try:
            self.signal(signal.SIGTERM)
            pause_s = _POLL_S[0]
            while self.alive() and (left_s := started + grace_s - loop.time()) > 0:
                if self._output.exited.done():
                    await asyncio.sleep(min(pause_s, left_s))
                    pause_s = min(pause_s * 2, _POLL_S[1])
                else:
                    await asyncio.wait({self._output.exited}, timeout=left_s)
        finally:  # a second cancellation cuts the grace short, nothing else
            if self.alive():
                how = f"killed by SIGKILL, {grace_s:g} s after SIGTERM"
                self.signal(signal.SIGKILL)
        await asyncio.wait({self._output.exited, self._output.closed}, timeout=_REAP_S)
        return how

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.id, number)

    def alive(self) -> bool:
        """Say whether a process of the group still runs; ended ones that nobody has reaped do not count."""
        try:
            os.killpg(self.id, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # all of them changed their user
        return _members(self.id)

    def close(self) -> None:
        """Close the pipes. Kills the leader where it still runs."""
        self._transport.close()

    def _status(self) -> int:
        status = self._transport.get_returncode()
        assert status is not None
        return status


def _members(group: int) -> bool:
    """Say whether /proc shows a process of the group that has not ended; without /proc, yes."""
    try:
        return any(each.group == group and not each.dead for each in process_table.processes())
    except OSError:
        return True
