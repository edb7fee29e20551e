"""A house that takes over another configuration while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tidemill.config import Loaded
from tidemill.services.fitness import Fitness
from tidemill.services.house import House
from tidemill.services.reloader import Reloader, in_thread


def reloads(
    house: House,
    *,
    read: Callable[[], Loaded],
    examine: Callable[[Loaded], Fitness],
    keep: Callable[[Loaded], object],
    off_loop: Callable[[Callable[[], Any]], Awaitable[Any]] = in_thread,
) -> Reloader:
    """Give the house a reloader, which :class:`Reloader` tells of, and return it."""
    reloader = Reloader(
        store=house.store,
        catalogue=house.catalogue,
        scheduler=house.scheduler,
        slots=house.slots,
        stranded=house.stranded,
        timekeeper=house.timekeeper,
        status=house.status,
        clock=house.clock,
        read=read,
        examine=examine,
        keep=keep,
        off_loop=off_loop,
    )
    house.reloader = house.control.reloader = reloader
    return reloader
