"""What a plain script and the daemon tell each other over HTTP: a flow run whose code the daemon does not carry.

The routes are those of api/script_runs.py, whose docstring is the protocol. All bodies and answers are these, as JSON.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tidemill.core.reports import Question, Report
from tidemill.core.states import State

# How long a run lives on without a word from its script, and how often a script says one.
LEASE_S = 30.0
HEARTBEAT_S = 10.0
# How long the daemon keeps a question waiting in one request before it says "not yet".
LONGEST_WAIT_S = 20.0
# Of one body. A single report may be up to 1 MiB of JSON, so a batch is cut well before the bound.
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_REPORTS = 10_000  # in one body
# Of one script, at a time.
MAX_QUESTIONS = 1_000


class _Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class ScriptBegins(_Said, frozen=True, kw_only=True):
    """A script calls its flow. ``key`` is a new UUID of its own: the same key begins the same run, once."""

    key: str
    flow: str
    name: str | None = None
    parameters: dict[str, Any] = {}
    tags: tuple[str, ...] = ()


class ScriptBegun(_Said, frozen=True, kw_only=True):
    """The run is RUNNING and durable. ``session`` is to be shown with all that follows."""

    id: str
    name: str
    session: str
    attempt: int
    start_time: datetime
    lease_s: float
    heartbeat_s: float


class ScriptReports(_Said, frozen=True, kw_only=True):
    """Reports in their order; none: a sign of life. ``number`` counts a session's bodies from 1, without gaps."""

    session: str
    number: int
    reports: tuple[Report, ...] = ()


class ScriptHeard(_Said, frozen=True, kw_only=True):
    """All is durable. ``cancel``: why the script is to end; ``problem``: what could not be kept, in words."""

    cancel: str | None = None
    problem: str | None = None


class ScriptAsks(_Said, frozen=True, kw_only=True):
    """A question. ``number`` is the script's own for it: asking again under it waits on, and asks nothing anew."""

    session: str
    number: int
    question: Question
    wait_s: float = LONGEST_WAIT_S


class ScriptAnswer(_Said, frozen=True, kw_only=True):
    """``answered`` False: not yet, ask again. ``error``: why there is no answer, in words."""

    answered: bool = True
    answer: Any = None
    error: str | None = None
    cancel: str | None = None


class ScriptEnds(_Said, frozen=True, kw_only=True):
    """The last reports, and the terminal state in which the script's flow ended."""

    session: str
    number: int
    state: State
    reports: tuple[Report, ...] = ()
