"""Slots of concurrency limits for the code of runs: who asks waits in line, and what is held never outlives its run.

A lease belongs to an attempt. It ends when it is given back, or with the attempt's code, however that ends: then the
worker says so (``end``). Nothing of it is stored: a restarted daemon has no holders, because their code is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from tidemill.core.reports import SlotsQuestion
from tidemill.core.slots import TAG, Claim, SlotLimit, Slots
from tidemill.durations import format_duration
from tidemill.errors import TidemillError
from tidemill.services.catalogue import Catalogue, alike

Attempt = tuple[str, int]  # run id and number


class _Waiting(msgspec.Struct):
    owner: Attempt
    granted: asyncio.Future[None]
    rate: bool


class SlotKeeper:
    """Hands out slots on the loop, in order, and takes them back."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._loop = asyncio.get_running_loop()
        self._limits = self._configured()
        self._slots = Slots(self._limits)
        self._waiting: dict[str, _Waiting] = {}
        self._leases: dict[str, Attempt] = {}
        self._of: dict[Attempt, set[str]] = {}  # leases and claims by attempt
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0

    async def acquire(self, owner: Attempt, question: SlotsQuestion) -> str | None:
        """Return the lease once the slots are the attempt's; None: nothing has to be given back.

        Raises a TidemillError: never to be had, or not within ``timeout_s`` ("timed out …").
        """
        self._last += 1
        key = f"{owner[0]}/{owner[1]}/{self._last}"
        names = tuple(self._name(each) for each in question.names)
        claim = Claim(key=key, names=names, occupy=question.occupy)
        standing = self._slots.claim(claim, strict=question.strict, rate=question.rate)
        if standing is None:
            return None
        waiting = _Waiting(owner, self._loop.create_future(), question.rate)
        self._waiting[key] = waiting
        self._of.setdefault(owner, set()).add(key)
        self._grant()
        try:
            await asyncio.wait({waiting.granted}, timeout=question.timeout_s)
            if not waiting.granted.done():
                after = format_duration(timedelta(seconds=question.timeout_s or 0))
                raise TidemillError(f"timed out after {after}: {self._full(standing)}")
            waiting.granted.result()
        except BaseException:
            self._give_up(key)
            raise
        return None if question.rate else key

    def release(self, owner: Attempt, lease: str) -> None:
        """Take slots back. A lease that is not the attempt's, or gone already, is nothing."""
        if self._leases.get(lease) == owner:
            self._give_up(lease)

    def end(self, owner: Attempt) -> None:
        """Take back all that an attempt holds and end its waiting: its code has ended."""
        for key in list(self._of.get(owner, ())):
            waiting = self._waiting.get(key)
            if waiting is not None and not waiting.granted.done():
                waiting.granted.set_exception(TidemillError("the run that waits for slots has ended"))
                waiting.granted.exception()  # whether or not its code still listens
            self._give_up(key)

    def relimit(self) -> None:
        """Go by the catalogue's present limits."""
        self._limits = self._configured()
        for claim in self._slots.set_limits(self._limits, self._loop.time()):
            waiting = self._waiting.get(claim.key)
            if waiting is None or waiting.granted.done():
                continue
            if all(name not in self._limits or not self._limits[name].active for name in claim.names):
                waiting.granted.set_result(None)
            else:
                text = f"{claim.occupy} slots of {', '.join(claim.names)} can no longer be had: the limits have changed"
                waiting.granted.set_exception(TidemillError(text))
        self._grant()

    @property
    def limits(self) -> tuple[SlotLimit, ...]:
        """Every limit in force, those of tags under their names here."""
        return tuple(self._limits.values())

    def documents(self) -> list[dict[str, Any]]:
        """Return every limit with what is taken of it, in Prefect's words."""
        now = self._loop.time()
        return [
            {
                "name": limit.name,
                "limit": limit.limit,
                "active": limit.active,
                "active_slots": round(self._slots.taken(limit.name, now), 3),
                "slot_decay_per_second": limit.slot_decay_per_second,
                "waiting": self._slots.waiting(limit.name),
                "description": limit.description,
            }
            for limit in self._limits.values()
        ]

    def taken(self, name: str) -> float:
        """Return how many slots of a limit are taken now."""
        return self._slots.taken(name, self._loop.time())

    def _configured(self) -> Mapping[str, SlotLimit]:
        settings = self._catalogue.settings
        tags = {f"{TAG}{tag}": SlotLimit(name=f"{TAG}{tag}", limit=limit) for tag, limit in settings.tag_limits.items()}
        return {**settings.concurrency_limits, **tags}

    def _name(self, asked: str) -> str:
        if asked in self._limits or asked.startswith(TAG):
            return asked
        return next((name for name in self._limits if alike(name) == alike(asked)), asked)

    def _grant(self) -> None:
        """Give what can be given, and look again when time alone frees more."""
        now = self._loop.time()
        for claim in self._slots.grant(now):
            waiting = self._waiting.get(claim.key)
            if waiting is None or waiting.granted.done():
                self._slots.release(claim.key, now)
                continue
            self._leases[claim.key] = waiting.owner
            waiting.granted.set_result(None)
            if waiting.rate:  # nothing is held: the slots come back by themselves
                self._forget(claim.key)
                self._slots.release(claim.key, now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_in = self._slots.next_in(now)
        if next_in is not None:
            self._timer = self._loop.call_later(next_in, self._grant)

    def _give_up(self, key: str) -> None:
        self._forget(key)
        withdrawn = self._slots.withdraw(key)
        if self._slots.release(key, self._loop.time()) or withdrawn:
            self._grant()

    def _forget(self, key: str) -> None:
        waiting = self._waiting.pop(key, None)
        owner = self._leases.pop(key, None) or (waiting.owner if waiting is not None else None)
        if owner is not None and owner in self._of:
            self._of[owner].discard(key)
            if not self._of[owner]:
                del self._of[owner]

    def _full(self, claim: Claim) -> str:
        now = self._loop.time()
        taken = ", ".join(
            f"{name} ({self._slots.taken(name, now):.3g} of {self._limits[name].limit} taken)" for name in claim.names
        )
        return f"{claim.occupy} slot{'' if claim.occupy == 1 else 's'} of {taken} could not be had"
