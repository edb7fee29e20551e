"""Writing messages: a notice and what the database knows of it become what a channel is handed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import tidemill
from tidemill.clock import Clock
from tidemill.core.channels import Channel
from tidemill.core.messages import (
    FAILURES,
    IN_FULL,
    LINES,
    LISTED,
    SHORT,
    Place,
    Text,
    Told,
    clean,
    compose,
    document,
    latest,
)
from tidemill.core.notices import Message, Notice, NoticeKind, Waiting
from tidemill.core.schedules import fires
from tidemill.core.zones import zone
from tidemill.errors import TidemillError
from tidemill.ids import Ids
from tidemill.services.catalogue import Catalogue
from tidemill.services.outside import Outside
from tidemill.store import Store, logs
from tidemill.store import notices as stored
from tidemill.store import runs as stored_runs

LONGEST_LINE = 500
READ = 3 * LINES  # lines of output; those of a crash are mostly tidemill's own
_ENGINE = re.compile(rf'  File "{re.escape(str(Path(tidemill.__file__).parent))}/[^"]*", line \d+ in ')
MOST_FACTS = LISTED  # notices of one message that the database is asked about


class Writer:
    """Writes the messages of all channels."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        ids: Ids,
        outside: Outside,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._ids = ids
        self._host = outside.host
        self._redact = outside.redact

    async def write(self, channel: Channel, items: Sequence[Waiting], lost: int = 0) -> Message:
        """Return one message that tells all of the items."""
        notices = [items[number].notice for number in latest([item.notice for item in items])]
        output = sum(notice.kind in FAILURES for notice in notices) <= IN_FULL
        told = [
            await self._told(notice, output=output, ask=number < MOST_FACTS) for number, notice in enumerate(notices)
        ]
        place = self._place()
        found = compose(told, place, lost=lost)
        return message(items[0].id, told, found, place, instance=self._catalogue.instance, redact=self._redact)

    def test(self, channel: Channel) -> Message:
        """Return a message that shows that a channel works."""
        return test_message(
            channel,
            self._place(),
            self._ids.new(self._clock.now()),
            instance=self._catalogue.instance,
            redact=self._redact,
        )

    def _place(self) -> Place:
        return Place(host=self._host, zone=zone(self._catalogue.settings.daemon.timezone), now=self._clock.now())

    async def _told(self, notice: Notice, *, output: bool, ask: bool) -> Told:
        if not ask or (notice.run is None and notice.deployment is None):
            return Told(notice=notice)
        output = output and notice.kind in FAILURES
        try:
            told = await self._store.read(lambda connection: _facts(connection, notice, output=output))
        except TidemillError:
            told = Told(notice=notice)  # a message without facts is better than none
        deployment = self._catalogue.deployments.get(notice.deployment or "")
        if deployment is None:
            return told
        paused = self._catalogue.paused("deployment", deployment.name)
        return Told(
            notice=notice,
            run=told.run,
            lines=told.lines,
            cut=told.cut,
            last_success=told.last_success,
            next_due=None if paused else self._next_due(deployment.name),
            paused=paused,
        )

    def _next_due(self, name: str) -> datetime | None:
        now = self._clock.now()
        deployment = self._catalogue.deployments[name]
        found = [
            due
            for compiled in self._catalogue.schedules(deployment)
            if compiled.schedule.active and not compiled.is_reboot
            for due in fires(compiled, now, limit=1)
        ]
        return min(found, default=None)


def test_message(
    channel: Channel, place: Place, id_: str, *, instance: str | None, redact: Callable[[Any], Any]
) -> Message:
    """Return a message that shows that a channel works."""
    heard = ", ".join(sorted(channel.hears)) if channel.hears is not None else "everything"
    notice = Notice(
        kind=NoticeKind.TEST,
        subject=f"tidemill can reach you from {place.host}",
        lines=(
            f'This is a test of notify channel "{channel.name}" ({channel.type}), which hears of {heard}.',
            "Nothing is wrong. When something is, this is where you will read of it.",
        ),
        at=place.now,
    )
    told = [Told(notice=notice)]
    return message(id_, told, compose(told, place), place, instance=instance, redact=redact)


def message(
    id_: str,
    told: Sequence[Told],
    found: Text,
    place: Place,
    *,
    instance: str | None,
    redact: Callable[[Any], Any],
) -> Message:
    """Return what was composed as it is sent, with its document for programs, every secret in it masked."""
    notices = [document(each) for each in told[:LISTED]]
    first = notices[0]
    whole = {
        "id": id_,
        "source": f"tidemill {tidemill.__version__}",
        "host": place.host,
        "instance_id": instance,
        "at": place.now.isoformat().replace("+00:00", "Z"),
        "kind": first["kind"] if len(told) == 1 else "several",
        "subject": found.subject,
        "text": found.text,
        "short": found.text if len(found.text) <= SHORT else f"{found.text[: SHORT - 1]}…",
        "deployment": first["deployment"],
        "run": first["run"]["id"] if first["run"] else None,
        "reason": first["reason"],
        "count": len(told),
        "notices": notices,
    }
    return Message(id=id_, at=place.now, subject=redact(found.subject), text=redact(found.text), document=redact(whole))


def _facts(connection: sqlite3.Connection, notice: Notice, *, output: bool) -> Told:
    run = None if notice.run is None else stored_runs.get(connection, notice.run)
    shown: list[str] = []
    cut = 0
    if run is not None and output:
        rows = logs.tail_of_run(connection, run.seq, limit=READ)
        whole = [_bounded(line) for each in rows for line in each.row.message.splitlines() or [""]]
        shown = without_engine(whole)[-LINES:]
        cut = len(whole) - len(shown)
    success = None if notice.deployment is None else stored.last_success(connection, notice.deployment)
    lines = tuple(shown) if run is not None and output else None
    return Told(notice=notice, run=run, lines=lines, cut=cut, last_success=success)


def without_engine(lines: Sequence[str]) -> list[str]:
    """Return lines without tidemill's own frames in the stack that a crash left: what crashed is above them."""
    return [line for line in lines if not _ENGINE.match(line)]


def _bounded(line: str) -> str:
    found = clean(line)
    return found if len(found) <= LONGEST_LINE else f"{found[:LONGEST_LINE]}…"
