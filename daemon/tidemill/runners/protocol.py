"""What the daemon and the child process of a run say to each other: messages of JSON, in packets over a socket.

The socket keeps packets whole (SOCK_SEQPACKET): a packet is sent at one blow or not at all, so a thread that is torn
out of its sending by a signal or a deadline leaves nothing half said. A packet holds messages, each led by its length
(four bytes, the greatest first); one that is too long for a packet comes in parts.

The child begins with :class:`Hello`; the daemon answers with :class:`Start`. From then on the child sends reports as
they are (core/reports.py), and asks; the daemon answers. :class:`Done` is the child's last word. Each end refuses what
is not the protocol of its own version: both are of one tidemill, as the daemon brings its own along (sdk/boot.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from tidemill import errors
from tidemill.core.deployments import Limits
from tidemill.core.ports import Job, Outcome
from tidemill.core.reports import Question, Report
from tidemill.errors import TidemillError

VERSION = 2
PACKET = 64 * 1024  # bytes, at most; what any socket takes at once
MAX_MESSAGE = 16 * 1024 * 1024
_LENGTH, _NUMBER = 4, 8  # bytes
_WHOLE, _PART, _LAST = b"W", b"P", b"L"  # a packet's first byte
_PART_BYTES = PACKET - 1 - _NUMBER
_MOST_UNFINISHED = 64


class ProtocolError(ValueError):
    """What came is not the protocol."""


class _Said(msgspec.Struct, frozen=True, tag_field="kind", omit_defaults=True):
    pass


# --- from the child -------------------------------------------------------------------------------------------------


class Hello(_Said, frozen=True, tag="hello"):
    """The child is there and waits for its job."""

    version: int
    pid: int


class Flush(_Said, frozen=True, tag="flush"):
    """Say so when everything before this is durable."""

    id: int


class Ask(_Said, frozen=True, tag="ask"):
    """A question that wants an answer."""

    id: int
    question: Question


class Loaded(_Said, frozen=True, tag="loaded"):
    """The flow's code is imported, and begins."""


class Limit(_Said, frozen=True, tag="limit"):
    """The flow's own timeout, which the daemon keeps: it can end what the code cannot."""

    timeout: timedelta


class Done(_Said, frozen=True, tag="done"):
    """The flow's code has ended so. What follows is the end of the process."""

    outcome: Outcome


# --- to the child ---------------------------------------------------------------------------------------------------


class Start(_Said, frozen=True, tag="start"):
    """The job, and how it is to be run."""

    job: Job
    flows_dir: str
    limits: Limits  # those that no cgroup holds
    lines_per_second: float  # of output, more is cut; 0: no limit


class Answer(_Said, frozen=True, tag="answer"):
    """The answer to a question, or the error that is to be raised where it was asked."""

    id: int
    value: Any = None
    error: str | None = None
    error_type: str = ""  # its class in tidemill.errors


class Flushed(_Said, frozen=True, tag="flushed"):
    id: int


class Cancel(_Said, frozen=True, tag="cancel"):
    """The attempt is to end; a SIGINT follows."""

    why: str  # timeout, cancel or crash
    reason: str


FromChild = Report | Hello | Flush | Ask | Loaded | Limit | Done
ToChild = Start | Answer | Flushed | Cancel

_ENCODER = msgspec.json.Encoder()
_parted = itertools.count()
_FROM_CHILD: msgspec.json.Decoder[Any] = msgspec.json.Decoder(FromChild)
_TO_CHILD: msgspec.json.Decoder[Any] = msgspec.json.Decoder(ToChild)


def packets(message: Any) -> list[bytes]:
    """Return a message as it goes over the wire: one packet, or several. Raises ``ValueError`` for what is no JSON."""
    try:
        payload = _ENCODER.encode(message)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    size = len(payload)
    if size <= PACKET - 1 - _LENGTH:
        return [_WHOLE + size.to_bytes(_LENGTH, "big") + payload]
    if size > MAX_MESSAGE:
        raise ValueError(f"too large: {size:,} bytes of JSON, at most {MAX_MESSAGE:,} go over the pipe")
    number = next(_parted).to_bytes(_NUMBER, "big")
    parts = [_PART + number + payload[at : at + _PART_BYTES] for at in range(0, size, _PART_BYTES)]
    parts[-1] = _LAST + parts[-1][1:]
    return parts


def joined(waiting: Sequence[bytes]) -> tuple[bytes, int]:
    """Return one packet that holds as many of the packets as go into one, from the first; and how many that are."""
    first = waiting[0]
    if first[:1] != _WHOLE:
        return first, 1
    pieces, size = [first], len(first)
    for packet in itertools.islice(waiting, 1, None):
        size += len(packet) - 1
        if packet[:1] != _WHOLE or size > PACKET:
            break
        pieces.append(packet[1:])
    return b"".join(pieces), len(pieces)


def from_child(payload: bytes | memoryview) -> Any:
    """Return what a child said. Raises :class:`ProtocolError`."""
    return _decode(_FROM_CHILD, payload)


def to_child(payload: bytes | memoryview) -> Any:
    """Return what the daemon said. Raises :class:`ProtocolError`."""
    return _decode(_TO_CHILD, payload)


def _decode(decoder: msgspec.json.Decoder[Any], payload: bytes | memoryview) -> Any:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(str(error)[:500]) from None


class Packets:
    """Takes packets apart into payloads, and puts together what came in parts."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[bytes, bytearray] = {}

    def feed(self, packet: bytes) -> list[bytes]:
        """Take a packet; return the payloads that it held or completed. Raises :class:`ProtocolError`."""
        kind = packet[:1]
        if kind == _WHOLE:
            return _whole(packet)
        number = packet[1 : 1 + _NUMBER]
        if kind not in (_PART, _LAST) or len(number) < _NUMBER:
            raise ProtocolError(f"a packet that begins with {packet[:16]!r}")
        held = self._parts.setdefault(number, bytearray())
        held += packet[1 + _NUMBER :]
        if len(held) > MAX_MESSAGE:
            raise ProtocolError(f"a message of more than {MAX_MESSAGE:,} bytes")
        if kind == _LAST:
            return [bytes(self._parts.pop(number))]
        if len(self._parts) > _MOST_UNFINISHED:  # whoever began the first was torn out of it, and never goes on
            del self._parts[next(iter(self._parts))]
        return []


def _whole(packet: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = 1
    while at < len(packet):
        begin = at + _LENGTH
        at = begin + int.from_bytes(packet[at:begin], "big")
        found.append(packet[begin:at])
    if at != len(packet) or not found:
        raise ProtocolError("a packet that ends where a message should be")
    return found


def answer_error(id_: int, error: TidemillError) -> Answer:
    """Return the answer to a question that could not be answered."""
    return Answer(id=id_, error=str(error), error_type=type(error).__name__)


def raised(answer: Answer) -> TidemillError:
    """Return the error that an answer tells of."""
    kind = getattr(errors, answer.error_type, TidemillError)
    if not (isinstance(kind, type) and issubclass(kind, TidemillError)) or kind is errors.ConfigError:
        kind = TidemillError
    error: TidemillError = kind(answer.error or "")
    return error
