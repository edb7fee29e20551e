"""Slots of concurrency limits, for async code."""

from tidemill.sdk.concurrency import aconcurrency as concurrency
from tidemill.sdk.concurrency import arate_limit as rate_limit

__all__ = ["concurrency", "rate_limit"]
