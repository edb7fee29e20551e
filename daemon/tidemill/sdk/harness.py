"""Tests of flows without a daemon: flows run for real, and what they report is kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from tidemill.clock import Clock, SystemClock
from tidemill.core.reports import ArtifactReport, EventReport, LogReport, TaskReport
from tidemill.sdk.connect import begin_with
from tidemill.sdk.context import RunContext
from tidemill.sdk.identity import new_id, new_name
from tidemill.sdk.memory import MemoryRecorder
from tidemill.sdk.states import State


class SkippingClock:
    """The machine's clock, except that waiting takes no time: it only moves the clock on."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._skipped = 0.0
        self.waits: list[float] = []

    def now(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self._skipped)

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._skipped

    async def sleep(self, seconds: float) -> None:
        self.pass_time(seconds)
        await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds be over."""
        self._skipped += max(0.0, seconds)
        self.waits.append(seconds)


class HarnessRun:
    """A flow run that a test made, and what it reported."""

    def __init__(self, harness: Harness, flow: str, name: str | None, parameters: dict[str, Any], tags: Any) -> None:
        self.clock: Clock = harness.clock
        self.id = new_id(self.clock.now())
        self.name = name or new_name()
        self.flow = flow
        self.parameters = parameters
        self.tags = tuple(tags)
        self.state: State | None = None  # the last one, once it has ended
        self.result: Any = None  # as it would be kept, JSON
        self.recorder = MemoryRecorder(clock=self.clock)
        # What outlives a run is shared by all runs of a test.
        self.recorder.variables = harness.variables
        self.recorder.blocks = harness.blocks
        self.recorder.secrets = harness.secrets
        self.recorder.cache = harness.cache

    @property
    def tasks(self) -> list[TaskReport]:
        """The run's task runs as they are now, in the order they were made."""
        return list(self.recorder.tasks.values())

    @property
    def logs(self) -> list[LogReport]:
        return self.recorder.logs

    @property
    def artifacts(self) -> list[ArtifactReport]:
        return self.recorder.artifacts

    @property
    def events(self) -> list[EventReport]:
        return self.recorder.events

    def attend(self, context: RunContext) -> None:
        """Nobody cancels it."""

    def end(self, state: State, document: Any) -> None:
        self.state, self.result = state, document


class Harness:
    """What a test sees: ``runs``, and the variables, blocks, secrets and cached results that its flows share."""

    def __init__(
        self,
        *,
        variables: Mapping[str, Any] | None,
        blocks: Mapping[str, Mapping[str, Any]] | None,
        secrets: Mapping[str, str] | None,
        clock: Clock,
    ) -> None:
        self.variables = dict(variables or {})
        self.blocks = {name: dict(block) for name, block in (blocks or {}).items()}
        self.secrets = dict(secrets or {})
        self.cache: dict[str, tuple[Any, datetime | None]] = {}
        self.clock = clock
        self.runs: list[HarnessRun] = []

    @property
    def run(self) -> HarnessRun:
        """The last flow run."""
        return self.runs[-1]

    def begin(self, flow: str, name: str | None, parameters: dict[str, Any], tags: tuple[str, ...]) -> HarnessRun:
        """Begin a flow run; called by the flows themselves."""
        made = HarnessRun(self, flow, name, parameters, tags)
        self.runs.append(made)
        return made


@contextmanager
def tidemill_test_harness(
    *,
    variables: Mapping[str, Any] | None = None,
    blocks: Mapping[str, Mapping[str, Any]] | None = None,
    secrets: Mapping[str, str] | None = None,
    skip_waits: bool = True,
) -> Iterator[Harness]:
    """Run the flows that are called inside without a daemon, and keep what they report.

    ``skip_waits``: retry delays take no time. ``blocks`` are given by name, with their ``type`` and fields.

    >>> with tidemill_test_harness(variables={"region": "fi"}) as harness:  # doctest: +SKIP
    ...     assert report() == 3
    ...     assert harness.run.state.is_completed()
    """
    clock: Clock = SkippingClock() if skip_waits else SystemClock()
    harness = Harness(variables=variables, blocks=blocks, secrets=secrets, clock=clock)
    before = begin_with(harness.begin)
    try:
        yield harness
    finally:
        begin_with(before)
