"""Another configuration in place of the one in force, while runs go on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from editing import JOB, MINUTELY, Editor, dues, ran
from stage import NOON, World, minutes, play, runner, seconds, takes

from tidemill.config import Loaded
from tidemill.errors import Fault
from tidemill.services.fitness import Fitness
from tidemill.services.reloader import AGAIN_S
from tidemill.store import planning
from tidemill.testing import close_house

# -- schedules ---------------------------------------------------------------------------------------------------------


def test_what_did_not_change_keeps_its_upcoming_runs(tmp_path: Path) -> None:
    """Another catch-up policy or timeout is no reason to make runs anew."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            editor = Editor(world, house, MINUTELY)
            await world.until(NOON + minutes(1.5))
            before = [run.id for run in await world.runs(house)]
            ended = await editor.edit(MINUTELY + 'timeout = "5m"\ncatch_up = "all"\n[deployments.two]\ncommand = "x"\n')
            assert ended.ok
            assert ended.changes.names("added") == ("two",)
            assert ended.changes.names("changed") == ("job",)
            assert [run.id for run in await world.runs(house)] == before
            await world.until(NOON + minutes(4.5))
            assert ran(await world.runs(house)) == [1, 2, 3, 4]
            assert runner(house).began[-1][1].timeout == minutes(5), "and new runs go by what it says now"

    play(tmp_path, main)


CHANGES = [
    # what the schedule becomes, and what runs until noon and ten minutes: minutes after noon
    (JOB + 'interval = "2m"\n', [1, 2, 4, 6, 8]),
    (JOB + 'interval = "90s"\n', [1, 3, 4.5, 6, 7.5, 9]),
    (JOB + 'cron = "5,7 * * * *"\n', [1, 5, 7]),
    (JOB, [1]),
    (MINUTELY + "paused = true\n", [1]),
    ('[deployments.other]\ncommand = "true"\n', [1]),
    (MINUTELY.replace("1m", "1h"), [1]),
]


@pytest.mark.parametrize(("after", "wanted"), CHANGES)
def test_a_changed_schedule_holds_from_the_reload_on(tmp_path: Path, after: str, wanted: list[float]) -> None:
    """P6: the old rule has the fires before, the new one those after."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            editor = Editor(world, house, MINUTELY)
            await world.until(NOON + minutes(1.75))
            assert (await editor.edit(after)).ok
            await world.until(NOON + minutes(9.75))
            assert ran(await world.runs(house)) == wanted
            assert all(run.due > world.now for run in await world.runs(house) if run.state.name == "Scheduled")

    play(tmp_path, main)


@pytest.mark.parametrize("microseconds", [-1000, -1, 0, 1, 1000])
@pytest.mark.parametrize("name", ["", 'name = "n"\n'], ids=["by content", "by name"])
def test_a_fire_that_two_rules_share_runs_once(tmp_path: Path, microseconds: int, name: str) -> None:
    """P1, P6: edited around its very due second."""

    def config(interval: str) -> str:
        return f'{JOB}[[deployments.job.schedules]]\n{name}interval = "{interval}"\n'

    async def main(world: World) -> None:
        async with world.daemon(config("1m"), takes(seconds(0.5))) as house:
            editor = Editor(world, house, config("1m"))
            await world.until(NOON + minutes(2) + timedelta(microseconds=microseconds))
            assert (await editor.edit(config("2m"))).ok
            await world.until(NOON + minutes(6.5))
            assert ran(await world.runs(house)) == [1, 2, 4, 6]

    play(tmp_path, main)


def test_a_fire_that_began_while_the_reload_was_decided_is_not_had_twice(tmp_path: Path) -> None:
    """P1: the decision fell before noon and two minutes, the commit after: the old rule's run was quicker."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY, takes(seconds(0.5))) as house:
            await world.until(NOON + minutes(2.5))
            begun = next(run for run in await world.runs(house) if dues([run]) == [2])
            upcoming = await world.runs(house)
            another = [
                run.__class__(
                    **{
                        **{field: getattr(run, field) for field in run.__struct_fields__},
                        "seq": house.store.next_seq(),
                        "id": f"{number:036d}",
                        "schedule": "new",
                    }
                )
                for number, run in enumerate(upcoming)
                if dues([run]) in ([2], [3])
            ]
            replan = planning.Replan(
                retired=(("job", begun.schedule or "", False), ("job", "new", True)),
                plan=planning.schedules.Plan(runs=tuple(another)),
                at=NOON + minutes(1.9),
            )
            _, made = await house.store.write(planning.REPLAN, replan)
            assert [run.due for run in await world.runs(house) if run.seq in made] == [NOON + minutes(3)]

    play(tmp_path, main)


