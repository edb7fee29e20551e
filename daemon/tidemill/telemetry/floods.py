"""A flood of lines is cut to a rate, and what was cut is counted and said."""

from __future__ import annotations

import threading

from tidemill.clock import Clock

TELL_S = 1.0  # how often dropped lines are told


class FloodGate:
    """Lets ``rate`` lines a second pass after a first ``burst``. May be used from any thread.

    A rate of 0 sets no limit.
    """

    __slots__ = ("_burst", "_clock", "_dropped", "_left", "_lock", "_rate", "_seen", "_told")

    def __init__(self, *, rate: float, burst: float, clock: Clock) -> None:
        self._rate = rate
        self._burst = self._left = max(1.0, burst)
        self._clock = clock
        self._seen = clock.monotonic()
        self._told = self._seen - TELL_S
        self._dropped = 0
        self._lock = threading.Lock()

    def pass_one(self) -> tuple[bool, int]:
        """Return whether one line may pass and, once after lines were dropped, how many: to be said before it."""
        if self._rate <= 0:
            return True, 0
        with self._lock:
            now = self._clock.monotonic()
            self._left = min(self._burst, self._left + (now - self._seen) * self._rate)
            self._seen = now
            if self._left < 1:
                self._dropped += 1
                return False, 0
            self._left -= 1
            # Of a flood one line in so many passes: each with its own notice would be a flood of notices.
            if self._dropped == 0 or now - self._told < TELL_S:
                return True, 0
            self._told = now
            dropped, self._dropped = self._dropped, 0
            return True, dropped

    def close(self) -> int:
        """Return how many dropped lines were not told yet: nothing more will pass to tell it."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped
