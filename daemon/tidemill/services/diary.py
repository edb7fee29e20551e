"""The diary's keeper: what the daemon logs of itself also goes into the database, to be read when it is down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Any

import msgspec

from tidemill.clock import Clock
from tidemill.core.daemon_log import DaemonLine
from tidemill.sdk.logging import OutsideRuns
from tidemill.store import Store, daemon_log
from tidemill.telemetry.entries import Entry, of_record, one_line_error, redacted
from tidemill.telemetry.floods import FloodGate
from tidemill.telemetry.redaction import Redactor

LEAST = logging.INFO
BURST, RATE = 500, 20  # lines that may come at once, and lines a second in a flood
HELD = 200  # lines kept while the database cannot be written
LONGEST_FIELDS = 32 * 1024  # bytes


class Diary(logging.Handler):
    """Takes the records of the daemon's own loggers, from any thread, and hands them to the store on its loop.

    Never raises and never waits. While the store cannot be written, the last lines are held back for when it can.
    """

    def __init__(self, *, store: Store, clock: Clock, redactor: Redactor) -> None:
        super().__init__(LEAST)
        self._store = store
        self._clock = clock
        self._redactor = redactor
        self._gate = FloodGate(rate=RATE, burst=BURST, clock=clock)
        self._pending: deque[DaemonLine] = deque(maxlen=BURST + HELD)
        self._loop = asyncio.get_running_loop()
        self._called = False
        self.addFilter(OutsideRuns())

    def open(self) -> None:
        """Begin to listen."""
        logging.getLogger("tidemill").addHandler(self)

    def close(self) -> None:
        """Hear no more, and hand over what is pending; before the store is closed."""
        logging.getLogger("tidemill").removeHandler(self)
        if dropped := self._gate.close():
            self._pending.append(self._dropped(dropped))
        self._hand_over()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            admitted, dropped = self._gate.pass_one()
            if dropped:
                self._pending.append(self._dropped(dropped))
            if not admitted:
                return
            entry = of_record(record, self._clock.now())
            # JSON first: the redactor would tell an instant in another way where a secret is known.
            entry = msgspec.structs.replace(entry, fields=_plain(entry.fields))
            self._pending.append(_line(redacted(entry, self._redactor), record.name))
        except Exception as error:  # arguments that do not fit must not end the code that logs them
            said = f"a record of {record.name} could not be kept: {one_line_error(error)}"
            line = DaemonLine(at=self._clock.now(), level=logging.ERROR, message=self._redactor.text(said))
            self._pending.append(line)
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody takes lines any more
                self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._called = False
        if self._store.degraded is not None:
            while len(self._pending) > HELD:
                self._pending.popleft()
            return
        while self._pending:
            self._store.post(daemon_log.NOTE, self._pending.popleft())

    def _dropped(self, count: int) -> DaemonLine:
        said = f"{count} line{'' if count == 1 else 's'} dropped"
        return DaemonLine(at=self._clock.now(), level=logging.WARNING, message=said, fields={"dropped": count})


def _line(entry: Entry, logger: str) -> DaemonLine:
    fields = dict(entry.fields)
    event, deployment = fields.pop("event", None), fields.get("deployment")
    if isinstance(deployment, str):
        del fields["deployment"]
    if entry.error is not None:
        fields |= {"error": _text(entry.error), "traceback": _text(entry.traceback or "")}
    return DaemonLine(
        at=entry.at,
        level=entry.level,
        event=str(event) if event else None,
        deployment=deployment if isinstance(deployment, str) else None,
        message=_text(entry.message),
        fields=fields,
        logger=logger,
    )


def _plain(fields: dict[Any, Any]) -> dict[str, Any]:
    """Return the fields as JSON values; what has no such form, by its text."""
    try:
        encoded = msgspec.json.encode(fields, enc_hook=str)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        encoded = msgspec.json.encode({_text(str(key)): _text(repr(value)) for key, value in fields.items()})
    if len(encoded) > LONGEST_FIELDS:
        return {"cut": f"{len(encoded)} bytes of fields were too long to be kept"}
    plain: dict[str, Any] = msgspec.json.decode(encoded)
    return plain


def _text(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
