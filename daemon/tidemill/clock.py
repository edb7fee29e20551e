"""The one place that reads the machine's clock.

Everything else takes a :class:`Clock` and asks it, so that the whole daemon can run on a virtual one.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# A sleep does not notice that the machine was suspended or its clock set; sleeping in slices bounds the surprise.
SLICE_S = 30.0

INSTANT = "2026-03-29T01:00:00Z"


class Clock(Protocol):
    """Wall time for what people see, monotonic time for durations, and waiting."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start, never going back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of monotonic time."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # commands read the clock, too, and asyncio would double the time they take to start

        await asyncio.sleep(seconds)


def to_us(when: datetime) -> int:
    """Return an aware instant as whole microseconds since 1970, the form the database keeps."""
    return (when - EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """Return the aware UTC instant of so many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=us)


def instant(text: str) -> datetime:
    """Return the aware instant of RFC 3339 text. Raises ValueError where it is not that or has no offset."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(no_instant(text)) from None
    if when.tzinfo is None:
        raise ValueError(f'"{text}" has no offset; write for example {INSTANT}')
    return when


def no_instant(text: str, example: str = INSTANT) -> str:
    """Return what is said of a text that should be a date with time."""
    return f'"{text[:60]}" is no date with time; write for example {example}'
