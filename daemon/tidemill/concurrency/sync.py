"""Slots of concurrency limits, for sync code."""

from tidemill.sdk.concurrency import concurrency, rate_limit

__all__ = [
    "concurrency",
    "rate_limit",
]
