"""The watcher: sees that the configuration or the flows' code was edited, and asks for a reload.

Editors write beside a file and rename, package managers swap links, mounts come and go: so folders are watched, not
files, and what has happened there is only a reason to look. The look compares footprints, and so does a slow one that
needs no reason, for file systems that tell nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from tidemill.clock import Clock
from tidemill.config.footprint import Footprint, footprint
from tidemill.config.settings import DaemonSettings
from tidemill.daemon.inotify import Inotify
from tidemill.services.reloader import Reloader
from tidemill.services.wake import Wake

QUIET_S = 0.1  # after the last of what happens to the files: an editor is done by then
PATIENCE_S = 1.0  # of what goes on and on, a look is taken as often
SLOW_S = 15.0
TICK_NS = 10_000_000  # by which a file's times may lag behind the clock

logger = logging.getLogger("tidemill.reload")


class Watcher:
    """Looks at the files whenever the kernel says that something happened to them, and every now and then."""

    def __init__(
        self,
        *,
        config: Path,
        made_dir: Path,
        known: Callable[[], DaemonSettings],
        reloader: Reloader,
        clock: Clock,
        read_at_ns: int,
        slow_s: float = SLOW_S,
    ) -> None:
        """``read_at_ns``: when the start began to read the files, on the wall clock."""
        self._config = config
        self._made_dir = made_dir
        self._known = known
        self._reloader = reloader
        self._clock = clock
        self._read_at_ns = read_at_ns
        self._slow_s = slow_s
        self._wake = Wake()
        self._heard_at = 0.0
        self._seen: Footprint | None = None  # what the last reload found
        self._inotify: Inotify | None = None
        self._code_folders: frozenset[Path] = frozenset()
        reloader.before_read = self.look

    def look(self) -> None:
        """Take the files as they are now for seen. Blocks; called in a thread, before they are read."""
        self._seen = footprint(self._config, self._made_dir, self._known())

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            self._inotify = Inotify(self._hear)
        except OSError as error:
            self._without(error)
        try:
            while True:
                try:
                    now = await self._found()
                    if self._follow(now):
                        now = await self._found()  # what happened before the watch began
                        self._follow(now)
                    self._compare(now)
                except Exception:
                    logger.exception("the files could not be looked at; they are again in %g s", self._slow_s)
                if await self._wake.wait(self._slow_s):
                    await self._settled()
        finally:
            if self._inotify is not None:
                self._inotify.close()

    async def _found(self) -> Footprint:
        return await asyncio.to_thread(footprint, self._config, self._made_dir, self._known())

    def _hear(self, folder: Path, name: str, is_folder: bool) -> None:
        if folder in self._code_folders and not is_folder and not name.endswith((".py", ".toml")):
            return  # what flows write beside themselves
        self._heard_at = self._clock.monotonic()
        self._wake.set()

    async def _settled(self) -> None:
        """Wait until the files are left alone, or for as long as there is patience."""
        began = self._clock.monotonic()
        while (now := self._clock.monotonic()) < min(self._heard_at + QUIET_S, began + PATIENCE_S):
            await self._clock.sleep(min(self._heard_at + QUIET_S, began + PATIENCE_S) - now)

    def _follow(self, now: Footprint) -> bool:
        """Watch the folders where the next change will show itself; say whether some were not watched before.

        Of a folder that is missing, the one above it.
        """
        if self._inotify is None:
            return False
        folders = dict.fromkeys((*now.folders, *now.code_folders))
        self._code_folders = now.code_folders - now.folders
        try:
            return self._inotify.watch([_there(folder) for folder in folders])
        except OSError as error:
            self._inotify.close()
            self._inotify = None
            self._without(error)
            return False

    def _without(self, error: OSError) -> None:
        logger.warning(
            "edits are noticed within %g s instead of at once: the kernel watches no folders for us (%s)",
            self._slow_s,
            error.strerror,
        )

    def _compare(self, now: Footprint) -> None:
        seen = self._seen
        if seen is None:  # the start has read them; not what has been edited since
            fresh = self._read_at_ns - TICK_NS
            seen = now._replace(
                config=tuple(each for each in now.config if max(each[4:]) < fresh),
                code=tuple(each for each in now.code if max(each[4:]) < fresh),
            )
        config, code = now.config != seen.config, now.code != seen.code
        self._seen = now
        if config or code:
            why = "the file was edited" if config else "flow code was edited"
            self._reloader.request(why, code=code, only_code=not config, quiet=not code)


def _there(folder: Path) -> Path:
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
