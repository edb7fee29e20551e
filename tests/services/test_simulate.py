"""The simulation: that it is the house, and what it tells of it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidemill.clock import MICROSECOND
from tidemill.config import Loaded, load
from tidemill.core.clock_changes import clock_changes
from tidemill.core.events import Event, RunChanged
from tidemill.core.lengths import Attempt, Lengths
from tidemill.core.ports import Job, Outcome
from tidemill.core.runs import FlowRun
from tidemill.core.schedules import Schedule, compile_schedule
from tidemill.core.simulations import (
    Simulated,
    busiest_minutes,
    crowds,
    endings,
    summaries,
    waitings,
)
from tidemill.core.simulations import load as load_of
from tidemill.core.states import StateType
from tidemill.services.simulation.service import OVERHEAD, Simulation, in_seclusion
from tidemill.services.simulation.shares import deal
from tidemill.testing import VirtualClock, VirtualLoop, close_house, open_house, run_virtually

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANCE = "0190d3a0-0000-7000-8000-000000000000"


def loaded(tmp_path: Path, text: str) -> Loaded:
    file = tmp_path / "tidemill.toml"
    file.write_text(f'[daemon]\ntimezone = "UTC"\n{text}')
    return load(file, environ={})


def simulated(config: Loaded, *, lasts: timedelta = DAY, start: datetime = MONDAY, **lengths: object) -> Simulated:
    return Simulation(config, start=start, lasts=lasts, lengths=Lengths(**lengths), instance_id=INSTANCE).run()  # type: ignore[arg-type]


def job(name: str, *lines: str) -> str:
    return "\n".join([f"[deployments.{name}]", 'command = "true"', *lines, ""])


# -- it is the house itself ------------------------------------------------------------------------------------------


def drawn(source: random.Random) -> str:
    """A configuration in which runs meet: queues and limits are narrow, and lengths are near to intervals."""
    parts = ["[work_queues.narrow]\nconcurrency_limit = 2\n[work_queues.first]\npriority = 1\n[tag_limits]\nx = 1\n"]
    parts.append("[work_queues.last]\npriority = 9\n[work_pools.default]\nconcurrency_limit = 3\n")
    for number in range(12):
        when = source.choice(
            [
                f'cron = "{source.randrange(60)} * * * *"',
                'cron = "*/15 * * * *"',
                f'interval = "{source.randint(7, 50)}m"',
                f'interval = "{source.randint(7, 50)}m"\njitter = "2m"',
            ]
        )
        lines = [when, f'work_queue = "{source.choice(["narrow", "first", "last", "default"])}"']
        if source.random() < 0.4:
            lines.append(f"concurrency_limit = {source.randint(1, 2)}")
            lines.append(f'collision_strategy = "{source.choice(["enqueue", "cancel_new", "cancel_running"])}"')
        if source.random() < 0.4:
            lines += ["retries = 2", 'retry_delay = ["37s", "3m"]']
        if source.random() < 0.3:
            lines.append(f'timeout = "{source.randint(60, 900)}s"')
        if source.random() < 0.3:
            lines.append('tags = ["x"]')
        parts.append(job(f"job-{number}", *lines))
    return "\n".join(parts)


def lived(config: Loaded, folder: Path, lengths: Lengths, start: datetime, lasts: timedelta) -> list[FlowRun]:
    """The runs of a daemon's services on a database, in order of their row numbers."""

    def script(each: Job) -> tuple[timedelta, Outcome]:
        lasted, ended = lengths.draw(each.deployment or "", each.due, each.attempt)
        word = {"COMPLETED": "Completed", "FAILED": "Failed", "CRASHED": "Crashed"}[ended]
        message = None if ended is StateType.COMPLETED else f"{word.lower()}, as runs on record did"
        return lasted + OVERHEAD, Outcome(type=ended, name=word, message=message)

    async def main(loop: VirtualLoop) -> list[FlowRun]:
        clock = VirtualClock(loop, start - MICROSECOND)
        house = await open_house(config, folder / "db", clock=clock, seed=lengths.seed, script=script)
        house.catalogue.instance = INSTANCE
        runs: dict[str, FlowRun] = {}

        def hear(events: Sequence[Event]) -> None:
            runs.update({event.run.id: event.run for event in events if isinstance(event, RunChanged)})

        house.bus.listen(hear)
        await house.recover()
        house.start()
        await clock.sleep(lasts.total_seconds())
        found = list(runs.values())
        await close_house(house, grace=timedelta(0))
        return [run for run in found if run.expected_start < start + lasts]

    return run_virtually(main)


