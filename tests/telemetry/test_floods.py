"""A flood of lines is cut to a rate, and what was cut is counted and said once (P13)."""

from fakes import FakeClock
from tidemill.telemetry.floods import FloodGate


def passed(gate: FloodGate, count: int) -> int:
    return sum(gate.pass_one()[0] for _ in range(count))


def test_a_burst_passes_and_then_the_rate(clock: FakeClock) -> None:
    gate = FloodGate(rate=10, burst=100, clock=clock)
    assert passed(gate, 150) == 100
    clock.advance(1)
    assert passed(gate, 150) == 10
    clock.advance(3600)
    assert passed(gate, 150) == 100


def test_what_was_dropped_is_told_once_before_the_next_line(clock: FakeClock) -> None:
    gate = FloodGate(rate=1, burst=1, clock=clock)
    assert [gate.pass_one() for _ in range(4)] == [(True, 0), (False, 0), (False, 0), (False, 0)]
    clock.advance(1)
    assert gate.pass_one() == (True, 3)
    assert gate.close() == 0


def test_what_was_dropped_last_is_told_at_the_close(clock: FakeClock) -> None:
    gate = FloodGate(rate=1, burst=1, clock=clock)
    passed(gate, 6)
    assert gate.close() == 5
    assert gate.close() == 0


def test_a_rate_of_nothing_is_no_limit(clock: FakeClock) -> None:
    gate = FloodGate(rate=0, burst=1, clock=clock)
    assert passed(gate, 5000) == 5000


def test_a_slow_rate_lets_a_line_pass_at_last(clock: FakeClock) -> None:
    gate = FloodGate(rate=0.5, burst=0, clock=clock)
    assert passed(gate, 3) == 1
    clock.advance(1)
    assert passed(gate, 3) == 0
    clock.advance(1)
    assert passed(gate, 3) == 1
