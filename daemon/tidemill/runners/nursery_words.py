"""What the daemon and a fork server say to each other: one message of JSON a packet, over a SOCK_SEQPACKET socket."""

from __future__ import annotations

import msgspec

MAX_MESSAGE = 64 * 1024


class _Word(msgspec.Struct, frozen=True, tag_field="kind", omit_defaults=True):
    pass


# --- to the fork server ---------------------------------------------------------------------------------------------


class Spawn(_Word, frozen=True, tag="spawn"):
    """Fork a child. With it come three files: its pipe, its standard output and its standard error."""

    number: int
    cgroup: str | None = None  # path of the cgroup it is to join


class Signal(_Word, frozen=True, tag="signal"):
    """Send a signal to a child, or to all that descends from it, too."""

    number: int
    signal: int
    tree: bool = False


class End(_Word, frozen=True, tag="end"):
    """Kill a child and all that descends from it, for as long as there is anything."""

    number: int


# --- from the fork server -------------------------------------------------------------------------------------------


class Ready(_Word, frozen=True, tag="ready"):
    """The interpreter is warm."""

    pid: int
    python: str
    problems: tuple[str, ...] = ()  # what could not be preloaded


class Spawned(_Word, frozen=True, tag="spawned"):
    """The child is there. ``birth`` is its start, in clock ticks since boot."""

    number: int
    pid: int
    birth: int


class Refused(_Word, frozen=True, tag="refused"):
    """No child could be forked."""

    number: int
    error: str


class Exited(_Word, frozen=True, tag="exited"):
    """The child has ended with that wait status, and nothing that descends from it is left.

    ``left_behind``: how many processes were still at work when the child had ended, and were ended.
    """

    number: int
    status: int
    left_behind: int = 0


ToServer = Spawn | Signal | End
FromServer = Ready | Spawned | Refused | Exited

_ENCODER = msgspec.json.Encoder()
_ASKS: msgspec.json.Decoder[ToServer] = msgspec.json.Decoder(ToServer)
_TELLS: msgspec.json.Decoder[FromServer] = msgspec.json.Decoder(FromServer)


def encode(word: ToServer | FromServer) -> bytes:
    """Return a message as one packet."""
    return _ENCODER.encode(word)


def decode_ask(packet: bytes) -> ToServer:
    """Return what the daemon asked."""
    return _ASKS.decode(packet)


def decode_tell(packet: bytes) -> FromServer:
    """Return what the fork server told."""
    return _TELLS.decode(packet)
