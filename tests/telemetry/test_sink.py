"""Log lines leave through a thread of their own: whoever reads them, or does not, never holds up the loop (P13)."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.telemetry.sink import DescriptorSink

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue  # the test closed it


def notice(count: int) -> str:
    return f"{count} lines dropped\n"


def read_lines(descriptor: int, until: str) -> list[str]:
    text = ""
    while not text.endswith(until):
        text += os.read(descriptor, 65_536).decode()
    return text.splitlines()


def test_lines_leave_in_their_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = DescriptorSink(writer, notice=notice)
    for number in range(100):
        sink.write(f"{number}\n", 1)
    assert sink.flush()
    assert read_lines(reader, "99\n") == [str(number) for number in range(100)]
    sink.close()


def test_a_reader_that_does_not_read_holds_up_nobody_and_the_drops_are_said_in_their_place(
    pipe: tuple[int, int],
) -> None:
    """Writing returns though nothing leaves: if it waited, this test would hang, for nobody reads meanwhile."""
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sink = DescriptorSink(writer, notice=notice, limit=20_000)
    sink.write("a" * 7_999 + "\n", 1)
    select.select([reader], [], [])  # the thread is writing it, and comes to no end
    for _ in range(1_000):
        sink.write(LINE, 1)
    assert not sink.flush(timeout_s=0)
    kept = (20_000 - 8_000) // len(LINE)
    assert sink.dropped == 1_000 - kept
    lines = read_lines(reader, "dropped\n")
    assert lines == ["a" * 7_999] + [LINE.strip()] * kept + [f"{1_000 - kept} lines dropped"]
    sink.write("after\n", 1)
    assert read_lines(reader, "after\n") == ["after"]
    sink.close()


def test_a_line_after_drops_stands_behind_their_notice(pipe: tuple[int, int]) -> None:
    """Also where older lines still wait: the notice is put in its place, not at the end."""
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sink = DescriptorSink(writer, notice=notice, limit=16_500)
    sink.write("a" * 7_999 + "\n", 1)
    select.select([reader], [], [])  # the thread is writing it, and alone
    sink.write("b" * 7_999 + "\n", 1)
    sink.write("c" * 7_999 + "\n", 1)  # does not fit
    assert sink.dropped == 1
    seen = ""
    while len(seen) < 8_000:
        seen += os.read(reader, 8_000 - len(seen)).decode()
    dropped = 0
    while dropped != sink.dropped:  # until the thread has noticed that there is room
        dropped = sink.dropped
        sink.write("fits\n", 1)
    seen += "\n".join(read_lines(reader, "fits\n"))
    assert seen.splitlines()[1:] == ["b" * 7_999, f"{dropped} lines dropped", "fits"]
    sink.close()


def test_a_reader_that_has_gone_costs_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    sink = DescriptorSink(writer, notice=notice)
    for total in (2, 4):
        sink.write(LINE * 2, 2)
        assert sink.flush()
        assert sink.dropped == total
    sink.close()


def test_a_full_disk_costs_lines_until_there_is_space_again(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    full = os.open("/dev/full", os.O_WRONLY)
    descriptor = os.dup(full)
    sink = DescriptorSink(descriptor, notice=notice)
    for _ in range(2):
        sink.write(LINE * 3, 3)
        assert sink.flush()
    os.dup2(writer, descriptor)  # the disk has space again
    sink.write("after\n", 1)
    assert sink.flush()
    assert read_lines(reader, "after\n") == ["6 lines dropped", "after"]
    sink.close()
    os.close(full)
    os.close(descriptor)


def test_a_descriptor_that_somebody_made_non_blocking_still_gets_everything(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    sink = DescriptorSink(writer, notice=notice)
    for _ in range(300):
        sink.write(LINE, 1)
    sink.write("end\n", 1)
    assert read_lines(reader, "end\n") == [LINE.strip()] * 300 + ["end"]
    assert sink.flush()
    sink.close()


def test_a_closed_sink_counts_what_comes_too_late(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    sink = DescriptorSink(writer, notice=notice)
    sink.close()
    sink.write(LINE, 1)
    assert sink.dropped == 1


PROGRAM = textwrap.dedent(
    """
    import logging
    from tidemill.clock import SystemClock
    from tidemill.telemetry import logs
    from tidemill.telemetry.redaction import Redactor
    log = logs.setup(redactor=Redactor(), clock=SystemClock(), max_lines_per_second=0)
    for number in range({count}):
        logging.getLogger("tidemill.x").info("line %d of a program that ends without a word", number)
    """
)


def test_a_program_that_just_ends_has_its_lines_written(tmp_path: Path) -> None:
    """logging.shutdown flushes the handler at exit; nobody has to remember it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(count=300)], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 300
    assert done.stderr == ""


@pytest.mark.slow
def test_a_blocked_stdout_does_not_keep_a_program_from_ending(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(count=5000)], stdout=writer, timeout=180, check=False)
    assert done.returncode == 0
