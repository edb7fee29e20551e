"""Histograms: a value counts for the first bound that is no smaller."""

from __future__ import annotations

import math

from tidemill.core.histograms import Histogram


def test_a_value_on_a_bound_belongs_to_it_and_one_beyond_all_to_infinity() -> None:
    """Prometheus' `le` is "less or equal"."""
    found = Histogram((1, 5))
    for value in (0, 1, 1.001, 5, 5.001, 1e9):
        found.observe(value)
    assert list(found.up_to()) == [(1, 2), (5, 4), (math.inf, 6)]
    assert found.count == 6
    assert found.sum == 0 + 1 + 1.001 + 5 + 5.001 + 1e9


def test_with_nothing_observed_every_bound_has_none() -> None:
    assert list(Histogram((1,)).up_to()) == [(1, 0), (math.inf, 0)]
