"""Metrics: what passes is counted once, and how things are is looked up when somebody asks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stage import FAILED, NOON, World, play, seconds, takes

from tidemill.core.histograms import Histogram
from tidemill.core.ports import Job, Outcome
from tidemill.services.house import House
from tidemill.services.metrics import METRICS

EACH_MINUTE = """
[deployments.job]
command = "true"
cron = "* * * * *"
"""


async def collected(house: House) -> dict[str, Any]:
    """Samples by metric; of a metric without labels its value."""
    found = await house.metrics.collect()
    assert found.keys() == {metric.name for metric in METRICS}
    return {metric.name: dict(found[metric.name]) if metric.labels else found[metric.name][0][1] for metric in METRICS}


def test_every_metric_of_the_table_is_told_with_its_labels(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(EACH_MINUTE) as house:
            await world.wait(seconds(90))
            found = await house.metrics.collect()
            for metric in METRICS:
                assert all(len(labels) == len(metric.labels) for labels, _ in found[metric.name]), metric.name

    play(tmp_path, main)


def test_runs_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        outcomes = iter([takes(seconds(2)), takes(seconds(4)), takes(seconds(1), FAILED)])

        def script(job: Job) -> tuple[timedelta, Outcome]:
            return next(outcomes)(job)

        async with world.daemon(EACH_MINUTE, script) as house:
            await world.wait(seconds(60 * 3 + 30))
            found = await collected(house)
        assert found["tidemill_flow_runs_finished_total"] == {("job", "Completed"): 2, ("job", "Failed"): 1}
        assert found["tidemill_flow_run_duration_seconds"] == {("job",): (3, pytest.approx(7.0))}
        last = found["tidemill_deployment_last_success_timestamp_seconds"]["job",]
        assert last == pytest.approx(NOON.timestamp() + 2 * 60 + 4)

    play(tmp_path, main)


def test_a_start_that_waited_for_a_slot_is_as_late_as_it_waited(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        config = EACH_MINUTE + "concurrency_limit = 1\n"
        async with world.daemon(config, takes(seconds(80))) as house:
            await world.wait(seconds(150))  # due at 60 and 120; the second begins at 140
            late = (await collected(house))["tidemill_flow_run_start_lateness_seconds"]
            assert isinstance(late, Histogram)
            assert late.count == 2
            assert late.sum == pytest.approx(20, abs=0.1)
            assert dict(late.up_to())[15] == 1
            assert dict(late.up_to())[60] == 2

    play(tmp_path, main)


def test_what_waits_and_what_runs_is_told_by_queue_pool_and_state(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        config = EACH_MINUTE + "concurrency_limit = 1\nlate_after = '10s'\n"
        async with world.daemon(config, takes(seconds(600))) as house:
            await world.wait(seconds(150))
            found = await collected(house)
            states = found["tidemill_flow_runs"]
            assert (states["Running",], states["Late",]) == (1, 1)
            assert states["Scheduled",] >= 3  # shown ahead
            assert found["tidemill_work_queue_waiting"]["default",] == 1
            assert found["tidemill_work_queue_running"]["default",] == 1
            assert found["tidemill_work_pool_running"]["default",] == 1
            assert found["tidemill_work_pool_slots"]["default",] == 100
            assert found["tidemill_work_queue_paused"]["default",] == 0
            await house.control.overrides.set("work_queue", "default", "paused", True, by="me")
            assert (await collected(house))["tidemill_work_queue_paused"]["default",] == 1

    play(tmp_path, main)


def test_a_failed_attempt_that_is_tried_again_is_a_retry_and_no_end(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(EACH_MINUTE + "retries = 2\nretry_delay = '5s'\n", takes(seconds(1), FAILED)) as house:
            await world.wait(seconds(90))
            found = await collected(house)
        assert found["tidemill_flow_run_retries_total"] == {("job",): 2}
        assert found["tidemill_flow_runs_finished_total"] == {("job", "Failed"): 1}

    play(tmp_path, main)


def test_the_last_success_outlives_a_restart_and_the_failures_since(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(EACH_MINUTE, takes(seconds(1))) as house:
            await world.wait(seconds(61.5))
        async with world.daemon(EACH_MINUTE, takes(seconds(1), FAILED)) as house:
            await world.wait(seconds(120))
            found = await collected(house)
        assert found["tidemill_deployment_last_success_timestamp_seconds"] == {("job",): NOON.timestamp() + 61}

    play(tmp_path, main)


def test_commits_are_timed_and_the_database_is_measured(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        async with world.daemon(EACH_MINUTE) as house:
            await world.wait(seconds(90))
            found = await collected(house)
            assert found["tidemill_commit_seconds"].count == house.store.stats.groups > 0
            assert found["tidemill_committed_changes_total"] == house.store.stats.items
            assert found["tidemill_database_bytes"]["used",] > 4096
            assert found["tidemill_database_degraded"] == 0
            world.disk.full()
            house.store.post(*_any_change(world))
            await world.wait(seconds(120))
            assert (await collected(house))["tidemill_database_degraded"] == 1
            world.disk.well()
            await world.wait(seconds(10))

    play(tmp_path, main)


def _any_change(world: World) -> Any:
    from tidemill.store import instance

    return instance.LAST_ALIVE, world.now
