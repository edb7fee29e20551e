"""Every event is an entry of the journal, with fields to search by, whatever it says (P13, P14)."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes import FakeClock
from tidemill.telemetry import logs
from tidemill.telemetry.entries import Entry
from tidemill.telemetry.formats import HumanFormat
from tidemill.telemetry.journal import JournalForm, JournalSink, datagram
from tidemill.telemetry.redaction import MASK, Redactor

NOW = datetime(2026, 11, 21, 7, 0, 0, 200_000, tzinfo=UTC)
SECRET = "hunter22-and-more"
Fields = dict[str, str]


class Journal:
    """What journald does with its socket: takes entries apart, those that come as a file, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = 0  # entries that were too large for a datagram
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(120)

    def next(self) -> Fields:
        return parsed(self.receive())

    def receive(self) -> bytes:
        data, rights, _, _ = socket.recv_fds(self._socket, 1 << 18, 1)
        if rights:
            self.files += 1
            with os.fdopen(rights[0], "rb") as file:
                file.seek(0)
                data = file.read()
        return data

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


def parsed(data: bytes) -> Fields:
    """systemd's JOURNAL_NATIVE_PROTOCOL.md, read the other way round."""
    fields: Fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + length], data[8 + length :]
            assert data[:1] == b"\n"
            data = data[1:]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "socket")
    yield found
    if found.path.exists():
        found.close()


@contextmanager
def log_to(journal: Journal, descriptor: int, **settings: object) -> Iterator[logs.EventLog]:
    """The log as the daemon sets it up under systemd, its stdout being the journal's stream."""
    found = os.fstat(descriptor)
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    with os.fdopen(os.dup(descriptor), "w") as stream:
        log = logs.setup(
            redactor=Redactor([SECRET]),
            clock=FakeClock(NOW),
            stream=stream,
            environ=environ,
            journal_socket=journal.path,
            **settings,
        )
        try:
            yield log
        finally:
            log.close()


