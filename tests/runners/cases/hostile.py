"""Flows that do to their process whatever code can do to a process."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tidemill.sdk import run_context


def segfaults():
    print("about to")
    ctypes.string_at(0)


def aborts():
    os.abort()


def exits(code):
    print("about to")
    os._exit(code)


def kills_itself(number):
    os.kill(os.getpid(), number)
    time.sleep(600)


def interrupts_itself():
    """A SIGINT that tidemill did not send is what it always was."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(600)


def hogs_memory(mib):
    return len([b"x" * 1024 * (1024 + number % 2) for number in range(mib)])


def computes(started=None):
    if started:
        Path(started).write_text("")
    number = 0
    while True:
        number += 1


def computes_in_c(started):
    """One instruction of Python that never comes back, so no signal's handler runs."""
    Path(started).write_text("")
    return sum(range(10**18))


def cleans_up(started):
    try:
        Path(started).write_text("")
        time.sleep(600)
    finally:
        print("put in order")


def ignores_being_told(started):
    Path(started).write_text("")
    while True:
        try:
            time.sleep(600)
        except BaseException:
            print("ignored")


def ignores_everything(started):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignores_being_told(started)


async def async_that_blocks(started):
    Path(started).write_text("")
    time.sleep(600)  # noqa: ASYNC251 - that is the fault


def has_a_loop_of_its_own(started):
    import asyncio

    async def main():
        try:
            Path(started).write_text("")
            await asyncio.sleep(600)
        finally:
            print("put in order")

    asyncio.run(main())


TREE = """
import os, sys, time
if os.fork() == 0:          # a child of a child
    os.setsid()             # in a session of its own
    if os.fork() == 0:      # whose parent goes at once
        held = open(sys.argv[1], "w")
        print("grown", flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""


def grows_a_tree(held, marked):
    """Descendants in other sessions, without a parent, one with an environment that names nobody."""
    subprocess.Popen([sys.executable, "-c", TREE, held], env=None if marked else {})
    time.sleep(600)


def leaves_a_process_behind(held):
    subprocess.Popen(["/bin/sh", "-c", f"exec 3>{held}; exec sleep 600"], start_new_session=True)
    return "done"


def be_counted():
    """The kernel counts nobody's processes against a limit who is root."""
    if os.getuid() == 0:
        os.setuid(54321)


def forks(count, counted=False):
    """As many processes as it can have."""
    if counted:
        be_counted()
    born = []
    refused = 0
    for _ in range(count):
        try:
            pid = os.fork()
        except BlockingIOError:
            refused += 1
            continue
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        born.append(pid)
    return {"born": len(born), "refused": refused}


def bombs(started):
    """Forks for ever, in every process that it forked."""
    Path(started).write_text("")
    be_counted()
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.001)


def opens_files(count):
    return len([os.open("/dev/null", os.O_RDONLY) for _ in range(count)])


def prints(count):
    for number in range(count):
        print("line", number)
    return count


def writes_past_python(count):
    os.write(1, b"first\n")
    line = b"x" * 60 + b"\n"
    data = line * 1000
    for _ in range(count // 1000):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(1, rest) :]
    os.write(2, b"last\n")
    return count


def speaks_past_python():
    print("by print")
    os.write(1, b"by C\n")
    os.write(2, "tölpel \xff".encode("latin-1") + b"\nunfinished")
    subprocess.run(["/bin/echo", "by a command"], check=True)


def speaks_in_a_fork():
    """A copy of the process must not speak into the run's own pipe."""
    print("before")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        print("in the copy")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    print("after")
    return "done"


def uses_a_pool():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        return sorted(pool.map(abs, [-3, -1, -2]))


def closes_every_file():
    os.closerange(3, 4096)
    return "who would hear it"


def pipe():
    return run_context().recorder._channel._sock


def talks_nonsense(packet):
    pipe().send(packet.encode())
    time.sleep(600)


def talks_of_another_version():
    run_context().recorder._channel.say({"kind": "hello", "version": 99, "pid": 1})
    time.sleep(600)


def leaves_a_thread(started):
    def work():
        Path(started).write_text("")
        print("in the thread")

    threading.Thread(target=work).start()
    return "done"


def does_something_at_exit(done):
    atexit.register(lambda: Path(done).write_text("at exit"))
    return "done"


def open_files():
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that this loop reads
            yield str(file.readlink())


def tells_its_surroundings():
    return {
        "environment": dict(os.environ),
        "files": sorted(open_files()),
        "session": os.getsid(0) == os.getpid(),
        "group": os.getpgid(0) == os.getpid(),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "cwd": str(Path.cwd()),
        "threads": threading.active_count(),
        "path": sys.path,
        "modules": sorted(sys.modules),
        "parent": os.getppid(),
        "limits": {
            name: resource.getrlimit(getattr(resource, name))
            for name in ("RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_NPROC")
        },
    }


def draws():
    import random

    return random.random()


def sleeps(seconds):
    time.sleep(seconds)
