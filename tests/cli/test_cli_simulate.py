"""``tidemill simulate``: its options, its report, its JSON and its drawing."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tidemill.cli.main import main
from tidemill.cli.timeline import marks, merged
from tidemill.core import zones
from tidemill.core.ports import Job, Outcome
from tidemill.core.states import StateType
from tidemill.testing import VirtualClock, VirtualLoop, close_house, open_house, run_virtually

NOW = datetime(2026, 3, 28, 6, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
CONFIG = """
[daemon]
timezone = "Europe/Helsinki"
[deployments.daily]
command = "true"
cron = "30 3 * * *"
[deployments.nightly_backup]
command = "true"
cron = "0 4 * * *"
work_queue = "disk"
[deployments.nightly-report]
command = "true"
cron = "0 4 * * *"
work_queue = "disk"
[deployments.picky]
command = "true"
cron = "*/30 * * * *"
concurrency_limit = 1
collision_strategy = "cancel_new"
[deployments.off]
command = "true"
cron = "0 4 * * *"
paused = true
[deployments.by-hand]
command = "true"
[work_queues.disk]
concurrency_limit = 1
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "tidemill.toml"
    file.write_text(CONFIG)
    return file


def run(config: Path, *argv: str) -> int:
    environ = {"TZ": "UTC", "HOME": str(config.parent)}
    return main(["simulate", str(config), *argv], environ=environ, now=lambda: NOW)


