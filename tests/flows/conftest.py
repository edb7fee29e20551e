"""Built-in flows run by themselves: their context, a recorder in memory, and what they said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakes import FakeClock
from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.core.ports import Job
from tidemill.sdk.context import RunContext
from tidemill.sdk.memory import MemoryRecorder

RUN_ID = "0192e4a0-0000-7000-8000-000000000001"


@pytest.fixture
def recorder() -> MemoryRecorder:
    return MemoryRecorder({"TOKEN": "s3cret-t0ken", "PASSWORD": "open-sesame", "HOOK": "https://hooks.test/T0P/s3cret"})


@pytest.fixture
def context(clock: FakeClock, recorder: MemoryRecorder) -> Callable[..., RunContext]:
    """Make the context of a run of a built-in flow."""

    def make(flow: str = "http_request", **changes: Any) -> RunContext:
        job = Job(
            run_id=RUN_ID,
            run_name="brisk-otter",
            attempt=changes.pop("attempt", 1),
            flow=FlowRef(kind=FlowKind.BUILTIN, entrypoint=flow, name=flow),
            deployment="activity",
            parameters={},
            expected_start=clock.now(),
            **changes,
        )
        return RunContext(job, recorder, clock)

    return make
