"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from datetime import timedelta

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """``retries`` further attempts; the n-th waits ``delays[n]`` (the last one repeats), stretched by up to ``jitter``.

    ``jitter`` 0.3 means: between the delay and 1.3 times the delay. ``max_delay`` bounds what ``backoff`` makes of the
    last delay, not a delay that is stated. ``cap`` bounds what a server may ask for (Retry-After).
    """

    retries: int = 0
    delays: tuple[timedelta, ...] = (timedelta(0),)
    backoff: float = 1.0  # factor from one attempt to the next, after the list has ended
    max_delay: timedelta = timedelta(hours=1)
    jitter: float = 0.0
    cap: timedelta = timedelta(minutes=15)


def retry_delay(
    policy: RetryPolicy, used: int, source: random.Random, *, asked: timedelta | None = None
) -> timedelta | None:
    """Return how long to wait before the next attempt, ``used`` retries being spent; None: no retry is left.

    ``asked`` is what a server wanted (Retry-After): the longer of it, capped, and the policy's own delay is taken.
    """
    if used >= policy.retries:
        return None
    delays = policy.delays or (timedelta(0),)
    delay = delays[min(used, len(delays) - 1)]
    beyond = used - (len(delays) - 1)
    if beyond > 0 and policy.backoff > 1.0 and timedelta(0) < delay < policy.max_delay:
        try:
            delay = min(policy.max_delay, delay * policy.backoff**beyond)
        except OverflowError:  # a thousandth retry
            delay = policy.max_delay
    if policy.jitter:
        delay *= 1.0 + policy.jitter * source.random()
    if asked is not None:
        delay = max(delay, min(asked, policy.cap))
    return delay
