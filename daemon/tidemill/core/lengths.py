"""How long simulated runs take and how they end: as given, as those on record did, or by a guess."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from tidemill.core.states import StateType

# Where nothing is given and nothing is on record.
GUESS = timedelta(seconds=1)


class Attempt(NamedTuple):
    """One attempt on record: how long it took, and COMPLETED, FAILED or CRASHED."""

    lasted: timedelta
    ended: StateType


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """``given`` goes before ``recorded``, by deployment; both before ``others``. None: a guess."""

    given: Mapping[str, timedelta] = msgspec.field(default_factory=dict)
    recorded: Mapping[str, Sequence[Attempt]] = msgspec.field(default_factory=dict)
    others: timedelta | None = None
    seed: int = 0

    def draw(self, deployment: str, due: datetime | None, attempt: int, *, timeout: timedelta | None = None) -> Attempt:
        """Return how an attempt goes. The same attempt of the same seed always goes alike, whatever went before."""
        given = self.given.get(deployment)
        if given is None:
            known = self.recorded.get(deployment)
            if known:
                source = random.Random(f"{self.seed}/{deployment}/{due}/{attempt}")  # noqa: S311 - a seed is the point
                return known[int(source.random() * len(known))]
        lasted = next(each for each in (given, self.others, self.guess(timeout)) if each is not None)
        return Attempt(lasted, StateType.COMPLETED)

    @staticmethod
    def guess(timeout: timedelta | None) -> timedelta:
        """Return how long a run takes of which nothing is known: a guess must not make it time out."""
        return GUESS if timeout is None else min(GUESS, timeout / 2)
