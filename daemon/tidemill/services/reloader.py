"""The reloader: another configuration in place of the one in force, all of it or nothing.

It reads and tries out off the loop, takes over in one step, and says what changed. What is refused changes nothing:
the set before runs on, and everybody who asks is told why. Requests that come while it works are one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from tidemill.clock import Clock
from tidemill.config import Loaded
from tidemill.config.changes import Changes, between, held_until_restart, stated
from tidemill.config.settings import Settings
from tidemill.core.deployments import FlowKind
from tidemill.core.overrides import Override
from tidemill.errors import ConfigError, StoreUnavailableError
from tidemill.sdk.signatures import Signature
from tidemill.services.catalogue import Catalogue
from tidemill.services.fitness import Fitness
from tidemill.services.scheduler import Replaced, Scheduler
from tidemill.services.slots import SlotKeeper
from tidemill.services.status import Status
from tidemill.services.stranded import Stranded
from tidemill.services.timekeeper import Timekeeper
from tidemill.store import Store, catalogue, variables

AGAIN_S = 5.0  # after what had nothing to do with the files: a full disk, a clock that stands wrong
MOST_NAMES = 50  # of deployments, in one record
ANEW = "nothing has changed in the files; flow code is imported anew"
MOST_FAULTS = 5  # told in the log; the rest is counted

T = TypeVar("T")
logger = logging.getLogger("tidemill.reload")


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """How a reload ended. ``restart`` names keys whose new value holds from the next start on."""

    at: datetime
    reason: str
    outcome: str  # ok or refused
    summary: str
    faults: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    changes: Changes = Changes()

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "reason": self.reason,
            "outcome": self.outcome,
            "summary": self.summary,
            "faults": list(self.faults),
            "restart": list(self.restart),
            "changes": [str(change) for change in self.changes.all],
        }


async def in_thread(call: Callable[[], T]) -> T:
    """Run what blocks beside the loop."""
    return await asyncio.to_thread(call)


class Reloader:
    """Takes over what the files say by now."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        scheduler: Scheduler,
        slots: SlotKeeper,
        stranded: Stranded,
        timekeeper: Timekeeper,
        status: Status,
        clock: Clock,
        loaded: Loaded,
        read: Callable[[], Loaded],
        examine: Callable[[Loaded], Fitness],
        keep: Callable[[Loaded], object],
        off_loop: Callable[[Callable[[], Any]], Awaitable[Any]] = in_thread,
    ) -> None:
        """``loaded`` is in force; ``read`` gives the configuration, ``examine`` asks its code, ``keep`` keeps it as
        the last good one. All three block, and raise: ConfigError, nothing, OSError.
        """
        self._store = store
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._slots = slots
        self._stranded = stranded
        self._timekeeper = timekeeper
        self._status = status
        self._clock = clock
        self._read = read
        self._examine = examine
        self._keep = keep
        self._off_loop = off_loop
        self.loaded = loaded
        self.last: Reloaded | None = None
        self.before_read: Callable[[], None] = lambda: None  # called where ``read`` is
        # Told that it begins, and how it ended; must not wait.
        self.on_begin: list[Callable[[], None]] = []
        self.on_end: list[Callable[[Reloaded], None]] = []
        # Told of the flows' signatures, and that their code is to be imported anew.
        self.on_examined: list[Callable[[Mapping[str, Signature]], None]] = []
        self.on_code: list[Callable[[], None]] = []
        self._at_start = catalogue.settings
        self._warned: set[str] = set()
        self._turn = asyncio.Lock()
        self._reasons: list[str] = []
        self._code = False  # flow code may be other than what is imported
        self._quiet = True  # nobody waits for an answer: that nothing has changed need not be said
        self._coming: asyncio.Task[Reloaded] | None = None
        self._running: set[asyncio.Task[Reloaded]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._closed = False
        status.parts["reload"] = lambda: None if self.last is None else self.last.document()

    # --- asking for it ----------------------------------------------------------------------------------------------

    def request(self, reason: str, *, code: bool = True, only_code: bool = False, quiet: bool = True) -> None:
        """Reload soon. ``code``: flow code is imported anew; ``only_code``: the files are known to be the same.

        ``quiet``: nobody waits to hear that nothing has changed.
        """
        if only_code and self.last is not None and not self.last.ok:
            only_code = False
        if only_code and not _has_code(self._catalogue.settings):
            return
        self._ask(reason, code=code, quiet=quiet)

    async def reload(self, reason: str) -> Reloaded:
        """Reload, files and flow code, and return how it ended. A refusal is an answer, not an error."""
        return await asyncio.shield(self._ask(reason, code=True, quiet=False))

    async def reload_with(self, reason: str, write: Callable[[], Callable[[], None]]) -> Reloaded:
        """Change files and reload, with nothing in between. ``write`` returns what undoes it, where it is refused.

        Both block. Raises OSError.
        """
        async with self._turn:
            undo = await self._off_loop(write)
            ended = await self._carry_out(reason, code=False, quiet=False, trial=True)
            if not ended.ok:
                await self._off_loop(undo)
            return ended

    def in_force(self) -> dict[str, Any]:
        """Return everything that the configuration in force states, as JSON values."""
        return stated(self.loaded.settings)

    def in_order(self, reason: str) -> Reloaded:
        """Return that something is done that changes no file."""
        return Reloaded(at=self._clock.now(), reason=reason, outcome="ok", summary=Changes().summary())

    def close(self) -> None:
        """Take nothing over any more."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        for task in self._running:
            task.cancel()

    def _ask(self, reason: str, *, code: bool, quiet: bool) -> asyncio.Task[Reloaded]:
        self._reasons.append(reason)
        self._code |= code
        self._quiet &= quiet
        if self._coming is None:
            self._coming = asyncio.create_task(self._take_turn(), name="reload")
            self._running.add(self._coming)
            self._coming.add_done_callback(self._running.discard)
        return self._coming

    async def _take_turn(self) -> Reloaded:
        async with self._turn:
            self._coming = None
            reasons, self._reasons = self._reasons, []
            quiet, self._quiet = self._quiet, True
            return await self._carry_out(", ".join(dict.fromkeys(reasons)), code=self._code, quiet=quiet)

    # --- doing it ---------------------------------------------------------------------------------------------------

    async def _carry_out(self, reason: str, *, code: bool, quiet: bool, trial: bool = False) -> Reloaded:
        """Reload. ``trial``: where it is refused the files become what they were, and only who asked is told why."""
        for begins in self.on_begin:
            begins()
        try:
            ended = await self._reload(reason, code=code, quiet=quiet)
        except _Refused as refused:
            ended = self._refused(reason, refused, trial=trial)
        except Exception as error:
            # Whatever it is, what runs goes on.
            logger.exception("the reload failed")
            words = f"the reload failed: {type(error).__name__}; the daemon's log says more"
            ended = self._refused(reason, _Refused([words]), trial=trial)
        if ended.ok or not trial:
            self.last = ended
        for ends in self.on_end:
            ends(ended)
        return ended

    async def _reload(self, reason: str, *, code: bool, quiet: bool) -> Reloaded:
        try:
            loaded: Loaded = await self._off_loop(self._look_and_read)
        except ConfigError as error:
            raise _Refused([str(fault) for fault in error.faults]) from error
        fitness: Fitness = await self._off_loop(lambda: self._examine(loaded))
        if fitness.faults:
            raise _Refused([str(each) for found in fitness.faults.values() for each in found])
        if self._timekeeper.held is not None:
            raise _Refused([f"not now: {self._timekeeper.held}"], again=True)
        before = self._catalogue.settings
        changes: Changes = await self._off_loop(lambda: between(before, loaded.settings))
        try:
            replaced = await self._take_over(loaded)
        except StoreUnavailableError as error:
            raise _Refused([f"not now: {error}"], again=True) from error
        for examined in self.on_examined:
            examined(fitness.signatures)
        if code:
            self._code = False
            for renewed in self.on_code:
                renewed()
        was_broken = bool(self._status.config_faults or self._status.unfit)
        self._status.config_faults, self._status.unfit = (), {}
        await self._stranded.look_after()
        await self._keep_last_good(loaded)
        ended = Reloaded(
            at=self._clock.now(),
            reason=reason,
            outcome="ok",
            summary=ANEW if not changes and code and _has_code(loaded.settings) else changes.summary(),
            restart=held_until_restart(self._at_start, loaded.settings),
            changes=changes,
        )
        self._tell(ended, loaded, replaced, quiet=quiet and not was_broken)
        return ended

    def _look_and_read(self) -> Loaded:
        self.before_read()
        return self._read()

    async def _take_over(self, loaded: Loaded) -> Replaced:
        known = self._catalogue
        coming = Catalogue(
            loaded.settings, instance=known.instance, overrides=known.overrides, compiled=loaded.compiled
        )
        obsolete = coming.obsolete()
        for each in obsolete:
            coming.clear_override(each.kind, each.name, each.key)

        def taken() -> None:
            for each in obsolete:
                known.clear_override(each.kind, each.name, each.key)
            known.replace(loaded.settings, loaded.compiled)
            self.loaded = loaded

        replaced = await self._scheduler.take_over(coming, taken)
        await self._write_down(loaded.settings, obsolete)
        return replaced

    async def _write_down(self, settings: Settings, obsolete: Sequence[Override]) -> None:
        """Keep for who reads the database alone, and for the next start, what is in force by now."""
        now = self._clock.now()
        try:
            for each in obsolete:
                await self._store.write(catalogue.CLEAR_OVERRIDE, (each.kind, each.name, each.key))
            await self._store.write(catalogue.SYNC_CATALOGUE, listing(settings, self._slots, now))
            await self._store.write(variables.STATE_VARIABLES, variables.Stated(values=settings.variables, at=now))
        except StoreUnavailableError as error:
            logger.warning("what the configuration says now is written down later: %s", error)
            self._try_again("the database could not be written")
        for each in obsolete:
            fields = {"event": "override-cleared", "kind": each.kind, "name": each.name, "key": each.key}
            logger.info(
                "%s %s: %s set by hand no longer holds: the file says otherwise now",
                each.kind.replace("_", " "),
                each.name,
                each.key,
                extra={"fields": fields},
            )

    async def _keep_last_good(self, loaded: Loaded) -> None:
        try:
            await self._off_loop(lambda: self._keep(loaded))
        except OSError as error:
            logger.warning("the configuration is in force, but could not be kept for a start without it: %s", error)

    def _try_again(self, reason: str) -> None:
        if self._again is not None:
            self._again.cancel()
        if not self._closed:
            self._again = asyncio.get_running_loop().call_later(AGAIN_S, self.request, reason)

    # --- saying it --------------------------------------------------------------------------------------------------

    def _tell(self, ended: Reloaded, loaded: Loaded, replaced: Replaced, *, quiet: bool) -> None:
        warnings = {str(warning) for warning in loaded.warnings}
        for text in sorted(warnings - self._warned):
            logger.warning("%s", text)
        self._warned = warnings
        changes = ended.changes
        if not changes and quiet:
            logger.debug("%s: nothing has changed", ended.reason)
            return
        fields: dict[str, Any] = {"event": "config-reloaded", "reason": ended.reason}
        for how in ("added", "changed", "removed"):
            if names := changes.names(how):
                fields[how] = list(names[:MOST_NAMES])
        if replaced.taken_back or replaced.planned:
            fields |= {"taken_back": replaced.taken_back, "planned": replaced.planned}
        logger.info("reloaded (%s): %s", ended.reason, ended.summary, extra={"fields": fields})
        if ended.restart:
            logger.warning(
                "%s: the new value holds from the next start on; it is read at a start only", ", ".join(ended.restart)
            )

    def _refused(self, reason: str, refused: _Refused, *, trial: bool) -> Reloaded:
        told = list(refused.faults[:MOST_FAULTS])
        more = len(refused.faults) - len(told)
        words = "; ".join(told) + (f"; and {more} more faults, which `tidemill check` lists" if more else "")
        if trial:
            logger.warning("not done (%s): %s", reason, words)
        else:
            fields = {"event": "config-refused", "reason": reason, "faults": told}
            logger.error("not reloaded (%s), what was in force stays: %s", reason, words, extra={"fields": fields})
            if refused.again:
                self._try_again(reason)
            else:
                self._status.config_faults = refused.faults
        return Reloaded(
            at=self._clock.now(),
            reason=reason,
            outcome="refused",
            summary=words,
            faults=refused.faults,
            restart=held_until_restart(self._at_start, self._catalogue.settings),
        )


class _Refused(Exception):  # noqa: N818 -- an answer; caught where the reload began
    """Why nothing is taken over. ``again``: for a reason that passes by itself."""

    def __init__(self, faults: Sequence[str], *, again: bool = False) -> None:
        super().__init__(faults[0])
        self.faults = tuple(faults)
        self.again = again


def _has_code(settings: Settings) -> bool:
    return any(each.flow.kind is not FlowKind.BUILTIN for each in settings.deployments.values())


def listing(settings: Settings, slots: SlotKeeper, at: datetime) -> catalogue.Listing:
    """Return what the configuration states, for the catalogue in the database."""
    return catalogue.Listing(
        deployments=tuple(settings.deployments.values()),
        work_queues=tuple(settings.work_queues.values()),
        work_pools=tuple(settings.work_pools.values()),
        concurrency_limits=slots.limits,
        blocks=tuple(settings.blocks.values()),
        automations=tuple(settings.automations.values()),
        at=at,
    )
