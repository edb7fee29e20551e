"""A run for code under test to run in, without a daemon."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes import FakeClock
from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.core.ports import Job
from tidemill.sdk.context import RunContext
from tidemill.sdk.memory import MemoryRecorder


@pytest.fixture
def new_run(clock: FakeClock) -> Callable[[str], RunContext]:
    """Make the context of a run with a recorder in memory."""

    def make(run_id: str = "run-1") -> RunContext:
        job = Job(
            run_id=run_id,
            run_name="brisk-otter",
            attempt=1,
            flow=FlowRef(kind=FlowKind.FILE, entrypoint="a.py:flow", name="flow"),
            deployment="daily",
            parameters={},
            expected_start=clock.now(),
        )
        return RunContext(job, MemoryRecorder(), clock)

    return make