def test_the_report_says_what_runs_waits_is_skipped_and_what_the_clocks_do(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(config, "--from", "2026-03-28", "--for", "1w", "--duration", "nightly-*=20m", "--duration", "picky=40m")
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert "from Sat 2026-03-28 00:00 +0200 to Sat 2026-04-04 00:00 +0300 (Europe/Helsinki)" in out, "by the wall"
    assert re.search(r"^nightly_backup +7 +7 +20m00s", out, re.MULTILINE), "7 runs, all late"
    assert "work queue disk is full: 7 runs waited, 7 of them late, 2h20m in all" in out
    assert re.search(r"picky: 167 Skipped, Sat 2026-03-28 00:30 to Fri 2026-04-03 23:30", out)
    assert "Europe/Helsinki, Sun 2026-03-29: 03:00 becomes 04:00" in out
    assert "daily: Sun 04:00: 03:30 does not exist that day" in out
    assert "Sun 2026-03-29 04:00  3 starts" in out
    assert "work pool default: 3 of 100" in out
    assert "paused, so without runs: off" in out
    assert "without a schedule, so without runs: by-hand" in out
    assert "daily took 1s a run, a guess" in out


def test_few_runs_are_listed_and_many_when_asked_for(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, "--for", "4h")
    assert "Sat 2026-03-28 08:30:00  picky" in capsys.readouterr().out
    run(config, "--for", "1w")
    assert "08:30:00" not in capsys.readouterr().out
    run(config, "--for", "1w", "--runs")
    assert "Sat 2026-03-28 08:30:00  picky" in capsys.readouterr().out


def test_json_has_every_run_and_every_sum(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--from", "2026-03-28", "--for", "2d", "--duration", "nightly-*=20m", "-o", "json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["from"] == "2026-03-27T22:00:00Z"
    assert sum(found["flow_runs"].values()) == len(found["runs"]) == sum(each["runs"] for each in found["deployments"])
    waited = [each for each in found["runs"] if each["waited_for"]]
    assert [(each["deployment"], each["waited"]) for each in waited] == [("nightly_backup", 1200.005)] * 2
    assert found["waiting"][0]["reason"] == "work queue disk is full"
    (change,) = found["clock_changes"]
    assert (change["wall_before"], change["wall_after"]) == ("2026-03-29T03:00:00", "2026-03-29T04:00:00")
    assert {each["deployment"] for each in change["affected"]} == {"daily", "picky"}
    assert found["seed"] == 0


def test_runs_take_as_long_and_fail_as_often_as_on_record(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = config.parent / "state"
    history.mkdir()
    live(config, history / "tidemill.db")
    assert run(config, "--from", "2026-03-28", "--for", "2d", "--history", str(history), "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    daily = [each for each in found["runs"] if each["deployment"] == "daily"]
    backup = [each for each in found["runs"] if each["deployment"] == "nightly_backup"]
    assert {each["state_name"] for each in daily} == {"Failed"}
    assert {_took(each) for each in daily} == {timedelta(minutes=7, milliseconds=5)}
    assert {_took(each) for each in backup} == {timedelta(minutes=3, milliseconds=5)}
    assert any(f"on record in {history}/tidemill.db" in note for note in found["notes"])


def live(config: Path, database: Path) -> None:
    """Two days of a daemon on a database: daily fails after seven minutes, everything else is done after three."""
    from tidemill.config import load

    def script(job: Job) -> tuple[timedelta, Outcome]:
        if job.deployment == "daily":
            return timedelta(minutes=7), Outcome(type=StateType.FAILED, name="Failed", message="no luck")
        return timedelta(minutes=3), Outcome(type=StateType.COMPLETED, name="Completed")

    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop, datetime(2026, 3, 20, tzinfo=UTC))
        house = await open_house(load(config, environ={}), database, clock=clock, seed=1, script=script)
        await house.recover()
        house.start()
        await clock.sleep(2 * 86_400)
        await close_house(house)

    run_virtually(main)


def _took(each: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(each["end_time"]) - datetime.fromisoformat(each["start_time"])


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (("--from", "yesterday"), 2, '--from: "yesterday" is no date with time; write for example 2026-03-28 or'),
        (("--for", "2 fortnights"), 2, "--for: "),
        (("--for", "1s"), 2, "shorter than a minute"),
        (("--duration", "dayly=2m"), 4, "no deployment is called dayly; did you mean daily?"),
        (("--duration", "daily=soon"), 2, '--duration: "soon" is not a duration'),
        (("--history", "/nonexistent"), 78, "/nonexistent: cannot be read"),
        (("--svg", "/nonexistent/x.svg"), 1, "/nonexistent/x.svg: No such file or directory"),
        (("--from", "9999-12-30", "--for", "1w"), 2, "beyond the calendar"),
    ],
)
def test_what_cannot_be_simulated_says_why(
    config: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], code: int, told: str
) -> None:
    assert run(config, *argv) == code
    out, err = capsys.readouterr()
    assert told in err
    assert "Traceback" not in err + out


def test_a_file_that_is_no_database_is_said_to_be_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--history", str(config)) == 78
    assert str(config) in capsys.readouterr().err


def test_a_configuration_without_deployments_has_nothing_to_simulate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tidemill.toml"
    file.write_text('[daemon]\ntimezone = "UTC"\n')
    assert run(file) == 2
    assert "has no deployments" in capsys.readouterr().err


# -- the drawing -----------------------------------------------------------------------------------------------------


def test_the_drawing_has_a_row_for_each_deployment_that_runs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.parent / "timeline.svg"
    argv = ("--from", "2026-03-28", "--for", "1w", "--duration", "nightly-*=20m", "--duration", "picky=40m")
    assert run(config, *argv, "--svg", str(file)) == 0
    root = ElementTree.fromstring(file.read_text())
    assert root.tag == f"{SVG}svg"
    rows = {group.findtext(f"{SVG}text"): group for group in root.iter(f"{SVG}g")}
    assert set(rows) == {"daily", "nightly_backup", "nightly-report", "picky"}
    kinds = {name: {path.get("class") for path in group.iter(f"{SVG}path")} for name, group in rows.items()}
    assert kinds.pop("nightly_backup") == {"ok", "wait"}
    assert kinds == {"daily": {"ok"}, "nightly-report": {"ok"}, "picky": {"ok", "skip"}}
    assert rows["daily"].findtext(f"{SVG}title") == "daily: 7 Completed"
    assert "03:00 → 04:00 Europe/Helsinki" in "".join(root.itertext())
    assert "http" not in file.read_text().replace("http://www.w3.org/2000/svg", ""), "nothing from outside"


def test_a_name_is_text_in_a_drawing(tmp_path: Path) -> None:
    from tidemill.cli.timeline import draw
    from tidemill.core.simulations import Simulated, SimulatedRun, Span
    from tidemill.core.states import State

    done = State(type=StateType.COMPLETED, name="Completed", timestamp=NOW)
    run = SimulatedRun(
        deployment="<script>&", pool="default", due=NOW, expected_start=NOW, state=done, attempts=[Span(NOW, NOW)]
    )
    whole = Simulated(start=NOW, end=NOW + timedelta(days=1), seed=0, runs=[run])
    root = ElementTree.fromstring(draw(whole, [], [], timezone="UTC", title="a<b"))
    assert root.find(f".//{SVG}g/{SVG}text").text == "<script>&"  # type: ignore[union-attr]


def test_stretches_that_touch_are_drawn_as_one() -> None:
    assert list(merged([(0, 10), (5, 12), (12.05, 20), (30, 30)])) == [(0, 20), (30, pytest.approx(1.4))]
    assert list(merged([])) == []


def test_what_check_refuses_is_not_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon would not start on it, so nothing of it would run."""
    path = tmp_path / "tidemill.toml"
    path.write_text('[deployments.a]\ncommand = "true"\numask = "9"\ncron = "@daily"\n')
    assert main(["simulate", str(path)]) == 78
    assert '3:9 deployments.a.umask: "9" is not a mask' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lasts", "first", "second"),
    [
        (timedelta(hours=6), "00:00", "01:00"),
        (timedelta(days=1), "00:00", "02:00"),
        (timedelta(days=14), "Sat 28 Mar", "Sun 29 Mar"),
        (timedelta(days=365), "Sat 28 Mar", "Sat 25 Apr"),
    ],
)
def test_marks_of_time_have_room_and_stand_at_local_hours(lasts: timedelta, first: str, second: str) -> None:
    info = zones.zone("Europe/Helsinki")
    start = zones.read(datetime(2026, 3, 28), info).instant  # noqa: DTZ001 - local
    found = list(marks(start, start + lasts, info))
    assert 3 <= len(found) <= 18
    assert [label for _, label, _ in found][:2] == [first.replace("00:00", "Sat 28 Mar"), second]
    assert found[0][0] == start
    assert all(each[0] < start + lasts for each in found)
