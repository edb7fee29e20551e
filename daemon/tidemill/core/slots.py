"""Slots of named concurrency limits, and who gets the next ones.

Who asks stands in line at every limit that it names, and gets its slots of all of them at once when it is first in each
line and each has room: nobody overtakes, nobody holds one limit while waiting for another, and a step costs the same
however many wait. Slots of a limit with a decay come back with time alone, ``slot_decay_per_second`` of them a second:
a rate limit (a leaky bucket, after Turner, "New directions in communications", 1986).

``now`` is an argument everywhere: seconds of a clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from tidemill.errors import TidemillError

TAG = "tag:"  # before a tag's name: the tag's limit, counted for task runs
_NEARLY = 1e-9  # what floating point may be off in a level


class SlotLimit(msgspec.Struct, frozen=True, kw_only=True):
    """How many slots a name has. ``slot_decay_per_second`` 0: they come back when they are given back.

    ``active`` False: nobody waits and nothing is counted.
    """

    name: str
    limit: int
    slot_decay_per_second: float = 0.0
    active: bool = True
    description: str | None = None


class SlotsError(TidemillError):
    """Slots are asked for that can never be given. The text says why, and what to change."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for ``occupy`` slots of each of ``names``. ``key`` is the claim's own name, given by who makes it."""

    key: str
    names: tuple[str, ...]
    occupy: int = 1


class _Line:
    """One limit: what is taken of it, and who waits."""

    __slots__ = ("at", "limit", "taken", "waiting")

    def __init__(self, limit: SlotLimit) -> None:
        self.limit = limit
        self.taken = 0.0
        self.at = 0.0  # when ``taken`` was right
        self.waiting: deque[Claim] = deque()

    def taken_at(self, now: float) -> float:
        decay = self.limit.slot_decay_per_second
        return max(0.0, self.taken - (now - self.at) * decay) if decay else self.taken

    def wait_for(self, occupy: int, now: float) -> float | None:
        """Return in how many seconds there is room by decay: 0 for now, None for never by itself."""
        missing = self.taken_at(now) + occupy - self.limit.limit
        if missing <= _NEARLY:
            return 0.0
        return missing / self.limit.slot_decay_per_second if self.limit.slot_decay_per_second else None

    def take(self, occupy: int, now: float) -> None:
        self.taken, self.at = self.taken_at(now) + occupy, now

    def give_back(self, occupy: int, now: float) -> None:
        if not self.limit.slot_decay_per_second:
            self.taken, self.at = max(0.0, self.taken - occupy), now


