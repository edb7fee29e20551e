"""A command runs as told, its lines are the run's, and nothing of its process group outlives a cancellation (P10)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.flows import process_group
from tidemill.flows.shell import ShellFlow
from tidemill.sdk.context import RunContext
from tidemill.sdk.failures import FlowFailed
from tidemill.sdk.memory import MemoryRecorder

NewContext = Callable[..., RunContext]
ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8", "DAEMON_SECRET": "not for children"}
LONG = timedelta(seconds=60)


async def sh(context: NewContext, grace: timedelta = LONG, **parameters: Any) -> dict[str, Any]:
    return await ShellFlow(environ=ENVIRON, grace=grace).run(parameters, context("shell"))


async def refusal(context: NewContext, **parameters: Any) -> FlowFailed:
    with pytest.raises(FlowFailed) as failed:
        await sh(context, **parameters)
    return failed.value


def told(recorder: MemoryRecorder) -> list[tuple[str, int, str]]:
    return [(log.logger, log.level, log.message) for log in recorder.logs]


class Held:
    """A pipe that a command keeps open; it ends when the last process that holds it has ended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "held"
        os.mkfifo(self.path)
        self._reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    async def line(self) -> bytes:
        """Wait for what a process of the command writes."""
        return await self._wait(lambda: os.read(self._reader, 1000))

    async def ended(self) -> None:
        """Wait until no process holds the pipe any more."""
        assert await self._wait(lambda: os.read(self._reader, 1000)) == b""
        os.close(self._reader)

    async def _wait(self, read: Callable[[], bytes]) -> bytes:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._reader, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), 30)
        finally:
            loop.remove_reader(self._reader)
        return read()


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


async def test_lines_are_logged_as_they_come_and_by_where_they_came_from(
    context: NewContext, recorder: MemoryRecorder
) -> None:
    result = await sh(context, command="echo one; echo two >&2; printf three")
    assert result == {"exit_code": 0, "elapsed_s": 0.0, "lines": 3}
    assert sorted(told(recorder)) == [
        ("stderr", logging.WARNING, "two"),
        ("stdout", logging.INFO, "one"),
        ("stdout", logging.INFO, "three"),
    ]


async def test_output_that_is_no_utf8_and_lines_too_long_are_logged_all_the_same(
    context: NewContext, recorder: MemoryRecorder
) -> None:
    await sh(context, command=r"printf 'a\377b\n'; head -c 10000 /dev/zero | tr '\0' x")
    first, second = recorder.messages
    assert first == "a\N{REPLACEMENT CHARACTER}b"
    assert second == "x" * 8192 + " … [1808 more characters cut]"


async def test_a_flood_of_lines_lets_others_have_their_turn(context: NewContext, recorder: MemoryRecorder) -> None:
    running = asyncio.ensure_future(sh(context, command="yes | head -n 50000"))
    turns = 0
    while not running.done():
        turns += 1
        await asyncio.sleep(0)
    assert (await running)["lines"] == len(recorder.logs) == 50_000
    assert turns > 50_000 / process_group.LINES_PER_TURN


@pytest.mark.parametrize(
    ("parameters", "exit_code"),
    [
        ({"command": "true"}, 0),
        ({"command": "exit 3", "expected_exit_codes": [0, 3]}, 3),
        ({"argv": ["sh", "-c", "exit 4"], "expected_exit_codes": [4]}, 4),
    ],
)
async def test_an_expected_exit_code_is_a_good_end(
    context: NewContext, parameters: dict[str, Any], exit_code: int
) -> None:
    assert (await sh(context, **parameters))["exit_code"] == exit_code


@pytest.mark.parametrize(
    ("parameters", "message", "data"),
    [
        ({"command": "exit 3"}, "exit code 3", 3),
        ({"command": "true", "expected_exit_codes": [1, 2]}, "exit code 0, expected 1, 2", 0),
        ({"command": "false; echo not reached"}, "exit code 1", 1),  # sh -e stops at the first failure
        ({"command": "echo out; echo a >&2; echo b >&2; exit 1"}, "exit code 1: a | b", 1),
        ({"command": "for n in 1 2 3 4 5; do echo $n; done; exit 1"}, "exit code 1: 3 | 4 | 5", 1),
        ({"command": "kill -9 $$"}, "ended by SIGKILL", -9),
        ({"command": "sh -c 'kill -11 $$'"}, "exit code 139 (128 + SIGSEGV)", 139),
        ({"argv": ["sh", "-c", "exit 139"]}, "exit code 139", 139),  # no shell in between: it says 139 itself
    ],
)
async def test_another_end_fails_and_says_how_it_ended(
    context: NewContext, parameters: dict[str, Any], message: str, data: int
) -> None:
    failed = await refusal(context, **parameters)
    assert failed.message.startswith(message)
    assert (failed.data, failed.retriable) == ({"exit_code": data}, True)


