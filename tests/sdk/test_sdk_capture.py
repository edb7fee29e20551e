"""What flow code prints or logs carries its run, and nothing else does."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tidemill.sdk import NoRunError, RunContext, get_run_logger
from tidemill.sdk.capture import RunStream, install, uninstall
from tidemill.sdk.context import current

NewRun = Callable[[str], RunContext]


@contextmanager
def captured() -> Iterator[None]:
    """Within a test, as pytest puts its own streams in place between a fixture and the test."""
    install()
    try:
        yield
    finally:
        uninstall()


def inside(run: RunContext, call: Callable[[], object]) -> RunContext:
    """Call in the context of ``run``, with capture, and end the run."""

    def begin() -> None:
        current.set(run)
        call()

    with captured():
        contextvars.copy_context().run(begin)
    run.close()
    return run


def told(run: RunContext) -> list[tuple[int, str, str]]:
    return [(log.level, log.logger, log.message) for log in run.recorder.logs]


def test_a_print_is_a_line_of_its_run(new_run: NewRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = inside(new_run("a"), lambda: print("hello", "world"))
    assert told(run) == [(logging.INFO, "print", "hello world")]
    assert capsys.readouterr().out == ""


def test_what_a_run_writes_as_bytes_goes_when_it_flushes(new_run: NewRun) -> None:
    """``sys.stdout.buffer`` is the process's own, whose output is the run's in a process pool."""
    with io.TextIOWrapper(io.BufferedWriter(raw := Raw())) as original:
        stream = RunStream(original, "print")

        def writes() -> None:
            current.set(new_run("a"))
            stream.buffer.write(b"\xff bytes\n")
            stream.flush()

        contextvars.copy_context().run(writes)
        assert raw.got == b"\xff bytes\n"


def test_a_stream_that_is_closed_is_not_the_concern_of_a_run_that_flushes(new_run: NewRun) -> None:
    original = io.StringIO()
    original.close()

    def flushes() -> None:
        current.set(new_run("a"))
        RunStream(original, "print").flush()

    contextvars.copy_context().run(flushes)


class Raw(io.RawIOBase):
    """Keeps what it is given."""

    got = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.got += bytes(data)
        return len(data)


def test_standard_error_is_a_warning(new_run: NewRun) -> None:
    run = inside(new_run("a"), lambda: print("careful", file=sys.stderr))
    assert told(run) == [(logging.WARNING, "stderr", "careful")]


def test_outside_a_run_prints_go_where_they_always_went(capsys: pytest.CaptureFixture[str]) -> None:
    install()
    try:
        print("the daemon speaks")
        assert not sys.stdout.isatty()
        sys.stdout.writelines(["a", "b\n"])
        sys.stdout.flush()
    finally:
        uninstall()
    assert capsys.readouterr().out == "the daemon speaks\nab\n"


async def test_runs_that_print_by_turns_are_told_apart(new_run: NewRun) -> None:
    runs = {name: new_run(name) for name in "ab"}

    async def flow(run: RunContext) -> None:
        current.set(run)
        for number in range(3):
            print(run.job.run_id, end=" ")
            await asyncio.sleep(0)
            print(number)
        run.close()

    with captured():
        await asyncio.gather(*map(flow, runs.values()))
    assert {name: run.recorder.messages for name, run in runs.items()} == {
        name: [f"{name} 0", f"{name} 1", f"{name} 2"] for name in "ab"
    }


async def test_a_thread_of_a_run_prints_for_it(new_run: NewRun) -> None:
    run = new_run("a")

    async def flow() -> None:
        current.set(run)
        await asyncio.to_thread(print, "from a thread")

    with captured():
        await asyncio.create_task(flow())
    assert run.recorder.messages == ["from a thread"]


def test_many_threads_of_one_run_lose_no_line(new_run: NewRun) -> None:
    run = new_run("a")

    def flow() -> None:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(lambda: sys.stdout.write("x\n" * 500),))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert inside(run, flow).recorder.messages == ["x"] * 2000


def test_an_unfinished_line_is_told_at_the_end(new_run: NewRun) -> None:
    run = inside(new_run("a"), lambda: print("no end of line", end=""))
    assert run.recorder.messages == ["no end of line"]


def test_a_record_keeps_its_logger_and_level(new_run: NewRun) -> None:
    run = inside(new_run("a"), lambda: logging.getLogger("pandas.io").error("row %d", 7))
    assert told(run) == [(logging.ERROR, "pandas.io", "row 7")]


def test_the_run_logger_reaches_the_run_at_every_level(new_run: NewRun) -> None:
    run = inside(new_run("a"), lambda: get_run_logger().debug("detail"))
    assert told(run) == [(logging.DEBUG, "tidemill.flow_runs", "detail")]


def test_an_exception_is_logged_with_its_traceback(new_run: NewRun) -> None:
    def flow() -> None:
        try:
            raise OSError("no disk")
        except OSError:
            get_run_logger().exception("it failed")

    message = inside(new_run("a"), flow).recorder.messages[0]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("OSError: no disk")


def test_what_the_house_logs_on_behalf_of_a_run_stays_the_daemons(new_run: NewRun) -> None:
    run = inside(new_run("a"), lambda: logging.getLogger("tidemill.services.worker").error("an inner matter"))
    assert told(run) == []


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_the_daemons_own_handler_no_longer_sees_what_runs_log(new_run: NewRun) -> None:
    handler = Kept()
    logging.getLogger().addHandler(handler)
    install([handler])
    try:
        run = new_run("a")
        contextvars.copy_context().run(lambda: (current.set(run), logging.getLogger("pandas").error("of a run")))
        logging.getLogger("pandas").error("of the daemon")
    finally:
        uninstall([handler])
        logging.getLogger().removeHandler(handler)
    assert handler.messages == ["of the daemon"]
    assert handler.filters == []


def test_the_run_logger_outside_a_run_is_an_error_that_says_so() -> None:
    with pytest.raises(NoRunError, match="does not run inside a flow run"):
        get_run_logger()


def test_installing_twice_is_installing_once(new_run: NewRun) -> None:
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    install()
    run = inside(new_run("a"), lambda: (print("once"), logging.getLogger("x").error("once")))
    assert run.recorder.messages == ["once", "once"]
    assert before == (sys.stdout, sys.stderr, logging.getLogger().handlers)


def test_bytes_are_refused_as_by_any_text_stream(new_run: NewRun) -> None:
    with pytest.raises(TypeError, match="must be str, not bytes"):
        inside(new_run("a"), lambda: sys.stdout.write(b"x"))


def test_a_record_that_ends_in_a_newline_is_no_line_more(new_run: NewRun) -> None:
    """Those of Python's warnings do, where logging captures them."""
    run = inside(new_run("a"), lambda: logging.getLogger("py.warnings").warning("%s", "old\n  warn()\n"))
    assert run.recorder.messages == ["old\n  warn()"]


def test_a_python_warning_reaches_its_run(new_run: NewRun) -> None:
    def flow() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    run = new_run("a")
    with warnings.catch_warnings():  # pytest records warnings instead of showing them
        warnings.showwarning = lambda *given, **_: print(given[0], file=sys.stderr)
        inside(run, flow)
    assert run.recorder.messages == ["old"]
