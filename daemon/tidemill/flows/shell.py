"""``shell``: a command, its output in the run's log, its exit code the outcome.

Standard output is logged at INFO and standard error at WARNING, line by line. The command gets a small environment of
its own, never the daemon's. It runs in its own session; on timeout and cancellation its whole process group is ended.
A process that a command leaves behind on purpose, having ended well itself, is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import re
import signal
from collections import deque
from collections.abc import Mapping
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import msgspec

from tidemill.core.deployments import SecretRef
from tidemill.core.ports import Job
from tidemill.core.reports import ProcessReport
from tidemill.flows import process_table
from tidemill.flows.parameters import SecretText, read_parameters, shape_findings, sound_part
from tidemill.flows.process_group import STDERR, ProcessGroup
from tidemill.sdk.context import RunContext
from tidemill.sdk.failures import FlowFailed
from tidemill.sdk.findings import Finding

NAME = "shell"
# All that a command inherits. What else it needs stands in its env.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOLD_LINES = 3  # of the output, in the message of a failure
TOLD_CHARACTERS = 500

_STREAMS = {False: ("stdout", logging.INFO), True: ("stderr", logging.WARNING)}
_COMMANDS = frozenset({"command", "argv"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UMASK = re.compile(r"(0o)?[0-7]{1,4}")


class ShellParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to run and where. Values of ``env`` may be secrets: ``{ env = "NAME" }``, ``{ credential = … }``, …"""

    command: str | None = None  # for /bin/sh -ec; or:
    argv: list[str] | None = None  # a program and its arguments, without a shell
    env: dict[str, SecretText] = {}
    cwd: str | None = None  # absolute or ~/…; None: the home directory
    umask: str | None = None  # as in the shell, "022"; None: the daemon's
    stdin: str | None = None  # None: nothing to read
    expected_exit_codes: list[int] = msgspec.field(default_factory=lambda: [0])


class ShellFlow:
    """The built-in flow ``shell``. ``grace`` lies between SIGTERM and SIGKILL."""

    parameters = ShellParameters

    def __init__(self, *, environ: Mapping[str, str] | None = None, grace: timedelta = timedelta(seconds=15)) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self.grace = grace  # what a reload changes holds for commands that are told to end from then on

    def check(self, parameters: Mapping[str, Any]) -> list[Finding]:
        """Return every fault of ``parameters``; nothing is run or resolved."""
        found = shape_findings(ShellParameters, NAME, parameters)
        wanted, unsound = sound_part(ShellParameters, parameters, found)
        if wanted is None:
            return found
        more = _findings(wanted)
        if unsound & _COMMANDS:  # whether there is one of them is not to be seen in the rest
            more = [each for each in more if each.path not in _COMMANDS]
        return found + more

    async def aclose(self) -> None:
        """Nothing is held between runs."""

    async def run(self, parameters: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
        """Run the command and return ``{"exit_code", "elapsed_s", "lines"}``; raises :class:`FlowFailed`."""
        found = self.check(parameters)
        if found:
            raise FlowFailed("; ".join(map(str, found)), retriable=False)
        wanted = read_parameters(ShellParameters, parameters)
        output = _Told(context)
        started = context.clock.monotonic()
        # A cancellation waits for the start to come through, so that there is a group to end.
        starting = asyncio.ensure_future(self._start(wanted, context, output))
        try:
            group = await asyncio.shield(starting)
            status, all_read = await group.wait()
        except asyncio.CancelledError:
            try:
                await asyncio.wait({starting})
            except asyncio.CancelledError:
                starting.add_done_callback(_kill)
                raise
            if starting.exception() is None:
                how = await starting.result().end(self.grace.total_seconds())
                context.log(f"the command and its process group were {how}", logging.WARNING, NAME)
            raise
        finally:
            starting.add_done_callback(_close)
        if not all_read:
            context.log(
                "a process that the command left behind still holds its output, which is no longer read; "
                "redirect its output, or let the command wait for it",
                logging.WARNING,
                NAME,
            )
        if status not in wanted.expected_exit_codes:
            told, codes = output.last(), ", ".join(map(str, wanted.expected_exit_codes))
            raise FlowFailed(
                _how_it_ended(status, shell=wanted.command is not None)
                + (f", expected {codes}" if wanted.expected_exit_codes != [0] else "")
                + (f": {told}" if told else ""),
                data={"exit_code": status},
            )
        elapsed_s = round(context.clock.monotonic() - started, 3)
        return {"exit_code": status, "elapsed_s": elapsed_s, "lines": output.count}

    async def _start(self, wanted: ShellParameters, context: RunContext, output: _Told) -> ProcessGroup:
        env = self._environment(context.job)
        for name, value in wanted.env.items():
            env[name] = await context.secret(value)
        argv = wanted.argv if wanted.argv is not None else ["/bin/sh", "-ec", str(wanted.command)]
        cwd = _directory(wanted, env)
        try:
            group = await ProcessGroup.start(
                argv,
                env=env,
                cwd=cwd,
                umask=None if wanted.umask is None else int(wanted.umask, 8),
                stdin=wanted.stdin,
                on_line=output.line,
            )
        except OSError as error:
            if not cwd.is_dir() or not os.access(cwd, os.X_OK):
                raise FlowFailed(f"cwd: {cwd} is not a directory that can be entered", retriable=False) from error
            where = "" if "/" in argv[0] else " from the PATH it gets"
            missing = isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError)
            raise FlowFailed(f'"{argv[0]}" cannot be run{where}: {error.strerror}', retriable=not missing) from error
        except ValueError as error:  # a secret with a zero byte in it
            raise FlowFailed(f"env: {error}", retriable=False) from error
        leader = process_table.read(group.id)
        if leader is not None:
            boot_id = process_table.boot_id()
            context.recorder.report(ProcessReport(pid=group.id, birth=leader.birth, boot_id=boot_id))
        return group

    def _environment(self, job: Job) -> dict[str, str]:
        env = {name: self._environ[name] for name in INHERITED if name in self._environ}
        env.setdefault("PATH", DEFAULT_PATH)
        try:
            user = pwd.getpwuid(os.getuid())
        except KeyError:  # a user that the system has no entry for
            env.setdefault("HOME", "/")
        else:
            env.setdefault("HOME", user.pw_dir)
            env.setdefault("USER", user.pw_name)
            env.setdefault("LOGNAME", user.pw_name)
        scheduled = (job.due or job.expected_start).astimezone(UTC)
        return env | {
            "TIDEMILL_RUN_ID": job.run_id,
            "TIDEMILL_RUN_NAME": job.run_name,
            "TIDEMILL_DEPLOYMENT": job.deployment or "",
            "TIDEMILL_SCHEDULED_TIME": scheduled.isoformat().replace("+00:00", "Z"),
            "TIDEMILL_ATTEMPT": str(job.attempt),
        }


