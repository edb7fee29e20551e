"""The pipe protocol's form: packets and messages, whole and in parts, and the child's end of it."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.deployments import FlowKind, FlowRef, Limits, SecretRef
from tidemill.core.ports import Job, Outcome
from tidemill.core.reports import LogReport, SecretQuestion, TaskReport
from tidemill.core.states import State, StateType
from tidemill.errors import ConfigError, NotFoundError, TidemillError
from tidemill.runners import protocol
from tidemill.runners.channel import MOST_LINES, Channel
from tidemill.runners.protocol import (
    Answer,
    Ask,
    Cancel,
    Done,
    Flush,
    Flushed,
    Hello,
    Limit,
    Packets,
    ProtocolError,
    Start,
)

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
STATE = State(type=StateType.RUNNING, name="Running", timestamp=NOW)
LINE = LogReport(at=NOW, level=20, logger="print", message="hello")
TASK = TaskReport(id="1" * 36, name="t", task_key="t", dynamic_key="0", state=STATE, created=NOW)
JOB = Job(
    run_id="run-1",
    run_name="brisk-otter",
    attempt=2,
    flow=FlowRef(kind=FlowKind.FILE, entrypoint="a.py:b", name="b"),
    deployment=None,
    parameters={"a": [1, None, {"b": 2.5}], "big": 2**80},
    timeout=timedelta(seconds=1.5),
    expected_start=NOW,
    limits=Limits(cpu=timedelta(minutes=1)),
)
FROM_CHILD = [
    Hello(version=1, pid=7),
    LINE,
    TASK,
    Flush(id=1),
    Ask(id=2, question=SecretQuestion(ref=SecretRef(env="TOKEN"))),
    Limit(timeout=timedelta(seconds=0.3)),
    Done(outcome=Outcome(type=StateType.FAILED, name="Failed", message="no", data=[1], retry_after=timedelta(hours=1))),
]
TO_CHILD = [
    Start(job=JOB, flows_dir="/srv", limits=Limits(memory=1), lines_per_second=10),
    Answer(id=2, value={"a": 1}),
    Answer(id=2, error="no", error_type="NotFoundError"),
    Flushed(id=1),
    Cancel(why="timeout", reason="out of time"),
]


def through(message: Any) -> list[bytes]:
    packets = Packets()
    return [payload for packet in protocol.packets(message) for payload in packets.feed(packet)]


@pytest.mark.parametrize("message", FROM_CHILD, ids=lambda message: type(message).__name__)
def test_what_a_child_says_arrives_as_it_was(message: Any) -> None:
    (payload,) = through(message)
    assert protocol.from_child(payload) == message


@pytest.mark.parametrize("message", TO_CHILD, ids=lambda message: type(message).__name__)
def test_what_the_daemon_says_arrives_as_it_was(message: Any) -> None:
    (payload,) = through(message)
    assert protocol.to_child(payload) == message


@pytest.mark.parametrize("size", [10, protocol.PACKET - 100, protocol.PACKET, 3 * protocol.PACKET, 1_000_000])
def test_a_message_of_any_size_arrives_whole(size: int) -> None:
    message = Answer(id=1, value="x" * size)
    assert all(len(packet) <= protocol.PACKET for packet in protocol.packets(message))
    (payload,) = through(message)
    assert protocol.to_child(payload) == message


def test_a_message_beyond_the_bound_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="too large"):
        protocol.packets(Answer(id=1, value="x" * protocol.MAX_MESSAGE))
    packets = Packets()
    part = b"P" + b"\0" * 8 + b"x" * (protocol.PACKET - 9)
    with pytest.raises(ProtocolError, match="more than"):
        for _ in range(protocol.MAX_MESSAGE // len(part) + 2):
            packets.feed(part)


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=20))
def test_packets_are_joined_in_order_and_within_their_size(sizes: list[int]) -> None:
    waiting = [
        packet for number, size in enumerate(sizes) for packet in protocol.packets(Answer(id=number, value="x" * size))
    ]
    packets, found = Packets(), []
    while waiting:
        packet, count = protocol.joined(waiting)
        assert len(packet) <= protocol.PACKET
        assert count >= 1
        del waiting[:count]
        found += [protocol.to_child(payload) for payload in packets.feed(packet)]
    assert [(each.id, len(each.value)) for each in found] == list(enumerate(sizes))


def test_who_was_torn_out_of_a_long_message_holds_up_no_other() -> None:
    packets = Packets()
    begun = protocol.packets(Answer(id=1, value="x" * 200_000))[:-1]
    assert [packets.feed(packet) for packet in begun] == [[]] * len(begun)
    (payload,) = (p for packet in protocol.packets(Flushed(id=3)) for p in packets.feed(packet))
    assert protocol.to_child(payload) == Flushed(id=3)


@given(st.binary(min_size=1, max_size=200))
def test_any_packet_is_payloads_or_refused(packet: bytes) -> None:
    try:
        payloads = Packets().feed(packet)
    except ProtocolError:
        return
    for payload in payloads:
        with pytest.raises(ProtocolError):
            protocol.from_child(payload)


ERRORS = [
    ("NotFoundError", NotFoundError),
    ("TidemillError", TidemillError),
    ("ConfigError", TidemillError),  # takes faults, not a text
    ("Fault", TidemillError),
    ("annotations", TidemillError),
    ("", TidemillError),
]


@pytest.mark.parametrize(("name", "kind"), ERRORS)
def test_an_error_is_raised_as_what_it_was(name: str, kind: type[TidemillError]) -> None:
    error = protocol.raised(Answer(id=1, error="no such thing", error_type=name))
    assert type(error) is kind
    assert str(error) == "no such thing"


def test_an_error_of_the_configuration_keeps_its_text() -> None:
    assert protocol.answer_error(1, ConfigError([])).error_type == "ConfigError"


# The child's end


class Ends:
    """A channel and the socket that the daemon would have."""

    def __init__(self) -> None:
        self.daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.daemon.settimeout(120)
        self.channel = Channel(theirs)
        self._packets = Packets()

    def heard(self) -> list[Any]:
        return [protocol.from_child(payload) for payload in self._packets.feed(self.daemon.recv(protocol.PACKET))]

    def answers(self, message: Any) -> None:
        for packet in protocol.packets(message):
            self.daemon.send(packet)


@pytest.fixture
def ends() -> Any:
    made = Ends()
    yield made
    made.daemon.close()
    made.channel.forsake()


def test_a_line_is_out_before_the_next_instruction(ends: Ends) -> None:
    ends.channel.say(LINE)
    ends.daemon.setblocking(False)
    assert ends.heard() == [LINE]


def test_reports_of_tasks_wait_for_company_and_keep_their_place(ends: Ends) -> None:
    ends.channel.say_soon(TASK)
    ends.channel.say_soon(TASK)
    ends.channel.say(LINE)
    ends.daemon.setblocking(False)
    assert ends.heard() == [TASK, TASK, LINE]


def test_reports_of_tasks_come_without_company_too(ends: Ends) -> None:
    ends.channel.say_soon(TASK)
    assert ends.heard() == [TASK]


def test_when_nobody_listens_lines_are_dropped_and_the_rest_comes_later_in_order(ends: Ends) -> None:
    kept = [n for n in range(10_000) if ends.channel.say(Flush(id=n), droppable=True)]
    assert MOST_LINES < len(kept) < 10_000
    assert ends.channel.say(Flush(id=-1))
    heard: list[int] = []
    while not heard or heard[-1] != -1:
        heard += [message.id for message in ends.heard()]
    assert heard == [*kept, -1]


def test_many_threads_ask_and_each_gets_its_own_answer(ends: Ends) -> None:
    def daemon() -> None:
        for _ in range(200):
            for message in ends.heard():
                ends.answers(Answer(id=message.id, value=message.question.ref.env))

    answering = threading.Thread(target=daemon, daemon=True)
    answering.start()
    with ThreadPoolExecutor(8) as pool:
        asked = [f"SECRET_{number}" for number in range(200)]
        questions = [SecretQuestion(ref=SecretRef(env=name)) for name in asked]
        assert list(pool.map(ends.channel.ask, questions)) == asked


def test_who_asks_a_daemon_that_is_gone_hears_so(ends: Ends) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ends.channel.flush)
        assert ends.heard() == [Flush(id=1)]
        ends.daemon.close()
        with pytest.raises(TidemillError, match="the daemon is gone"):
            asking.result(30)
    with pytest.raises(TidemillError, match="the daemon is gone"):
        ends.channel.flush()


def test_a_cancellation_is_heard_while_something_is_asked(ends: Ends) -> None:
    heard: list[Cancel] = []
    ends.channel.on_cancel = heard.append
    ends.channel.listen()
    ends.answers(Cancel(why="cancel", reason="enough"))
    assert ends.channel.told.wait(120)
    assert heard == [Cancel(why="cancel", reason="enough")]
