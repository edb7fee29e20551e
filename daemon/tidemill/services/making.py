"""What people make by a command: deployments, queues, pools and variables, kept as drop-ins beside their own files.

A thing is taken over like any other edit of the files, or not made at all. What a person's file states is the person's
to change: a command that would shadow it is refused and told where it stands.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tidemill.clock import Clock
from tidemill.config import Loaded, made
from tidemill.config.documents import Origin, dotted
from tidemill.config.made import NOUNS
from tidemill.errors import NotFoundError, TidemillError
from tidemill.services.reloader import Reloaded, Reloader
from tidemill.store import Store, variables

logger = logging.getLogger("tidemill.made")


class Made:
    """The drop-ins of a running daemon."""

    def __init__(self, *, made_dir: Path, reloader: Reloader, store: Store, clock: Clock) -> None:
        self.made_dir = made_dir
        self._reloader = reloader
        self._store = store
        self._clock = clock

    def documents(self) -> list[dict[str, Any]]:
        """Return all that was made, and which of it a person's file states by now."""
        loaded = self._reloader.loaded
        return [
            {
                "table": table,
                "name": name,
                "toml": made.text(table, {name: value}),
                "shadowed_by": stated_at(loaded, table, name),
            }
            for table, values in made.everything(self.made_dir).items()
            for name, value in values.items()
        ]

    async def put(self, table: str, name: str, value: Any, *, by: str) -> Reloaded:
        """Make something, or make it anew. Raises TidemillError that says why not; then nothing has changed."""
        if table not in NOUNS:
            raise TidemillError(f"[{table}] is not made by commands; write it into a file")
        refuse_stated(self._reloader.loaded, table, name)
        reason = f"{NOUNS[table]} {name}, made by {by}"
        ended = await self._reloader.reload_with(reason, lambda: made.put(self.made_dir, table, name, value))
        self._check(ended)
        if table == "variables":
            # A value that code has set holds until the file's changes, and this may be the same as before.
            await self._store.write(variables.UNSET_VARIABLE, (name, self._clock.now()))
        return ended

    async def remove(self, table: str, name: str, *, by: str) -> Reloaded:
        """Remove what was made. Raises TidemillError; NotFoundError where a person's file has it, or nobody."""
        if table not in NOUNS or name not in made.of_table(self.made_dir, table):
            unset = table == "variables" and await self._store.write(
                variables.UNSET_VARIABLE, (name, self._clock.now())
            )
            if unset:
                return self._reloader.in_order(f"variable {name}, unset by {by}")
            raise NotFoundError(not_made(self._reloader.loaded, table, name))
        reason = f"{NOUNS[table]} {name}, removed by {by}"
        ended = await self._reloader.reload_with(reason, lambda: made.remove(self.made_dir, table, name))
        self._check(ended)
        return ended

    def _check(self, ended: Reloaded) -> None:
        if not ended.ok:
            raise TidemillError("not done, the configuration would not hold:\n  " + "\n  ".join(ended.faults))


def stated_at(loaded: Loaded, table: str, name: str) -> str | None:
    """Return where a person's file states something, ``file:line``; None: none does."""
    document = loaded.stated_in(table, name)
    if document is None or document.origin is Origin.MADE:
        return None
    file, line, _ = loaded.locate(dotted((table, name)))
    return f"{file}:{line}"


def refuse_stated(loaded: Loaded, table: str, name: str) -> None:
    """Raise TidemillError where a person's file states it already."""
    where = stated_at(loaded, table, name)
    if where is not None:
        raise TidemillError(f"{where} states {NOUNS[table]} {name}; change it there")


def not_made(loaded: Loaded, table: str, name: str) -> str:
    """Return why something cannot be removed."""
    noun = NOUNS.get(table, table)
    where = stated_at(loaded, table, name)
    if where is not None:
        return f"{noun} {name} stands in {where}; delete it there"
    return f"no {noun} {name} was made by a command"
