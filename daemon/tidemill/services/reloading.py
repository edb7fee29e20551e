"""Reading a configuration whole, and a house that takes over another one while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tidemill.config import BrokenConfigError, Loaded, load
from tidemill.errors import ConfigError
from tidemill.flows.builtins import BuiltinFlow
from tidemill.services.fitness import Fitness, builtin_faults, further_faults
from tidemill.services.house import House
from tidemill.services.making import Made
from tidemill.services.reloader import Reloader, in_thread


def read(path: Path, made_dir: Path | None, builtins: Mapping[str, BuiltinFlow], environ: Mapping[str, str]) -> Loaded:
    """Return what the files say; raises ConfigError with every fault, those in built-in flows' parameters, too."""
    try:
        loaded = load(path, made_dir=made_dir, environ=environ)
    except BrokenConfigError as error:
        raise ConfigError([*error.faults, *further_faults(error, builtins)]) from error
    if found := builtin_faults(loaded, builtins):
        raise ConfigError(found)
    return loaded


def reloads(
    house: House,
    *,
    loaded: Loaded,
    made_dir: Path,
    read: Callable[[], Loaded],
    examine: Callable[[Loaded], Fitness],
    keep: Callable[[Loaded], object],
    off_loop: Callable[[Callable[[], Any]], Awaitable[Any]] = in_thread,
) -> Reloader:
    """Give the house a reloader, which is returned, and drop-ins. ``loaded`` is what it runs by."""
    reloader = Reloader(
        store=house.store,
        catalogue=house.catalogue,
        scheduler=house.scheduler,
        slots=house.slots,
        stranded=house.stranded,
        timekeeper=house.timekeeper,
        status=house.status,
        clock=house.clock,
        loaded=loaded,
        read=read,
        examine=examine,
        keep=keep,
        off_loop=off_loop,
    )
    house.reloader = house.control.reloader = reloader
    house.control.made = Made(made_dir=made_dir, reloader=reloader, store=house.store, clock=house.clock)
    return reloader
