"""What the engine tells the daemon of a run, and what a run that is told to end does."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fakes import FakeClock
from tidemill import flow, get_run_logger, tags, task
from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.core.ports import Job, Outcome
from tidemill.core.reports import Question, SlotsQuestion
from tidemill.core.retries import RetryPolicy
from tidemill.core.states import StateType
from tidemill.errors import TidemillError
from tidemill.exceptions import TerminationSignal
from tidemill.sdk.context import RunContext, current
from tidemill.sdk.driver import Suspended, drive
from tidemill.sdk.flow_engine import run_attempt
from tidemill.sdk.flows import as_flow
from tidemill.sdk.harness import tidemill_test_harness
from tidemill.sdk.memory import MemoryRecorder


@task
def double(x: int) -> int:
    return 2 * x


@task
def fails() -> None:
    raise ValueError("no")


def context_of(recorder: MemoryRecorder | None = None, attempt: int = 1, **parameters: Any) -> RunContext:
    clock = FakeClock()
    job = Job(
        run_id="run-1",
        run_name="brisk-otter",
        attempt=attempt,
        flow=FlowRef(kind=FlowKind.FILE, entrypoint="a.py:f", name="f"),
        deployment="daily",
        parameters=parameters,
        tags=("nightly",),
        expected_start=clock.now(),
    )
    return RunContext(job, recorder or MemoryRecorder(), clock)


def attempted(function: Any, context: RunContext, **parameters: Any) -> Outcome:
    """Run one attempt as a runner does, in this thread."""
    made = as_flow(function)

    def carry() -> Outcome:
        current.set(context)
        if made.isasync:
            return asyncio.run(run_attempt(made, parameters, context))
        return drive(run_attempt(made, parameters, context))

    return contextvars.copy_context().run(carry)


# Task runs


def test_a_task_run_is_told_as_it_goes_through_its_states() -> None:
    @flow
    def main() -> int:
        return double(1) + double(2)

    with tidemill_test_harness() as harness:
        assert main() == 6
    recorder = harness.run.recorder
    assert recorder.task_states == [
        ("double-0", "Running"),
        ("double-0", "Completed"),
        ("double-1", "Running"),
        ("double-1", "Completed"),
    ]
    first, second = harness.run.tasks
    assert (first.dynamic_key, second.dynamic_key) == ("0", "1")
    assert first.task_key == second.task_key
    assert first.start_time is not None and first.end_time is not None and first.start_time <= first.end_time


def test_retries_of_a_task_wait_and_are_told() -> None:
    calls: list[int] = []

    @task(retries=3, retry_delay_seconds=[10, 60])
    def flaky() -> int:
        calls.append(1)
        if len(calls) < 4:
            raise ValueError("not yet")
        return len(calls)

    @flow
    def main() -> int:
        return flaky()

    with tidemill_test_harness() as harness:
        assert main() == 4
    states = [state for _, state in harness.run.recorder.task_states]
    assert states == ["Running", *["AwaitingRetry", "Retrying"] * 3, "Completed"]
    assert harness.clock.waits == [10, 60, 60]  # the last delay repeats
    assert harness.run.tasks[0].attempt == 4


def test_a_jitter_stretches_a_delay_and_never_shortens_it() -> None:
    @task(retries=20, retry_delay_seconds=10, retry_jitter_factor=0.5)
    def never() -> None:
        raise ValueError("never")

    @flow
    def main() -> None:
        never()

    with tidemill_test_harness() as harness, pytest.raises(ValueError, match="never"):
        main()
    waits = harness.clock.waits
    assert len(waits) == 20 and all(10 <= each <= 15 for each in waits) and len(set(waits)) > 1


def test_a_not_ready_task_is_told_with_its_reason() -> None:
    @flow
    def main() -> Any:
        up = fails.submit()
        down = double.submit(up)
        down.wait()
        return down.state.message

    with tidemill_test_harness() as harness:
        assert main() == "Upstream task run 'fails-0' did not reach a 'COMPLETED' state."
    (last,) = [run for run in harness.run.tasks if run.name == "double-0"]
    assert (last.state.type, last.state.name) == (StateType.PENDING, "NotReady")


def test_a_name_that_cannot_be_made_fails_its_task() -> None:
    @flow
    def main() -> None:
        double.with_options(task_run_name="load-{nothing}")(1)

    with tidemill_test_harness() as harness, pytest.raises(ValueError, match="no parameter 'nothing'; there are: x"):
        main()
    assert harness.run.tasks[0].state.type is StateType.FAILED


def test_log_lines_and_artifacts_carry_their_task_run() -> None:
    @task
    def speaks() -> None:
        get_run_logger().info("from the task")

    @flow
    def main() -> None:
        get_run_logger().info("from the flow")
        speaks()

    with tidemill_test_harness() as harness:
        main()
    told = {log.message: log.task_run_id for log in harness.run.logs}
    assert told == {"from the flow": None, "from the task": harness.run.tasks[0].id}


@pytest.mark.parametrize(
    ("of_flow", "of_task", "kept"),
    [
        (None, None, []),  # Prefect's default: prints go where they always did
        (True, None, ["flow", "task"]),  # a task does as its flow
        (True, False, ["flow"]),
        (None, True, ["task"]),
    ],
)
def test_prints_are_kept_where_log_prints_says_so(
    of_flow: bool | None, of_task: bool | None, kept: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    @task(log_prints=of_task)
    def inner() -> None:
        print("task")

    @flow(log_prints=of_flow)
    def main() -> None:
        print("flow")
        inner()

    with tidemill_test_harness() as harness:
        main()
    assert [log.message for log in harness.run.logs if log.logger == "print"] == kept
    assert capsys.readouterr().out.split() == [each for each in ("flow", "task") if each not in kept]


# Tags and their limits


class Slots(MemoryRecorder):
    """Grants slots for tags that have a limit, and keeps who holds how many."""

    def __init__(self, limited: str) -> None:
        super().__init__()
        self.limited = limited
        self.held = 0

    async def ask(self, question: Question) -> Any:
        if isinstance(question, SlotsQuestion):
            self.questions.append(question)
            if self.limited not in question.names:
                return None
            self.held += 1
            return f"lease-{self.held}"
        return await super().ask(question)


def test_a_tagged_task_takes_a_slot_of_its_tag_and_gives_it_back_even_when_it_fails() -> None:
    recorder = Slots("tag:db")

    @flow
    def main() -> None:
        with tags("db"):
            double(1)
            fails(return_state=True)

    assert attempted(main, context_of(recorder)).type is StateType.COMPLETED
    assert recorder.released == ["lease-1", "lease-2"]


def test_tags_without_a_limit_are_asked_for_once() -> None:
    recorder = Slots("tag:other")

    @flow
    def main() -> None:
        for number in range(5):
            double.with_options(tags=["free"])(number)

    attempted(main, context_of(recorder))
    assert len(recorder.questions) == 1


# Subflows


def test_a_subflow_is_a_run_of_its_own_that_a_task_run_of_its_parent_stands_for() -> None:
    @flow(flow_run_name="child-{x}")
    def child(x: int) -> int:
        get_run_logger().info("inside")
        return double(x)

    @flow
    def parent() -> int:
        return child(2)

    with tidemill_test_harness() as harness:
        assert parent() == 4
    recorder = harness.run.recorder
    ((subflow_id, question),) = recorder.subflows.items()
    assert (question.flow, question.name, question.parameters) == ("child", "child-2", {"x": 2})
    stand_in, inner = harness.run.tasks
    assert question.parent_task_run_id == stand_in.id
    assert (stand_in.flow_run_id, inner.flow_run_id) == (None, subflow_id)
    assert (stand_in.state.name, recorder.subflow_states[subflow_id].data) == ("Completed", 4)
    assert [log.flow_run_id for log in recorder.logs if log.message == "inside"] == [subflow_id]


def test_a_subflow_that_fails_is_told_as_failed() -> None:
    @flow
    def child() -> None:
        raise ValueError("child")

    @flow
    def parent() -> None:
        child(return_state=True)

    with tidemill_test_harness() as harness:
        parent()
    (state,) = harness.run.recorder.subflow_states.values()
    assert (state.type, state.message) == (StateType.FAILED, "Flow run encountered an exception: ValueError: child")


def test_a_subflow_retries_by_itself() -> None:
    calls: list[int] = []

    @flow(retries=2, retry_delay_seconds=30)
    def child() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("not yet")
        return len(calls)

    @flow
    def parent() -> int:
        return child()

    with tidemill_test_harness() as harness:
        assert parent() == 3
    assert harness.clock.waits == [30, 30]
    assert len(harness.run.recorder.subflows) == 1


# One attempt of a deployment


def test_retries_of_a_deployments_flow_are_the_daemons() -> None:
    calls: list[int] = []

    @flow(retries=3, retry_delay_seconds=[1, 2], retry_jitter_factor=0.1)
    def main() -> None:
        calls.append(1)
        raise ValueError("no")

    outcome = attempted(main, context_of())
    assert len(calls) == 1
    assert outcome.retry == RetryPolicy(retries=3, delays=(timedelta(seconds=1), timedelta(seconds=2)), jitter=0.1)
    assert (outcome.type, outcome.message, outcome.retriable) == (StateType.FAILED, "ValueError: no", True)


ENDINGS: list[tuple[Callable[[], Any], StateType, str, Any]] = [
    (lambda: 3, StateType.COMPLETED, "Completed", 3),
    (lambda: None, StateType.COMPLETED, "Completed", None),
    (lambda: [double(1, return_state=True)], StateType.COMPLETED, "Completed", [2]),  # the results are kept
    (lambda: fails.submit(return_state=False), StateType.FAILED, "Failed", None),
    (lambda: (_ for _ in ()).throw(SystemExit(3)), StateType.CRASHED, "Crashed", None),
    (lambda: (_ for _ in ()).throw(KeyboardInterrupt), StateType.CRASHED, "Crashed", None),
]


@pytest.mark.parametrize(("ends", "type_", "name", "data"), ENDINGS)
def test_an_attempt_comes_to(ends: Callable[[], Any], type_: StateType, name: str, data: Any) -> None:
    outcome = attempted(flow(name="f")(ends), context_of())
    assert (outcome.type, outcome.name, outcome.data) == (type_, name, data)


def test_parameters_that_do_not_fit_fail_the_run_without_a_retry() -> None:
    @flow(retries=5)
    def main(n: int) -> int:
        return n

    unknown = attempted(main, context_of(), m=3)
    assert (unknown.type, unknown.retriable) == (StateType.FAILED, False)
    assert "the flow has no such parameter" in str(unknown.message)
    wrong = attempted(main, context_of(), n="many")
    assert (wrong.type, wrong.retriable) == (StateType.FAILED, False)
    assert "Validation of flow parameters failed" in str(wrong.message) and "n:" in str(wrong.message)
    assert attempted(main, context_of(), n="3").data == 3


def test_the_run_s_tags_are_its_tasks_too() -> None:
    recorder = MemoryRecorder()

    @flow
    def main() -> None:
        double(1)

    attempted(main, context_of(recorder))
    (run,) = recorder.tasks.values()
    assert run.tags == ("nightly",)


# The end from outside


def test_sync_code_ends_at_its_next_step() -> None:
    context = context_of()
    heard: list[str] = []

    @flow(on_cancellation=[lambda flow, run, state: heard.append(state.name)])
    def main() -> None:
        double(1)
        context.end("cancel")
        double(2)
        heard.append("never")

    with pytest.raises(TerminationSignal):
        attempted(main, context)
    assert heard == ["Cancelling"]


@pytest.mark.parametrize(
    ("why", "hook"), [("cancel", "on_cancellation"), ("timeout", "on_failure"), ("crash", "on_crashed")]
)
async def test_async_code_is_cancelled_and_its_hook_is_called(why: str, hook: str) -> None:
    heard: list[str] = []
    context = context_of()
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def hear(flow: Any, run: Any, state: Any) -> None:
        await asyncio.sleep(0)
        heard.append(state.name)

    made = flow(name="waits", **{hook: [hear]})(waits)
    current.set(context)
    running = asyncio.ensure_future(run_attempt(made, {}, context))
    await begun.wait()
    context.end(why)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert heard == [{"cancel": "Cancelling", "timeout": "TimedOut", "crash": "Crashed"}[why]]


def test_a_wait_between_retries_ends_with_the_run() -> None:
    context = context_of()
    context.clock = _RealWait()  # type: ignore[assignment]

    @task(retries=1, retry_delay_seconds=3600)
    def never() -> None:
        threading.Timer(0.05, context.end, ["cancel"]).start()
        raise ValueError("no")

    @flow
    def main() -> None:
        never()

    with pytest.raises(TerminationSignal):
        attempted(main, context)


class _RealWait(FakeClock):
    """A clock whose waits are the machine's: what is waited for is an event."""


