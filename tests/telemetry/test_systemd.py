"""systemd hears how the daemon is, over a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tidemill import systemd
from tidemill.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket as systemd's, and the environment that names it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@tidemill-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1))
        receiver.setblocking(False)
        yield receiver, {"NOTIFY_SOCKET": name}


MESSAGES = [
    (lambda n: n.ready("3 deployments"), "READY=1\nSTATUS=3 deployments"),
    (lambda n: n.ready(), "READY=1"),
    # sd_notify(3): a reload has to carry the instant it began, in microseconds of CLOCK_MONOTONIC
    (lambda n: n.reloading(12.5), "RELOADING=1\nMONOTONIC_USEC=12500000"),
    (lambda n: n.stopping("2 runs left"), "STOPPING=1\nSTATUS=2 runs left"),
    (lambda n: n.status("one\nREADY=1"), "STATUS=one READY=1"),
    (lambda n: n.watchdog(), "WATCHDOG=1"),
    (lambda n: n.extend_timeout(timedelta(seconds=2)), "EXTEND_TIMEOUT_USEC=2000000"),
]


@pytest.mark.parametrize(("tell", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_a_message_arrives_as_systemd_reads_it(listener, tell, message) -> None:
    receiver, environ = listener
    notifier = Notifier(environ)
    assert notifier.wanted
    assert tell(notifier)
    assert receiver.recv(4096).decode() == message
    notifier.close()


def test_a_closed_notifier_opens_its_socket_anew(listener) -> None:
    receiver, environ = listener
    notifier = Notifier(environ)
    assert notifier.watchdog()
    notifier.close()
    assert notifier.watchdog()
    assert receiver.recv(64) == receiver.recv(64) == b"WATCHDOG=1"
    notifier.close()


def test_a_full_socket_drops_the_message_and_does_not_wait(listener) -> None:
    _, environ = listener
    notifier = Notifier(environ)
    assert any(not notifier.watchdog() for _ in range(100_000))
    notifier.close()


@pytest.mark.parametrize("value", ["", "relative/path", "vsock:2:1234", "/nowhere/at/all"])
def test_without_a_listener_nothing_is_sent_and_nothing_raised(value: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": value})
    assert not notifier.ready()
    notifier.close()


def test_an_empty_status_is_not_sent(listener) -> None:
    receiver, environ = listener
    assert not Notifier(environ).status("")
    with pytest.raises(BlockingIOError):
        receiver.recv(64)


WATCHDOGS = [
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, timedelta(seconds=30)),
    ({"WATCHDOG_USEC": "30000000"}, timedelta(seconds=30)),
    # meant for another process: a child must not feed its parent's watchdog
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None),
    ({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "me"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("environ", "interval"), WATCHDOGS)
def test_the_watchdog_interval_is_read_where_it_is_meant_for_us(environ, interval) -> None:
    assert systemd.watchdog_interval(environ, pid=7) == interval


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({"SYSTEMD_EXEC_PID": "7"}, True),
        ({"SYSTEMD_EXEC_PID": "8", "NOTIFY_SOCKET": "/run/x"}, False),  # started by a service, not by systemd
        ({"NOTIFY_SOCKET": "/run/x"}, True),
        ({}, False),
    ],
)
def test_a_service_knows_that_systemd_started_it(environ, answer: bool) -> None:
    assert systemd.under_systemd(environ, pid=7) is answer


def test_the_credentials_directory_is_the_environment_s() -> None:
    assert systemd.credentials_directory({"CREDENTIALS_DIRECTORY": "/run/credentials/x"}) == Path("/run/credentials/x")
    assert systemd.credentials_directory({}) is None
    assert systemd.credentials_directory({"CREDENTIALS_DIRECTORY": "here"}) is None


def test_the_journal_s_stream_is_known_by_its_inode(tmp_path: Path) -> None:
    """JOURNAL_STREAM is inherited by children whose stdout was redirected elsewhere: the file itself decides."""
    with (tmp_path / "journal").open("w") as journal, (tmp_path / "other").open("w") as other:
        of = os.fstat(journal.fileno())
        environ = {"JOURNAL_STREAM": f"{of.st_dev}:{of.st_ino}"}
        assert systemd.is_journal(journal.fileno(), environ)
        assert not systemd.is_journal(other.fileno(), environ)
        assert not systemd.is_journal(journal.fileno(), {})
        assert not systemd.is_journal(journal.fileno(), {"JOURNAL_STREAM": "a:b"})
    assert not systemd.is_journal(-1, environ)


@pytest.mark.parametrize(("level", "number"), [(60, 2), (50, 2), (40, 3), (35, 4), (30, 4), (20, 6), (10, 7), (5, 7)])
def test_a_level_has_the_journal_s_priority(level: int, number: int) -> None:
    assert systemd.priority(level) == number
