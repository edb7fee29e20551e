"""[log] file: the same lines as on stdout, whatever logrotate does with it."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes import FakeClock
from tidemill.errors import EXIT_CONFIG, LogFileError
from tidemill.telemetry import logs
from tidemill.telemetry.files import FileSink
from tidemill.telemetry.logs import EventLog
from tidemill.telemetry.redaction import MASK, Redactor

SECRET = "hunter22-and-more"
logger = logging.getLogger("tidemill.clock")


def sink_at(path: Path) -> FileSink:
    return FileSink(path, notice=lambda count: f"{count} lines dropped\n")


def say(sink: FileSink, *lines: str) -> None:
    """Write lines and wait until they have left."""
    for line in lines:
        sink.write(f"{line}\n", 1)
    assert sink.flush()


@contextmanager
def log_with(file: Path, **settings: object) -> Iterator[tuple[EventLog, io.StringIO]]:
    stream = io.StringIO()
    now = datetime(2026, 11, 21, 7, tzinfo=UTC)
    log = logs.setup(
        redactor=Redactor([SECRET]), clock=FakeClock(now), stream=stream, zone=UTC, environ={}, file=str(file),
        **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        yield log, stream
    finally:
        log.close()


def test_the_file_gets_the_lines_of_stdout_without_secrets(tmp_path: Path) -> None:
    """P14."""
    file = tmp_path / "mill.log"
    with log_with(file) as (_, stream):
        logger.info("with %s", SECRET)
    assert file.read_text() == stream.getvalue() == f"2026-11-21 07:00:00+00:00 INFO  clock{' ' * 24}with {MASK}\n"
    assert file.stat().st_mode & 0o007 == 0


def test_the_file_is_plain_and_whole_where_stdout_is_a_terminal_or_the_journal(tmp_path: Path) -> None:
    file = tmp_path / "mill.log"
    with log_with(file, under_journald=True) as (_, stream):
        logger.info("said")
    assert stream.getvalue().startswith("<6>clock") or stream.getvalue().startswith("<6>INFO")
    assert file.read_text().startswith("2026-11-21 07:00:00+00:00 INFO  clock")


def test_the_file_has_the_configured_form(tmp_path: Path) -> None:
    file = tmp_path / "mill.log"
    with log_with(file, format="json"):
        logger.info("said")
    assert json.loads(file.read_text())["message"] == "said"


def test_another_file_takes_over_and_none_ends_it(tmp_path: Path) -> None:
    first, second = tmp_path / "1.log", tmp_path / "2.log"
    with log_with(first) as (log, stream):
        logger.info("one")
        log.to_file(str(second))
        logger.info("two")
        with pytest.raises(LogFileError):
            log.to_file(str(tmp_path / "gone" / "3.log"))
        logger.info("three")
        log.to_file(None)
        logger.info("four")
    assert [line.split()[-1] for line in first.read_text().splitlines()] == ["one"]
    assert [line.split()[-1] for line in second.read_text().splitlines()] == ["two", "three"]
    assert len(stream.getvalue().splitlines()) == 4


def test_a_file_that_was_moved_away_is_made_anew_at_the_next_line(tmp_path: Path) -> None:
    """logrotate's way: what is written before the move stays with the old file, what comes after is in the new one."""
    file = tmp_path / "mill.log"
    sink = sink_at(file)
    say(sink, "one")
    file.rename(tmp_path / "mill.log.1")
    say(sink, "two")
    (tmp_path / "mill.log.1").rename(tmp_path / "mill.log.2")
    file.rename(tmp_path / "mill.log.1")
    file.touch(mode=0o600)  # logrotate's `create`
    say(sink, "three")
    sink.close()
    assert [(tmp_path / name).read_text() for name in ("mill.log.2", "mill.log.1", "mill.log")] == [
        "one\n", "two\n", "three\n"
    ]  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_copied_and_cut_goes_on_from_its_beginning(tmp_path: Path) -> None:
    """logrotate's `copytruncate`: no hole of zeros where the old lines were."""
    file = tmp_path / "mill.log"
    sink = sink_at(file)
    say(sink, "one", "two")
    shutil.copy(file, tmp_path / "mill.log.1")
    os.truncate(file, 0)
    say(sink, "three")
    sink.close()
    assert (tmp_path / "mill.log.1").read_text() == "one\ntwo\n"
    assert file.read_text() == "three\n"


def test_a_file_that_was_deleted_is_there_again_and_another_behind_the_link_is_found(tmp_path: Path) -> None:
    file, a, b = tmp_path / "mill.log", tmp_path / "a", tmp_path / "b"
    file.symlink_to(a)
    sink = sink_at(file)
    say(sink, "one")
    a.unlink()
    say(sink, "two")
    file.unlink()
    file.symlink_to(b)
    say(sink, "three")
    sink.close()
    assert (a.read_text(), b.read_text()) == ("two\n", "three\n")


def test_lines_without_a_place_are_counted_and_told_when_there_is_one(tmp_path: Path) -> None:
    """P13."""
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = sink_at(folder / "mill.log")
    say(sink, "one")
    shutil.rmtree(folder)
    say(sink, "two", "three")
    assert sink.dropped == 2
    folder.mkdir()
    say(sink, "four")
    sink.close()
    assert (folder / "mill.log").read_text() == "2 lines dropped\nfour\n"


def test_while_lines_have_no_place_it_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    with log_with(folder / "mill.log") as (log, _):
        logger.info("one")
        assert (log.flush(), log.problems()) == (True, [])
        shutil.rmtree(folder)
        logger.info("two")
        assert log.flush()
        (problem,) = log.problems()
        assert problem.startswith(f"[log] file: {folder}/mill.log cannot be opened: its folder is not there")
        folder.mkdir()
        logger.info("three")
        assert (log.flush(), log.problems()) == (True, [])


def test_after_a_line_that_was_torn_by_a_full_disk_the_next_one_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mill.log"
    sink = sink_at(file)
    say(sink, "one")
    real, left = os.write, [4]

    def write(descriptor: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        done = real(descriptor, data[: left[0]])
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", write)
    say(sink, "two-is-torn")
    monkeypatch.setattr(os, "write", real)
    say(sink, "three")
    sink.close()
    assert file.read_text() == "one\ntwo-\n1 lines dropped\nthree\n"


@pytest.mark.parametrize("kind", ["folder missing", "a folder", "a pipe", "a device"])
def test_what_cannot_be_a_log_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder missing":
        path = tmp_path / "gone" / "mill.log"
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    with pytest.raises(LogFileError, match=str(path)) as caught:
        sink_at(path)
    assert caught.value.exit_code == EXIT_CONFIG


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed here")
@pytest.mark.parametrize("way", ["create 0600", "copytruncate", "nocreate"])
def test_logrotate_itself_loses_no_line(tmp_path: Path, way: str) -> None:
    tmp_path.chmod(0o755)
    file, rules = tmp_path / "mill.log", tmp_path / "rules"
    rules.write_text(f"{file} {{\n rotate 9\n {way}\n su {os.getuid()} {os.getgid()}\n}}\n")
    rules.chmod(0o644)
    sink = sink_at(file)
    for number in range(4):
        say(sink, f"line {number}")
        command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(rules)]
        subprocess.run(command, check=True, timeout=180)
    say(sink, "last")
    sink.close()
    lines = "".join(path.read_text() for path in sorted(tmp_path.glob("mill.log*"), reverse=True)).splitlines()
    assert lines == ["line 0", "line 1", "line 2", "line 3", "last"]
