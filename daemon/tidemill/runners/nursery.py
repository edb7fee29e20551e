"""A nursery: the fork server of one interpreter, as the daemon sees it, with its children and those that wait ready.

Started when it is first needed, started again when it died: the runs that it carried have then crashed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tidemill.errors import TidemillError
from tidemill.flows import process_table
from tidemill.runners import exits
from tidemill.runners.cgroups import Cgroup, Cgroups
from tidemill.runners.nursery_words import (
    MAX_MESSAGE,
    End,
    Exited,
    Ready,
    Refused,
    Signal,
    Spawn,
    Spawned,
    ToServer,
    decode_tell,
    encode,
)
from tidemill.sdk import interpreters

REFILL_S = 0.05  # after a spare was taken: the run that took it has the processor first
SPAWN_S = 30.0  # a fork server that does not answer for so long is ended, and its runs with it
_SWEEP_S, _LOOK_S = 5.0, 0.02
_SEND_BYTES = 1024 * 1024  # that a child may have said and we have not heard; the system may allow less
_TAIL = 4096  # bytes that the fork server printed last
_numbers = itertools.count(1)

logger = logging.getLogger("tidemill.process")


class InterpreterError(TidemillError):
    """An interpreter cannot run flows. The text says why, and what helps."""


class NoChildError(TidemillError):
    """A fork server that works has no child for a run, just now. The text says why."""


class Ended(msgspec.Struct, frozen=True):
    """How a child ended. ``status`` is its wait status; None: its fork server died, which ``why`` tells."""

    status: int | None
    left_behind: int = 0
    why: str = ""


class Child:
    """A child process, and our ends of its files."""

    def __init__(self, nursery: Nursery, number: int, cgroup: Cgroup | None) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.nursery = nursery
        self.cgroup = cgroup
        self.pid = 0
        self.birth = 0
        self.run_id: str | None = None
        self.spawned: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self.pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        self.theirs: tuple[int, ...] = (theirs.detach(), out, err)
        self.pipe.setblocking(False)

    def hand_over(self) -> None:
        """Close the ends that the child has by now."""
        for fd in self.theirs:
            os.close(fd)
        self.theirs = ()

    def close(self) -> None:
        """Close our ends, but those that somebody took over (-1)."""
        self.pipe.close()
        for fd in (self.out, self.err):
            if fd >= 0:
                os.close(fd)
        self.out = self.err = -1

    def signal(self, number: signal.Signals, *, tree: bool = False) -> None:
        """Send the child a signal, or all that descends from it, too."""
        self.nursery.tell(self, Signal(number=self.number, signal=int(number), tree=tree))

    def kill(self) -> None:
        """Kill the child and all that descends from it."""
        self.nursery.tell(self, End(number=self.number))


class _Server:
    """One life of a fork server."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, output: int) -> None:
        self.process = process
        self.control = control
        self.output = output
        self.printed = b""
        self.children: dict[int, Child] = {}
        self.spares: list[Child] = []
        self.waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()  # what the socket could not take at once
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self.lost = False


