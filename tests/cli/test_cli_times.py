"""Which zone a time is told in: a deployment's own wherever one deployment is told of, else the machine's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edges import live
from tidemill.cli import times
from tidemill.cli.main import main

NOON = "2026-11-21T12:00:00Z"


@pytest.fixture(autouse=True)
def tokyo() -> Iterator[None]:
    """The machine stands in Tokyo; the deployment's schedule is written for Helsinki."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Europe/Helsinki", "2026-11-21 14:00:00 +0200"),
        (None, "2026-11-21 21:00:00 +0900"),
        ("Mars/Olympus", "2026-11-21 21:00:00 +0900"),  # a newer machine's zone
        ("../etc/passwd", "2026-11-21 21:00:00 +0900"),
    ],
)
def test_a_zone_that_is_not_known_here_is_the_machines(name: str | None, told: str) -> None:
    assert times.local(NOON, times.zone(name)) == told


def test_what_is_told_of_one_deployment_is_in_its_zone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live(tmp_path) as daemon:
        mill, clock = daemon.mill, daemon.clock
        daemon.do(mill.finish(daemon.do(mill.begin(daemon.do(mill.add(name="done"))))))
        daemon.do(mill.add(at=clock.now() + timedelta(hours=1)))

        def told(*argv: str) -> str:
            main([*argv, "--state-dir", str(daemon.folder)], environ={"HOME": "/nonexistent"}, now=clock.now)
            return capsys.readouterr().out

        for argv in (("status",), ("deployment", "inspect", "bored-daily"), ("flow-run", "inspect", "done")):
            assert "+0200" in told(*argv), argv
        assert "+0900" not in told("flow-run", "inspect", "done")
        assert "+0900" in told("status"), "what was set by hand is of no deployment"
