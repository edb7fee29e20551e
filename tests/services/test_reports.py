"""What flow code reports: durable in order, fenced by its attempt, bounded, and masked."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flow_stage import FLOW, FlowWorld, Tasks, flows
from stage import NOON

from tidemill.core.deployments import SecretRef
from tidemill.core.events import ArtifactStored, Emitted
from tidemill.core.ports import Job
from tidemill.core.reports import (
    ArtifactReport,
    CacheQuestion,
    CacheReport,
    EventReport,
    LogReport,
    SecretQuestion,
    TaskReport,
)
from tidemill.core.states import State, StateType
from tidemill.services import intake
from tidemill.services.recorder import DaemonRecorder
from tidemill.store import artifacts, task_cache, timeline
from tidemill.store.timeline import Loudness, Scope

UUID = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_task_runs_are_durable_when_their_flow_run_has_ended(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            tasks = Tasks(recorder, world.clock)
            begun = tasks.begin("fetch")
            await world.clock.sleep(2)
            tasks.end(begun, data={"n": 1})

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            (task,) = await world.task_runs(house, run)
        assert (task.name, task.run_id, task.state.name, task.state.data) == ("fetch", run.id, "Completed", {"n": 1})
        assert task.end_time == task.created + timedelta(seconds=2)
        assert [event.task.state.name for event in world.tasks] == ["Running", "Completed"]

    flows(tmp_path, main)


def test_task_states_are_durable_within_a_tenth_of_a_second_without_a_barrier(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            Tasks(recorder, world.clock).begin("slow")
            await world.clock.sleep(60)

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(0.1)
            assert [task.state.name for task in await world.task_runs(house, run)] == ["Running"]

    flows(tmp_path, main)


def test_states_that_follow_quickly_are_one_write(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            tasks = Tasks(recorder, world.clock)
            for number in range(intake.BATCH):
                tasks.end(tasks.begin(f"t-{number}"))

        async with world.carries(job) as house:
            before = house.store.stats.items
            await world.finished(house)
            changes = house.store.stats.items - before
        # The run's making, its start and its end, one batch of task runs, and what the daemon notes of itself.
        assert changes < 10
        assert len(world.tasks) == intake.BATCH
        assert {event.task.state.name for event in world.tasks} == {"Completed"}

    flows(tmp_path, main)


def test_a_task_run_does_not_outlive_its_flow_run(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            Tasks(recorder, world.clock).begin("open")
            await world.clock.sleep(3600)

        async with world.carries(job) as house:
            run = await house.control.create_run("job")
            await world.clock.sleep(1)
            await house.control.cancel_run(run.id, "enough")
            await world.ended(house, run)
            (task,) = await world.task_runs(house, run)
        assert task.state.type is StateType.CANCELLED
        assert task.state.message == "its flow run ended before it did"

    flows(tmp_path, main)


def test_task_runs_that_a_killed_daemon_left_running_are_crashed(tmp_path: Path) -> None:
    """P4"""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            Tasks(recorder, world.clock).begin("open")
            await world.clock.sleep(3600)

        house = await world.with_flows({"job": job}, FLOW)
        await world.started(house)
        run = await house.control.create_run("job")
        await world.clock.sleep(1)
        await world.kill(house)
        async with world.carries(job) as house:
            (task,) = await world.task_runs(house, run)
            assert (task.state.name, task.state_number) == ("Crashed", 2)

    flows(tmp_path, main)


def test_what_an_attempt_reports_after_its_end_is_refused(tmp_path: Path) -> None:
    """An abandoned thread may go on reporting for hours: its run has ended, or is at its next attempt."""

    async def main(world: FlowWorld) -> None:
        kept: list[DaemonRecorder] = []

        async def job(recorder: DaemonRecorder, _: Job) -> None:
            kept.append(recorder)

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            tasks = Tasks(kept[0], world.clock)
            tasks.begin("late")
            kept[0].report(LogReport(at=world.now, level=20, logger="print", message="late"))
            kept[0].report(ArtifactReport(key="late", type="json", data=1))
            with pytest.raises(Exception, match="has ended"):
                await kept[0].ask(CacheQuestion(key="k"))
            await world.clock.sleep(1)
            assert await world.task_runs(house, run) == []
            assert await house.store.read(lambda connection: artifacts.latest(connection, "late")) is None
        assert world.lines == []

    flows(tmp_path, main)


def test_an_older_state_of_a_task_run_changes_nothing(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            tasks = Tasks(recorder, world.clock)
            begun = tasks.begin("t")
            tasks.end(begun)
            await recorder.flush()
            recorder.report(begun)
            await recorder.flush()

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert [task.state.name for task in await world.task_runs(house, run)] == ["Completed"]

    flows(tmp_path, main)


def test_a_task_run_belongs_to_the_flow_run_that_made_it(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            tasks = Tasks(recorder, world.clock)  # each time with the same ids
            tasks.end(tasks.begin("mine"), data=recorder.run.id)

        async with world.carries(job) as house:
            first, second = await world.finished(house, "job", "job")
            (task,) = await world.task_runs(house, first)
            assert task.state.data == first.id
            assert await world.task_runs(house, second) == []

    flows(tmp_path, main)


def test_a_cached_result_is_durable_together_with_the_task_states_before_it(tmp_path: Path) -> None:
    """After a crash a task state may be missing, never false: no cached result of a task that seems to run on."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            tasks = Tasks(recorder, world.clock)
            tasks.end(tasks.begin("t"))
            recorder.report(CacheReport(key="k", value=[1]))
            assert await recorder.ask(CacheQuestion(key="k")) == {"value": [1]}, "at once, for who published it"
            await asyncio.sleep(3600)

        house = await world.with_flows({"job": job}, FLOW)
        await world.started(house)
        run = await house.control.create_run("job")
        while await house.store.read(lambda connection: task_cache.get(connection, "k", world.now)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        (task,) = await world.task_runs(house, run)
        assert task.state.name == "Completed"
        await world.kill(house)

    flows(tmp_path, main)


# What is published -> what is found after a second.
CACHED: dict[str, tuple[dict[str, Any], Any]] = {
    "kept for ever": ({"key": "k", "value": {"a": 1}}, {"value": {"a": 1}}),
    "null is a result, too": ({"key": "k", "value": None}, {"value": None}),
    "expired": ({"key": "k", "value": 1, "expires": timedelta(milliseconds=500)}, None),
    "not expired": ({"key": "k", "value": 1, "expires": timedelta(seconds=2)}, {"value": 1}),
    "a secret in it": ({"key": "k", "value": "x c4n4ry-v4lue"}, None),
}


@pytest.mark.parametrize("case", CACHED)
def test_a_cached_result_is_found_until_it_expires(case: str, tmp_path: Path) -> None:
    fields, found = CACHED[case]

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> Any:
            assert await recorder.ask(SecretQuestion(ref=SecretRef(env="TOKEN"))) == "c4n4ry-v4lue"
            expires = world.now + fields["expires"] if "expires" in fields else None
            recorder.report(CacheReport(key=fields["key"], value=fields["value"], expires=expires))
            await world.clock.sleep(1)
            return await recorder.ask(CacheQuestion(key="k"))

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert run.state.data == found

    flows(tmp_path, main)


def test_a_progress_artifact_changes_in_place_and_no_other_run_can_change_it(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def maker(recorder: DaemonRecorder, _: Job) -> None:
            for percent in (0.0, 50.0, 100.0):
                recorder.report(ArtifactReport(key="p", type="progress", data=percent, id=UUID, update=percent > 0.0))
                await world.clock.sleep(1)

        async def other(recorder: DaemonRecorder, _: Job) -> None:
            recorder.report(ArtifactReport(key="p", type="progress", data=-1, id=UUID, update=True))

        config = FLOW + '[deployments.other]\ncommand = "true"\n'
        async with world.carries({"job": maker, "other": other}, config) as house:
            await world.finished(house, "job", "other")
            found = await house.store.read(lambda connection: artifacts.versions(connection, "p", text=True))
        assert [(each.id, each.version, each.text) for each in found] == [(UUID, 1, "100.0")]
        assert sum(isinstance(event, ArtifactStored) for event in world.events) == 1

    flows(tmp_path, main)


def test_as_many_versions_stay_as_the_configuration_says_or_the_maker(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            for number in range(5):
                recorder.report(ArtifactReport(key="file", type="json", data=number))
                recorder.report(ArtifactReport(key="maker", type="json", data=number, keep_versions=3))

        async with world.carries(job, "[retention]\nkeep_artifact_versions = 2\n" + FLOW) as house:
            await world.finished(house)
            kept = {
                key: [each.version for each in await house.store.read(lambda c, key=key: artifacts.versions(c, key))]
                for key in ("file", "maker")
            }
        assert {key: sorted(versions) for key, versions in kept.items()} == {"file": [4, 5], "maker": [3, 4, 5]}

    flows(tmp_path, main)


def test_an_artifact_that_may_change_is_a_document_of_its_own(tmp_path: Path) -> None:
    """Equal content makes no version, but what the maker names by an id has to be there under it."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            recorder.report(ArtifactReport(key="p", type="progress", data=0.0))
            recorder.report(ArtifactReport(key="p", type="progress", data=0.0, id=UUID))

        async with world.carries(job) as house:
            await world.finished(house)
            found = await house.store.read(lambda connection: artifacts.get(connection, UUID))
        assert found is not None
        assert found.version == 2

    flows(tmp_path, main)


TASK = TaskReport(
    id=UUID,
    name="t",
    task_key="t",
    dynamic_key="0",
    state=State(type=StateType.RUNNING, name="Running", timestamp=NOON),
    created=NOON,
)
# A report that cannot be kept -> what its maker hears.
REFUSED: dict[str, tuple[Any, str]] = {
    "an artifact that is not JSON": (ArtifactReport(key="a", type="json", data=[{1, 2}]), r"\$\[0\] is set"),
    "an artifact that is too large": (ArtifactReport(key="a", type="json", data="x" * 1_100_000), "too large"),
    "an artifact's id that is none": (ArtifactReport(key="a", type="json", data=1, id="x"), "a UUID, not 'x'"),
    "a change of nothing": (ArtifactReport(key="a", type="json", data=1, update=True), "by its id, and none is given"),
    "a result that is not JSON": (CacheReport(key="k", value={1, 2}), "not JSON"),
    "a task run without a UUID": (msgspec.structs.replace(TASK, id="1"), "has no UUID"),
    "a task run in no state": (
        msgspec.structs.replace(TASK, state=msgspec.structs.replace(TASK.state, name="")),
        "a state that cannot be",
    ),
    "a task run with half a character": (msgspec.structs.replace(TASK, name="\ud800"), "cannot be kept"),
    "an event that is too large": (
        EventReport(event="e", resource={"r": "x" * 70_000}, occurred=TASK.created),
        "too large",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_report_that_cannot_be_kept_is_told_to_its_maker_at_once(case: str, tmp_path: Path) -> None:
    report, text = REFUSED[case]

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            await recorder.ask(SecretQuestion(ref=SecretRef(env="TOKEN")))  # masking hides none of it
            with pytest.raises(ValueError, match=text):
                recorder.report(report)

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert run.state.name == "Completed", run.state.message

    flows(tmp_path, main)


def test_what_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    """P13"""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            tasks = Tasks(recorder, world.clock)
            tasks.end(tasks.begin("n" * 5000), data="d" * 100_000)
            recorder.report(LogReport(at=world.now, level=20, logger="print", message="m" * 40_000))

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            (task,) = await world.task_runs(house, run)
        assert task.name == "n" * 4096 + " … [904 characters cut]"
        assert task.state.data == "… [100002 bytes of str cut]"
        ((_, line),) = world.lines
        assert line.endswith(" … [7232 characters cut]")

    flows(tmp_path, main)


def test_task_runs_beyond_what_can_wait_are_dropped_and_the_log_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P13: with a full disk, for instance."""
    monkeypatch.setattr(intake, "MOST_TASKS", 10)

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            world.disk.full()
            tasks = Tasks(recorder, world.clock)
            for number in range(25):
                tasks.begin(f"t-{number}")
            await world.clock.sleep(10)
            world.disk.well()

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            found = await world.task_runs(house, run)
        assert len(found) == 10
        assert [line for _, line in world.lines] == ["15 task runs were not kept: more than the database could take"]

    flows(tmp_path, main)


def test_a_secret_is_masked_in_everything_that_is_reported(tmp_path: Path) -> None:
    """P14"""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            secret = await recorder.ask(SecretQuestion(ref=SecretRef(env="TOKEN")))
            tasks = Tasks(recorder, world.clock)
            tasks.end(tasks.begin(f"t {secret}"), data={"k": secret})
            recorder.report(LogReport(at=world.now, level=20, logger="print", message=f"line {secret}"))
            recorder.report(ArtifactReport(key="a", type="json", data=[secret], description=secret))
            recorder.report(
                EventReport(event=secret, resource={"r": secret}, payload={"p": secret}, occurred=world.now)
            )

        async with world.carries(job) as house:
            await world.finished(house)
        assert "c4n4ry" not in repr((world.events, world.tasks, world.lines))
        assert len(world.tasks) == 1
        for file in tmp_path.glob("db*"):
            assert b"c4n4ry" not in file.read_bytes()

    flows(tmp_path, main)


def test_an_event_that_code_emits_is_told_on_the_bus(tmp_path: Path) -> None:
    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            recorder.report(
                EventReport(event="order.placed", resource={"prefect.resource.id": "o.1"}, occurred=world.now)
            )

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
        (event,) = [each for each in world.events if isinstance(each, Emitted)]
        assert (event.event, event.run.id, event.payload) == ("order.placed", run.id, None)

    flows(tmp_path, main)


def test_an_event_that_code_emits_is_kept_as_the_log_told_it(tmp_path: Path) -> None:
    """Also one whose time has no offset: it is taken for UTC."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            recorder.report(
                EventReport(event="e", resource={"prefect.resource.id": 7}, occurred=world.now.replace(tzinfo=None))
            )
            with pytest.raises(ValueError, match="surrogate"):
                recorder.report(EventReport(event="\ud800", resource={}, occurred=world.now))

        async with world.carries(job) as house:
            began = world.now
            (run,) = await world.finished(house)
            scope = Scope(loudness=Loudness(types=(), named=(), loud=(), asked=False))
            (row,) = await house.store.read(lambda connection: timeline.EVENTS.rows(connection, scope, 0, 9))
        assert (row.value.run.id, row.value.event, row.value.about) == (run.id, "e", "7")
        assert row.value.occurred == began

    flows(tmp_path, main)


def test_a_flood_of_events_is_cut_and_says_so(tmp_path: Path) -> None:
    """P13: each would be a line of the daemon's log."""

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            for _ in range(1500):
                recorder.report(EventReport(event="e", resource={}, occurred=world.now))

        async with world.carries(job) as house:
            await world.finished(house)
        assert sum(isinstance(each, Emitted) for each in world.events) == 1000
        assert [line for _, line in world.lines] == ["500 lines dropped"]

    flows(tmp_path, main)


def test_task_runs_that_the_loop_cannot_take_over_in_time_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P13: a thread that reports while the loop is held up."""
    monkeypatch.setattr(intake, "MOST_GATHERED", 20)

    async def main(world: FlowWorld) -> None:
        async def job(recorder: DaemonRecorder, _: Job) -> None:
            tasks = Tasks(recorder, world.clock)
            for number in range(30):
                tasks.begin(f"t-{number}")

        async with world.carries(job) as house:
            (run,) = await world.finished(house)
            assert len(await world.task_runs(house, run)) == 20
        assert [line for _, line in world.lines] == ["10 task runs were not kept: more than the database could take"]

    flows(tmp_path, main)