@pytest.mark.parametrize(
    ("why", "of_task", "of_subflow"),
    [("cancel", "CANCELLED", "CANCELLED"), ("timeout", "CRASHED", "FAILED"), ("crash", "CRASHED", "CRASHED")],
)
def test_what_is_cut_off_by_the_end_of_its_run_says_so(why: str, of_task: str, of_subflow: str) -> None:
    recorder = MemoryRecorder()
    context = context_of(recorder)

    @task
    def inner() -> None:
        context.end(why)
        double(1)

    @flow
    def sub() -> None:
        inner()

    @flow
    def main() -> None:
        sub()

    with pytest.raises(TerminationSignal):
        attempted(main, context)
    assert {run.name: run.state.type for run in recorder.tasks.values()} == {"inner-0": of_task, "sub-0": of_subflow}
    assert [state.type for state in recorder.subflow_states.values()] == [of_subflow]


# Hooks


def test_a_hook_that_fails_is_told_and_changes_nothing() -> None:
    def bad(flow: Any, run: Any, state: Any) -> None:
        raise ValueError("bad hook")

    @flow(on_completion=[bad])
    def main() -> int:
        return 1

    with tidemill_test_harness() as harness:
        assert main() == 1
    assert any("bad hook" in message for message in harness.run.recorder.messages)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_failure": print}, r"a list of functions: on_failure=\[print\]"),
        ({"on_failure": [3]}, "3 is none"),
        ({"retries": -1}, "from 0 on"),
        ({"retry_delay_seconds": "10"}, "a number, a list of numbers or a function"),
        ({"retry_delay_seconds": [1] * 51}, "at most 50"),
        ({"retry_jitter_factor": -1}, "must be >= 0"),
        ({"name": 3}, "a text, not int"),
        ({"timeout_seconds": -1}, "at least 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options: dict[str, Any], says: str) -> None:
    for decorator in (flow, task):
        with pytest.raises((TypeError, ValueError), match=says):
            decorator(**options)(lambda: None)


def test_an_argument_with_a_reserved_name_is_refused() -> None:
    with pytest.raises(TypeError, match="reserved"):
        task(lambda return_state: None)


# The sync driver


async def test_what_suspends_cannot_be_driven() -> None:
    with pytest.raises(Suspended):
        drive(asyncio.sleep(0.01))


def test_a_question_that_nobody_answers_is_the_code_s_to_handle() -> None:
    @flow
    def main() -> str:
        from tidemill.variables import Variable

        Variable.set("a", 1)
        try:
            Variable.set("a", 2)
        except ValueError as error:
            return str(error)
        return "set"

    with tidemill_test_harness():
        assert "overwrite=True" in main()


def test_exceptions_meant_for_users_come_without_a_traceback() -> None:
    @flow
    def main() -> None:
        raise TidemillError("the disk is full; make room")

    recorder = MemoryRecorder()
    outcome = attempted(main, context_of(recorder))
    assert outcome.message == "the disk is full; make room"
    assert recorder.logs == []


def test_a_traceback_shows_the_flows_own_frames_alone() -> None:
    @flow
    def main() -> None:
        fails()

    recorder = MemoryRecorder()
    attempted(main, context_of(recorder))
    told = recorder.logs[-1].message
    assert "in main" in told and "in fails" in told and told.endswith("ValueError: no")
    assert "tidemill/sdk" not in told