@pytest.fixture
def stderr(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "stream"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    yield descriptor, path
    os.close(descriptor)


def entry(message: str = "Completed in 0.2 s", **fields: object) -> Entry:
    return Entry(NOW, logging.INFO, "bored-daily brisk-otter", message, fields, True)


def test_an_event_is_an_entry_with_fields_to_search_by(journal: Journal, stderr: tuple[int, Path]) -> None:
    with log_to(journal, stderr[0]) as log:
        log.put([entry(run="brisk-otter", run_id="0193", deployment="bored-daily", state="Completed", attempt=1)])
        found = journal.next()
    assert found == {
        "MESSAGE": "bored-daily brisk-otter      Completed in 0.2 s",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "tidemill",
        "TIDEMILL_SUBJECT": "bored-daily brisk-otter",
        "TIDEMILL_RUN": "brisk-otter",
        "TIDEMILL_RUN_ID": "0193",
        "TIDEMILL_DEPLOYMENT": "bored-daily",
        "TIDEMILL_STATE": "Completed",
        "TIDEMILL_ATTEMPT": "1",
    }
    assert stderr[1].read_text() == "", "nothing is said twice"


@pytest.mark.parametrize(("level", "priority"), [(10, "7"), (20, "6"), (30, "4"), (40, "3"), (50, "2")])
def test_a_record_of_the_daemon_has_its_priority_and_its_event(
    journal: Journal, stderr: tuple[int, Path], level: int, priority: str
) -> None:
    with log_to(journal, stderr[0], level="debug"):
        logging.getLogger("tidemill.reload").log(
            level, "read %s", "a file", extra={"fields": {"event": "config-reloaded"}}
        )
        found = journal.next()
    assert (found["PRIORITY"], found["TIDEMILL_EVENT"]) == (priority, "config-reloaded")
    assert found["MESSAGE"] == f"{'reload':<28} read a file", "what is a field is not said again"


def test_an_exception_is_one_line_and_its_traceback_a_field_of_many(journal: Journal, stderr: tuple[int, Path]) -> None:
    with log_to(journal, stderr[0]):
        try:
            raise ValueError("no\nmore")
        except ValueError:
            logging.getLogger("tidemill.x").exception("it failed")
        found = journal.next()
    assert "\n" not in found["MESSAGE"]
    assert "it failed: ValueError: no" in found["MESSAGE"]
    assert found["TIDEMILL_TRACEBACK"].splitlines()[0] == "Traceback (most recent call last):"
    assert len(found["TIDEMILL_TRACEBACK"].splitlines()) > 3


NASTY = [
    "two\nPRIORITY=0\nlines",  # no text may make a field
    "\x1b[31mred",
    "half a pair \ud83d",
    "naïve ☃ 𝄞",
    "",
    "=",
]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_no_text_breaks_an_entry_or_makes_a_field(journal: Journal, stderr: tuple[int, Path], text: str) -> None:
    with log_to(journal, stderr[0]) as log:
        log.put([Entry(NOW, logging.INFO, text, text, {"deployment": text, text or "k": 1}, True)])
        found = journal.next()
    assert found["PRIORITY"] == "6"
    assert set("".join(found)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    assert not any("\n" in value or "\x1b" in value for value in found.values())


def test_secrets_are_in_no_field(journal: Journal, stderr: tuple[int, Path]) -> None:
    """P14."""
    with log_to(journal, stderr[0]) as log:
        log.put([entry(f"token {SECRET}", deployment=SECRET, state="Failed")])
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.getLogger("tidemill.x").exception("it failed")
        found, raised = journal.next(), journal.next()
    assert found["TIDEMILL_DEPLOYMENT"] == MASK
    assert SECRET not in str(found) + str(raised)
    assert MASK in raised["TIDEMILL_TRACEBACK"]


def test_what_is_too_large_for_a_datagram_goes_as_a_sealed_file(journal: Journal, tmp_path: Path) -> None:
    sink = JournalSink(1, notice=str, path=journal.path)
    form = JournalForm(HumanFormat(times="none", bare=True))
    large = entry(**{f"field_{number}": "x" * 10_000 for number in range(60)})
    sink.write(form(large) + "\n" + form(entry("small")) + "\n", 2)
    first, second = journal.next(), journal.next()
    sink.close()
    assert journal.files == 1
    assert first["TIDEMILL_FIELD_59"] == "x" * 10_000
    assert second["MESSAGE"].endswith("small"), "in their order"


def test_while_the_journal_is_away_lines_go_to_the_stream_with_their_priority(
    journal: Journal, stderr: tuple[int, Path]
) -> None:
    with log_to(journal, stderr[0]) as log:
        log.put([entry("before")])
        assert journal.next()["MESSAGE"].endswith("before")
        journal.close()
        log.put([entry("meanwhile", state="Completed")])
        assert log.flush()
        again = Journal(journal.path)
        log.put([entry("after")])
        assert again.next()["MESSAGE"].endswith("after")
        again.close()
    assert stderr[1].read_text() == "<6>bored-daily brisk-otter      meanwhile\n"


def test_without_the_journal_s_socket_there_are_lines_with_priorities(
    journal: Journal, stderr: tuple[int, Path]
) -> None:
    """A container may have the stream and not the socket."""
    journal.close()
    with log_to(journal, stderr[0]) as log:
        log.put([entry("hello")])
    assert stderr[1].read_text() == "<6>INFO  bored-daily brisk-otter      hello\n"


def test_every_line_that_is_dropped_is_counted_in_an_entry(journal: Journal, stderr: tuple[int, Path]) -> None:
    """P13."""
    form = JournalForm(HumanFormat(times="none", bare=True))
    sink = JournalSink(
        stderr[0], notice=lambda count: form(entry(f"{count} lines dropped")) + "\n", path=journal.path, limit=500
    )
    line = form(entry("y" * 300)) + "\n"
    for _ in range(2_000):  # nobody reads, and the socket's queue is shorter
        sink.write(line, 1)
    assert 0 < sink.dropped < 2_000
    lines = told = 0
    while lines + told < 2_000:
        message = journal.next()["MESSAGE"].split()
        if message[-1] == "dropped":
            told += int(message[-3])
        else:
            lines += 1
    assert told == sink.dropped
    sink.close()


def test_every_one_of_several_values_is_found(journal: Journal, stderr: tuple[int, Path]) -> None:
    """``journalctl TIDEMILL_ADDED=report`` finds the reload that added it."""
    with log_to(journal, stderr[0]) as log:
        log.put([entry(added=("bored", "report"), removed=[])])
        data = journal.receive()
    assert b"TIDEMILL_ADDED=bored\nTIDEMILL_ADDED=report\n" in data
    assert b"REMOVED" not in data


def test_a_datagram_with_a_line_end_says_its_length() -> None:
    assert datagram({"C": ["1", "2"]}) == b"C=1\nC=2\n", "several values are several lines"
    assert datagram({"A": "1", "B": "x\ny"}) == b"A=1\nB\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\n"
