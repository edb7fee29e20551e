"""The fork server: a warm interpreter with one thread, that becomes a run's process whenever it is asked to.

The daemon starts one for each interpreter and set of preloaded modules, as a program of its own, with nothing of the
daemon's in it. They speak over one socket, a message a packet. The server is the parent of all its runs' processes and,
as their subreaper (prctl(2)), of everything that those leave behind; so it alone knows, and alone says, when a run's
whole tree is gone. When the daemon goes, its end of the socket closes, and the server takes all runs with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import msgspec

from tidemill.flows import process_table
from tidemill.runners import child, containment
from tidemill.runners.nursery_words import (
    MAX_MESSAGE,
    End,
    Exited,
    FromServer,
    Ready,
    Refused,
    Signal,
    Spawn,
    Spawned,
    decode_ask,
    encode,
)

_LOOK_S = 0.01  # how often a tree that is ending is looked at
_SLOW_LOOK_S = 0.5  # … once it hangs in the kernel
# What a run left behind when it ended by itself may go by itself, is told to, and is killed, so long after.
_TERM_S, _KILL_S = 0.1, 2.0
_HANGS_S = 5.0


class _Family:
    """A child, and whatever descends from it."""

    __slots__ = ("cgroup", "counted", "ended_at", "killing_since", "number", "orphans", "pid", "status", "told")

    def __init__(self, number: int, pid: int, cgroup: str | None) -> None:
        self.number = number
        self.pid = pid
        self.cgroup = cgroup
        self.status: int | None = None  # once the child itself has ended
        self.ended_at = 0.0
        self.orphans: set[int] = set()  # what it left behind, as far as it became ours
        self.told = False
        self.counted: set[int] = set()  # that had to be ended
        self.killing_since: float | None = None


class Server:
    """The fork server's loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._families: dict[int, _Family] = {}
        self._by_pid: dict[int, _Family] = {}
        self._not_runs: set[int] = set()  # children that a preloaded module has started
        self._leaving = False
        self._pid = os.getpid()

    def run(self, preload: list[str]) -> None:
        """Serve until the daemon hangs up."""
        problems = _warm_up(preload)
        containment.keep_orphans()
        self._not_runs = containment.children()
        heard, told = socket.socketpair()
        told.setblocking(False)
        heard.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._own = (heard, told)
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(heard, selectors.EVENT_READ)
            gc.collect()
            gc.freeze()  # what is there now is shared with the children: a collection must not touch, and so copy, it
            self._say(Ready(pid=os.getpid(), python=sys.version.split()[0], problems=tuple(problems)))
            while not self._leaving or self._families:
                ready = {key.fileobj for key, _ in selector.select(self._pause())}
                if heard in ready:
                    with contextlib.suppress(BlockingIOError):
                        heard.recv(4096)
                if self._control in ready:
                    self._listen()
                self._reap()
                self._see_to_the_ending()

    # --- what the daemon asks ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, 3)
        except ConnectionResetError:
            data, fds = b"", []  # the daemon was killed with words of ours unread (unix(7))
        if not data:
            self._hung_up()
            return
        ask = decode_ask(data)
        if isinstance(ask, Spawn):
            self._spawn(ask, fds)
            for fd in fds:
                os.close(fd)
            return
        family = self._families.get(ask.number)
        if family is None:
            return  # it has just ended
        if isinstance(ask, Signal):
            if family.status is None:
                pids = [each.pid for each in containment.family([family.pid])] if ask.tree else [family.pid]
                containment.send(pids, ask.signal)
        elif isinstance(ask, End):
            self._kill(family)

    def _hung_up(self) -> None:
        self._leaving = True
        self._selector.unregister(self._control)
        for family in self._families.values():
            self._kill(family)

    def _say(self, message: FromServer) -> None:
        if self._leaving:
            return
        try:
            self._control.send(encode(message))
        except OSError:
            self._hung_up()

    # --- children ---------------------------------------------------------------------------------------------------

    def _spawn(self, ask: Spawn, fds: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._say(Refused(number=ask.number, error=f"no process can be started: {error.strerror}"))
            return
        if pid == 0:
            self._be_the_child(ask, fds)
        process = process_table.read(pid)
        family = self._families[ask.number] = self._by_pid[pid] = _Family(ask.number, pid, ask.cgroup)
        self._say(Spawned(number=ask.number, pid=family.pid, birth=process.birth if process is not None else 0))

    def _be_the_child(self, ask: Spawn, fds: list[int]) -> None:
        status = child.EXIT_PROTOCOL
        try:
            os.setsid()
            containment.die_with(self._pid)
            containment.keep_orphans()
            containment.go_first()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._control.close()
            for each in self._own:
                each.close()
            pipe, out, err = fds
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            if ask.cgroup is not None:
                Path(ask.cgroup, "cgroup.procs").write_text("0")
            status = child.live(socket.socket(fileno=pipe))
        except BaseException:
            traceback.print_exc()
        finally:
            child.end(status)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            family = self._by_pid.pop(pid, None)
            if family is not None:
                family.status = status
                family.ended_at = time.monotonic()
                self._adopt(family)

    def _adopt(self, family: _Family | None) -> None:
        """Find the children that we did not fork: they were left behind by runs that have ended."""
        known = self._by_pid.keys() | self._not_runs
        for each in self._families.values():
            known |= each.orphans
        for pid in containment.children() - known:
            process = process_table.read(pid)
            if process is None or process.dead:
                continue
            ended = [each for each in self._families.values() if each.status is not None]
            if ended:
                owner = next((each for each in ended if each.pid == process.session), family or ended[0])
                owner.orphans.add(pid)

    # --- ends -------------------------------------------------------------------------------------------------------

    def _see_to_the_ending(self) -> None:
        ending = [each for each in self._families.values() if each.status is not None or each.killing_since is not None]
        if any(each.orphans for each in ending):
            self._adopt(None)
        for family in ending:
            left = self._left(family)
            if family.status is not None and not left:
                self._gone(family)
            elif family.killing_since is not None:
                containment.send(left, signal.SIGKILL)
            elif (ended_s := time.monotonic() - family.ended_at) > _KILL_S:
                self._kill(family)
            elif ended_s > _TERM_S and not family.told:
                family.told = True
                family.counted |= set(left)
                containment.send(left, signal.SIGTERM)

    def _left(self, family: _Family) -> list[int]:
        roots = set(family.orphans)
        if family.status is None:
            roots.add(family.pid)
        if not roots:
            return []
        left = [each.pid for each in containment.family(roots)]
        family.orphans &= set(left)
        return left

    def _kill(self, family: _Family) -> None:
        if family.killing_since is None:
            family.killing_since = time.monotonic()
        if family.cgroup is not None:
            with contextlib.suppress(OSError):
                Path(family.cgroup, "cgroup.kill").write_text("1")
        containment.send(self._left(family), signal.SIGKILL)

    def _gone(self, family: _Family) -> None:
        del self._families[family.number]
        assert family.status is not None
        self._say(Exited(number=family.number, status=family.status, left_behind=len(family.counted)))

    def _pause(self) -> float | None:
        pause: float | None = None
        for each in self._families.values():
            if each.killing_since is not None and time.monotonic() - each.killing_since > _HANGS_S:
                pause = pause or _SLOW_LOOK_S
            elif each.killing_since is not None or each.status is not None:
                return _LOOK_S
        return pause


def _warm_up(preload: list[str]) -> list[str]:
    """Import what the children will need; return what could not be."""
    problems = []
    for name in preload:
        try:
            importlib.import_module(name)
        except BaseException as error:
            problems.append(f"{name} cannot be preloaded: {type(error).__name__}: {error}"[:500])
    if not containment.is_single_threaded():
        problems.append("a preloaded module has started threads, which its runs will miss")
    # What a first run would import besides.
    for name in ("asyncio", "concurrent.futures.thread", "encodings.idna", "traceback", "linecache", "tokenize"):
        importlib.import_module(name)
    return problems


def main(arguments: list[str]) -> None:
    """Serve on the socket that is the file descriptor of that number."""
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    Server(control).run(msgspec.json.decode(arguments[1], type=list[str]))
