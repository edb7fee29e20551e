"""The recorder of flow code in a process of its own: the port's three verbs, over the pipe."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.reports import ArtifactReport, CacheReport, EventReport, LogReport, Question, Report, TaskReport
from tidemill.runners.channel import Channel
from tidemill.sdk.canonical import canonical
from tidemill.telemetry.floods import FloodGate

# Lines at once, as in the daemon; a burst beyond it is cut to the rate here already, so that a flood costs the run that
# makes it and nobody else.
BURST = 1_000


class PipeRecorder:
    """Sends reports, and blocks the thread that asks. Callable from any thread."""

    blocks = True  # asking never suspends: async code asks in a thread

    def __init__(self, channel: Channel, clock: Clock, lines_per_second: float) -> None:
        self._channel = channel
        self._clock = clock
        self._gate = FloodGate(rate=lines_per_second, burst=BURST, clock=clock)
        self._lost = 0  # lines that the pipe could not take

    def report(self, report: Report) -> None:
        """Send a report. Never waits, but where 32 MiB of others wait already. Raises ``ValueError``."""
        if isinstance(report, LogReport):
            self._line(report)
        elif isinstance(report, TaskReport):
            self._channel.say_soon(report)
        elif isinstance(report, ArtifactReport):
            self._channel.say(replace(report, data=_json(report.data)))
        elif isinstance(report, CacheReport):
            self._channel.say(replace(report, value=_json(report.value)))
        elif isinstance(report, EventReport):
            canonical([report.resource, report.payload])
            self._channel.say(report)
        else:
            self._channel.say(report)

    async def flush(self) -> None:
        self._channel.flush()

    async def ask(self, question: Question) -> Any:
        return self._channel.ask(question)

    def close(self) -> None:
        """Say how many lines were dropped that were not told of yet, and wait until everything is sent."""
        dropped = self._gate.close()
        if dropped or self._lost:
            self._say_dropped(dropped)
        self._channel.settle()

    def _line(self, report: LogReport) -> None:
        admitted, dropped = self._gate.pass_one()
        if not admitted:
            return
        if dropped:
            self._say_dropped(dropped)
        try:
            kept = self._channel.say(report, droppable=True)
        except ValueError:  # half a surrogate pair: printed, but no Unicode text
            text = report.message.encode("utf-8", "backslashreplace").decode()
            kept = self._channel.say(replace(report, message=text), droppable=True)
        if not kept:
            self._lost += 1

    def _say_dropped(self, count: int) -> None:
        lost, self._lost = self._lost, 0
        message = f"{count + lost} lines dropped"
        told = LogReport(at=self._clock.now(), level=logging.WARNING, logger="tidemill", message=message)
        self._channel.say(told)


def _json(value: Any) -> msgspec.Raw:
    """Return a value as it goes over the pipe; raises ``ValueError`` at once for what the daemon would refuse."""
    return msgspec.Raw(canonical(value).encode())
