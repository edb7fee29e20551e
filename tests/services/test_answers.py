"""What flow code asks and is answered: variables, blocks, runs of deployments and their ends."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flow_stage import FLOW, FlowWorld, flows

from tidemill.core.ports import Job, Outcome
from tidemill.core.reports import (
    BlockQuestion,
    LogReport,
    RunDeploymentQuestion,
    RunStateQuestion,
    VariableChange,
    VariableQuestion,
)
from tidemill.core.retries import RetryPolicy
from tidemill.core.states import StateType
from tidemill.errors import TidemillError
from tidemill.services.recorder import DaemonRecorder
from tidemill.testing import close_house

CONFIG = (
    FLOW
    + """
[variables]
region = "fi"
[blocks.token]
type = "secret"
value = { env = "TOKEN" }
[blocks.settings]
type = "json"
value = { env = "TOKEN" }
"""
)
OTHER = '[deployments.other]\ncommand = "true"\noverridable = ["stdin"]\n'


async def once(world: FlowWorld, ask: Any, config: str = CONFIG) -> Any:
    """What a run's code gets to hear, by a life of a daemon of its own."""

    async def job(recorder: DaemonRecorder, _: Job) -> Any:
        return await ask(recorder)

    async with world.carries(job, config) as house:
        (run,) = await world.finished(house)
        return run.state.data if run.state.type is StateType.COMPLETED else run.state.message


# -- variables -------------------------------------------------------------------------------------------------------


def variable(name: str) -> Any:
    return lambda recorder: recorder.ask(VariableQuestion(name=name))


def change(name: str, value: Any, *, overwrite: bool = False) -> Any:
    return lambda recorder: recorder.ask(VariableChange(name=name, value=value, overwrite=overwrite))


