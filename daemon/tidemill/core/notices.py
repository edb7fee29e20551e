"""Notices: what people are to be told, before it is a message of some channel."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import msgspec

# What a webhook's template may show.
PLACES = ("subject", "text", "short", "kind", "deployment", "run", "reason", "host", "at")


class NoticeKind(enum.StrEnum):
    FAILED = "failed"  # a run is FAILED, but by its time limit
    TIMED_OUT = "timed-out"
    CRASHED = "crashed"
    MISSED = "missed"  # fires that will not be made up for
    BROKEN_CONFIG = "broken-config"
    TROUBLE = "trouble"  # the daemon itself is not well: disk full, clock wrong
    RECOVERED = "recovered"
    AUTOMATION = "automation"  # what an [automations] entry says
    TEST = "test"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. ``subject`` is one line that stands alone; ``lines`` say more, each on its own line.

    ``deployment`` and ``run`` (an id) name what it is about: a message about a run shows its last lines, its
    deployment's last success and what is due next, so ``lines`` need not. ``at`` is when it happened; None: when told.
    Of notices with the same ``key`` that wait for the same channel the last one is told.
    """

    kind: NoticeKind
    subject: str
    deployment: str | None = None
    run: str | None = None
    lines: tuple[str, ...] = ()
    at: datetime | None = None
    key: str | None = None
    # Of failures and recoveries:
    reason: str | None = None  # the state's message
    state: str | None = None  # its name
    failures: int = 1  # in a row, with this one
    since: datetime | None = None  # the first of them
    flapping: bool = False


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: a subject line, a text, and for programs a JSON document that holds both.

    ``id`` stays the same when a message is sent again, so that a receiver knows it.
    """

    id: str
    at: datetime
    subject: str
    text: str
    document: dict[str, Any]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A notice on its way to one channel, kept until it is delivered."""

    id: str
    channel: str
    at: datetime
    notice: Notice
    storm: str | None = None  # a recovery from a storm waits for the others of it
    by_default: bool = False  # the default channel is told it, too, whatever becomes of this one