@pytest.mark.parametrize("committed", [False, True], ids=["before its commit", "after its commit"])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_crash_in_the_middle_of_a_reload_loses_and_doubles_nothing(
    tmp_path: Path, write: int, committed: bool
) -> None:
    """P3, P6: a start goes on with what was taken over, or takes it over itself."""
    before, after = MINUTELY + 'catch_up = "all"\n', JOB + 'interval = "90s"\ncatch_up = "all"\n'

    async def main(world: World) -> None:
        house = await world.opened(before)
        await world.started(house)
        await world.until(NOON + minutes(1.75))
        editor = Editor(world, house, before)
        world.disk.crash_at = (world.disk.calls + write, committed)
        with_crash = asyncio.ensure_future(editor.edit(after))
        await asyncio.wait({with_crash}, timeout=5)
        with_crash.cancel()
        await world.kill(house)
        await world.until(NOON + minutes(2.25))
        async with world.daemon(after) as house:
            await world.until(NOON + minutes(7))
            found = ran(await world.runs(house))
        assert len(found) == len(set(found))
        # What was planned for the minutes in which nobody lived is caught up with, by either rule.
        assert set(found) - {2} == {1, 3, 4.5, 6}

    play(tmp_path, main)


def test_a_schedule_at_a_start_waits_for_the_next_start(tmp_path: Path) -> None:
    """@reboot: a reload is no start."""

    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            await Editor(world, house, JOB).edit(JOB + 'cron = "@reboot"\n')
            await world.wait(minutes(5))
            assert await world.runs(house) == []

    play(tmp_path, main)


def test_the_number_of_runs_shown_ahead_can_be_edited(tmp_path: Path) -> None:
    hourly = JOB + 'interval = "1h"\n'

    async def main(world: World) -> None:
        async with world.daemon(hourly) as house:
            await world.wait(seconds(1))
            assert len(await world.runs(house)) == 3
            await Editor(world, house, hourly).edit(hourly + "[daemon]\nupcoming = 7\n")
            await world.wait(seconds(2))
            assert len(await world.runs(house)) == 7

    play(tmp_path, main)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_broken_file_changes_nothing_and_everybody_is_told(tmp_path: Path) -> None:
    """P8."""

    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            editor = Editor(world, house, MINUTELY)
            await world.wait(seconds(1))
            for broken in (
                '[deployments.job]\ncommand = "x',
                JOB + 'cron = "0 25 * * *"\n',
                "",
                JOB + "parameters = 3",
            ):
                settings, runs = house.catalogue.settings, await world.runs(house)
                ended = await editor.edit(broken)
                assert not ended.ok
                assert house.catalogue.settings is settings
                assert await world.runs(house) == runs
                status = await house.control.status()
                assert status["state"] == "degraded"
                assert status["reload"]["outcome"] == "refused"
                assert status["reload"]["faults"] == list(ended.faults)
            editor.file.unlink()
            assert "is missing" in (await editor.reloader.reload("gone")).summary
            assert house.catalogue.deployments, "a missing file is never: no deployments"
            assert (await editor.edit(MINUTELY)).summary == "nothing has changed"
            status = await house.control.status()
            assert (status["state"], status["reload"]["outcome"]) == ("ok", "ok")
            await world.until(NOON + minutes(2.5))
            assert ran(await world.runs(house)) == [1, 2]

    play(tmp_path, main)


def test_code_that_does_not_fit_is_refused_with_the_file(tmp_path: Path) -> None:
    """P8: all or nothing."""

    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            editor = Editor(world, house, JOB)
            editor.unfit = (
                Fault(file="f", line=1, column=1, key="deployments.job.flow", problem="cannot be imported"),
            )
            ended = await editor.edit(MINUTELY)
            assert ended.faults == ("f:1:1 deployments.job.flow: cannot be imported",)
            assert editor.kept == []
            editor.unfit = ()
            assert (await editor.edit(MINUTELY)).ok
            assert len(editor.kept) == 1, "what is in force is what a start without the file would run"

    play(tmp_path, main)


