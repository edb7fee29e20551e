"""Runs of plain scripts: what they say is taken once, in order, and silence ends them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_stage import FLOW, FlowWorld, Tasks, flows

from tidemill.core.deployments import SecretRef
from tidemill.core.ports import Job
from tidemill.core.reports import (
    ArtifactReport,
    BlockQuestion,
    LogReport,
    PauseQuestion,
    ProcessReport,
    Question,
    Report,
    SecretQuestion,
    SlotsQuestion,
    SubflowQuestion,
    TaskReport,
    VariableQuestion,
)
from tidemill.core.runs import FlowRun
from tidemill.core.script_runs import ScriptAnswer, ScriptAsks, ScriptBegins, ScriptEnds, ScriptHeard, ScriptReports
from tidemill.core.states import State, StateType
from tidemill.errors import NotFoundError, StoreUnavailableError, TidemillError, TransitionError
from tidemill.services.house import House
from tidemill.services.recorder import DaemonRecorder
from tidemill.store import logs
from tidemill.store import runs as stored_runs
from tidemill.testing import close_house

CONFIG = (
    FLOW
    + """
[concurrency_limits.db]
limit = 1
[variables]
region = "fi"
[blocks.token]
type = "secret"
value = { env = "TOKEN" }
[blocks.settings]
type = "json"
value = 1
"""
)


async def nothing(recorder: DaemonRecorder, _: Job) -> None:
    return None


class Script:
    """A script with its session, as the SDK keeps one."""

    def __init__(self, world: FlowWorld, house: House, key: str = "k") -> None:
        self.world, self.house, self.key = world, house, key
        self.number = self.asked = 0

    async def begin(self, **fields: Any) -> Script:
        begun = await self.house.scripts.begin(ScriptBegins(key=self.key, flow="my-flow", **fields))
        self.id, self.session = begun.id, begun.session
        return self

    async def say(self, *reports: Report, number: int | None = None) -> ScriptHeard:
        self.number = self.number + 1 if number is None else number
        said = ScriptReports(session=self.session, number=self.number, reports=reports)
        return await self.house.scripts.take(self.id, said)

    async def ask(self, question: Question, *, number: int | None = None, wait_s: float = 20.0) -> ScriptAnswer:
        self.asked += number is None
        said = ScriptAsks(session=self.session, number=number or self.asked, question=question, wait_s=wait_s)
        return await self.house.scripts.ask(self.id, said)

    async def end(self, kind: StateType = StateType.COMPLETED, *reports: Report, **fields: Any) -> FlowRun:
        self.number += 1
        state = State(type=kind, name=kind.capitalize(), timestamp=self.world.now, **fields)
        said = ScriptEnds(session=self.session, number=self.number, state=state, reports=reports)
        return await self.house.scripts.end(self.id, said)

    def line(self, text: str) -> LogReport:
        return LogReport(at=self.world.now, level=20, logger="print", message=text)

    async def run(self) -> FlowRun:
        return await self.world.run(self.house, self.id)


def told(*, run: Callable[[Script], Any], config: str = CONFIG) -> Callable[[FlowWorld], Any]:
    """A daemon with one script that does ``run``."""

    async def main(world: FlowWorld) -> Any:
        async with world.carries(nothing, config) as house:
            return await run(await Script(world, house).begin())

    return main


def test_a_script_tells_a_whole_run(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        found = await script.run()
        assert (found.state.name, found.created_by, found.deployment, found.flow) == (
            "Running",
            "script",
            None,
            "my-flow",
        )

        class Sent:  # what Tasks reports to
            def report(self, report: TaskReport) -> None:
                sent.append(report)

        sent: list[TaskReport] = []
        tasks = Tasks(Sent(), script.world.clock)  # type: ignore[arg-type]
        tasks.end(tasks.begin("t"))
        heard = await script.say(script.line("hello"), *sent)
        assert heard == ScriptHeard()
        assert [task.state.name for task in await script.world.task_runs(script.house, found)] == ["Completed"]
        await script.world.clock.sleep(5)
        ended = await script.end(StateType.COMPLETED, script.line("bye"), data=[1])
        assert (ended.state.name, ended.state.data, ended.run_time_s) == ("Completed", [1], 5.0)
        assert await script.world.story(script.house, ended) == ["Pending", "Running", "Completed"]
        assert [line for _, line in script.world.lines] == ["hello", "bye"]
        assert await script.end() == ended, "a second end answers the same"

    flows(tmp_path, told(run=run))


def test_a_body_that_is_sent_again_is_not_taken_twice(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        await script.say(script.line("one"))
        await script.say(script.line("one"), number=1)
        with pytest.raises(TransitionError, match="body 3 came, and 2 is the next"):
            await script.say(script.line("three"), number=3)
        assert [line for _, line in script.world.lines] == ["one"]

    flows(tmp_path, told(run=run))


def test_a_run_is_begun_once_with_a_key(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        again = await Script(script.world, script.house).begin()
        assert (again.id, again.session) == (script.id, script.session)
        await script.end()
        with pytest.raises(TransitionError, match="was begun with this key and has ended"):
            await Script(script.world, script.house).begin()

    flows(tmp_path, told(run=run))


def test_a_script_that_falls_silent_has_crashed_and_holds_nothing_any_more(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        assert (await script.ask(SlotsQuestion(names=("db",)))).answer is not None
        child = (await script.ask(SubflowQuestion(flow="child", name="kid", parameters={}))).answer
        for _ in range(5):
            await script.world.clock.sleep(25)
            await script.say()
        assert (await script.run()).state.name == "Running", "an empty body is a sign of life"
        await script.world.clock.sleep(29)
        assert (await script.run()).state.name == "Running"
        await script.world.clock.sleep(2)
        found = await script.run()
        assert (found.state.name, found.state.message) == ("Crashed", "the script stopped reporting")
        assert (await script.world.run(script.house, child)).state.name == "Crashed"
        assert script.house.slots.taken("db") == 0
        with pytest.raises(TransitionError, match="is Crashed and takes nothing from a script"):
            await script.say()

    flows(tmp_path, told(run=run))


def test_a_question_that_is_waited_for_is_a_sign_of_life(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        other = await Script(script.world, script.house, "other").begin()
        lease = (await other.ask(SlotsQuestion(names=("db",)))).answer
        assert lease is not None
        for _ in range(4):
            assert (await script.ask(SlotsQuestion(names=("db",)), number=7)).answered is False
            await other.say()
        await other.end()
        assert (await script.ask(SlotsQuestion(names=("db",)), number=7)).answer is not None
        assert (await script.run()).state.name == "Running"

    flows(tmp_path, told(run=run))


def test_asking_again_under_a_number_waits_on_and_asks_nothing_anew(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        first = await script.ask(PauseQuestion(), number=1, wait_s=1)
        assert first.answered is False
        assert (await script.run()).state.name == "Paused"
        await script.house.control.resume_run(script.id, "yes")
        assert (await script.ask(PauseQuestion(), number=1)).answer == "yes"
        assert (await script.ask(PauseQuestion(), number=1)).answer == "yes", "after a lost answer, too"
        assert (await script.world.story(script.house, await script.run())).count("Paused") == 1

    flows(tmp_path, told(run=run))


# A question -> the answer, or what is said.
QUESTIONS: dict[str, tuple[Question, ScriptAnswer]] = {
    "a variable": (VariableQuestion(name="region"), ScriptAnswer(answer="fi")),
    "a block without a secret": (
        BlockQuestion(name="settings"),
        ScriptAnswer(answer={"type": "json", "name": "settings", "value": 1}),
    ),
    "a block with a secret": (
        BlockQuestion(name="token"),
        ScriptAnswer(
            error="block token holds a secret, which is not given out here; "
            "read it in the script itself, from its environment"
        ),
    ),
    "a secret": (
        SecretQuestion(ref=SecretRef(env="TOKEN")),
        ScriptAnswer(error="secrets are not given out here; a script reads its own"),
    ),
    "a file of the daemon's": (
        SecretQuestion(ref=SecretRef(file="/etc/shadow")),
        ScriptAnswer(error="secrets are not given out here; a script reads its own"),
    ),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_script_is_answered_but_told_no_secret(case: str, tmp_path: Path) -> None:
    """P14, P15: who reaches the API is asked no password."""
    question, answer = QUESTIONS[case]

    async def run(script: Script) -> None:
        assert await script.ask(question) == answer

    flows(tmp_path, told(run=run))


def test_a_script_cannot_name_a_process_for_the_daemon_to_end(tmp_path: Path) -> None:
    """P15"""

    async def run(script: Script) -> None:
        heard = await script.say(ProcessReport(pid=1, birth=1, boot_id="b"))
        assert heard.problem == "a process that the daemon is to end is not named from outside"

    flows(tmp_path, told(run=run))


def test_what_could_not_be_kept_is_told_once_and_fails_a_run_that_ends_with_it(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        bad = ArtifactReport(key="a", type="json", data="x" * 1_100_000)
        heard = await script.say(bad, script.line("after"))
        assert "too large" in (heard.problem or "")
        assert [line for _, line in script.world.lines] == ["after"]
        assert (await script.say()).problem is None
        ended = await script.end(StateType.COMPLETED, bad)
        assert ended.state.name == "Failed"
        assert "too large" in (ended.state.message or "")

    flows(tmp_path, told(run=run))


def test_a_cancelled_script_hears_of_it_and_ends_itself(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        waiting = asyncio.ensure_future(script.ask(PauseQuestion()))
        await script.world.clock.sleep(1)
        assert (await script.house.control.cancel_run(script.id, "enough")).state.name == "Cancelling"
        answer = await waiting
        assert (answer.error, answer.cancel) == ("the question was taken back", "enough")
        assert (await script.say()).cancel == "enough"
        ended = await script.end(StateType.CANCELLED, message="ended by itself")
        assert (ended.state.name, ended.state.message) == ("Cancelled", "ended by itself")

    flows(tmp_path, told(run=run))


def test_a_cancelled_script_that_does_not_end_is_cancelled_without_it(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        await script.house.control.cancel_run(script.id, "enough")
        await script.world.clock.sleep(31)
        assert (await script.run()).state.name == "Cancelled"

    flows(tmp_path, told(run=run))


def test_a_script_lives_on_over_a_restart_of_the_daemon(tmp_path: Path) -> None:
    """P4: its code is in a process of its own; a new lease says whether it still is."""

    async def main(world: FlowWorld) -> None:
        house = await world.with_flows({"job": nothing}, CONFIG)
        await world.started(house)
        script, silent = await Script(world, house).begin(), await Script(world, house, "silent").begin()
        await script.say(script.line("before"))
        child = (await script.ask(SubflowQuestion(flow="child", name="kid", parameters={}))).answer
        await world.kill(house)
        async with world.carries(nothing, CONFIG) as house:
            script.house = silent.house = house
            assert (await script.run()).state.name == "Running"
            assert (await world.run(house, child)).state.name == "Running"
            await world.clock.sleep(20)
            script.number = 41  # what was on its way when the daemon went is not known
            line = LogReport(at=world.now, level=20, logger="print", message="inside", flow_run_id=child)
            await script.say(script.line("after"), line)
            with pytest.raises(TransitionError):
                await script.say(number=44)
            script.number = 42
            await world.clock.sleep(20)
            assert (await silent.run()).state.name == "Crashed"
            assert (await script.end()).state.name == "Completed"
            found = await world.run(house, child)
            kept = await house.store.read(lambda connection: logs.of_run(connection, found.seq))
            assert [line.row.message for line in kept] == ["inside"]
            assert found.state.name == "Crashed", "it ended with its parent"

    flows(tmp_path, main)


def test_a_stop_leaves_scripts_to_the_next_daemon(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        house = await world.with_flows({"job": nothing}, CONFIG)
        await world.started(house)
        script = await Script(world, house).begin()
        asking = asyncio.ensure_future(script.ask(PauseQuestion()))
        await world.clock.sleep(1)
        assert await close_house(house) == 0
        with contextlib.suppress(TidemillError):
            await asking
        (found,) = await world.after_all()
        assert found.state.name in {"Running", "Paused"}
        async with world.carries(nothing, CONFIG) as house:
            await world.clock.sleep(31)
            assert (await world.run(house, script.id)).state.name == "Crashed"

    flows(tmp_path, main)


def test_what_the_disk_refuses_is_sent_again_and_taken_once(tmp_path: Path) -> None:
    """P11"""

    async def run(script: Script) -> None:
        script.world.disk.full()
        with pytest.raises(StoreUnavailableError):
            await script.say(script.line("one"))
        script.world.disk.well()
        await script.world.clock.sleep(6)
        assert await script.say(script.line("one"), number=1) == ScriptHeard()
        assert [line for _, line in script.world.lines] == ["one"]

    flows(tmp_path, told(run=run))


def test_strangers_are_refused(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        own = script.session
        script.session = "another"
        with pytest.raises(TransitionError, match="is another script's"):
            await script.say()
        with pytest.raises(TransitionError, match="is another script's"):
            await script.end()
        script.session, script.id = own, "no such run"
        with pytest.raises(NotFoundError):
            await script.say()

    flows(tmp_path, told(run=run))


def test_a_script_ends_in_a_terminal_state_only(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        with pytest.raises(TidemillError, match="not in RUNNING"):
            await script.end(StateType.RUNNING)
        assert (await script.run()).state.name == "Running"

    flows(tmp_path, told(run=run))


def test_a_script_run_is_nothing_that_the_daemon_would_carry_itself(tmp_path: Path) -> None:
    async def run(script: Script) -> None:
        await script.end(StateType.FAILED, message="no luck")
        with pytest.raises(TransitionError, match="its code is a script's"):
            await script.house.control.retry_run(script.id)
        due = await script.house.store.read(lambda connection: stored_runs.due(connection, script.world.now, 10))
        assert due == []

    flows(tmp_path, told(run=run))
