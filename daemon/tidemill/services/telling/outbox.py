"""The outbox: notices on their way, by channel; gathered, paced, tried again, kept over restarts until delivered."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.channels import DEFAULT, Channel, UndeliveredError
from tidemill.core.notices import Message, Waiting
from tidemill.core.pacing import GATHER_MOST_S, GATHER_S, GIVE_UP, STORM_HOLD_S, Pace, backoff_s
from tidemill.durations import span
from tidemill.services.wake import Wake

Carry = Callable[[Channel, Message], Awaitable[None]]  # raises UndeliveredError
Write = Callable[[Channel, Sequence[Waiting], int], Awaitable[Message]]  # the channel, what for it, how much was lost

DELIVERY_S = 50.0  # for one try
MOST_WAITING = 1000  # notices a channel
IDLE_S = 3600.0

logger = logging.getLogger("tidemill.notify")


class _Line:
    """What waits for one channel, and how it has been with it."""

    def __init__(self, now_s: float) -> None:
        self.waiting: dict[str, Waiting] = {}  # by id, oldest first
        self.held: dict[str, float] = {}  # of those: until when at most
        self.first_s = self.last_s = now_s  # when the first and the last of those not held came
        self.pace = Pace(at_s=now_s)
        self.sending: asyncio.Task[None] | None = None
        self.lost = 0  # dropped because too many waited
        self.failures = 0  # in a row
        self.steps = 0  # of them since the channels were last looked at anew: how far the waits have grown
        self.error: str | None = None
        self.failing_since: datetime | None = None
        self.not_before_s = 0.0
        self.tried: datetime | None = None
        self.delivered: datetime | None = None

    def ready_s(self, now_s: float) -> float | None:
        """Return from when a message may go; None: there is nothing to send."""
        if not self.waiting or self.sending is not None:
            return None
        first = min(self.held.values(), default=math.inf)
        if len(self.held) < len(self.waiting):
            first = min(first, self.first_s + GATHER_MOST_S, self.last_s + GATHER_S)
        return max(first, self.not_before_s, now_s + self.pace.wait_s(now_s))

    def add(self, item: Waiting, now_s: float, waited_s: float = 0.0) -> None:
        """Take a notice in, that has waited so long elsewhere or in an earlier daemon."""
        if item.storm is not None:
            self.held[item.id] = now_s + STORM_HOLD_S - max(0.0, waited_s)
        else:
            if len(self.held) == len(self.waiting):
                self.first_s = now_s
            self.last_s = now_s
        self.waiting[item.id] = item

    def let_go(self, storm: str, now_s: float) -> None:
        """Hold no longer what waits for the others of a storm."""
        for item in [self.waiting[id_] for id_ in self.held if self.waiting[id_].storm == storm]:
            del self.held[item.id]
            self.first_s = self.last_s = now_s

    def ready(self, now_s: float) -> list[Waiting]:
        """Return what goes with a message now: all but recoveries that are held, and whose whole storm is.

        A recovery goes with the failure that it ends: nobody is told that something is broken when it is well.
        """
        storms = {self.waiting[id_].storm for id_, until in self.held.items() if until <= now_s}
        going = {item.notice.deployment for item in self.waiting.values() if item.id not in self.held}
        return [
            item
            for item in self.waiting.values()
            if item.id not in self.held or item.storm in storms or item.notice.deployment in going
        ]

    def drop(self, ids: Iterable[str]) -> None:
        """Let notices out."""
        for id_ in ids:
            self.waiting.pop(id_, None)
            self.held.pop(id_, None)


class Outbox:
    """Hands notices to their channels. Nothing here waits for a channel but the task that sends."""

    def __init__(
        self,
        *,
        channels: Callable[[], Mapping[str, Channel]],
        write: Write,
        carry: Carry,
        forget: Callable[[Sequence[str]], None],
        clock: Clock,
    ) -> None:
        self._channels = channels
        self._write = write
        self._carry = carry
        self._forget = forget
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._wake = Wake()
        self._closed = False

    def put(self, items: Iterable[Waiting]) -> None:
        """Take notices that are durable, or about to be."""
        now, now_s = self._clock.now(), self._clock.monotonic()
        for item in items:
            line = self._line(item.channel)
            if item.notice.key is not None:
                same = [each for each, other in line.waiting.items() if other.notice.key == item.notice.key]
                self._drop(line, same)
            line.add(item, now_s, (now - item.at).total_seconds())
            if len(line.waiting) > MOST_WAITING:
                self._drop(line, [next(iter(line.waiting))])
                line.lost += 1
        self._wake.set()

    def release(self, storm: str) -> None:
        """All of a storm are well again: who waited for the others need not any longer."""
        now_s = self._clock.monotonic()
        for line in self._lines.values():
            line.let_go(storm, now_s)
        self._wake.set()

    def hold_only(self, storms: Set[str]) -> None:
        """Let go what waits for others of a storm, but of these: the rest ended before the daemon was started."""
        for storm in {item.storm for line in self._lines.values() for item in line.waiting.values()}:
            if storm is not None and storm not in storms:
                self.release(storm)

    def reconfigured(self) -> None:
        """Look at the channels anew: what waited for one that is gone goes to the default one, and all are tried.

        What the default one is told anyway it is not told twice.
        """
        channels = self._channels()
        for name in [name for name in self._lines if name not in channels]:
            gone = self._lines.pop(name)
            if gone.sending is not None:
                gone.sending.cancel()
            if DEFAULT in channels:
                self._forget([item.id for item in gone.waiting.values() if item.by_default])
                self._inherit([item for item in gone.waiting.values() if not item.by_default])
            elif gone.waiting:
                logger.warning(
                    "notify channel %s is gone, and there is no default: %s, for nobody", name, wait(len(gone.waiting))
                )
                self._forget(list(gone.waiting))
        for line in self._lines.values():
            line.not_before_s, line.steps = 0.0, 0
        self._wake.set()

    def _inherit(self, items: Sequence[Waiting]) -> None:
        """Hand what waited for a channel that is gone to the default one; what others wait with is known to it then."""
        told = {(item.notice, item.at) for item in items}
        for line in self._lines.values():
            for id_, other in line.waiting.items():
                if (other.notice, other.at) in told:
                    line.waiting[id_] = replace(other, by_default=True)
        last = {other.notice.key: other.at for other in self._line(DEFAULT).waiting.values() if other.notice.key}
        old = [item.id for item in items if item.notice.key in last and last[item.notice.key] >= item.at]
        self._forget(old)
        self.put([replace(item, channel=DEFAULT) for item in items if item.id not in old])

    async def run(self) -> None:
        """Send what is ready, until closed."""
        while not self._closed:
            now_s = self._clock.monotonic()
            wait_s = IDLE_S
            for name, line in self._lines.items():
                ready_s = line.ready_s(now_s)
                if ready_s is None:
                    continue
                if ready_s <= now_s:
                    line.sending = asyncio.create_task(self._send(name, line), name=f"notify {name}")
                else:
                    wait_s = min(wait_s, ready_s - now_s)
            await self._wake.wait(wait_s)

    async def _send(self, name: str, line: _Line) -> None:
        try:
            await self._try(name, line)
        except Exception:
            # A fault of ours in one message must not end the telling of all others.
            logger.exception("a message for notify channel %s could not be made", name)
            self._failed(name, line, "a fault of tidemill's own; the log has it")
        finally:
            line.sending = None
            self._wake.set()

    async def _try(self, name: str, line: _Line) -> None:
        channel = self._channels().get(name)
        if channel is None:
            return
        now, now_s = self._clock.now(), self._clock.monotonic()
        taken = line.ready(now_s)
        lost = line.lost
        message = await self._write(channel, taken, lost)
        line.tried = now
        try:
            await self.deliver(channel, message)
        except UndeliveredError as error:
            self._failed(name, line, str(error), retry_after_s=error.retry_after_s)
            self._give_up(name, line, now)
            return
        line.pace = line.pace.spend(self._clock.monotonic())
        self._worked(name, line)
        line.lost -= lost
        self._drop(line, [item.id for item in taken])
        logger.info(
            "told %s: %s",
            name,
            message.subject,
            extra={"fields": {"event": "notified", "channel": name, "notices": len(taken)}},
        )

    async def deliver(self, channel: Channel, message: Message) -> None:
        """Try once; raises UndeliveredError."""
        try:
            async with asyncio.timeout(DELIVERY_S):
                await self._carry(channel, message)
        except TimeoutError:
            raise UndeliveredError(f"no answer within {DELIVERY_S:.0f} s") from None

    def tried(self, name: str, error: str | None) -> None:
        """Take note of how a test went: one that worked lets what waits go at once."""
        line = self._line(name)
        line.tried = self._clock.now()
        if error is None:
            self._worked(name, line)
            line.not_before_s = 0.0
            self._wake.set()
        elif line.error is None:
            line.error, line.failing_since = error, line.tried

    def _worked(self, name: str, line: _Line) -> None:
        if line.failures:
            logger.info("notify channel %s works again", name)
        line.failures, line.error, line.failing_since, line.not_before_s, line.steps = 0, None, None, 0.0, 0
        line.delivered = self._clock.now()

    def _failed(self, name: str, line: _Line, reason: str, *, retry_after_s: float | None = None) -> None:
        line.failures += 1
        line.steps += 1
        line.error = reason
        line.failing_since = line.failing_since or self._clock.now()
        wait_s = max(backoff_s(line.steps), min(retry_after_s or 0.0, backoff_s(1000)))
        line.not_before_s = self._clock.monotonic() + wait_s
        logger.warning(
            "notify channel %s: %s; %s, tried again in %s",
            name,
            reason,
            wait(len(line.waiting)),
            span(wait_s),
            extra={"fields": {"event": "notify-failed", "channel": name, "reason": reason}},
        )

    def _give_up(self, name: str, line: _Line, now: datetime) -> None:
        old = [id_ for id_, item in line.waiting.items() if now - item.at > GIVE_UP]
        if old:
            line.lost += len(old)
            self._drop(line, old)
            logger.error("notify channel %s: %d notices are given up after %s", name, len(old), GIVE_UP)

    def _drop(self, line: _Line, ids: Sequence[str]) -> None:
        line.drop(ids)
        if ids:
            self._forget(ids)

    def _line(self, name: str) -> _Line:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(self._clock.monotonic())
        return line

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self._wake.set()

    async def flush(self, within_s: float) -> int:
        """Try to send what waits, once and in that time; return how many notices still wait. Call after ``close``."""
        for name, line in self._lines.items():
            if line.waiting and not line.failures and line.sending is None:
                line.held.clear()
                line.sending = asyncio.create_task(self._send(name, line), name=f"notify {name}")
        sending = [line.sending for line in self._lines.values() if line.sending is not None]
        if sending:
            _, late = await asyncio.wait(sending, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        return sum(len(line.waiting) for line in self._lines.values())

    def documents(self) -> list[dict[str, Any]]:
        """Return how each channel does, as JSON values."""
        return [self._document(name, channel) for name, channel in self._channels().items()]

    def _document(self, name: str, channel: Channel) -> dict[str, Any]:
        line = self._lines.get(name) or _Line(0.0)
        return {
            "name": name,
            "type": channel.type.value,
            "hears": sorted(channel.hears) if channel.hears is not None else None,
            "waiting": len(line.waiting),
            "next": _time(self._next(line)),
            "lost": line.lost,
            "tried": _time(line.tried),
            "delivered": _time(line.delivered),
            "error": line.error,
            "failing_since": _time(line.failing_since),
            "failures": line.failures,
        }

    def _next(self, line: _Line) -> datetime | None:
        """Return when what waits may go at the earliest; None: nothing waits, or it goes now."""
        now_s = self._clock.monotonic()
        ready_s = line.ready_s(now_s)
        return None if ready_s is None else self._clock.now() + timedelta(seconds=max(0.0, ready_s - now_s))

    def broken(self, least: timedelta) -> dict[str, str]:
        """Return which channels have not worked for so long, and why."""
        now = self._clock.now()
        return {
            name: line.error
            for name, line in self._lines.items()
            if line.error is not None and line.failing_since is not None and now - line.failing_since >= least
        }

    def problems(self) -> list[str]:
        """Return which channels do not work, in words."""
        return [
            f"notify channel {name}: {line.error}; {wait(len(line.waiting))}"
            for name, line in self._lines.items()
            if line.error is not None
        ]


def wait(count: int) -> str:
    """Say how many notices have not been told yet."""
    return "1 notice waits" if count == 1 else f"{count} notices wait"


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
