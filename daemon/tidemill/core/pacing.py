"""How often a channel is used, and how long it is left alone after it failed."""

from __future__ import annotations

from datetime import timedelta

import msgspec

# So many messages may follow each other; then one for each interval, and what comes meanwhile is in one message.
BURST = 4
INTERVAL_S = 300.0
# A message goes when nothing more came for so long, or so long after the first notice of it: what belongs together is
# told together.
GATHER_S = 5.0
GATHER_MOST_S = 30.0
# How long a recovery waits for the others that failed in the same storm.
STORM_HOLD_S = 900.0
# Waits before an undelivered message is tried again; the last one repeats.
BACKOFF_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
GIVE_UP = timedelta(days=3)


class Pace(msgspec.Struct, frozen=True):
    """A channel's allowance at a moment (of the monotonic clock): it grows by one each INTERVAL_S, to BURST."""

    allowance: float = BURST
    at_s: float = 0.0

    def _now(self, now_s: float) -> float:
        return min(BURST, self.allowance + max(0.0, now_s - self.at_s) / INTERVAL_S)

    def wait_s(self, now_s: float) -> float:
        """Return how long the next message has to wait."""
        return max(0.0, 1.0 - self._now(now_s)) * INTERVAL_S

    def spend(self, now_s: float) -> Pace:
        """Return the pace after a message was sent."""
        return Pace(max(0.0, self._now(now_s) - 1.0), now_s)


def backoff_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row, at least one."""
    return BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