async def test_a_command_that_is_not_there_is_named_by_the_shell(context: NewContext) -> None:
    failed = await refusal(context, command="nonesuch")
    assert failed.message.startswith("exit code 127 (there is no such command): ")
    assert "nonesuch" in failed.message


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"argv": ["nonesuch"]}, '"nonesuch" cannot be run from the PATH it gets: No such file or directory'),
        ({"argv": ["/etc/passwd"]}, '"/etc/passwd" cannot be run: Permission denied'),
        ({"command": "true", "cwd": "/nonesuch"}, "cwd: /nonesuch is not a directory that can be entered"),
        ({"command": "true", "comand": "x"}, 'comand: shell has no such parameter; did you mean "command"?'),
    ],
)
async def test_what_cannot_be_started_fails_without_a_retry(
    context: NewContext, parameters: dict[str, Any], message: str
) -> None:
    failed = await refusal(context, **parameters)
    assert (failed.message, failed.retriable) == (message, False)


async def test_arguments_are_not_read_by_a_shell(context: NewContext, recorder: MemoryRecorder) -> None:
    await sh(context, argv=["printf", "%s\\n", "$HOME; echo *", "a b"])
    assert recorder.messages == ["$HOME; echo *", "a b"]


async def test_a_command_gets_a_small_environment_of_its_own(
    context: NewContext, recorder: MemoryRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P14: nothing of the daemon's environment but what is listed."""
    monkeypatch.setenv("ALSO_SECRET", "x")
    await sh(context, command="env", env={"TOKEN": {"env": "TOKEN"}, "LANG": "C"})
    env = dict(line.split("=", 1) for line in recorder.messages)
    for name in ("USER", "LOGNAME", "PWD", "SHLVL", "_", "OLDPWD"):
        env.pop(name, None)
    run = context("shell").job
    assert env == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/",
        "LANG": "C",
        "TOKEN": "s3cret-t0ken",
        "TIDEMILL_RUN_ID": run.run_id,
        "TIDEMILL_RUN_NAME": "brisk-otter",
        "TIDEMILL_DEPLOYMENT": "activity",
        "TIDEMILL_SCHEDULED_TIME": "2026-11-21T09:00:00Z",
        "TIDEMILL_ATTEMPT": "1",
    }


async def test_a_command_inherits_no_open_file(context: NewContext, recorder: MemoryRecorder) -> None:
    reader, writer = os.pipe()
    try:
        await sh(context, command="ls /proc/self/fd | grep -v -x -e 0 -e 1 -e 2 || true")
    finally:
        os.close(reader)
        os.close(writer)
    assert len(recorder.messages) == 1  # the folder that ls reads


async def test_nothing_stays_open_after_a_run(context: NewContext) -> None:
    await sh(context, command="true")  # what the loop itself opens at its first child stays
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(5):
        await sh(context, command="echo x", stdin="y")
    assert sorted(Path("/proc/self/fd").iterdir()) == before


async def test_a_command_reads_what_it_is_given(context: NewContext, recorder: MemoryRecorder) -> None:
    await sh(context, argv=["cat"], stdin="é\nlast")
    assert recorder.messages == ["é", "last"]


@pytest.mark.parametrize("stdin", [None, "x" * 1_000_000])
async def test_a_command_need_not_read(context: NewContext, stdin: str | None) -> None:
    assert (await sh(context, command="true", stdin=stdin))["exit_code"] == 0


async def test_a_command_runs_where_it_is_told(context: NewContext, recorder: MemoryRecorder, tmp_path: Path) -> None:
    await sh(context, command="pwd", cwd=str(tmp_path))
    await sh(context, command="pwd")
    await sh(context, command="pwd", cwd="~/tmp")
    assert recorder.messages == [str(tmp_path), "/", "/tmp"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
async def test_the_mask_is_the_commands_own_under_any_mask_of_the_daemon(
    context: NewContext, recorder: MemoryRecorder, umask: int
) -> None:
    before = os.umask(umask)
    try:
        await sh(context, command="umask", umask="027")
        await sh(context, command="umask")
    finally:
        os.umask(before)
    assert recorder.messages == ["0027", f"{umask:04o}"]


async def cancelled(running: asyncio.Future[Any]) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)