def _kill(started: asyncio.Future[ProcessGroup]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result().signal(signal.SIGKILL)


def _close(started: asyncio.Future[ProcessGroup]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result().close()


class _Told:
    """Logs the command's lines and remembers the last ones."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._last: dict[bool, deque[str]] = {error: deque(maxlen=TOLD_LINES) for error in (False, True)}
        self.count = 0

    def line(self, fd: int, text: str) -> None:
        stream, level = _STREAMS[fd == STDERR]
        self.count += 1
        self._context.log(text, level, stream)
        if text.strip():
            self._last[fd == STDERR].append(text.strip())

    def last(self) -> str:
        """Return the last lines of standard error, else of standard output, in one line."""
        text = " | ".join(self._last[True] or self._last[False])
        return f"… {text[-TOLD_CHARACTERS:]}" if len(text) > TOLD_CHARACTERS else text


def _findings(wanted: ShellParameters) -> list[Finding]:
    found = []
    if (wanted.command is None) == (wanted.argv is None):
        found.append(Finding("command", "needs exactly one of command and argv"))
    if wanted.command is not None and not wanted.command.strip():
        found.append(Finding("command", "is empty"))
    if wanted.argv is not None and (not wanted.argv or not wanted.argv[0]):
        found.append(Finding("argv", "names no program"))
    elif wanted.argv is not None and wanted.argv[0].startswith("-"):
        found.append(Finding("argv[0]", f'"{wanted.argv[0]}" begins with "-": it is an option, not a program'))
    if any("\0" in text for text in (wanted.command or "", *(wanted.argv or ()))):
        found.append(Finding("command" if wanted.argv is None else "argv", "holds a zero byte"))
    for name, value in wanted.env.items():
        if not _VARIABLE.fullmatch(name):
            found.append(Finding(f"env.{name}", "is not a variable's name", "use letters, digits and _"))
        elif name.startswith("TIDEMILL_"):
            found.append(Finding(f"env.{name}", "is set by the program itself", "choose another name"))
        elif not isinstance(value, SecretRef) and "\0" in value:
            found.append(Finding(f"env.{name}", "holds a zero byte"))
    if wanted.cwd is not None and not wanted.cwd.startswith(("/", "~/")) and wanted.cwd != "~":
        found.append(Finding("cwd", f'"{wanted.cwd}" is relative, and to what nobody could say', "write /… or ~/…"))
    if wanted.umask is not None and (not _UMASK.fullmatch(wanted.umask) or int(wanted.umask, 8) > 0o777):
        found.append(Finding("umask", f'"{wanted.umask}" is not a mask', 'write it as in the shell: "022"'))
    if not wanted.expected_exit_codes:
        found.append(Finding("expected_exit_codes", "is empty, so no end would be good", "leave it out for [0]"))
    found += [
        Finding("expected_exit_codes", f"{code} is not in 0-255")
        for code in wanted.expected_exit_codes
        if not 0 <= code <= 255
    ]
    return found


def _directory(wanted: ShellParameters, env: Mapping[str, str]) -> Path:
    home = Path(env["HOME"])
    if wanted.cwd is None:
        return home if home.is_dir() and os.access(home, os.X_OK) else Path("/")
    if wanted.cwd.startswith("~"):
        return home / wanted.cwd[1:].lstrip("/")
    return Path(wanted.cwd)


def _how_it_ended(status: int, *, shell: bool) -> str:
    if status < 0:
        return f"ended by {_signal(-status)}"
    meaning = {126: " (it cannot be executed)", 127: " (there is no such command)"} if shell else {}
    if shell and status > 128 and (name := _signal(status - 128)).startswith("SIG"):
        return f"exit code {status} (128 + {name})"
    return f"exit code {status}{meaning.get(status, '')}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
