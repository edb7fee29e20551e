"""What is the process runner's own: whatever code does to its process, it does to nobody else (P10)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.core.deployments import Limits
from tidemill.core.ports import Cancellation, Outcome
from tidemill.core.reports import ProcessReport
from tidemill.core.states import StateType
from tidemill.durations import parse_duration, parse_size
from tidemill.flows import process_table

House = Any  # conftest's, which cannot be imported from here

COMPLETED, FAILED, CRASHED, CANCELLED = StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Fifo:
    """A named pipe: opened by whoever writes, it tells the test that it was; closed, that all of them are gone."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    async def _read(self) -> bytes:
        os.set_blocking(self._fd, True)
        return await asyncio.wait_for(asyncio.to_thread(os.read, self._fd, 1), 30)

    async def opened_and_closed(self) -> None:
        """Wait until nobody holds it any more; somebody did."""
        assert await self._read() == b""

    async def opened(self) -> None:
        """Wait until somebody has opened it for writing."""
        async with asyncio.timeout(120):
            while True:
                try:
                    os.read(self._fd, 1)
                except BlockingIOError:
                    return  # open, and nothing written
                await asyncio.sleep(0.005)


@pytest.fixture
def fifo(tmp_path: Path) -> Fifo:
    return Fifo(tmp_path / "fifo")


@pytest.fixture
def started(tmp_path: Path) -> str:
    path = tmp_path / "started"
    os.mkfifo(path)
    return str(path)


async def begun(path: str) -> None:
    """Wait until the flow has opened the pipe."""
    await asyncio.wait_for(asyncio.to_thread(Path(path).read_text), 30)


def process_of(house: House) -> ProcessReport:
    (report,) = [each for each in house.recorder.others if isinstance(each, ProcessReport)]
    return report


def is_alive(report: ProcessReport) -> bool:
    found = process_table.read(report.pid)
    return found is not None and found.birth == report.birth and not found.dead


# Crashes have names

CRASHES = [
    ("segfaults", {}, "was killed by SIGSEGV (signal 11) before the flow had ended: it touched memory"),
    ("aborts", {}, "was killed by SIGABRT (signal 6) before the flow had ended"),
    ("exits", {"code": 3}, "exited with exit code 3 before the flow had ended"),
    ("exits", {"code": 0}, "exited with exit code 0 before the flow had ended"),
    ("kills_itself", {"number": 9}, "was killed by SIGKILL (signal 9) before the flow had ended: not by tidemill"),
    ("kills_itself", {"number": 15}, "was killed by SIGTERM (signal 15) before the flow had ended"),
    ("kills_itself", {"number": 40}, "was killed by signal 40 before the flow had ended"),
    ("closes_every_file", {}, "before the flow had ended"),
]


@pytest.mark.parametrize(("flow", "parameters", "says"), CRASHES)
async def test_a_process_that_dies_has_crashed_and_its_state_says_of_what(
    apart: House, flow: str, parameters: dict[str, Any], says: str
) -> None:
    outcome = await apart.run(f"hostile.py:{flow}", **parameters)
    assert (outcome.type, outcome.name, outcome.abandoned) == (CRASHED, "Crashed", False)
    assert says in outcome.message
    assert (await apart.run("endings.py:sync_returns", value=1)).data == 1


async def test_what_was_printed_before_a_crash_is_in_the_log_and_so_is_where_it_happened(apart: House) -> None:
    await apart.run("hostile.py:segfaults")
    messages = apart.recorder.messages
    assert messages[0] == "about to"
    assert "Fatal Python error: Segmentation fault" in messages
    assert any("hostile.py" in message and "in segfaults" in message for message in messages)


async def test_an_interruption_by_somebody_else_is_an_exception(apart: House) -> None:
    outcome = await apart.run("hostile.py:interrupts_itself")
    assert (outcome.type, outcome.message) == (FAILED, "KeyboardInterrupt")


# The pipe

