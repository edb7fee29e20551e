"""How long the next attempt waits."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.retries import RetryPolicy, retry_delay

S, M, H = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Fixed(random.Random):
    """A source that always draws the same number."""

    def __init__(self, drawn: float) -> None:
        super().__init__()
        self.drawn = drawn

    def random(self) -> float:
        return self.drawn


LIST = (10 * S, M, 5 * M)


@pytest.mark.parametrize(
    ("policy", "used", "asked", "waits"),
    [
        (RetryPolicy(), 0, None, None),  # no retries unless they are stated
        (RetryPolicy(retries=3), 0, None, 0 * S),  # at once unless a delay is stated
        (RetryPolicy(retries=3, delays=()), 2, None, 0 * S),  # an empty list is no delay
        (RetryPolicy(retries=3, delays=LIST), 0, None, 10 * S),
        (RetryPolicy(retries=3, delays=LIST), 2, None, 5 * M),
        (RetryPolicy(retries=3, delays=LIST), 3, None, None),  # all spent
        (RetryPolicy(retries=9, delays=LIST), 8, None, 5 * M),  # the last one repeats
        (RetryPolicy(retries=9, delays=(S,), backoff=2.0), 0, None, S),
        (RetryPolicy(retries=9, delays=(S,), backoff=2.0), 3, None, 8 * S),  # doubled three times
        (RetryPolicy(retries=9, delays=LIST, backoff=2.0), 4, None, 20 * M),  # grows only after the list
        (RetryPolicy(retries=99, delays=(S,), backoff=2.0), 50, None, H),  # bounded by max_delay
        (RetryPolicy(retries=9999, delays=(S,), backoff=1e300), 9998, None, H),  # and never overflows
        (RetryPolicy(retries=9, delays=(2 * H,), backoff=2.0), 5, None, 2 * H),  # a stated delay is not cut
        (RetryPolicy(retries=9, delays=(0 * S,), backoff=2.0), 5, None, 0 * S),
        (RetryPolicy(retries=9, delays=(10 * S,), backoff=0.5), 5, None, 10 * S),  # backoff never shortens
        (RetryPolicy(retries=3, delays=(10 * S,)), 0, 30 * S, 30 * S),  # Retry-After, longer than ours
        (RetryPolicy(retries=3, delays=(10 * S,)), 0, S, 10 * S),  # Retry-After, shorter
        (RetryPolicy(retries=3, delays=(10 * S,)), 0, 24 * H, 15 * M),  # Retry-After, capped
        (RetryPolicy(retries=3, delays=(H,)), 0, 24 * H, H),  # the cap does not shorten our own
        (RetryPolicy(retries=3), 3, 30 * S, None),  # asking grants no retry
    ],
)
def test_the_delay_is_the_policys(
    policy: RetryPolicy, used: int, asked: timedelta | None, waits: timedelta | None
) -> None:
    assert retry_delay(policy, used, random.Random(1), asked=asked) == waits


@pytest.mark.parametrize(("drawn", "waits"), [(0.0, 10 * S), (0.5, 11.5 * S), (0.999999, timedelta(seconds=12.999997))])
def test_jitter_only_stretches(drawn: float, waits: timedelta) -> None:
    assert retry_delay(RetryPolicy(retries=1, delays=(10 * S,), jitter=0.3), 0, Fixed(drawn)) == waits


delays = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3653))


@given(
    policy=st.builds(
        RetryPolicy,
        retries=st.integers(0, 10_000),
        delays=st.lists(delays, max_size=5).map(tuple),
        backoff=st.floats(1.0, 1e308),
        max_delay=delays,
        jitter=st.floats(0.0, 1.0),
        cap=delays,
    ),
    used=st.integers(0, 10_000),
    asked=st.none() | delays,
    seed=st.integers(0, 99),
)
def test_a_delay_is_bounded_and_repeatable(policy: RetryPolicy, used: int, asked: timedelta | None, seed: int) -> None:
    waits = retry_delay(policy, used, random.Random(seed), asked=asked)
    assert waits == retry_delay(policy, used, random.Random(seed), asked=asked)
    if used >= policy.retries:
        assert waits is None
        return
    assert waits is not None
    longest = max(policy.max_delay, *policy.delays, timedelta(0)) * (1 + policy.jitter)
    if asked is not None:
        longest = max(longest, policy.cap)
        assert waits >= min(asked, policy.cap)
    assert timedelta(0) <= waits <= longest + timedelta(microseconds=1)


@given(backoff=st.floats(1.0, 10.0), first=st.timedeltas(min_value=timedelta(0), max_value=2 * H))
def test_without_jitter_later_delays_are_never_shorter(backoff: float, first: timedelta) -> None:
    policy = RetryPolicy(retries=100, delays=(first,), backoff=backoff)
    waits = [retry_delay(policy, used, random.Random(0)) or timedelta(0) for used in range(100)]
    assert waits == sorted(waits)
