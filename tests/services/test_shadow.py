"""Shadow mode: what would run is recorded, and nothing runs."""

from __future__ import annotations

from pathlib import Path

from editing import MINUTELY, Editor, ran
from stage import NOON, World, minutes, names, play, runner

from tidemill.core.states import StateType


def test_in_shadow_mode_what_would_run_is_recorded_and_nothing_runs(tmp_path: Path) -> None:
    shadow = (
        MINUTELY + '[deployments.real]\ncommand = "true"\ninterval = "1m"\nmode = "run"\n[daemon]\nmode = "shadow"\n'
    )

    async def main(world: World) -> None:
        async with world.daemon(shadow) as house:
            by_hand = await house.control.create_run("job")
            await world.until(NOON + minutes(3.5))
            assert {job.deployment for _, job in runner(house).began} == {"real"}
            assert names(await world.runs(house, "job"))[:4] == ["Shadow"] * 4
            run = await world.run(house, by_hand.id)
            assert run.state.type is StateType.CANCELLED
            assert "would have started now" in (run.state.message or "")
            assert (await house.control.status())["shadow"] == ["job"]

    play(tmp_path, main)


def test_shadow_mode_is_left_and_entered_by_an_edit(tmp_path: Path) -> None:
    """Runs that wait for a slot or a retry do not slip through."""
    shadow = MINUTELY + 'mode = "shadow"\n'

    async def main(world: World) -> None:
        async with world.daemon(shadow) as house:
            editor = Editor(world, house, shadow)
            await world.until(NOON + minutes(2.5))
            await editor.edit(MINUTELY)
            await world.until(NOON + minutes(4.5))
            assert ran(await world.runs(house)) == [3, 4]
            await house.control.pause("work_queue", "default", by="me")
            await world.until(NOON + minutes(5.5))
            await editor.edit(shadow)
            await house.control.resume("work_queue", "default", by="me")
            await world.until(NOON + minutes(6.5))
            assert ran(await world.runs(house)) == [3, 4]
            assert names(await world.runs(house))[4:6] == ["Shadow", "Shadow"]

    play(tmp_path, main)