NONSENSE = ["nonsense", "W", "W\0\0\0\x05ab", "W\0\0\0\x02{}", "P1", 'W\0\0\0\x0e{"kind":"bad"}']


@pytest.mark.parametrize("packet", NONSENSE)
async def test_what_is_not_the_protocol_ends_the_process(apart: House, packet: str) -> None:
    outcome = await apart.run("hostile.py:talks_nonsense", packet=packet)
    assert outcome.type is CRASHED
    assert outcome.message.startswith("its process said what is not the pipe protocol: ")
    assert not is_alive(process_of(apart))


async def test_a_child_of_another_version_is_refused(apart: House) -> None:
    outcome = await apart.run("hostile.py:talks_of_another_version")
    assert outcome.message == "its process said what is not the pipe protocol: version 99 of it, not 2"


# Surroundings


async def test_a_run_inherits_next_to_nothing(apart: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """P14: no variable, no file, no terminal of the daemon's."""
    monkeypatch.setenv("TOKEN_OF_THE_DAEMON", "s3cret")
    secret = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(secret, True)  # as careless as can be
    outcome = await apart.run("hostile.py:tells_its_surroundings")
    os.close(secret)
    found = outcome.data
    assert set(found["environment"]) <= {
        *("PATH", "HOME", "USER", "LANG", "LC_CTYPE", "TZ"),
        *("TIDEMILL_RUN_ID", "TIDEMILL_RUN_NAME", "TIDEMILL_DEPLOYMENT"),
    }
    assert found["environment"]["TIDEMILL_RUN_ID"] == "run-1"
    assert "/dev/zero" not in found["files"]
    assert found["stdin"] == "/dev/null"
    assert (found["session"], found["group"], found["threads"]) == (True, True, 1)
    assert found["cwd"] == str(Path(__file__).parent / "cases")
    assert "sqlite3" not in found["modules"]
    assert not any(name.startswith(("tidemill.store", "tidemill.services")) for name in found["modules"])


async def test_a_process_is_on_record_while_it_runs(apart: House, started: str) -> None:
    """P4: with its start time, so that it is known again after a crash of the daemon."""
    running = apart.start("hostile.py:cleans_up", started=started)
    await begun(started)
    report = process_of(apart)
    assert is_alive(report)
    assert report.boot_id == process_table.boot_id()
    apart.cancellation.request("enough")
    await running
    assert not is_alive(report)


async def test_every_run_is_a_process_of_its_own_and_draws_its_own_numbers(apart: House) -> None:
    outcomes = [await apart.run("hostile.py:draws") for _ in range(3)]
    assert len({outcome.data for outcome in outcomes}) == 3
    assert len({each.pid for each in apart.recorder.others}) == 3


# Limits

LIMITS = [
    (Limits(cpu=parse_duration("1s")), "computes", {}, "used up its CPU limit, 1s"),
    (Limits(memory=parse_size("128MiB")), "hogs_memory", {"mib": 400}, "ran out of its memory limit, 128MiB"),
]


@pytest.mark.parametrize(("limits", "flow", "parameters", "message"), LIMITS)
async def test_a_run_beyond_its_limit_has_crashed_and_its_state_names_the_limit(
    apart: House, limits: Limits, flow: str, parameters: dict[str, Any], message: str
) -> None:
    job = apart.job(f"hostile.py:{flow}", parameters, limits=limits)
    outcome = await apart.carry(job, apart.recorder, apart.cancellation)
    assert (outcome.type, outcome.message) == (CRASHED, message)


async def test_a_run_within_its_memory_limit_is_left_alone(apart: House) -> None:
    job = apart.job("hostile.py:hogs_memory", {"mib": 50}, limits=Limits(memory=parse_size("128MiB")))
    assert (await apart.carry(job, apart.recorder, apart.cancellation)).data == 50


async def test_a_run_has_as_many_open_files_as_it_may_have(apart: House) -> None:
    job = apart.job("hostile.py:opens_files", {"count": 100}, limits=Limits(open_files=64))
    outcome = await apart.carry(job, apart.recorder, apart.cancellation)
    assert outcome.type is FAILED
    assert "Too many open files" in outcome.message


async def test_a_run_has_no_more_processes_than_it_may_have(apart: House) -> None:
    """The kernel counts a user's: those that there are come on top of the limit."""
    job = apart.job("hostile.py:forks", {"count": 1000, "counted": True}, limits=Limits(processes=20))
    outcome = await apart.carry(job, apart.recorder, apart.cancellation)
    assert 0 < outcome.data["born"] < 1000
    assert outcome.data["refused"] > 0


async def test_a_fork_bomb_within_its_limit_ends_with_its_run(hasty_apart: House, started: str) -> None:
    """P10: whatever is forked while it is being killed is killed too."""
    job = hasty_apart.job("hostile.py:bombs", {"started": started}, limits=Limits(processes=20))
    running = asyncio.ensure_future(hasty_apart.carry(job, hasty_apart.recorder, hasty_apart.cancellation))
    await begun(started)
    hasty_apart.cancellation.request("enough")
    outcome = await running
    assert (outcome.type, outcome.abandoned) == (CANCELLED, False)
    # A copy forked by hand has no mark in its environment: the server has no children but its spares.
    spares = hasty_apart.runner._nursery(None).spares
    async with asyncio.timeout(120):
        while len(family_of_server(hasty_apart)) > spares + 1:  # noqa: ASYNC110 - the dead wait to be collected
            await asyncio.sleep(0.005)


async def test_limits_are_set_for_what_a_run_starts_too(apart: House) -> None:
    limits = Limits(memory=2**30, cpu=parse_duration("90s"), open_files=100, processes=50)
    job = apart.job("hostile.py:tells_its_surroundings", {}, limits=limits)
    found = (await apart.carry(job, apart.recorder, apart.cancellation)).data["limits"]
    assert found["RLIMIT_DATA"][0] == 2**30
    assert found["RLIMIT_CPU"] == [90, 91]
    assert found["RLIMIT_NOFILE"] == [100, 100]
    assert found["RLIMIT_NPROC"][0] == found["RLIMIT_NPROC"][1] > 50


# Being told to end


@pytest.mark.parametrize("flow", ["cleans_up", "has_a_loop_of_its_own"])
async def test_sync_code_is_interrupted_where_it_stands_and_may_put_things_in_order(
    apart: House, flow: str, started: str
) -> None:
    running = apart.start(f"hostile.py:{flow}", started=started)
    await begun(started)
    apart.cancellation.request("enough")
    outcome = await running
    assert (outcome.type, outcome.message) == (CANCELLED, "enough")
    assert apart.recorder.messages == ["put in order"]


async def test_the_timeout_of_a_sync_flow_interrupts_even_a_sleep(apart: House) -> None:
    outcome = await apart.run("engine.py:sync_out_of_time")
    assert (outcome.type, outcome.name) == (FAILED, "TimedOut")
    assert outcome.message == "did not end within its timeout, 300ms"


HANGS = """
import signal, threading
{first}
while True:
    threading.Event().wait(1)
def work():
    pass
"""
DEAF = "for each in (signal.SIGINT, signal.SIGTERM): signal.signal(each, signal.SIG_IGN)"


@pytest.mark.parametrize("first", ["", DEAF], ids=["hears", "deaf"])
async def test_code_that_hangs_while_it_is_imported_is_ended_and_says_so(
    tmp_path: Path, apart_with: Callable[..., House], first: str
) -> None:
    (tmp_path / "hangs.py").write_text(HANGS.format(first=first))
    house = apart_with(grace=0.4, flows_dir=tmp_path, import_timeout=timedelta(seconds=1))
    outcome = await house.run("hangs.py:work")
    assert (outcome.type, outcome.name, outcome.abandoned) == (FAILED, "TimedOut", False)
    assert outcome.message == (
        'importing "hangs.py:work" did not end within 1s ([daemon] import_timeout); '
        "move what waits at import into the flow, or allow more"
    )
    assert not is_alive(process_of(house))


async def test_code_that_is_imported_has_the_time_of_its_deployment(
    apart_with: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_later = loop.call_later

    def noted(delay: float, call: Any, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        timer = call_later(delay, call, *arguments, **more)
        timers.extend([timer] if arguments == ("import",) else [])
        return timer

    monkeypatch.setattr(loop, "call_later", noted)
    house = apart_with(grace=60, import_timeout=timedelta(hours=1))
    running = house.start("endings.py:waits")
    await house.recorder.said("started")
    assert [timer.cancelled() for timer in timers] == [True]
    house.cancellation.request("enough")
    assert (await running).message == "enough"


# What it takes to end what does not want to: told, terminated, killed.
STUBBORN = ["computes", "computes_in_c", "ignores_being_told", "ignores_everything", "async_that_blocks"]


@pytest.mark.parametrize("flow", STUBBORN)
@pytest.mark.parametrize("why", ["timeout", "cancel"])
async def test_code_that_does_not_want_to_end_is_ended_within_the_grace(
    hasty_apart: House, flow: str, why: str, started: str
) -> None:
    """P10: nothing is left behind and nothing is abandoned."""
    running = hasty_apart.start(f"hostile.py:{flow}", timeout=1.0 if why == "timeout" else None, started=started)
    await begun(started)
    if why == "cancel":
        hasty_apart.cancellation.request("enough")
    outcome = await running
    assert (outcome.type, outcome.name) == ((FAILED, "TimedOut") if why == "timeout" else (CANCELLED, "Cancelled"))
    assert not outcome.abandoned
    assert hasty_apart.runner.abandoned == 0
    assert not is_alive(process_of(hasty_apart))


@pytest.mark.parametrize("marked", [True, False])
async def test_a_whole_tree_ends_with_its_run(hasty_apart: House, fifo: Fifo, marked: bool) -> None:
    """P10: other sessions, lost parents and emptied environments are no way out."""
    running = hasty_apart.start("hostile.py:grows_a_tree", held=fifo.path, marked=marked)
    await hasty_apart.recorder.said("grown")
    hasty_apart.cancellation.request("enough")
    assert (await running).type is CANCELLED
    await fifo.opened_and_closed()


async def test_what_a_flow_leaves_behind_is_ended_and_said(apart: House, fifo: Fifo) -> None:
    outcome = await apart.run("hostile.py:leaves_a_process_behind", held=fifo.path)
    assert outcome == Outcome(type=COMPLETED, name="Completed", data="done")
    await fifo.opened_and_closed()
    assert apart.recorder.messages == ["the flow left a process behind, which had to be ended"]


async def test_many_processes_of_a_run_end_with_it(apart: House) -> None:
    outcome = await apart.run("hostile.py:forks", count=60)
    assert outcome.data == {"born": 60, "refused": 0}
    assert apart.recorder.messages == ["the flow left 60 processes behind, which had to be ended"]
    mark = [p.pid for p in process_table.processes() if process_table.variable(p.pid, "TIDEMILL_RUN_ID") == "run-1"]
    assert mark == []


async def test_a_worker_that_is_cancelled_takes_its_process_along(apart: House, started: str) -> None:
    running = apart.start("hostile.py:cleans_up", started=started)
    await begun(started)
    report = process_of(apart)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(120):
        while is_alive(report):  # noqa: ASYNC110 - another process's end has no event here
            await asyncio.sleep(0.005)


# After the flow


async def test_threads_and_exit_handlers_have_their_time(apart: House, tmp_path: Path) -> None:
    outcome = await apart.run("hostile.py:does_something_at_exit", done=str(tmp_path / "done"))
    assert outcome.data == "done"
    assert (tmp_path / "done").read_text() == "at exit"
    await apart.run("hostile.py:leaves_a_thread", started=str(tmp_path / "thread"))
    assert (tmp_path / "thread").exists()
    assert [(log.logger, log.message) for log in apart.recorder.logs] == [("stdout", "in the thread")]


# Output


async def test_what_is_written_past_python_is_the_runs_output_too(apart: House) -> None:
    await apart.run("hostile.py:speaks_past_python")
    said = {(log.level, log.logger, log.message) for log in apart.recorder.logs}
    assert said == {
        (logging.INFO, "print", "by print"),
        (logging.INFO, "stdout", "by C"),
        (logging.INFO, "stdout", "by a command"),
        (logging.WARNING, "stderr", "t\ufffdlpel \ufffd"),
        (logging.WARNING, "stderr", "unfinished"),
    }


async def test_a_copy_of_the_process_does_not_speak_for_it(apart: House) -> None:
    outcome = await apart.run("hostile.py:speaks_in_a_fork")
    assert outcome.data == "done"
    said = [(log.logger, log.message) for log in apart.recorder.logs]
    assert [each for each in said if each[0] == "print"] == [("print", "before"), ("print", "after")]
    assert ("stdout", "in the copy") in said


async def test_a_flow_may_have_a_pool_of_processes(apart: House) -> None:
    assert (await apart.run("hostile.py:uses_a_pool")).data == [1, 2, 3]
    assert apart.recorder.messages == []


@pytest.mark.parametrize("flow", [pytest.param("prints", marks=pytest.mark.slow), "writes_past_python"])
async def test_a_million_lines_are_cut_and_counted_and_hold_nobody_up(apart: House, flow: str) -> None:
    """P10, P13: the loop stays free, the log bounded, and what was cut is said."""
    late: list[float] = []
    watching = asyncio.ensure_future(_watch(late))
    outcome = await apart.run(f"hostile.py:{flow}", count=1_000_000)
    watching.cancel()
    assert outcome.data == 1_000_000
    lines = [log for log in apart.recorder.logs if log.logger in ("print", "stdout")]
    told = [log.message for log in apart.recorder.logs if log.logger == "tidemill"]
    dropped = sum(int(message.removesuffix(" lines dropped")) for message in told)
    extra = 0 if flow == "prints" else 1
    assert len(lines) + dropped == 1_000_000 + extra
    assert 1000 <= len(lines) < 100_000
    assert max(late) < 2  # the figure itself is the benchmark's; here it must not be many seconds


async def _watch(late: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.005
        await asyncio.sleep(0.005)
        late.append(loop.time() - due)


# Many


async def test_hundreds_of_starts_leak_no_file_no_process_and_no_thread(apart: House) -> None:
    await apart.run("endings.py:sync_returns")
    await apart.runner._nursery(None).warm()
    files, tasks = entries("fd"), entries("task")
    children = len(family_of_server(apart))

    async def one(number: int) -> Outcome:
        job = apart.job("endings.py:sync_returns", {"value": number}, run_id=f"run-{number}")
        outcome: Outcome = await apart.runner.run(job, type(apart.recorder)(), Cancellation())
        return outcome

    for begin in range(0, 300, 20):
        outcomes = await asyncio.gather(*(one(number) for number in range(begin, begin + 20)))
        assert [outcome.data for outcome in outcomes] == list(range(begin, begin + 20))
    await apart.runner._nursery(None).warm()
    async with asyncio.timeout(120):
        while len(family_of_server(apart)) != children:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert entries("fd") == files
    assert entries("task") <= tasks + 1  # the loop's own pool of threads may have grown to its second


def entries(folder: str) -> int:
    return len(list(Path("/proc/self", folder).iterdir()))


def family_of_server(house: House) -> list[int]:
    pid = house.runner._nursery(None).server_pid
    return [each.pid for each in process_table.processes() if each.parent == pid]
