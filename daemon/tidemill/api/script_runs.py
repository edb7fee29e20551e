"""Runs of plain scripts: a flow that somebody calls in a process of their own reports to the daemon over HTTP.

The values are those of ``tidemill.core.script_runs``, encoded and decoded with msgspec as JSON. As on every route the
body needs ``Content-Type: application/json``, and errors are ``{"detail": text}``.

``POST /api/script_runs/``: ScriptBegins → 201 ScriptBegun
    Begin a run that no deployment has: it is RUNNING and durable when this answers. A lost answer is asked for again
    with the same ``key``; it begins nothing anew while the run lives, and is 409 once it has ended.
``POST /api/script_runs/{id}/reports``: ScriptReports → 200 ScriptHeard
    Reports in their order; answered when all of them are durable, so an answer is also a flush. ``number`` is 1 for
    the first body of a session, then 2, and so on, an end included; a body is taken once: sent again after a lost
    answer, under the same number, it is answered and not taken twice. One body at a time: a gap is 409. A body is at
    most 4 MiB and 10,000 reports. An empty one is a sign of life.
``POST /api/script_runs/{id}/ask``: ScriptAsks → 200 ScriptAnswer
    A question, kept waiting for at most ``wait_s`` (20 s); ``answered`` false: ask again with the same ``number``.
    Questions have numbers of their own and may be asked side by side (1,000 at most); one is forgotten 60 s after its
    answer. What was reported before, and must be known to the answer, is sent first. ``error`` says in words why there
    is no answer. Not to be had over HTTP: secrets, and blocks that hold some: a script reads its own.
``POST /api/script_runs/{id}/end``: ScriptEnds → 200 the flow run's document
    The end: terminal and durable when this answers. Sent again it answers the same.

The lease: a run whose script has said nothing (reports, questions or an end; a question that is being waited for
counts) for ``lease_s`` is CRASHED "the script stopped reporting", and its slots and subflows go with it; so report or
send an empty body every ``heartbeat_s``. A restarted daemon gives every script a new lease: numbers go on counting
where they were (the first body after a restart may have any number), slots are lost as with any restart and questions
are asked anew.

Cancelling: ``cancel`` in an answer is the reason for which the script is to end itself as CANCELLED. It has its lease's
time for it, after which the run is CANCELLED without it.

404: there is no such run. 409: it is not this session's, or it has ended without its script: nothing more is taken,
and a script may go on by itself. 503: the store cannot write now: send the same again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from tidemill.api import documents
from tidemill.api.bodies import BadRequestError
from tidemill.api.ports import Control
from tidemill.api.writes import Answer
from tidemill.core.script_runs import MAX_REPORTS, ScriptAsks, ScriptBegins, ScriptEnds, ScriptReports

T = TypeVar("T")
Saying = Callable[[Control, Mapping[str, str], bytes], Awaitable[Answer]]

_begins = msgspec.json.Decoder(ScriptBegins)
_reports = msgspec.json.Decoder(ScriptReports)
_asks = msgspec.json.Decoder(ScriptAsks)
_ends = msgspec.json.Decoder(ScriptEnds)


def _read(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequestError(f"the body does not fit: {error}") from error


def _bounded(count: int) -> None:
    if count > MAX_REPORTS:
        raise BadRequestError(f"the body has {count} reports; {MAX_REPORTS} are possible")


async def begin(control: Control, path: Mapping[str, str], body: bytes) -> Answer:
    """Begin a run."""
    return Answer(201, await control.scripts.begin(_read(body, _begins)))


async def report(control: Control, path: Mapping[str, str], body: bytes) -> Answer:
    """Take reports."""
    said = _read(body, _reports)
    _bounded(len(said.reports))
    return Answer(200, await control.scripts.take(path["id"], said))


async def ask(control: Control, path: Mapping[str, str], body: bytes) -> Answer:
    """Answer a question, or say that there is no answer yet."""
    return Answer(200, await control.scripts.ask(path["id"], _read(body, _asks)))


async def end(control: Control, path: Mapping[str, str], body: bytes) -> Answer:
    """End a run."""
    said = _read(body, _ends)
    _bounded(len(said.reports))
    run = await control.scripts.end(path["id"], said)
    return Answer(200, documents.flow_run(control.instance_id, run, control.clock.now()))


SAYINGS: dict[tuple[str, str], Saying] = {
    ("POST", "/script_runs/"): begin,
    ("POST", "/script_runs/{id}/reports"): report,
    ("POST", "/script_runs/{id}/ask"): ask,
    ("POST", "/script_runs/{id}/end"): end,
}
