"""Ids and names for what runs in this process; a forked child begins a sequence of its own."""

from __future__ import annotations

import os
import random
from datetime import datetime

from tidemill.ids import Ids

_ids: Ids


def _begin() -> None:
    global _ids  # noqa: PLW0603 - one sequence for the process
    # Seeded from the system's source: ids are drawn by the thousand, and need not be secret.
    _ids = Ids(random.Random(Ids().random.getrandbits(128)))  # noqa: S311


_begin()
os.register_at_fork(after_in_child=_begin)


def new_id(now: datetime) -> str:
    """Return a new UUID, ordered by time."""
    return _ids.new(now)


def new_name() -> str:
    """Return a name for a run that people can say."""
    return _ids.name()


def chance() -> random.Random:
    """Return the process's source of chance, for jitter."""
    return _ids.random