async def test_a_cancelled_command_ends_with_its_whole_group(
    context: NewContext, recorder: MemoryRecorder, held: Held
) -> None:
    command = f"exec 3>{held.path}; sleep 600 & (sleep 600; true) & echo started >&3; wait"
    running = asyncio.ensure_future(sh(context, command=command))
    assert await held.line() == b"started\n"
    await cancelled(running)
    await held.ended()
    assert recorder.messages[-1] == "the command and its process group were ended by SIGTERM"


async def test_a_command_may_put_its_things_in_order_when_told_to_end(
    context: NewContext, recorder: MemoryRecorder, held: Held
) -> None:
    command = f"exec 3>{held.path}; trap 'echo tidied; exit 0' TERM; echo started >&3; while :; do sleep 0.05; done"
    running = asyncio.ensure_future(sh(context, command=command))
    await held.line()
    await cancelled(running)
    await held.ended()
    assert "tidied" in recorder.messages
    assert recorder.messages[-1] == "the command and its process group were ended by SIGTERM"


@pytest.mark.parametrize(
    "stubborn",
    [
        "trap '' TERM; {tell}; while :; do sleep 0.05; done",  # the command itself
        "(trap '' TERM; {tell}; while :; do sleep 0.05; done) & wait",  # a child that outlives it
    ],
)
async def test_who_does_not_heed_sigterm_is_killed_after_the_grace(
    context: NewContext, recorder: MemoryRecorder, held: Held, stubborn: str
) -> None:
    command = f"exec 3>{held.path}; " + stubborn.format(tell="echo started >&3")
    running = asyncio.ensure_future(sh(context, grace=timedelta(seconds=0.2), command=command))
    await held.line()
    await cancelled(running)
    await held.ended()
    assert recorder.messages[-1] == ("the command and its process group were killed by SIGKILL, 0.2 s after SIGTERM")


async def test_a_second_cancellation_cuts_the_grace_short(context: NewContext, held: Held) -> None:
    command = f"exec 3>{held.path}; trap 'echo heard >&3' TERM; echo started >&3; while :; do sleep 0.05; done"
    running = asyncio.ensure_future(sh(context, grace=LONG, command=command))
    await held.line()
    running.cancel()
    assert await held.line() == b"heard\n"
    await cancelled(running)
    await held.ended()


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_command_cancelled_while_it_starts_leaves_nothing(context: NewContext, held: Held, turns: int) -> None:
    running = asyncio.ensure_future(sh(context, command=f"exec 3>{held.path}; sleep 600 & wait"))
    for _ in range(turns):  # of the loop: into the start, not through it
        await asyncio.sleep(0)
    await cancelled(running)
    writer = os.open(held.path, os.O_WRONLY)  # so that there is an end to see, if the command came that far or not
    os.close(writer)
    await held.ended()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "QUIET_S", 0.1)


async def test_a_process_left_behind_with_the_output_does_not_hold_the_run_up(
    context: NewContext, recorder: MemoryRecorder, held: Held, quick: None
) -> None:
    command = f"exec 3>{held.path}; echo first; sleep 600 & echo $! >&3"
    result = await asyncio.wait_for(sh(context, command=command), 30)
    assert result["exit_code"] == 0
    assert recorder.messages[0] == "first"
    assert recorder.messages[1].startswith("a process that the command left behind still holds its output")
    # A command may leave a process behind on purpose: it runs on.
    os.kill(int(await held.line()), signal.SIGKILL)
    await held.ended()


async def test_a_process_left_behind_that_goes_on_printing_does_not_hold_the_run_up(
    context: NewContext, recorder: MemoryRecorder, held: Held, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "DRAIN_S", 0.3)
    command = f"exec 3>{held.path}; (while echo again; do sleep 0.01; done) & echo first"
    await asyncio.wait_for(sh(context, command=command), 30)
    await held.ended()  # its next line finds nobody who reads, and that ends it
    assert "left behind" in recorder.messages[-1], "what comes after it is not told"


async def test_the_last_lines_of_a_command_that_ended_are_read_to_their_end(
    context: NewContext, recorder: MemoryRecorder
) -> None:
    """A full pipe takes longer to read than the command takes to end."""
    await sh(context, command="seq 1 12000")
    assert recorder.messages == [str(number) for number in range(1, 12001)]


def test_a_group_counts_as_gone_when_only_unreaped_processes_are_left() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
    try:
        assert not process_group._members(child.pid)
        assert process_group._members(os.getpgid(0))
    finally:
        child.wait()
