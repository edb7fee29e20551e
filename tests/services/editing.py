"""Somebody who edits the file of a running daemon: ``from editing import JOB, MINUTELY, Editor, ran``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from stage import NOON, World

from tidemill.config import Loaded
from tidemill.errors import Fault
from tidemill.flows.builtins import builtins
from tidemill.services.fitness import Fitness
from tidemill.services.house import House
from tidemill.services.reloader import Reloaded, Reloader
from tidemill.services.reloading import read, reloads

JOB = '[deployments.job]\ncommand = "true"\n'
MINUTELY = JOB + 'interval = "1m"\n'


async def inline(call: Callable[[], Any]) -> Any:
    return call()


class Editor:
    """Somebody who edits the file of a running daemon."""

    def __init__(self, world: World, house: House, config: str) -> None:
        self.file = world.folder / "tidemill.toml"
        self.reads = 0
        self.unfit: tuple[Fault, ...] = ()
        self.kept: list[Loaded] = []
        self.reloader: Reloader = reloads(
            house,
            loaded=world.loaded(config),
            made_dir=world.folder / "made.d",
            read=self._read,
            examine=lambda loaded: Fitness(faults={"job": self.unfit} if self.unfit else {}),
            keep=self.kept.append,
            off_loop=inline,
        )

    def _read(self) -> Loaded:
        self.reads += 1
        return read(self.file, self.file.parent / "made.d", builtins(), {})

    async def edit(self, text: str) -> Reloaded:
        self.file.write_text(text)
        return await self.reloader.reload("edited")


def dues(runs: list[Any]) -> list[float]:
    """When runs were due, in minutes after noon."""
    return [(run.due - NOON) / timedelta(minutes=1) for run in runs if run.due is not None]


def ran(runs: list[Any]) -> list[float]:
    return dues([run for run in runs if run.start_time is not None])