class Nursery:
    """The children of one interpreter."""

    def __init__(
        self,
        *,
        python: str | None,
        preload: Sequence[str] = (),
        env: Mapping[str, str],
        cwd: Path,
        spares: int,
        patience_s: float,
        cgroups: Cgroups | None = None,
        on_problem: Callable[[str], None] = logger.warning,
    ) -> None:
        """``python`` None: tidemill's own. ``patience_s``: how long it may take to get warm."""
        self.python = python or interpreters.own()
        self._preload = tuple(preload)
        self._env = dict(env)
        self._cwd = cwd
        self._wanted = spares
        self._patience_s = patience_s
        self._cgroups = cgroups
        self._on_problem = on_problem
        self._server: _Server | None = None
        self._starting: asyncio.Task[_Server] | None = None
        self._refilling: asyncio.TimerHandle | None = None
        self._losing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def spares(self) -> int:
        """How many children wait ready."""
        return len(self._server.spares) if self._server is not None else 0

    @property
    def server_pid(self) -> int | None:
        return self._server.process.pid if self._server is not None else None

    async def warm(self) -> None:
        """Have the interpreter and its spares ready. Raises :class:`InterpreterError`."""
        await self._running()
        self._refill()
        while self._server is not None and (coming := [c for c in self._server.spares if not c.spawned.done()]):
            await asyncio.wait([child.spawned for child in coming])

    async def take(self) -> Child:
        """Return a child that waits for its job. Whoever takes it, closes it.

        Raises :class:`InterpreterError` and :class:`NoChildError`.
        """
        server = await self._running()
        child = server.spares.pop(0) if server.spares else self._spawn(server)
        if self._refilling is None and self._wanted:
            self._refilling = asyncio.get_running_loop().call_later(REFILL_S, self._refill)
        try:
            async with asyncio.timeout(SPAWN_S):
                await asyncio.shield(child.spawned)
        except TimeoutError:
            server.process.kill()
            child.close()
            raise NoChildError(f"the fork server of {self.python} does not answer") from None
        except BaseException:
            child.kill()
            child.close()
            raise
        return child

    def tell(self, child: Child, word: ToServer) -> None:
        """Tell the fork server something about a child; nothing is told of one that is gone."""
        server = self._server
        if server is not None and child.number in server.children:
            self._send(server, encode(word))

    async def aclose(self) -> None:
        """End the fork server, and all its children with it."""
        self._closed = True
        if self._refilling is not None:
            self._refilling.cancel()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        server = self._server
        if server is not None:
            self._stop_listening(server)
            server.control.close()  # at which it kills all its children, and ends
            ending = asyncio.create_task(asyncio.to_thread(server.process.wait))
            await asyncio.wait([ending], timeout=_SWEEP_S)
            if not ending.done():
                server.process.kill()
            await ending
            await self._lose(server)
        await asyncio.gather(*self._losing)

    # --- the fork server --------------------------------------------------------------------------------------------

    async def _running(self) -> _Server:
        if self._closed:
            raise InterpreterError(f"{self.python}: the daemon stops")
        if self._server is not None:
            return self._server
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name=f"fork server of {self.python}")
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    def _started(self, task: asyncio.Task[_Server]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()

    async def _start(self) -> _Server:
        loop = asyncio.get_running_loop()
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        output, printed = os.pipe()
        os.set_blocking(output, False)
        try:
            process = await asyncio.to_thread(self._popen, theirs, printed)
        except OSError as error:
            control.close()
            os.close(output)
            raise InterpreterError(f"{self.python} cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(printed)
        server = _Server(process, control, output)
        loop.add_reader(control, self._hear, server)
        loop.add_reader(output, self._keep_output, server)
        try:
            async with asyncio.timeout(self._patience_s):
                ready = await asyncio.shield(server.ready)
        except BaseException as error:
            process.kill()
            self._keep_output(server)
            status = await asyncio.to_thread(process.wait)
            await self._lose(server)
            if not isinstance(error, TimeoutError | InterpreterError):
                raise
            raise InterpreterError(self._why_not(server, status, isinstance(error, TimeoutError))) from None
        for problem in ready.problems:
            self._on_problem(f"{self.python}: {problem}")
        self._server = server
        return server

    def _popen(self, control: socket.socket, output: int) -> subprocess.Popen[bytes]:
        preload = msgspec.json.encode(list(self._preload)).decode()
        return subprocess.Popen(
            interpreters.argv(self.python, "tidemill.runners.forkserver", str(control.fileno()), preload),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(control.fileno(),),
            env=self._env,
            cwd=self._cwd if self._cwd.is_dir() else "/",
            start_new_session=True,
        )

    def _why_not(self, server: _Server, status: int, late: bool) -> str:
        printed = [line.strip() for line in server.printed.decode(errors="replace").splitlines() if line.strip()]
        if status == interpreters.REFUSED and printed:
            return f"{self.python} cannot run flows: {printed[-1]}"
        last = f"; it printed last: {' | '.join(printed[-3:])[:500]}" if printed else ""
        if late:
            return f"{self.python} did not get ready within {self._patience_s:g} s{last}"
        how = exits.in_words(-status if status < 0 else status << 8)
        return f"{self.python} cannot run flows: it {how}{last}"

    def _hear(self, server: _Server) -> None:
        for _ in range(64):  # packets a turn
            try:
                packet = server.control.recv(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._stop_listening(server)
                if not server.ready.done():
                    server.ready.set_exception(InterpreterError("ended"))
                elif self._server is server:
                    task = asyncio.create_task(self._mourn(server), name="fork server died")
                    self._losing.add(task)
                    task.add_done_callback(self._losing.discard)
                return
            self._told(server, decode_tell(packet))

    def _told(self, server: _Server, word: object) -> None:
        if isinstance(word, Ready):
            server.ready.set_result(word)
            return
        assert isinstance(word, Spawned | Refused | Exited)
        child = server.children.get(word.number)
        if child is None:
            return
        if isinstance(word, Spawned):
            child.pid, child.birth = word.pid, word.birth
            child.hand_over()
            child.spawned.set_result(None)
            return
        del server.children[word.number]
        if isinstance(word, Refused):
            child.hand_over()
            child.spawned.set_exception(NoChildError(word.error))
            child.spawned.exception()  # a spare's is nobody's
            ended = Ended(status=None, why=word.error)
        else:
            ended = Ended(status=word.status, left_behind=word.left_behind)
        self._has_ended(server, child, ended)

    def _has_ended(self, server: _Server, child: Child, ended: Ended) -> None:
        child.ended.set_result(ended)
        if child in server.spares:
            server.spares.remove(child)
            child.close()
        if child.cgroup is not None and not child.cgroup.remove():
            asyncio.get_running_loop().call_later(1.0, child.cgroup.remove)

    async def _mourn(self, server: _Server) -> None:
        """The fork server died by itself."""
        self._server = None
        with contextlib.suppress(ProcessLookupError):
            server.process.kill()  # closed its socket and lives on: no use to us
        status = await asyncio.to_thread(server.process.wait)
        how = exits.in_words(-status if status < 0 else status << 8)
        logger.error("the fork server of %s %s; it is started again when it is needed", self.python, how)
        await self._lose(server, f"its fork server {how}")

    async def _lose(self, server: _Server, why: str = "its fork server was ended") -> None:
        """Deal with the children of a fork server that is no more."""
        server.lost = True
        if self._server is server:
            self._server = None
        self._stop_listening(server)
        server.control.close()
        if server.output >= 0:
            os.close(server.output)
            server.output = -1
        if server.children:
            # The kernel has killed the children with their parent; what they had started is looked for.
            await asyncio.to_thread(_sweep, [(c.pid, c.birth, c.run_id) for c in server.children.values()])
        for child in server.children.values():
            if not child.spawned.done():
                child.hand_over()
                child.spawned.set_exception(NoChildError(why))
                child.spawned.exception()
            self._has_ended(server, child, Ended(status=None, why=why))
        server.children = {}

    def _stop_listening(self, server: _Server) -> None:
        loop = asyncio.get_running_loop()
        if server.control.fileno() >= 0:
            loop.remove_reader(server.control)
            loop.remove_writer(server.control)
        if server.output >= 0:
            loop.remove_reader(server.output)

    def _keep_output(self, server: _Server) -> None:
        if server.output < 0:
            return
        with contextlib.suppress(BlockingIOError):
            data = os.read(server.output, 65536)
            if not data:
                asyncio.get_running_loop().remove_reader(server.output)
            server.printed = (server.printed + data)[-_TAIL:]

    # --- children ---------------------------------------------------------------------------------------------------

    def _spawn(self, server: _Server) -> Child:
        number = next(_numbers)
        cgroup = self._cgroups.make(f"{os.getpid()}-{number}") if self._cgroups is not None else None
        child = server.children[number] = Child(self, number, cgroup)
        word = Spawn(number=number, cgroup=str(cgroup.path) if cgroup is not None else None)
        self._send(server, encode(word), child.theirs)
        return child

    def _refill(self) -> None:
        self._refilling = None
        server = self._server
        while server is not None and not self._closed and len(server.spares) < self._wanted:
            server.spares.append(self._spawn(server))

    def _send(self, server: _Server, packet: bytes, files: tuple[int, ...] = ()) -> None:
        server.waiting.append((packet, files))
        self._flush(server)

    def _flush(self, server: _Server) -> None:
        loop = asyncio.get_running_loop()
        while server.waiting:
            packet, files = server.waiting[0]
            try:
                socket.send_fds(server.control, [packet], files)
            except BlockingIOError:
                loop.add_writer(server.control, self._flush, server)
                return
            except OSError:
                server.waiting.clear()  # it is dying, which is heard elsewhere
                return
            server.waiting.popleft()
        loop.remove_writer(server.control)


def _sweep(leaders: Sequence[tuple[int, int, str | None]]) -> None:
    """Kill what is left of runs whose fork server died; return when it is gone, or after a while."""
    runs = {run_id for _, _, run_id in leaders if run_id is not None}
    births = {pid: birth for pid, birth, _ in leaders if pid}
    for _ in range(int(_SWEEP_S / _LOOK_S)):
        left = []
        try:
            table = list(process_table.processes())
        except OSError:
            return
        for each in table:
            if each.dead:
                continue
            led = births.get(each.session)
            # A session keeps its leader's pid from being given out again, so the number alone will do for members.
            mine = each.birth == led if each.pid == each.session else led is not None
            if mine or (runs and process_table.variable(each.pid, "TIDEMILL_RUN_ID") in runs):
                left.append(each.pid)
        if not left:
            return
        for pid in left:
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_S)
