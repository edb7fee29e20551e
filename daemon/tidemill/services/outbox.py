"""The outbox: notices on their way, by channel; gathered, paced, tried again, kept over restarts until delivered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tidemill.clock import Clock
from tidemill.core.channels import DEFAULT, Channel, UndeliveredError
from tidemill.core.notices import Message, Waiting
from tidemill.core.pacing import GATHER_S, GIVE_UP, Pace, backoff_s
from tidemill.services.wake import Wake

Carry = Callable[[Channel, Message], Awaitable[None]]  # raises UndeliveredError
Write = Callable[[Channel, Sequence[Waiting], int], Awaitable[Message]]  # the channel, what for it, how much was lost

DELIVERY_S = 60.0  # for one try
MOST_WAITING = 1000  # notices a channel
STORM_HOLD_S = 900.0  # how long a recovery from a storm waits for the others of it
IDLE_S = 3600.0

logger = logging.getLogger("tidemill.notify")


class _Line:
    """What waits for one channel, and how it has been with it."""

    def __init__(self, now_s: float) -> None:
        self.waiting: dict[str, tuple[Waiting, float]] = {}  # by id; with the time from which it may go
        self.pace = Pace(at_s=now_s)
        self.sending: asyncio.Task[None] | None = None
        self.lost = 0  # dropped because too many waited
        self.failures = 0  # in a row
        self.error: str | None = None
        self.failing_since: datetime | None = None
        self.not_before_s = 0.0
        self.tried: datetime | None = None
        self.delivered: datetime | None = None

    def ready_s(self, now_s: float) -> float | None:
        """Return from when a message may go; None: there is nothing to send."""
        if not self.waiting or self.sending is not None:
            return None
        first = min(at for _, at in self.waiting.values())
        return max(first, self.not_before_s, now_s + self.pace.wait_s(now_s))


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
        now_s = self._clock.monotonic()
        for item in items:
            line = self._line(item.channel)
            hold_s = STORM_HOLD_S if item.storm is not None else GATHER_S
            if item.notice.key is not None:
                same = [each for each, (other, _) in line.waiting.items() if other.notice.key == item.notice.key]
                self._drop(line, same)
            line.waiting[item.id] = (item, now_s + hold_s)
            if len(line.waiting) > MOST_WAITING:
                self._drop(line, [next(iter(line.waiting))])
                line.lost += 1
        self._wake.set()

    def release(self, storm: str) -> None:
        """All of a storm are well again: who waited for the others need not any longer."""
        now_s = self._clock.monotonic()
        for line in self._lines.values():
            for id_, (item, at) in line.waiting.items():
                if item.storm == storm:
                    line.waiting[id_] = (item, min(at, now_s + GATHER_S))
        self._wake.set()

    def reconfigured(self) -> None:
        """Look at the channels anew: what waited for one that is gone goes to the default one, and all are tried."""
        channels = self._channels()
        for name in [name for name in self._lines if name not in channels]:
            gone = self._lines.pop(name)
            if DEFAULT in channels and name != DEFAULT:
                self._line(DEFAULT).waiting.update(gone.waiting)
            elif gone.waiting:
                logger.warning("notify channel %s is gone, and with it %d notices", name, len(gone.waiting))
                self._forget(list(gone.waiting))
        for line in self._lines.values():
            line.not_before_s = 0.0
        self._wake.set()

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
        ready = [item for item, at in line.waiting.values() if at <= now_s]
        storms = {item.storm for item in ready if item.storm is not None}
        # What is ready takes along whoever came meanwhile, but not a recovery that waits for others.
        taken = [
            item for item, at in line.waiting.values() if at <= now_s or item.storm is None or item.storm in storms
        ]
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
        line.failures, line.error, line.failing_since, line.not_before_s = 0, None, None, 0.0
        line.delivered = self._clock.now()

    def _failed(self, name: str, line: _Line, reason: str, *, retry_after_s: float | None = None) -> None:
        line.failures += 1
        line.error = reason
        line.failing_since = line.failing_since or self._clock.now()
        wait_s = max(backoff_s(line.failures), min(retry_after_s or 0.0, backoff_s(1000)))
        line.not_before_s = self._clock.monotonic() + wait_s
        logger.warning(
            "notify channel %s: %s; %d notices wait, tried again in %d s",
            name,
            reason,
            len(line.waiting),
            wait_s,
            extra={"fields": {"event": "notify-failed", "channel": name, "reason": reason}},
        )

    def _give_up(self, name: str, line: _Line, now: datetime) -> None:
        old = [id_ for id_, (item, _) in line.waiting.items() if now - item.at > GIVE_UP]
        if old:
            line.lost += len(old)
            self._drop(line, old)
            logger.error("notify channel %s: %d notices are given up after %s", name, len(old), GIVE_UP)

    def _drop(self, line: _Line, ids: Sequence[str]) -> None:
        for id_ in ids:
            line.waiting.pop(id_, None)
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
                now_s = self._clock.monotonic()
                line.waiting = {id_: (item, min(at, now_s)) for id_, (item, at) in line.waiting.items()}
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
            "lost": line.lost,
            "tried": _time(line.tried),
            "delivered": _time(line.delivered),
            "error": line.error,
            "failing_since": _time(line.failing_since),
            "failures": line.failures,
        }

    def problems(self) -> list[str]:
        """Return which channels do not work, in words."""
        return [
            f"notify channel {name}: {line.error}; {len(line.waiting)} notices wait"
            for name, line in self._lines.items()
            if line.error is not None
        ]


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
