"""What every end-to-end test may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemons import Daemon, daemons


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """``make(config)``: a daemon with that configuration, not started yet."""
    with daemons(tmp_path) as found:
        yield found
