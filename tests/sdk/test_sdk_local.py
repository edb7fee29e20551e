"""What a script without a daemon is told on standard error."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest

from fakes import FakeClock
from tidemill.core.reports import BlockQuestion, LogReport, SubflowEnded, SubflowQuestion
from tidemill.core.states import State, StateType
from tidemill.errors import TidemillError
from tidemill.sdk.local import LocalRecorder


def test_a_subflows_lines_and_its_end_are_told_under_its_name(clock: FakeClock) -> None:
    written = io.StringIO()
    recorder = LocalRecorder("brisk-otter", clock, written)
    id_ = asyncio.run(recorder.ask(SubflowQuestion(flow="load", name="calm-heron", parameters={})))
    for flow_run_id in (id_, None):
        line = LogReport(at=clock.now(), level=logging.INFO, logger="print", message="hello", flow_run_id=flow_run_id)
        recorder.report(line)
    failed = State(type=StateType.FAILED, name="Failed", timestamp=clock.now(), message="no")
    recorder.report(SubflowEnded(flow_run_id=id_, state=failed))
    told = [line.split(" | ", 1)[1] for line in written.getvalue().splitlines()]
    assert told == [
        "INFO    | Subflow run 'calm-heron' - hello",
        "INFO    | Flow run 'brisk-otter' - hello",
        "ERROR   | Subflow run 'calm-heron' - Finished in state Failed",
    ]


def test_a_block_that_only_a_daemon_has_is_refused_with_the_remedy(clock: FakeClock) -> None:
    recorder = LocalRecorder("brisk-otter", clock, io.StringIO())
    with pytest.raises(TidemillError, match=r"no block token: no daemon was found, .*; set TIDEMILL_API_URL"):
        asyncio.run(recorder.ask(BlockQuestion(name="token", type="secret")))
