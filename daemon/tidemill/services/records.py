"""Reports as what is kept of them: checked, masked and bounded, in the thread that reports."""

from __future__ import annotations

import logging
from datetime import UTC
from typing import Any

import msgspec
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.events import Emitted
from tidemill.core.reports import ArtifactReport, CacheReport, EventReport, LogReport, TaskReport
from tidemill.core.runs import Artifact, FlowRun, LogRow, TaskRun
from tidemill.core.states import State
from tidemill.ids import Ids
from tidemill.sdk.canonical import canonical
from tidemill.store import task_cache
from tidemill.telemetry.redaction import Redactor

LONGEST_LINE = 32 * 1024
LONGEST_TEXT = 4 * 1024  # a task run's name, a state's message
MOST_TAGS = 100
STATE_DATA_BYTES = 64 * 1024
EVENT_BYTES = 64 * 1024
CACHED_BYTES = 1024 * 1024
UUID_LENGTH = 36


class Update(msgspec.Struct, frozen=True):
    """A document to be changed in place."""

    artifact: Artifact


class Records:
    """Makes what is stored of what runs report. Raises ``ValueError`` for what cannot be kept."""

    def __init__(self, *, clock: Clock, ids: Ids, redactor: Redactor, keep_versions: int) -> None:
        self._clock = clock
        self._ids = ids
        self._redactor = redactor
        self.keep_versions = keep_versions  # of an artifact whose maker does not say

    def line(self, run: FlowRun, report: LogReport) -> LogRow:
        """Return a line as it is kept."""
        message = self._redactor.text(report.message)
        return LogRow(
            run=run.seq,
            run_id=run.id,
            at=report.at,
            level=report.level,
            logger=report.logger,
            message=cut(message, LONGEST_LINE),
            task_run_id=report.task_run_id,
        )

    def check_task(self, report: TaskReport) -> None:
        """Raise ValueError where a task run cannot be kept; what is kept of it is made when it is stored."""
        if len(report.id) != UUID_LENGTH or report.state_number < 1 or report.attempt < 0 or not report.state.name:
            raise ValueError(f"task run {report.name[:80]!r} has no UUID, or numbers or a state that cannot be")
        _encoded(report)

    def task_run(self, run: FlowRun, report: TaskReport) -> TaskRun:
        """Return a task run as it is kept. Raises ValueError."""
        raw = _encoded(report)
        redactor = self._redactor
        # One search over the whole report, in which nearly always nothing is found.
        if not redactor.empty and (redactor.has_short or redactor.holds_secret(raw.decode())):
            report = _masked(report, redactor)
        state, name = report.state, report.name
        if len(raw) > LONGEST_TEXT:  # what is short as a whole has no long part
            state, name = bounded(state), cut(name, LONGEST_TEXT)
        return TaskRun(
            id=report.id,
            run=run.seq,
            run_id=run.id,
            name=name,
            task_key=report.task_key,
            dynamic_key=report.dynamic_key,
            state=state,
            state_number=report.state_number,
            attempt=report.attempt,
            tags=report.tags[:MOST_TAGS],
            created=report.created,
            expected_start=report.expected_start,
            start_time=report.start_time,
            end_time=report.end_time,
            run_time_s=max(0.0, report.run_time_s),
            cache_key=report.cache_key,
        )

    def artifact(self, run: FlowRun, report: ArtifactReport) -> Artifact | Update:
        """Return an artifact as it is kept. Raises ValueError for what is not JSON or too large."""
        if report.id is not None and len(report.id) != UUID_LENGTH:
            raise ValueError(f"an artifact's id is a UUID, not {report.id[:80]!r}")
        if report.update and report.id is None:
            raise ValueError("an artifact is changed by its id, and none is given")
        now = self._clock.now()
        made = Artifact(
            id=report.id or self._ids.new(now),
            key=report.key,
            version=0,
            type=report.type,
            text=self._document(report.data),
            description=self._redactor.text(report.description) if report.description else report.description,
            run_id=run.id,
            task_run_id=report.task_run_id,
            deployment=run.deployment,
            created=now,
            keep_versions=self.keep_versions if report.keep_versions is None else report.keep_versions,
            # What is to be changed later has to be a document of its own, also where it begins like the last one.
            new_version=report.new_version or report.id is not None,
        )
        return Update(made) if report.update else made

    def _document(self, data: Any) -> str:
        text = canonical(data)
        masked = self._redactor.value(data)  # which makes a text of what is not JSON: looked at before
        return text if masked is data else canonical(masked)

    def cached(self, report: CacheReport) -> task_cache.Cached | None:
        """Return a result as it is kept; None: it holds a secret, and masked it would be another one.

        Raises ValueError for what is not JSON or too large.
        """
        text = canonical(report.value, limit=CACHED_BYTES)
        if self._redactor.holds_secret(text) or self._redactor.holds_secret(report.key):
            logging.getLogger("tidemill.recorder").warning("a task's result holds a secret and is not cached")
            return None
        return task_cache.Cached(key=report.key, text=text, created=self._clock.now(), expires=report.expires)

    def emitted(self, run: FlowRun, report: EventReport) -> Emitted:
        """Return an event as it is told. Raises ValueError for what is not JSON or too large."""
        canonical([report.event, report.resource, report.payload], limit=EVENT_BYTES)
        occurred = report.occurred if report.occurred.tzinfo else report.occurred.replace(tzinfo=UTC)  # as Prefect does
        return Emitted(
            run=run,
            event=cut(self._redactor.text(report.event), LONGEST_TEXT),
            resource=self._redactor.value(report.resource),
            payload=self._redactor.value(report.payload),
            occurred=occurred,
            id=self._ids.new(occurred),
        )

    def dropped(self, run: FlowRun, text: str) -> LogRow:
        """Return the line that says what was cut."""
        return LogRow(
            run=run.seq,
            run_id=run.id,
            at=self._clock.now(),
            level=logging.WARNING,
            logger="tidemill",
            message=text,
        )


def cut(text: str, most: int) -> str:
    """Return a text that is not longer than wanted, and says what was cut."""
    return text if len(text) <= most else f"{text[:most]} … [{len(text) - most} characters cut]"


def _encoded(report: TaskReport) -> bytes:
    try:
        return msgspec.json.encode(report)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"task run {report.name[:80]!r} cannot be kept: {error}") from None


def _masked(report: TaskReport, redactor: Redactor) -> TaskReport:
    state, text = report.state, redactor.text
    return replace(
        report,
        name=text(report.name),
        task_key=text(report.task_key),
        dynamic_key=text(report.dynamic_key),
        tags=tuple(text(tag) for tag in report.tags),
        cache_key=None if report.cache_key is None else text(report.cache_key),
        state=replace(
            state,
            message=None if state.message is None else text(state.message),
            data=redactor.value(state.data),
        ),
    )


def bounded(state: State) -> State:
    """Return a state whose message and data are not more than is kept; what is cut says so."""
    message = None if state.message is None else cut(state.message, LONGEST_TEXT)
    data = state.data
    if data is not None and (size := len(msgspec.json.encode(data))) > STATE_DATA_BYTES:
        data = f"… [{size} bytes of {type(state.data).__name__} cut]"
    return replace(state, message=message, data=data)
