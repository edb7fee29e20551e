"""The sentences in which the log tells what happened to runs, artifacts and schedules."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, Protocol

from tidemill.core.events import (
    ArtifactStored,
    ArtifactUpdated,
    Emitted,
    Event,
    FiresSkipped,
    RunChanged,
    RunDeleted,
    TaskRunChanged,
)
from tidemill.core.runs import FlowRun, LogRow, SkippedFire, TaskRun
from tidemill.core.states import TERMINAL, State, StateType
from tidemill.durations import in_words
from tidemill.telemetry.entries import Entry

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

# How loud each state is, by its name; what is not named goes by its type.
LEVEL_OF_NAME = {
    "Late": WARNING,
    "AwaitingRetry": WARNING,
    "AwaitingConcurrencySlot": DEBUG,
    "Skipped": WARNING,
}
LEVEL_OF_TYPE = {
    StateType.SCHEDULED: DEBUG,  # made by a schedule; INFO where somebody asked for it
    StateType.PENDING: DEBUG,
    StateType.RUNNING: INFO,
    StateType.PAUSED: INFO,
    StateType.CANCELLING: INFO,
    StateType.COMPLETED: INFO,
    StateType.FAILED: ERROR,
    StateType.CRASHED: ERROR,
    StateType.CANCELLED: INFO,
}
# Names that are no words of a sentence.
WORDS = {
    "AwaitingRetry": "Awaiting retry",
    "AwaitingConcurrencySlot": "Awaiting a concurrency slot",
    "TimedOut": "Timed out",
    "NotReady": "Not ready",
}


def entries_of(event: Event, least: int) -> list[Entry]:
    """Return the lines of an event that are as loud as ``least``, in order."""
    match event:
        case RunChanged():
            return _run_changed(event, least)
        case ArtifactStored(artifact=artifact, run=run):
            if least > INFO:
                return []
            return [entry_of_artifact(artifact, len(artifact.text), run)]
        case FiresSkipped(skipped=skipped):
            return [entry_of_skipped(skipped)] if least <= INFO else []
        case TaskRunChanged(run=run, task=task):
            return [_task_changed(run, task)] if least <= DEBUG else []
        case Emitted():
            return [entry_of_event(event.run, event.event, event.about, event.occurred)] if least <= INFO else []
        case RunDeleted() | ArtifactUpdated():
            return []  # deleting is counted by who does it; a progress that moves is no line each time


def _run_changed(event: RunChanged, least: int) -> list[Entry]:
    run = event.run
    found = []
    for state in event.states:
        level = _level(run, state, event.before)
        if level >= least:
            fields = {"run": run.name, "run_id": run.id, "state": state.name, "attempt": run.attempt}
            if run.deployment is not None:
                fields["deployment"] = run.deployment
            if state.type in TERMINAL:
                fields["seconds"] = round(run.run_time_s, 6)
            found.append(Entry(state.timestamp, level, subject_of(run), _sentence(run, state), fields, True))
    return found


class Made(Protocol):
    """An artifact's version, whatever it holds."""

    @property
    def key(self) -> str | None: ...
    @property
    def version(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def run_id(self) -> str | None: ...
    @property
    def deployment(self) -> str | None: ...
    @property
    def created(self) -> datetime: ...


def entry_of_artifact(made: Made, length: int, run: str | None) -> Entry:
    """Return the line of an artifact's new version, which has so many characters. ``run``: its name."""
    version = f" version {made.version}" if made.version else ""
    what = f"{made.key or 'without a key'}{version} ({made.type}, {length} characters)"
    fields = {"artifact": made.key, "deployment": made.deployment, "run": run, "run_id": made.run_id}
    subject = " ".join(each for each in (made.deployment, run) if each) or "artifact"
    return Entry(made.created, INFO, subject, f"Artifact {what}", _present(fields), True)


def _task_changed(run: FlowRun, task: TaskRun) -> Entry:
    fields = {
        "run": run.name,
        "run_id": run.id,
        "deployment": run.deployment,
        "task": task.name,
        "task_run_id": task.id,
        "state": task.state.name,
    }
    words = WORDS.get(task.state.name, task.state.name)
    if task.state.type is StateType.COMPLETED:
        words = f"{words} in {in_words(task.run_time_s)}"
    text = f"Task {task.name}: {words}" + (f": {task.state.message}" if task.state.message else "")
    return Entry(task.state.timestamp, DEBUG, subject_of(run), text, _present(fields), True)


def _level(run: FlowRun, state: State, before: State | None) -> int:
    level = LEVEL_OF_NAME.get(state.name) or LEVEL_OF_TYPE[state.type]
    asked_for = state.name == "Scheduled" and (before is not None or run.created_by != "schedule")
    return INFO if asked_for else level


def _sentence(run: FlowRun, state: State) -> str:
    words = WORDS.get(state.name, state.name)
    match state.type:
        case StateType.COMPLETED:
            words = f"{words} in {in_words(run.run_time_s)}"
        case StateType.FAILED | StateType.CRASHED if run.attempt and (run.run_time_s or state.type is StateType.FAILED):
            words = f"{words} after {in_words(run.run_time_s)}"
        case StateType.RUNNING if run.attempt > 1:
            words = f"{words}, attempt {run.attempt}"
        case StateType.SCHEDULED if state.name == "Scheduled" and run.created_by != "schedule":
            words = f"{words} by {run.created_by}"
    return f"{words}: {state.message}" if state.message else words


def entry_of_skipped(skipped: SkippedFire) -> Entry:
    """Return the line of fires that made no run."""
    count = f"{'' if skipped.exact else 'more than '}{skipped.count} fire{'' if skipped.count == 1 else 's'}"
    when = _instant(skipped.first)
    if skipped.last != skipped.first:
        when = f"{when} to {_instant(skipped.last)}"
    fields = {"deployment": skipped.deployment, "schedule": skipped.schedule, "skipped": skipped.count}
    return Entry(skipped.at, INFO, skipped.deployment, f"Skipped {count}, {when}: {skipped.reason}", fields, True)


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


class Whose(Protocol):
    """A run by its names."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def flow(self) -> str: ...
    @property
    def deployment(self) -> str | None: ...


def entry_of_output(run: Whose, row: LogRow) -> Entry:
    """Return the line of something that a run printed or logged."""
    fields = {"run": run.name, "run_id": run.id, "deployment": run.deployment, "logger": row.logger}
    if row.task_run_id is not None:
        fields["task_run_id"] = row.task_run_id
    return Entry(row.at, row.level, subject_of(run), f"> {row.message}", _present(fields), True)


def entry_of_event(run: Whose, event: str, about: str | None, occurred: datetime) -> Entry:
    """Return the line of an event that a run's code emitted. ``about``: the id of what it happened to."""
    fields = {"run": run.name, "run_id": run.id, "deployment": run.deployment, "event": event, "resource": about}
    text = f"Event {event}" + (f" of {about}" if about else "")
    return Entry(occurred, INFO, subject_of(run), text, _present(fields), True)


def subject_of(run: Whose) -> str:
    """Return a run as people speak of it: its deployment, or its flow, and its own name."""
    return f"{run.deployment or run.flow} {run.name}"


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
