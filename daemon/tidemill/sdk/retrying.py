"""Whether and when a run is tried again."""

from __future__ import annotations

from collections.abc import Callable

from tidemill.sdk.definitions import FlowDefinition, TaskDefinition
from tidemill.sdk.identity import chance


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Return a ``retry_delay_seconds`` whose delays double: the factor, twice it, four times it…

    >>> exponential_backoff(10)(3)
    [10.0, 20.0, 40.0]
    """

    def delays(retries: int) -> list[float]:
        return [float(backoff_factor * 2**number) for number in range(min(retries, 50))]

    return delays


def delay_before(definition: TaskDefinition | FlowDefinition, retries_used: int) -> float:
    """Return the seconds to wait before the next attempt, stretched by up to the jitter factor."""
    delay = definition.delay_s(retries_used)
    if delay and definition.retry_jitter_factor:
        delay *= 1.0 + definition.retry_jitter_factor * chance().random()
    return delay