@pytest.mark.parametrize("seed", range(6))
def test_a_simulation_is_what_a_daemon_on_a_database_would_do(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    config = loaded(tmp_path, drawn(source))
    recorded = {
        name: [
            Attempt(
                timedelta(seconds=source.uniform(20, 2400)),
                source.choice([StateType.COMPLETED] * 3 + [StateType.FAILED]),
            )
            for _ in range(20)
        ]
        for name in config.settings.deployments
    }
    lengths = Lengths(recorded=recorded, seed=seed)
    simulation = Simulation(config, start=MONDAY, lasts=DAY, lengths=lengths, instance_id=INSTANCE)
    told = [
        (run.deployment, run.due, run.expected_start, run.begin, len(run.attempts), run.state.name, run.state.message)
        for run in simulation.run().runs
    ]
    real = [
        (
            run.deployment,
            run.due,
            # A simulated run keeps the time of its first start, where a run of the database has that of its next.
            next(each[2] for each in told if each[:2] == (run.deployment, run.due)),
            run.start_time,
            run.attempt,
            run.state.name,
            run.state.message,
        )
        for run in lived(config, tmp_path, lengths, MONDAY, DAY)
    ]
    assert simulation.in_memory
    assert sorted(told, key=str) == sorted(real, key=str)
    states = {each[5] for each in told}
    assert {"Completed", "Failed"} <= states
    assert len(told) > 200


def test_what_memory_does_not_hold_is_simulated_on_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tidemill.store import memory

    config = loaded(tmp_path, job("a", 'interval = "1h"'))
    by_memory = simulated(config).runs
    monkeypatch.setattr(memory.MemoryStore, "_due", lambda self, **asked: self._get("nobody"))
    simulation = Simulation(config, start=MONDAY, lasts=DAY, lengths=Lengths(), instance_id=INSTANCE)
    assert simulation.run().runs == by_memory
    assert not simulation.in_memory


def test_the_same_seed_gives_the_same_simulation_and_another_seed_another(tmp_path: Path) -> None:
    config = loaded(tmp_path, drawn(random.Random(5)))
    recorded = {"job-1": [Attempt(timedelta(seconds=n), StateType.COMPLETED) for n in range(1, 60)]}
    assert simulated(config, recorded=recorded) == simulated(config, recorded=recorded)
    assert simulated(config, recorded=recorded).runs != simulated(config, recorded=recorded, seed=1).runs


def test_nobody_outside_is_told_of_simulated_runs(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[notify]\ndefault = "mailto:me@example.org"\n' + job("a", 'interval = "1h"'))
    assert config.settings.notify
    secluded = in_seclusion(config.settings)
    assert not secluded.notify
    assert all(each.notify == () and each.ping is None for each in secluded.deployments.values())
    assert secluded.daemon.ping is None


def test_what_automations_start_is_simulated_too(tmp_path: Path) -> None:
    chain = '[automations.chain]\nwhen = { after = ["a", "b"] }\nthen = [{ run = "c" }]\n'
    jobs = job("a", 'cron = "0 1 * * *"') + job("b", 'cron = "0 2 * * *"') + job("c")
    runs = simulated(loaded(tmp_path, jobs + chain), lasts=2 * DAY, others=timedelta(minutes=5)).runs
    assert [run.deployment for run in runs] == ["a", "b", "c"] * 2
    assert runs[2].begin == runs[1].attempts[0].end
    assert {run.state.name for run in runs} == {"Completed"}


# -- what belongs to it ----------------------------------------------------------------------------------------------


def test_a_fire_at_the_start_belongs_to_it_and_one_at_the_end_does_not(tmp_path: Path) -> None:
    runs = simulated(loaded(tmp_path, job("a", 'cron = "0 0 * * *"')), lasts=2 * DAY).runs
    assert [run.due for run in runs] == [MONDAY, MONDAY + DAY]


def test_a_reboot_schedule_fires_at_the_start(tmp_path: Path) -> None:
    (run,) = simulated(loaded(tmp_path, job("a", 'cron = "@reboot"'))).runs
    assert run.due == run.begin == MONDAY


def test_what_runs_and_what_waits_at_the_end_is_left_so(tmp_path: Path) -> None:
    config = loaded(tmp_path, job("a", 'cron = "0 0,10,20 * * *"', "concurrency_limit = 1"))
    runs = simulated(config, others=timedelta(hours=23)).runs
    assert [run.state.name for run in runs] == ["Completed", "Running", "Late"]
    assert runs[1].attempts[0].end is None
    assert runs[2].waited_for == "deployment a is full"


def test_it_ends_before_there_are_more_runs_than_it_takes(tmp_path: Path) -> None:
    config = loaded(tmp_path, job("a", 'interval = "1s"'))
    found = Simulation(config, start=MONDAY, lasts=DAY, lengths=Lengths(), most_runs=1000).run()
    assert found.cut_short
    assert found.end < MONDAY + timedelta(hours=1)
    assert all(run.expected_start < found.end for run in found.runs)


def test_given_lengths_go_before_recorded_ones_and_both_before_the_guess() -> None:
    recorded = {
        "a": [Attempt(timedelta(seconds=5), StateType.FAILED)],
        "b": [Attempt(timedelta(seconds=5), StateType.FAILED)],
    }
    lengths = Lengths(given={"a": timedelta(seconds=1)}, recorded=recorded, others=timedelta(seconds=9))
    drawn = [lengths.draw(name, MONDAY, 1) for name in ("a", "b", "c")]
    assert [each.lasted.total_seconds() for each in drawn] == [1, 5, 9]
    assert [each.ended for each in drawn] == [StateType.COMPLETED, StateType.FAILED, StateType.COMPLETED]


# -- what it comes to ------------------------------------------------------------------------------------------------


def test_collisions_waits_and_failures_are_counted_with_their_reasons(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "[work_queues.narrow]\nconcurrency_limit = 1\n"
        + job("a", 'cron = "0 * * * *"', 'work_queue = "narrow"')
        + job("b", 'cron = "0 * * * *"', 'work_queue = "narrow"')
        + job("skips", 'interval = "30m"', "concurrency_limit = 1", 'collision_strategy = "cancel_new"')
        + job("slow", 'interval = "1h"', 'timeout = "1m"')
        + job("meets-itself", 'interval = "1h"')
        + job("off", 'interval = "1h"', "paused = true"),
    )
    minutes = {"a": 2, "b": 1, "skips": 45, "slow": 2, "meets-itself": 90}
    found = simulated(config, given={name: timedelta(minutes=count) for name, count in minutes.items()})
    by_name = {each.deployment: each for each in summaries(found, config.settings.deployments)}
    assert by_name["b"].late == 24
    assert by_name["b"].longest_wait == timedelta(minutes=2) + OVERHEAD
    assert by_name["skips"].states == {"Completed": 24, "Skipped": 24}
    assert by_name["slow"].states == {"TimedOut": 24}
    assert by_name["meets-itself"].overlaps == 23
    assert by_name["a"].overlaps == 0
    assert by_name["off"].runs == 0
    (waiting,) = waitings(found)
    assert (waiting.reason, waiting.runs, waiting.late) == ("work queue narrow is full", 24, 24)
    assert waiting.deployments == {"b": 24}
    assert {(each.deployment, each.state, each.runs) for each in endings(found)} == {
        ("skips", "Skipped", 24),
        ("slow", "TimedOut", 24),
    }


def test_the_busiest_minutes_and_the_most_at_a_time_are_told(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, "".join(job(f"j{n}", 'cron = "30 6 * * *"') for n in range(5)) + job("x", 'interval = "1h"')
    )
    found = simulated(config, others=timedelta(minutes=40))
    (minute,) = busiest_minutes(found, 3)
    assert (minute.begin, minute.starts) == (MONDAY + timedelta(hours=6, minutes=30), 5)
    (crowd,) = crowds(found)
    assert (crowd.pool, crowd.runs) == ("default", 6)
    busy = list(load_of(found, 24))
    assert busy[6] == pytest.approx(40 / 60 + 5 * 0.5, abs=0.01)


def test_who_ends_makes_room_for_who_begins_at_the_same_instant(tmp_path: Path) -> None:
    config = loaded(tmp_path, job("x", 'interval = "1h"'))
    (crowd,) = crowds(simulated(config, others=timedelta(hours=1) - OVERHEAD))
    assert crowd.runs == 1


# -- changes of the clocks -------------------------------------------------------------------------------------------


def _changes(start: datetime, days: int, **crons: str) -> list[tuple[str, str, int, str]]:
    schedules = {
        name: [compile_schedule(Schedule(cron=cron, timezone="Europe/Helsinki"))] for name, cron in crons.items()
    }
    return [
        (each.deployment, each.note, each.fires, f"{each.first:%H:%M %z}")
        for change in clock_changes(schedules, start, start + days * DAY)
        for each in change.affected
    ]


def test_in_spring_a_fixed_time_inside_the_gap_moves_and_matching_ones_are_left_out() -> None:
    found = _changes(datetime(2026, 3, 28, tzinfo=UTC), 14, daily="30 3 * * *", often="*/30 * * * *", noon="0 12 * * *")
    assert found == [
        ("daily", "03:30 does not exist that day: first instant after the gap", 1, "04:00 +0300"),
        ("often", "2026-03-29 03:00, 2026-03-29 03:30 left out: the clocks skip them", 1, "04:00 +0300"),
    ]


def test_in_autumn_a_fixed_time_runs_in_the_first_pass_and_matching_ones_in_both() -> None:
    found = _changes(datetime(2026, 10, 24, tzinfo=UTC), 7, daily="30 3 * * *", often="*/30 * * * *", noon="0 12 * * *")
    assert found == [
        ("daily", "repeated hour: first pass", 1, "03:30 +0300"),
        ("often", "repeated hour: first pass", 2, "03:00 +0300"),
        ("often", "repeated hour: second pass", 2, "03:00 +0200"),
    ]


def test_a_change_outside_the_time_is_not_told() -> None:
    assert _changes(datetime(2026, 4, 1, tzinfo=UTC), 100, daily="30 3 * * *") == []


def test_a_change_says_what_the_walls_show() -> None:
    schedules = {"a": [compile_schedule(Schedule(cron="0 12 * * *", timezone="Europe/Helsinki"))]}
    (spring,) = clock_changes(schedules, datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    (autumn,) = clock_changes(schedules, datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    assert [f"{each.before:%H:%M} {each.after:%H:%M}" for each in (spring, autumn)] == ["03:00 04:00", "04:00 03:00"]


# -- how fast it is --------------------------------------------------------------------------------------------------


def hundred() -> str:
    """A hundred deployments as a machine's crontabs have them: mostly daily, some hourly, a few every some minutes."""
    source = random.Random(3)
    at = lambda: f"{source.randrange(60)} {source.randrange(24)}"  # noqa: E731
    crons = [f"{at()} * * *" for _ in range(60)] + [f"{at()} * * {n % 7}" for n in range(15)]
    crons += [f"{at()} {n + 1} * *" for n in range(5)] + [f"{source.randrange(60)} * * * *" for _ in range(16)]
    crons += ["*/15 * * * *"] * 3 + ["*/5 * * * *"]
    return "".join(job(f"job-{n}", f'cron = "{cron}"') for n, cron in enumerate(crons))


@pytest.mark.slow
def test_two_weeks_of_a_hundred_deployments_are_simulated_in_memory(tmp_path: Path) -> None:
    """benchmarks/ has the seconds; here, that it takes no database and no run is lost."""
    config = loaded(tmp_path, hundred())
    simulation = Simulation(config, start=MONDAY, lasts=14 * DAY, lengths=Lengths(), instance_id=INSTANCE)
    found = simulation.run()
    assert simulation.in_memory
    assert len(config.settings.deployments) == 100
    assert 14_000 < len(found.runs) < 15_000
    assert {run.state.name for run in found.runs} <= {"Completed", "Running"}


# -- side by side ----------------------------------------------------------------------------------------------------


def several(tmp_path: Path, pool_limit: int) -> Loaded:
    """Two pairs that share a queue, one pair that shares a tag, and loners; all in one pool."""
    parts = [f"[work_pools.default]\nconcurrency_limit = {pool_limit}\n[tag_limits]\nx = 1\n"]
    parts += [f"[work_queues.q{n}]\nconcurrency_limit = 1\n" for n in range(2)]
    for number in range(10):
        lines = [f'cron = "*/{5 + number % 3} * * * *"']
        lines += [f'work_queue = "q{number % 2}"'] if number < 4 else ['tags = ["x"]'] if number < 6 else []
        parts.append(job(f"job-{number}", *lines))
    return loaded(tmp_path, "".join(parts))


@pytest.mark.parametrize("pool_limit", [100, 2])
def test_in_several_processes_a_simulation_comes_to_the_same(tmp_path: Path, pool_limit: int) -> None:
    """Also where deployments that share no limit of their own meet in a pool that is too small."""
    # In a process of its own: threads that other tests have left here would keep it from having children.
    call = f"alone_and_together(Path({str(tmp_path)!r}), {pool_limit})"
    code = f"from pathlib import Path; from test_simulate import alone_and_together; {call}"
    paths = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def alone_and_together(folder: Path, pool_limit: int) -> None:
    """Simulate in one process and in three, and hold one against the other."""
    config = several(folder, pool_limit)
    lengths = Lengths(others=timedelta(seconds=127))
    one, three = (
        Simulation(config, start=MONDAY, lasts=DAY, lengths=lengths, instance_id=INSTANCE, processes=count)
        for count in (1, 3)
    )
    alone, together = one.run(), three.run()
    assert (one.shares, three.shares) == (1, 3 if pool_limit == 100 else 1)
    assert waitings(alone)
    assert ("work pool default is full" in {each.reason for each in waitings(alone)}) is (pool_limit == 2)
    assert sorted(map(repr, together.runs)) == sorted(map(repr, alone.runs))


def test_only_deployments_that_never_meet_are_simulated_apart(tmp_path: Path) -> None:
    config = several(tmp_path, 100)
    dealt = deal(config.settings, config.compiled, MONDAY, 3)
    assert len(dealt) == 3
    assert sorted(name for share in dealt for name in share) == sorted(config.settings.deployments)
    shared = {frozenset({"job-0", "job-2"}), frozenset({"job-1", "job-3"}), frozenset({"job-4", "job-5"})}
    assert all(any(pair <= set(share) for share in dealt) for pair in shared)
    assert len(deal(config.settings, config.compiled, MONDAY, 1)) == 1


@pytest.mark.parametrize("line", ["retries = 2\nretry_jitter = 0.5", 'tags = ["x"]'])
def test_what_depends_on_all_that_happens_is_simulated_in_one(tmp_path: Path, line: str) -> None:
    config = loaded(
        tmp_path, "[tag_limits]\nx = 1\n" + "".join(job(f"j{n}", 'cron = "*/2 * * * *"', line) for n in range(4))
    )
    assert len(deal(config.settings, config.compiled, MONDAY, 2)) == 1
