"""People are told: what goes wrong in a daemon's lives on a virtual clock, and what arrives of it where."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stage import DONE, FAILED, NOON, Script, World, minutes, play, seconds, takes

import tidemill
from tidemill.core.channels import Channel, UndeliveredError
from tidemill.core.deployments import SecretRef
from tidemill.core.messages import LISTED
from tidemill.core.notices import Message, Notice, NoticeKind
from tidemill.core.ports import Job, Outcome
from tidemill.core.states import StateType
from tidemill.errors import NotFoundError, TidemillError
from tidemill.services.house import House
from tidemill.services.telling.messages import without_engine

HOUR = timedelta(hours=1)
NOTIFY = '[notify]\ndefault = "mailto:me@example.org"\n'


class People:
    """Everybody outside: who was told what and when, and which channels and pings do not work."""

    host = "web1"

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.told: list[tuple[datetime, str, Message]] = []
        self.pinged: list[tuple[datetime, str]] = []
        self.broken: dict[str, str] = {}  # channels, or "ping", and why
        self.tries = 0

    def redact(self, value: Any) -> Any:
        return value

    async def carry(self, channel: Channel, message: Message) -> None:
        self.tries += 1
        if channel.name in self.broken:
            raise UndeliveredError(self.broken[channel.name])
        self.told.append((self._now(), channel.name, message))

    async def ping(self, url: str | SecretRef, ending: str) -> None:
        if "ping" in self.broken:
            raise UndeliveredError(self.broken["ping"])
        self.pinged.append((self._now(), f"{url}{'/' if ending else ''}{ending}"))

    async def aclose(self) -> None:
        return None

    def subjects(self, channel: str = "default") -> list[str]:
        return [message.subject for _, name, message in self.told if name == channel]


def people(world: World) -> People:
    found = People(lambda: world.now)
    world.outside = found
    return found


def jobs(count: int, rule: str = 'interval = "1h"', *, more: str = "") -> str:
    return "".join(f'[deployments.job-{n}]\ncommand = "true"\n{rule}\n{more}' for n in range(count))


def until_time(when: datetime, world: World, outcome: Outcome = FAILED) -> Script:
    """Runs fail until then, and are well from then on."""

    def script(job: Job) -> tuple[timedelta, Outcome]:
        return seconds(1), outcome if world.now < when else DONE

    return script


def test_a_failure_is_told_within_seconds_with_what_is_next(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(NOTIFY + jobs(1), takes(seconds(1), FAILED)):
            await world.until(NOON + HOUR + seconds(10))
            ((at, channel, message),) = heard.told
            assert (channel, message.subject) == ("default", "job-0 failed: no luck")
            assert at - (NOON + HOUR) < seconds(7)
            assert "Last success  none on record" in message.text
            assert "Next due" in message.text
            assert message.document["notices"][0]["next_due"] == "2026-06-01T14:00:00Z"

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("outcome", "subject"),
    [
        (Outcome(type=StateType.FAILED, name="TimedOut", message="too long"), "job-0 timed out: too long"),
        (Outcome(type=StateType.CRASHED, name="Crashed", message="killed"), "job-0 crashed: killed"),
    ],
)
def test_every_bad_end_is_told(tmp_path: Path, outcome: Outcome, subject: str) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(NOTIFY + jobs(1), takes(seconds(1), outcome)):
            await world.wait(HOUR + minutes(1))
        assert heard.subjects() == [subject]

    play(tmp_path, main)


def test_what_is_tried_again_is_told_when_no_try_is_left(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        config = NOTIFY + jobs(1, more='retries = 2\nretry_delay = "10m"\n')
        async with world.daemon(config, takes(seconds(1), FAILED)):
            await world.until(NOON + HOUR + minutes(19))
            assert heard.told == []
            await world.until(NOON + HOUR + minutes(21))
            assert heard.subjects() == ["job-0 failed: no luck"]
            assert "attempt 3, " in heard.told[0][2].text

    play(tmp_path, main)


def test_what_fails_every_minute_is_told_at_growing_intervals_and_once_when_it_is_well(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        script = until_time(NOON + 6 * HOUR, world)
        async with world.daemon(NOTIFY + jobs(1, 'interval = "1m"'), script):
            await world.until(NOON + 7 * HOUR)
        assert heard.subjects() == [
            "job-0 failed: no luck",
            "job-0 failed (61st in a row): no luck",
            "job-0 failed (301st in a row): no luck",
            "job-0 is well again after 5 h 59 min and 359 failed runs",
        ]

    play(tmp_path, main)


def test_a_hundred_that_fail_at_once_are_one_message_and_one_when_all_are_well(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        script = until_time(NOON + minutes(90), world)
        async with world.daemon(NOTIFY + jobs(100), script):
            await world.until(NOON + HOUR + minutes(10))
            ((_, _, message),) = heard.told
            assert message.subject.startswith("100 deployments failed: job-0, ")
            assert f"… and {100 - LISTED} more" in message.text
            assert message.document["count"] == 100
            await world.until(NOON + 2 * HOUR + minutes(10))
            assert len(heard.subjects()) == 2
            assert heard.subjects()[1].startswith("100 deployments well again: ")

    play(tmp_path, main)


def test_those_of_a_storm_that_are_well_are_told_when_the_last_ones_take_too_long(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)

        def script(job: Job) -> tuple[timedelta, Outcome]:
            well = world.now > NOON + minutes(90) and job.deployment != "job-3"
            return seconds(1), DONE if well else FAILED

        async with world.daemon(NOTIFY + jobs(6), script):
            await world.until(NOON + 2 * HOUR + minutes(14))
            assert heard.subjects()[0] == "6 deployments failed: job-0, job-1, job-2 and 3 more"
            assert not any("well again" in each for each in heard.subjects())
            await world.until(NOON + 2 * HOUR + minutes(16))
            assert heard.subjects()[-1].startswith("5 deployments well again: ")

    play(tmp_path, main)


# Those that go on failing -> when the others are told to be well, though the daemon was killed 3 s after they were.
KILLED = [((), seconds(30)), (("job-3",), minutes(15.5))]


@pytest.mark.parametrize(("failing", "within"), KILLED)
def test_a_crash_does_not_put_off_that_all_is_well(tmp_path: Path, failing: tuple[str, ...], within: timedelta) -> None:
    async def main(world: World) -> None:
        heard = people(world)

        def script(job: Job) -> tuple[timedelta, Outcome]:
            well = world.now > NOON + minutes(90) and job.deployment not in failing
            return seconds(1), DONE if well else FAILED

        house = await world.opened(NOTIFY + jobs(6), script)
        await world.started(house)
        await world.until(NOON + 2 * HOUR + seconds(3))
        await world.kill(house)
        await world.wait(minutes(10) if failing else seconds(1))
        async with world.daemon(NOTIFY + jobs(6), script):
            await world.until(NOON + 2 * HOUR + within)
            assert heard.subjects()[-1].startswith(f"{6 - len(failing)} deployments well again: ")

    play(tmp_path, main)


def test_a_storm_does_not_wait_for_one_that_goes_to_and_fro(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)

        def script(job: Job) -> tuple[timedelta, Outcome]:
            well = world.now.second % 20 >= 10 if job.deployment == "flappy" else world.now > NOON + minutes(90)
            return seconds(1), DONE if well else FAILED

        flappy = '[deployments.flappy]\ncommand = "true"\ninterval = "10s"\nnotify = "other"\n'
        async with world.daemon(f'{NOTIFY}other = "mailto:you@example.org"\n{flappy}{jobs(6)}', script):
            await world.until(NOON + 2 * HOUR + minutes(1))
        assert [each for each in heard.subjects("default") if "again" in each] == [
            "6 deployments well again: job-0, job-1, job-2 and 3 more"
        ]

    play(tmp_path, main)


def test_a_failure_that_was_told_late_is_told_with_its_recovery(tmp_path: Path) -> None:
    """Though the others of the storm go on failing: nobody gets up for what is well."""

    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["default"] = "Connection refused"

        def script(job: Job) -> tuple[timedelta, Outcome]:
            well = job.deployment == "job-0" and world.now > NOON + minutes(8)
            return seconds(1), DONE if well else FAILED

        async with world.daemon(NOTIFY + jobs(6, 'interval = "5m"'), script):
            await world.until(NOON + minutes(11))
            heard.broken.clear()
            await world.until(NOON + minutes(20))
            ((_, _, message),) = heard.told
            assert message.subject.startswith("6 deployments failed, 1 well again: ")
            assert "job-0 is well again after 5 min" in message.text

    play(tmp_path, main)


def test_what_failed_and_is_well_by_the_time_of_telling_is_said_to_be_so(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["default"] = "Connection refused"
        script = until_time(NOON + minutes(70), world)
        async with world.daemon(NOTIFY + jobs(1, 'interval = "5m"'), script):
            await world.until(NOON + minutes(76))
            heard.broken.clear()
            await world.until(NOON + 2 * HOUR)
        ((_, _, message),) = heard.told
        assert message.subject == "1 deployment failed and is well again: job-0"
        assert message.document["count"] == 2

    play(tmp_path, main)


def test_many_messages_in_a_row_are_put_together(tmp_path: Path) -> None:
    """Thirty deployments that fail one after another, a minute apart: nobody wants thirty messages."""

    async def main(world: World) -> None:
        heard = people(world)
        config = NOTIFY + "".join(
            f'[deployments.job-{n}]\ncommand = "true"\ncron = "{n} 13 * * *"\ntimezone = "UTC"\n' for n in range(30)
        )
        async with world.daemon(config, takes(seconds(1), FAILED)):
            await world.until(NOON + 2 * HOUR)
        assert len(heard.told) <= 10
        named = {each["deployment"] for _, _, message in heard.told for each in message.document["notices"]}
        assert len(named) == 30  # nothing is left out

    play(tmp_path, main)


def test_to_and_fro_is_said_once(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)

        def script(job: Job) -> tuple[timedelta, Outcome]:
            return seconds(1), FAILED if world.now.minute // 10 % 2 == 0 and world.now < NOON + 5 * HOUR else DONE

        async with world.daemon(NOTIFY + jobs(1, 'interval = "10m"'), script):
            await world.until(NOON + 4 * HOUR)
            assert [each for each in heard.subjects() if "keeps failing and recovering" in each]
            assert len(heard.subjects()) <= 9
            await world.until(NOON + 14 * HOUR)
        assert "is well again after" in heard.subjects()[-1]

    play(tmp_path, main)


# --- who hears what ---------------------------------------------------------------------------------------------------

CHANNELS = f"""{NOTIFY}[notify.pager]
to = "pager@example.org"
hears = ["crashed"]
"""


def test_a_deployment_says_who_hears_of_it(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        config = CHANNELS + (
            '[deployments.both]\ncommand = "true"\ninterval = "1h"\nnotify = ["default", "pager"]\n'
            '[deployments.nobody]\ncommand = "true"\ninterval = "1h"\nnotify = false\n'
        )
        crashed = Outcome(type=StateType.CRASHED, name="Crashed", message="killed")
        async with world.daemon(config, takes(seconds(1), crashed)):
            await world.wait(HOUR + minutes(1))
        assert heard.subjects("default") == ["both crashed: killed"]
        assert heard.subjects("pager") == ["both crashed: killed"]

    play(tmp_path, main)


def test_a_channel_may_hear_of_some_kinds_only(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        config = CHANNELS + jobs(1, more='notify = ["default", "pager"]\n')
        async with world.daemon(config, takes(seconds(1), FAILED)):
            await world.wait(HOUR + minutes(1))
        assert heard.subjects("default") == ["job-0 failed: no luck"]
        assert heard.subjects("pager") == []

    play(tmp_path, main)


def test_without_a_channel_nothing_is_kept_and_nobody_is_bothered(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(jobs(1), takes(seconds(1), FAILED)) as house:
            await world.wait(HOUR + minutes(1))
            assert house.telling.document()["failing"] == []
        assert heard.tries == 0

    play(tmp_path, main)


def automated(**more: Any) -> Notice:
    return Notice(kind=NoticeKind.AUTOMATION, subject="three in a row", deployment="job-0", **more)


def test_what_an_automation_says_reaches_whoever_it_names(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(CHANNELS + jobs(1)) as house:
            house.notices.tell(automated(lines=("so it is",)), channel="pager")
            house.notices.tell(automated(), channel="gone")
            await world.wait(minutes(1))
        assert heard.subjects("pager") == ["three in a row"]  # though it hears crashes only
        assert heard.subjects("default") == ["three in a row"]  # in place of one that is not there
        assert "so it is" in next(message.text for _, name, message in heard.told if name == "pager")

    play(tmp_path, main)


def test_notices_of_one_key_that_wait_are_told_once(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(CHANNELS) as house:
            house.notices.tell(automated(key="a", lines=("first",)))
            house.notices.tell(automated(key="a", lines=("second",)))
            await world.wait(minutes(1))
        ((_, _, message),) = heard.told
        assert "second" in message.text
        assert "first" not in message.text

    play(tmp_path, main)


def test_what_crashed_is_not_hidden_by_tidemills_own_frames() -> None:
    home = Path(tidemill.__file__).parent
    engine = [f'  File "{home}/runners/child.py", line {number} in live' for number in range(19)]
    mine = ["Fatal Python error: Segmentation fault", '  File "/srv/flows/report.py", line 9 in load']
    assert without_engine([*mine, *engine]) == mine


# --- channels that do not work ----------------------------------------------------------------------------------------


def test_a_channel_that_does_not_work_is_tried_again_and_the_others_go_on(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["pager"] = "Connection refused"
        config = f'{NOTIFY}[notify.pager]\nto = "pager@example.org"\n'
        config += jobs(1, more='notify = ["default", "pager"]\n')
        async with world.daemon(config, takes(seconds(1), FAILED)) as house:
            await world.until(NOON + HOUR + minutes(10))
            assert len(heard.subjects("default")) == 1
            assert house.status.problems() == ["notify channel pager: Connection refused; 1 notice waits"]
            (_, pager) = (await house.status.document())["notify"]["channels"]
            assert (pager["waiting"], pager["delivered"], pager["error"]) == (1, None, "Connection refused")
            tries = heard.tries
            await world.until(NOON + HOUR + minutes(50))
            assert heard.tries - tries <= 4  # the waits grow
            heard.broken.clear()
            await world.until(NOON + HOUR + minutes(90))
            assert heard.subjects("pager") == ["job-0 failed (2nd in a row): no luck"]
            assert house.status.problems() == []

    play(tmp_path, main)


def test_that_a_channel_does_not_work_is_told_by_the_others(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["default"] = "Connection refused"
        config = f'{NOTIFY}[notify.pager]\nto = "pager@example.org"\n' + jobs(1)
        async with world.daemon(config, takes(seconds(1), FAILED)):
            await world.until(NOON + HOUR + minutes(10))
            assert heard.subjects("pager") == []
            await world.until(NOON + HOUR + minutes(20))
            assert heard.subjects("pager") == ["notify channel default does not work: Connection refused"]
            heard.broken.clear()
            await world.until(NOON + 2 * HOUR)
            assert heard.subjects("pager")[1].startswith("notify channel default is well again after ")

    play(tmp_path, main)


def test_what_could_not_be_told_is_told_by_the_next_daemon(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["default"] = "Name or service not known"
        config = NOTIFY + jobs(3)
        async with world.daemon(config, takes(seconds(1), FAILED)):
            await world.until(NOON + HOUR + minutes(1))
        heard.broken.clear()
        async with world.daemon(config):
            await world.wait(minutes(1))
            assert heard.subjects() == ["3 deployments failed: job-0, job-1, job-2"]
        async with world.daemon(config):
            await world.wait(minutes(1))
        assert len(heard.told) == 1  # and by no further one

    play(tmp_path, main)


def test_an_end_that_was_committed_in_the_last_moment_is_told_by_the_next_daemon(tmp_path: Path) -> None:
    """Killed between the commit of the run's end and that of the notice."""

    async def main(world: World) -> None:
        heard = people(world)
        config = NOTIFY + jobs(1)
        house = await world.opened(config, takes(seconds(1), FAILED))
        await world.started(house)
        await world.until(NOON + HOUR + seconds(0.9))
        world.disk.crash_at = (world.disk.calls + 1, True)
        await world.wait(seconds(0.2))
        assert world.disk.crashed
        await world.kill(house)
        async with world.daemon(config) as next_house:
            await world.wait(minutes(2))
            (run,) = [run for run in await world.runs(next_house, "job-0") if run.attempt]
            assert run.state.name == "Failed"  # not Crashed: its end was on record
        assert heard.subjects() == ["job-0 failed: no luck"]

    play(tmp_path, main)


