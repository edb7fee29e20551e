"""What every test may use, and what every test run says."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from fakes import FakeClock

# A slow machine is not a fault, and the machine that checks a change has to find the same as the one that made it.
settings.register_profile("person", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "person")
# Commands are read as a pipe reads them, whatever terminal the tests are run in.
os.environ.pop("COLUMNS", None)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run, and why, where nobody can overlook it."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        place = report.longrepr
        reason = str(place[2] if isinstance(place, tuple) else place).removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section("NOT RUN", yellow=True, bold=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} test{'s' if count > 1 else ''} not run: {reason}", yellow=True)
