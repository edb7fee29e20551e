"""The flows that are run: one that does nothing, and one that notes how late it was started."""

from __future__ import annotations

import time

from tidemill.sdk.context import run_context

started: list[float] = []  # seconds after the time each run was to start


async def nothing() -> None:
    pass


async def note() -> None:
    now = time.time()
    started.append(now - run_context().job.expected_start.timestamp())