@pytest.mark.parametrize("after_s", [0.1, 1.0, 4.0, 8.0])
def test_a_daemon_that_is_killed_after_a_failure_tells_it_once(tmp_path: Path, after_s: float) -> None:
    """Before it is sent, and after it was sent."""

    async def main(world: World) -> None:
        heard = people(world)
        config = NOTIFY + jobs(1)
        house = await world.opened(config, takes(seconds(1), FAILED))
        await world.started(house)
        await world.until(NOON + HOUR + seconds(1) + seconds(after_s))
        await world.kill(house)
        async with world.daemon(config):
            await world.wait(minutes(2))
        assert heard.subjects() == ["job-0 failed: no luck"]

    play(tmp_path, main)


def test_a_recovery_over_a_restart_is_told(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(NOTIFY + jobs(1), takes(seconds(1), FAILED)):
            await world.until(NOON + HOUR + minutes(1))
        async with world.daemon(NOTIFY + jobs(1)):
            await world.until(NOON + 2 * HOUR + minutes(1))
        assert heard.subjects()[1:] == ["job-0 is well again after 60 min and one failed run"]

    play(tmp_path, main)


def test_what_waits_too_long_is_given_up_and_said(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["default"] = "no such host"
        async with world.daemon(NOTIFY + jobs(1), takes(seconds(1), FAILED)) as house:
            await world.until(NOON + timedelta(days=5))
            (line,) = house.telling.document()["channels"]
            assert line["lost"] > 0
            assert line["waiting"] <= 4
            heard.broken.clear()
            await world.wait(HOUR)
            assert "older notices are not here" in heard.told[-1][2].text

    play(tmp_path, main)


def test_a_full_disk_does_not_keep_people_from_being_told_of_it(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(NOTIFY + jobs(1, 'interval = "5m"')) as house:
            await world.wait(minutes(1))
            world.disk.full()
            await world.wait(minutes(20))
            assert house.store.degraded is not None
            assert heard.subjects()[0].startswith("nothing can be recorded: ")
            world.disk.well()
            await world.wait(minutes(20))
        assert heard.subjects()[-1].startswith("the database is well again after ")

    play(tmp_path, main)


# --- the configuration, and missed fires ------------------------------------------------------------------------------


def test_a_broken_file_is_told_when_it_stays_broken_and_once_more_when_it_is_mended(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(NOTIFY + jobs(1)) as house:
            reload: dict[str, Any] = {"outcome": "ok", "summary": "nothing changed", "faults": []}
            house.status.parts["reload"] = lambda: reload
            house.status.config_file = "/etc/tidemill/tidemill.toml"
            await world.wait(minutes(5))
            reload.update(outcome="refused", faults=["tidemill.toml:3:1 deployments.x: is no table"])
            await world.wait(seconds(130))
            assert heard.subjects() == ["configuration refused: tidemill.toml:3:1 deployments.x: is no table"]
            assert "tidemill check /etc/tidemill/tidemill.toml" in heard.told[0][2].text
            assert "What was in force before goes on as it was." in heard.told[0][2].text
            reload.update(outcome="ok", faults=[])
            await world.wait(seconds(70))
            assert heard.subjects()[1].startswith("the configuration is well again after ")

    play(tmp_path, main)


def test_an_edit_that_is_mended_within_a_minute_is_nobodys_business(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(NOTIFY + jobs(1)) as house:
            await world.wait(seconds(45))
            house.status.config_faults = ["half written"]
            await world.wait(seconds(30))  # one look falls into it
            house.status.config_faults = []
            await world.wait(minutes(10))
        assert heard.told == []

    play(tmp_path, main)


def test_a_start_with_the_last_good_configuration_is_told(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        house = await world.opened(NOTIFY + jobs(1))
        house.status.config_faults = ["tidemill.toml:3:1 x: y"]
        house.status.unfit = {"job-0": "reports.py: no such module: pandas"}
        await world.started(house)
        await world.wait(minutes(3))
        await house.stop(seconds(1))
        await house.store.aclose()
        ((_, _, message),) = heard.told
        assert "configuration refused: tidemill.toml:3:1 x: y" in message.subject
        assert "The daemon runs by the last configuration that was good." in message.text
        assert "job-0 cannot run: reports.py: no such module: pandas" in message.text

    play(tmp_path, main)


@pytest.mark.parametrize(("policy", "told"), [("skip", True), ("latest", False), ("all", False)])
def test_fires_missed_while_the_daemon_was_down_are_told_where_nothing_makes_up_for_them(
    tmp_path: Path, policy: str, told: bool
) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        config = NOTIFY + jobs(2, more=f'catch_up = "{policy}"\n')
        async with world.daemon(config):
            await world.wait(minutes(1))
        await world.wait(5 * HOUR)
        async with world.daemon(config):
            await world.wait(minutes(2))
        assert heard.subjects() == (["2 deployments missed fires: job-0, job-1"] if told else [])
        if told:
            missed = {each["deployment"]: each["failures"] for each in heard.told[0][2].document["notices"]}
            assert missed == {"job-0": 5, "job-1": 5}  # planned ahead or not, each is counted once

    play(tmp_path, main)


# --- trying it out ----------------------------------------------------------------------------------------------------


def test_a_test_goes_at_once_and_says_what_is_wrong(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        async with world.daemon(CHANNELS) as house:
            assert await house.notices.test("pager") == "tidemill can reach you from web1"
            heard.broken["default"] = "Connection refused"
            with pytest.raises(TidemillError, match="notify channel default: Connection refused"):
                await house.notices.test("default")
            with pytest.raises(NotFoundError, match="there are: default, pager"):
                await house.notices.test("nobody")

    play(tmp_path, main)


def test_a_test_that_works_sends_what_waits_for_the_channel(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["default"] = "Connection refused"
        async with world.daemon(NOTIFY + jobs(1), takes(seconds(1), FAILED)) as house:
            await world.until(NOON + HOUR + minutes(20))
            heard.broken.clear()
            await house.notices.test("default")
            await world.wait(seconds(1))
            assert heard.subjects() == ["tidemill can reach you from web1", "job-0 failed: no luck"]

    play(tmp_path, main)


def changed(house: House, world: World, config: str) -> None:
    loaded = world.loaded(config)
    house.catalogue.replace(loaded.settings, loaded.compiled)


PAGER, CHAT = '[notify.pager]\nto = "pager@example.org"\n', '[notify.chat]\nto = "chat@example.org"\n'


def test_what_the_default_channel_was_told_it_does_not_inherit(tmp_path: Path) -> None:
    """Neither at a reload nor at the start of another daemon."""

    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["pager"] = heard.broken["chat"] = "Connection refused"
        both = jobs(1, more='notify = ["default", "pager", "chat"]\n')
        async with world.daemon(NOTIFY + PAGER + CHAT + both, takes(seconds(1), FAILED)) as house:
            await world.until(NOON + HOUR + minutes(1))
            changed(house, world, NOTIFY + CHAT + jobs(1))
            await world.wait(minutes(1))
        async with world.daemon(NOTIFY + jobs(1), takes(seconds(1), DONE)):
            await world.wait(minutes(5))
        assert heard.subjects() == ["job-0 failed: no luck"]

    play(tmp_path, main)


def test_what_two_channels_leave_behind_the_default_one_inherits_once(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["pager"] = heard.broken["chat"] = "Connection refused"
        config = NOTIFY + PAGER + CHAT + jobs(1, more='notify = ["pager", "chat"]\n')
        async with world.daemon(config, takes(seconds(1), FAILED)) as house:
            await world.until(NOON + HOUR + minutes(1))
            for left in (CHAT, ""):
                changed(house, world, NOTIFY + left + jobs(1))
                await world.wait(minutes(1))
        assert heard.subjects() == ["job-0 failed: no luck"]

    play(tmp_path, main)


def test_of_one_key_the_default_channel_is_told_the_last_word_whoever_had_it(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["pager"] = heard.broken["default"] = "Connection refused"
        async with world.daemon(NOTIFY + PAGER) as house:
            house.notices.tell(automated(key="a", lines=("first",)), channel="pager")
            await world.wait(minutes(1))
            house.notices.tell(automated(key="a", lines=("second",)))
            await world.wait(minutes(1))
            del heard.broken["default"]
            changed(house, world, NOTIFY)
            await world.wait(minutes(1))
        ((_, _, message),) = heard.told
        assert "second" in message.text
        assert "first" not in message.text

    play(tmp_path, main)


def test_what_waits_for_a_channel_that_a_reload_takes_away_goes_to_the_default_one(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["pager"] = "Connection refused"
        before = f'{NOTIFY}[notify.pager]\nto = "pager@example.org"\n' + jobs(1, more='notify = "pager"\n')
        async with world.daemon(before, takes(seconds(1), FAILED)) as house:
            await world.until(NOON + HOUR + minutes(1))
            changed(house, world, NOTIFY + jobs(1))
            await world.wait(minutes(1))
        assert heard.subjects() == ["job-0 failed: no luck"]

    play(tmp_path, main)


def test_after_an_edit_a_channel_that_still_fails_is_soon_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who mends it step by step is not made to wait ever longer for each."""

    async def main(world: World) -> None:
        heard = people(world)
        heard.broken["default"] = "Connection refused"
        config = NOTIFY + jobs(1)
        async with world.daemon(config, takes(seconds(1), FAILED)) as house:
            await world.until(NOON + HOUR + minutes(30))
            assert "1 notice waits, tried again in 10m00s" in caplog.text
            caplog.clear()
            changed(house, world, config.replace("me@", "you@"))
            await world.wait(seconds(10))
            assert "1 notice waits, tried again in 30s" in caplog.text

    play(tmp_path, main)