def test_a_full_disk_puts_a_reload_off_until_it_is_well(tmp_path: Path) -> None:
    """P11: nothing is half taken over."""

    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            editor = Editor(world, house, JOB)
            world.disk.full()
            ended = await editor.edit(MINUTELY)
            assert not ended.ok
            assert house.catalogue.deployments["job"].schedules == ()
            world.disk.well()
            await world.wait(seconds(2 * AGAIN_S))
            assert editor.reloader.last is not None
            assert editor.reloader.last.ok
            await world.until(NOON + minutes(1.5))
            assert ran(await world.runs(house)) == [1]

    play(tmp_path, main)


def test_an_error_of_ours_is_an_answer_too(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(MINUTELY) as house:
            editor = Editor(world, house, MINUTELY)

            def fails(loaded: Loaded) -> Fitness:
                raise RuntimeError("bad luck")

            editor.reloader._examine = fails
            ended = await editor.edit(JOB)
            assert ended.faults == ("the reload failed: RuntimeError; the daemon's log says more",)
            await world.until(NOON + minutes(1.5))
            assert ran(await world.runs(house)) == [1]

    play(tmp_path, main)


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_storm_of_requests_is_one_or_two_reloads(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            editor = Editor(world, house, JOB)
            asked = [asyncio.ensure_future(editor.reloader.reload("SIGHUP")) for _ in range(100)]
            await asyncio.sleep(0)
            for _ in range(100):
                editor.reloader.request("SIGHUP")
            ended = await asyncio.gather(*asked)
            await world.wait(seconds(1))
            assert editor.reads <= 2
            assert {each.reason for each in ended} == {"SIGHUP"}

    play(tmp_path, main)


def test_edited_code_is_of_no_interest_where_nothing_runs_code(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            editor = Editor(world, house, JOB)
            editor.reloader.request("flow code was edited", only_code=True)
            await world.wait(seconds(1))
            assert editor.reads == 0

    play(tmp_path, main)


def test_a_key_that_is_read_at_a_start_is_named_until_the_next(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            editor = Editor(world, house, JOB)
            assert (await editor.edit(JOB + "[api]\nlisten = []\n")).restart == ("api.listen",)
            assert (await editor.edit(JOB + "[api]\nlisten = []\nsample = true\n")).restart == ("api.listen",)
            assert (await editor.edit(JOB + "[api]\nsample = true\n")).restart == ()

    play(tmp_path, main)


def test_a_change_with_its_file_is_undone_where_it_is_refused(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(JOB) as house:
            editor = Editor(world, house, JOB)
            file = world.folder / "made.d" / "deployments.toml"
            ended = await house.control.made.put("deployments", "two", {"command": "x"}, by="me")
            assert ended.changes.names("added") == ("two",)
            written = file.read_text()
            with pytest.raises(Exception, match="the configuration would not hold"):
                await house.control.made.put("deployments", "three", {"comand": "x"}, by="me")
            assert file.read_text() == written
            assert (await house.control.status())["state"] == "ok", "nobody but who asked is told"
            with pytest.raises(Exception, match="states deployment job; change it there"):
                await house.control.made.put("deployments", "job", {"command": "x"}, by="me")
            await house.control.made.remove("deployments", "two", by="me")
            assert not file.exists()
            assert set(house.catalogue.deployments) == {"job"}
            with pytest.raises(Exception, match=r"stands in .*tidemill\.toml:1; delete it there"):
                await house.control.made.remove("deployments", "job", by="me")
            assert editor.reloader.last is not None

    play(tmp_path, main)


def test_a_stop_while_a_reload_waits_its_turn_is_a_stop(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = await world.opened(JOB)
        await world.started(house)
        editor = Editor(world, house, JOB)
        await editor.reloader._turn.acquire()
        editor.reloader.request("SIGHUP")
        await world.wait(seconds(1))
        assert await close_house(house) == 0
        assert editor.reads == 0

    play(tmp_path, main)