class Slots:
    """All limits with their lines. Changed by its methods only; the decisions are pure."""

    def __init__(self, limits: Mapping[str, SlotLimit]) -> None:
        self._lines = {name: _Line(limit) for name, limit in limits.items() if limit.active}
        self._waiting: dict[str, Claim] = {}
        self._held: dict[str, Claim] = {}

    def claim(self, claim: Claim, *, strict: bool = False, rate: bool = False) -> Claim | None:
        """Stand in line with a claim and return it, cut to the names that have a limit; None: there is nothing to wait
        for. Who gets slots now says :meth:`grant`.

        Raises SlotsError: more slots than there are, a name without a limit where ``strict``, a limit that does not
        decay where a ``rate`` is asked for.
        """
        if claim.occupy < 1:
            raise SlotsError(f"{claim.occupy} slots cannot be occupied; ask for 1 or more")
        names = tuple(dict.fromkeys(claim.names))
        unknown = [name for name in names if name not in self._lines]
        if unknown and strict:
            raise SlotsError(f"there is no concurrency limit {', '.join(unknown)}; {_where(unknown[0])}")
        limits = [self._lines[name].limit for name in names if name in self._lines]
        for limit in limits:
            if claim.occupy > limit.limit:
                raise SlotsError(
                    f"{claim.occupy} slots of {limit.name} are asked for, and it has {limit.limit}; "
                    "ask for fewer, or raise its limit"
                )
            if rate and not limit.slot_decay_per_second:
                raise SlotsError(
                    f"{limit.name} is no rate limit: its slots do not come back by themselves; "
                    f"set slot_decay_per_second in [concurrency_limits.{limit.name}]"
                )
        if not limits:
            return None
        standing = Claim(key=claim.key, names=tuple(limit.name for limit in limits), occupy=claim.occupy)
        self._waiting[standing.key] = standing
        for name in standing.names:
            self._lines[name].waiting.append(standing)
        return standing

    def grant(self, now: float) -> list[Claim]:
        """Give slots to everybody who is first in line where there is room; return them, in order of their lines."""
        granted: list[Claim] = []
        looked: deque[str] = deque(name for name, line in self._lines.items() if line.waiting)
        while looked:
            line = self._lines[looked.popleft()]
            while line.waiting:
                first = line.waiting[0]
                lines = [self._lines[name] for name in first.names]
                if any(each.waiting[0] is not first or each.wait_for(first.occupy, now) != 0.0 for each in lines):
                    break
                for each in lines:
                    each.waiting.popleft()
                    each.take(first.occupy, now)
                    if each is not line and each.waiting:
                        looked.append(each.limit.name)
                del self._waiting[first.key]
                self._held[first.key] = first
                granted.append(first)
        return granted

    def release(self, key: str, now: float) -> bool:
        """Give back what a claim holds; False: it holds nothing."""
        held = self._held.pop(key, None)
        if held is None:
            return False
        for name in held.names:
            if name in self._lines:
                self._lines[name].give_back(held.occupy, now)
        return True

    def withdraw(self, key: str) -> bool:
        """Leave the lines; False: the claim does not wait."""
        claim = self._waiting.pop(key, None)
        if claim is None:
            return False
        for name in claim.names:
            self._lines[name].waiting.remove(claim)
        return True

    def next_in(self, now: float) -> float | None:
        """Return in how many seconds :meth:`grant` may give more by decay alone; None: only when slots come back."""
        waits = []
        for line in self._lines.values():
            if not line.waiting:
                continue
            first = line.waiting[0]
            lines = [self._lines[name] for name in first.names]
            each = [found.wait_for(first.occupy, now) for found in lines]
            if all(found.waiting[0] is first for found in lines) and None not in each:
                waits.append(max(wait for wait in each if wait is not None))
        return min(waits, default=None)

    def taken(self, name: str, now: float) -> float:
        """Return how many slots of a limit are taken; 0 for a name without a limit."""
        return self._lines[name].taken_at(now) if name in self._lines else 0.0

    def waiting(self, name: str) -> int:
        """Return how many wait for slots of a limit."""
        return len(self._lines[name].waiting) if name in self._lines else 0

    def set_limits(self, limits: Mapping[str, SlotLimit], now: float) -> list[Claim]:
        """Go by other limits from now on; what is held stays held. Return who waits for what is no more or too little.

        They wait no longer, and are to be told: either nothing holds them up, or they can never be given what they ask.
        """
        before = self._lines
        self._lines = {name: _Line(limit) for name, limit in limits.items() if limit.active}
        for name, line in self._lines.items():
            if name in before:
                line.taken, line.at = before[name].taken_at(now), now
        claims, self._waiting = list(self._waiting.values()), {}
        left: list[Claim] = []
        for claim in claims:
            if all(name in self._lines and claim.occupy <= self._lines[name].limit.limit for name in claim.names):
                self._waiting[claim.key] = claim
                for name in claim.names:
                    self._lines[name].waiting.append(claim)
            else:
                left.append(claim)
        return left


def _where(name: str) -> str:
    if name.startswith(TAG):
        return f"add {name.removeprefix(TAG)} = 5 to [tag_limits]"
    return f"add [concurrency_limits.{name}] with its limit"
