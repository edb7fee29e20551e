"""How the log tells of task runs and of what flow code emits."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from tidemill.core.events import Emitted, TaskRunChanged
from tidemill.core.runs import FlowRun, TaskRun
from tidemill.core.states import NAMES, State, StateType
from tidemill.telemetry.sentences import entries_of

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
RUN = FlowRun(
    seq=1,
    id="r",
    name="brisk-otter",
    flow="f",
    deployment="daily",
    expected_start=NOW,
    state=State(type=StateType.RUNNING, name="Running", timestamp=NOW),
    created=NOW,
)
SENTENCES = {
    (StateType.RUNNING, "Running", None): "Task fetch-1: Running",
    (StateType.COMPLETED, "Completed", None): "Task fetch-1: Completed in 0.2 s",
    (StateType.COMPLETED, "Cached", None): "Task fetch-1: Cached in 0.2 s",
    (StateType.FAILED, "Failed", "no luck"): "Task fetch-1: Failed: no luck",
    (StateType.FAILED, "NotReady", None): "Task fetch-1: Not ready",
    (StateType.SCHEDULED, "AwaitingRetry", None): "Task fetch-1: Awaiting retry",
}


def changed(kind: StateType, name: str, message: str | None) -> TaskRunChanged:
    task = TaskRun(
        id="t",
        run=1,
        run_id="r",
        name="fetch-1",
        task_key="fetch",
        dynamic_key="1",
        state=State(type=kind, name=name, timestamp=NOW, message=message),
        created=NOW,
        run_time_s=0.2,
    )
    return TaskRunChanged(RUN, task)


@pytest.mark.parametrize("case", SENTENCES, ids=lambda case: case[1])
def test_a_task_run_is_told_at_debug_level(case: tuple[StateType, str, str | None]) -> None:
    assert case[1] in NAMES[case[0]]
    (entry,) = entries_of(changed(*case), logging.DEBUG)
    assert (entry.level, entry.subject, entry.message) == (logging.DEBUG, "daily brisk-otter", SENTENCES[case])
    assert entry.fields["task_run_id"] == "t"
    assert entries_of(changed(*case), logging.INFO) == []


def test_an_event_that_code_emits_is_one_line() -> None:
    about = {"prefect.resource.id": "order.1"}
    event = Emitted(run=RUN, event="order.placed", resource=about, payload={"n": 1}, occurred=NOW, id="e")
    (entry,) = entries_of(event, logging.INFO)
    assert (entry.level, entry.message) == (logging.INFO, "Event order.placed of order.1")
    assert entries_of(event, logging.WARNING) == []