def test_a_variable_set_at_runtime_holds_until_the_files_own_value_changes(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        assert await once(world, variable("region")) == "fi"
        assert await once(world, change("region", "se", overwrite=True)) == "fi", "the answer is the value before"
        assert await once(world, variable("region")) == "se", "over a restart"
        assert await once(world, variable("region"), CONFIG.replace('"fi"', '"no"')) == "no"
        assert await once(world, variable("region")) == "fi", "and what held once does not come back"

    flows(tmp_path, main)


def test_a_variable_that_the_file_states_later_is_the_files(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        assert await once(world, variable("new")) is None
        assert await once(world, change("new", [1, 2])) is None
        assert await once(world, variable("new")) == [1, 2]
        assert await once(world, variable("new"), CONFIG + "[deployments.x]\ncommand='x'\n") == [1, 2]
        assert await once(world, variable("new"), CONFIG.replace('"fi"', '"fi"\nnew = 3')) == 3
        assert await once(world, variable("new")) is None, "gone with the line that stated it"

    flows(tmp_path, main)


def test_removing_a_variable_lets_the_file_hold_again(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        await once(world, change("region", "se", overwrite=True))
        assert await once(world, change("region", None)) == "se"
        assert await once(world, variable("region")) == "fi"
        refused = await once(world, change("region", None))
        assert refused == "variable region stands in the configuration; remove it there"

    flows(tmp_path, main)


# What cannot be set -> what is said.
REFUSED_VARIABLES: dict[str, tuple[Any, str]] = {
    "one that is there": (change("region", "x"), "variable region is set already; overwrite=True replaces its value"),
    "the removal of none": (change("none", None), "there is no variable none"),
    "a name that is none": (change("", 1), "a variable's name has 1 to 255 characters, not 0"),
    "too large": (
        change("big", "x" * 70_000),
        "the value for variable big is too large: 70,002 bytes of JSON, at most 65,536 are kept",
    ),
}


@pytest.mark.parametrize("case", REFUSED_VARIABLES)
def test_a_variable_that_cannot_be_set_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    ask, text = REFUSED_VARIABLES[case]
    assert flows(tmp_path, lambda world: once(world, ask)) == text


# -- blocks ----------------------------------------------------------------------------------------------------------


def block(name: str, type_: str | None = None) -> Any:
    return lambda recorder: recorder.ask(BlockQuestion(name=name, type=type_))


def test_a_block_is_told_with_its_secrets_which_are_masked_from_then_on(tmp_path: Path) -> None:
    """P14"""

    async def main(world: FlowWorld) -> None:
        async def ask(recorder: DaemonRecorder) -> Any:
            found = await recorder.ask(BlockQuestion(name="token"))
            assert found == {"type": "secret", "name": "token", "value": "c4n4ry-v4lue"}
            recorder.report(LogReport(at=world.now, level=20, logger="print", message=f"got {found['value']}"))
            return "told"

        assert await once(world, ask) == "told"
        assert [line for _, line in world.lines] == ["got ********"]

    flows(tmp_path, main)


# A question -> the answer or what is said.
BLOCKS: dict[str, tuple[Any, Any]] = {
    "a JSON block": (block("settings"), {"type": "json", "name": "settings", "value": {"env": "TOKEN"}}),
    "of the type wanted": (block("settings", "json"), {"type": "json", "name": "settings", "value": {"env": "TOKEN"}}),
    "of another type": (block("settings", "secret"), "block settings is of type json, not secret"),
    "misspelt": (block("setings"), "no block is called setings; did you mean settings?"),
    "not there": (block("zzz"), "no block is called zzz; the configuration has settings, token"),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_a_block_is_found_by_its_name_and_type(case: str, tmp_path: Path) -> None:
    ask, answer = BLOCKS[case]
    assert flows(tmp_path, lambda world: once(world, ask)) == answer


# -- runs of deployments ---------------------------------------------------------------------------------------------


def test_code_runs_a_deployment_and_hears_of_its_end_without_looking_again_and_again(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            made = await recorder.ask(RunDeploymentQuestion(deployment="other", parameters={"stdin": "x"}, name="n"))
            assert (made["name"], made["parent_run_id"], made["created_by"]) == ("n", recorder.run.id, "flow")
            began, reads = world.now, house.store.stats.groups
            done = await recorder.ask(RunStateQuestion(flow_run_id=made["id"]))
            assert world.now - began == timedelta(seconds=30)
            assert house.store.stats.groups - reads <= 3
            return done["state"]["name"]

        async def other(recorder: DaemonRecorder, job: Job) -> None:
            assert job.parameters == {"command": "true", "stdin": "x"}
            await world.clock.sleep(30)

        async with world.carries({"job": job, "other": other}, FLOW + OTHER) as house:
            (run,) = await world.finished(house)
            assert run.state.data == "Completed", run.state.message

    flows(tmp_path, main)


def test_waiting_for_a_run_ends_with_its_timeout_and_tells_how_the_run_is(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            made = await recorder.ask(RunDeploymentQuestion(deployment="other"))
            await world.clock.sleep(1)
            states = [
                (await recorder.ask(RunStateQuestion(flow_run_id=made["id"], timeout_s=timeout)))["state"]["name"]
                for timeout in (0, 5, 60, None)
            ]
            with pytest.raises(TidemillError, match="no flow run has the id x"):
                await recorder.ask(RunStateQuestion(flow_run_id="x"))
            return states

        async def other(recorder: DaemonRecorder, job: Job) -> None:
            await world.clock.sleep(30)

        async with world.carries({"job": job, "other": other}, FLOW + OTHER) as house:
            (run,) = await world.finished(house)
            assert run.state.data == ["Running", "Running", "Completed", "Completed"], run.state.message

    flows(tmp_path, main)


def test_what_a_deployment_does_not_let_be_overridden_code_cannot_set_either(tmp_path: Path) -> None:
    """P15"""

    async def ask(recorder: DaemonRecorder) -> Any:
        return await recorder.ask(RunDeploymentQuestion(deployment="job", parameters={"command": "rm"}))

    answer = flows(tmp_path, lambda world: once(world, ask))
    assert "does not let command be overridden" in answer


def test_waiting_questions_end_with_a_stop_of_the_daemon(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            made = await recorder.ask(RunDeploymentQuestion(deployment="job", scheduled_time=world.now + timedelta(1)))
            await recorder.ask(RunStateQuestion(flow_run_id=made["id"]))

        house = await world.with_flows({"job": job}, FLOW)
        await world.started(house)
        run = await house.control.create_run("job")
        await world.clock.sleep(1)
        assert await close_house(house, grace=timedelta(seconds=5)) == 1
        assert (await world.after_all())[0].id == run.id

    flows(tmp_path, main)


# -- the flow's own retries ------------------------------------------------------------------------------------------

OWN = RetryPolicy(retries=2, delays=(timedelta(seconds=7),))
# What the deployment says -> how many attempts there are. The flow's own code says two retries.
RETRIES = {"": 3, "retries = 1\n": 2, "retries = 0\n": 1, "retry_delay = 5\n": 3}


@pytest.mark.parametrize("text", RETRIES)
def test_a_flows_own_retries_hold_where_its_deployment_sets_none(text: str, tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Outcome:
            return Outcome(type=StateType.FAILED, name="Failed", message="no luck", retry=OWN)

        async with world.carries(job, FLOW + text) as house:
            began = world.now
            (run,) = await world.finished(house)
            assert run.attempt == RETRIES[text]
            if RETRIES[text] == 3:
                assert world.now - began == timedelta(seconds=14), "two delays of the flow's own"

    flows(tmp_path, main)
