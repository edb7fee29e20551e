"""What a runner is told of an attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tidemill.config import load
from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType
from tidemill.ids import stable_id
from tidemill.services.catalogue import Catalogue
from tidemill.services.worker import job_of

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
INSTANCE = "01a1ffb1-d9a5-7000-8000-000000000000"


def test_a_job_names_its_deployment_by_the_id_that_the_api_tells(tmp_path: Path) -> None:
    file = tmp_path / "tidemill.toml"
    file.write_text('[deployments.daily]\ncommand = "true"\ntimeout = "1m"\n')
    catalogue = Catalogue(load(file, environ={}).settings, instance=INSTANCE)
    run = FlowRun(
        seq=1,
        id="r",
        name="brisk-otter",
        flow="shell",
        deployment="daily",
        parent_run_id="p",
        expected_start=NOW,
        state=State(type=StateType.RUNNING, name="Running", timestamp=NOW),
        attempt=2,
        created=NOW,
    )
    job = job_of(run, catalogue.deployments["daily"], catalogue)
    assert job.deployment_id == stable_id(INSTANCE, "deployment", "daily")
    assert (job.parent_flow_run_id, job.attempt, job.timeout) == ("p", 2, catalogue.deployments["daily"].timeout)
    assert job_of(run, None, catalogue).timeout is None, "its deployment is gone from the file"
