"""The process of a daemon: what it takes before anything runs, and gives back when all is over.

Nothing runs before all that could be refused has been looked at: configuration, state directory, addresses.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import traceback
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import NoReturn

from tidemill.api import places, sockets
from tidemill.clock import SystemClock, to_us
from tidemill.config import Loaded, last_good_path, load_last_good
from tidemill.daemon.life import Daemon
from tidemill.errors import EXIT_FAILED, ConfigError, StateDirectoryError, TidemillError
from tidemill.flows.builtins import BuiltinFlow, builtins
from tidemill.services.reloading import read
from tidemill.store.lock import StateLock
from tidemill.telemetry.logs import setup
from tidemill.telemetry.redaction import Redactor

# With one busy thread each hand-over of the interpreter lock takes up to this long; Python's default is ten times it.
SWITCH_INTERVAL_S = 0.0005
WIND_DOWN_S = 1.0  # for each part of what is left when all is recorded and closed


def run(config: Path, state_dir: Path | None, strict: bool, environ: Mapping[str, str] = os.environ) -> int:
    """Run a daemon until it is told to stop; return its exit code. Raises TidemillError where it cannot start.

    A configuration that is broken is passed over for the last good one, which is said everywhere; with ``strict``, or
    where there is none, its faults are raised.
    """
    state = places.state_dir(environ, asked=state_dir)
    _make_private(state)
    read_at_ns = to_us(SystemClock().now()) * 1000
    loaded, faults = _configuration(config, state, strict, builtins(environ=environ), environ)
    settings = loaded.settings
    # A command that ignores SIGTERM has to be killed before its runner gives it up as code that still runs.
    flows = builtins(environ=environ, grace=settings.daemon.grace_period / 2)
    clock = SystemClock()
    lock = StateLock(state)
    lock.acquire(clock.now())
    control_path = places.control_socket(environ, state, asked=state_dir is not None)
    redactor = Redactor()
    log = setup(
        redactor=redactor,
        clock=clock,
        format=settings.log.format,
        level=settings.log.level,
        max_lines_per_second=settings.log.max_lines_per_second,
        environ=environ,
        file=settings.log.file,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    bound: list[socket.socket] = []
    code, told = EXIT_FAILED, ""
    daemon = None
    try:
        control = sockets.bind_control(control_path)
        bound.append(control)
        bound.extend(sockets.bind(settings.api.listen))
        sockets.point_to(control_path, state)
        daemon = Daemon(
            loaded=loaded,
            read_at_ns=read_at_ns,
            faults=faults,
            config=config,
            state=state,
            flows=flows,
            redactor=redactor,
            log=log,
            sockets=bound,
            environ=environ,
            strict=strict,
        )
        try:
            code = _run(daemon)
        finally:
            sockets.remove(control_path, control)
        return code
    except TidemillError as error:
        code, told = error.exit_code, str(error)
        raise
    finally:
        for each in bound:
            each.close()
        lock.release()
        log.close()
        if _threads_stay() or (daemon is not None and not daemon.wound_down):
            _leave(code, told)


def _configuration(
    config: Path, state: Path, strict: bool, flows: Mapping[str, BuiltinFlow], environ: Mapping[str, str]
) -> tuple[Loaded, tuple[str, ...]]:
    """Return what to run by, and the faults of the file where it is the last good set instead."""
    try:
        loaded = read(config, state / places.MADE, flows, environ)
    except ConfigError as error:
        if strict or _names_another(config, state):
            raise
        last_good = load_last_good(state, environ=environ)
        if last_good is None:
            raise
        return last_good, tuple(str(fault) for fault in error.faults)
    return loaded, ()


def _names_another(config: Path, state: Path) -> bool:
    """Say whether a file that is not there is another than the last daemon's: a slip in its name, not a breakage."""
    last = last_good_path(state)
    return last is not None and not os.path.lexists(config) and Path(os.path.abspath(config)) != last  # noqa: PTH100


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise StateDirectoryError(f"{directory}: not a directory; choose another with --state-dir") from error
    except OSError as error:
        raise StateDirectoryError(f"{directory}: the state directory cannot be made: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StateDirectoryError(f"{directory}: the state directory is not writable; choose another with --state-dir")


def _run(daemon: Daemon) -> int:
    """As ``asyncio.run``, which would wait for ever for code of an abandoned run that swallows its cancellation."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(daemon.live())
    finally:
        daemon.wound_down = loop.run_until_complete(_wind_down())
        if daemon.wound_down:
            loop.close()
        asyncio.set_event_loop(None)


async def _wind_down() -> bool:
    """End what is left on the loop; say whether all of it has ended in time."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    ending: list[Awaitable[object]] = [asyncio.gather(*left, return_exceptions=True)]
    loop = asyncio.get_running_loop()
    ending += [loop.shutdown_asyncgens(), loop.shutdown_default_executor()]
    for each in ending:
        _, pending = await asyncio.wait({asyncio.ensure_future(each)}, timeout=WIND_DOWN_S)
        if pending:
            return False
    return True


def _threads_stay() -> bool:
    """Say whether code of an abandoned run still holds a thread: Python would wait for it for ever."""
    ours = threading.main_thread()
    return any(thread is not ours and not thread.daemon and thread.is_alive() for thread in threading.enumerate())


def _leave(code: int, told: str) -> NoReturn:
    """End the process here and now.

    What the command line would have done is done before: ``told``, why it ended, goes to standard error.
    """
    error = sys.exc_info()[1]
    if told:
        os.write(2, f"tidemill: {told}\n".encode(errors="replace"))
    elif error is not None:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
