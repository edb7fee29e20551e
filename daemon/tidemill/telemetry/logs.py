"""The daemon's log: events of runs and records of stdlib logging, in one form, through one sink, without secrets."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import TextIO

from tidemill import systemd
from tidemill.clock import Clock
from tidemill.core.events import Event
from tidemill.core.runs import FlowRun, LogRow
from tidemill.telemetry.entries import LONGEST_TEXT, Entry, of_record, one_line_error, redacted
from tidemill.telemetry.files import FileSink
from tidemill.telemetry.floods import FloodGate
from tidemill.telemetry.formats import Format, HumanFormat, JsonFormat, LogfmtFormat, journal
from tidemill.telemetry.journal import SOCKET, JournalForm, JournalSink
from tidemill.telemetry.redaction import Redactor
from tidemill.telemetry.sentences import entries_of, entry_of_output
from tidemill.telemetry.sink import DescriptorSink, Sink, StreamSink

FORMATS = ("auto", "human", "logfmt", "json")
LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
# Stdlib records that may come at once; a burst beyond it is cut at the rate of ``[log] max_lines_per_second``.
BURST = 1_000
# The loggers that have a level of their own; None: the configured one. httpx tells each request with its URL at info: a
# run's own business, and the URL may carry a secret.
_LOGGERS: Mapping[str, int | None] = {"tidemill": None, "httpx": logging.WARNING, "httpcore": logging.WARNING}


class EventLog:
    """Writes each group of events in one write. Never waits; may be used from any thread.

    ``handler`` is the stdlib logging handler that feeds the same sink.
    """

    def __init__(
        self,
        sink: Sink,
        form: Format,
        *,
        redactor: Redactor,
        clock: Clock,
        level: int = logging.INFO,
        max_lines_per_second: float = 1000,
    ) -> None:
        self._outlets: tuple[Outlet, ...] = (Outlet(form, sink, redactor),)
        self._clock = clock
        self._least = level
        gate = FloodGate(rate=max_lines_per_second, burst=max(BURST, max_lines_per_second), clock=clock)
        self.handler = LogHandler(self, gate, clock)
        self.handler.setLevel(level)

    @property
    def level(self) -> int:
        """The least level that is written."""
        return self._least

    def set_level(self, level: int) -> None:
        """Write what is at least of ``level`` from now on; libraries are heard from warnings on, at DEBUG from info."""
        self._least = level
        self.handler.setLevel(level)
        logging.getLogger().setLevel(logging.INFO if level <= logging.DEBUG else max(logging.WARNING, level))
        for name, least in _LOGGERS.items():
            # The daemon's diary hears at info, however quiet the log is; the handler's own level holds for the log.
            logging.getLogger(name).setLevel(min(logging.INFO, level) if least is None else least)

    @property
    def dropped(self) -> int:
        """How many lines nobody took off our hands."""
        return sum(outlet.sink.dropped for outlet in self._outlets)

    def problems(self) -> list[str]:
        """Return why the file gets no lines now, if so."""
        sinks = (outlet.sink for outlet in self._outlets)
        return [sink.problem for sink in sinks if isinstance(sink, FileSink) and sink.problem is not None]

    def write(self, events: Sequence[Event]) -> None:
        """Tell a committed group's events."""
        self.put([entry for event in events for entry in entries_of(event, self._least)])

    def output(self, lines: Sequence[tuple[FlowRun, LogRow]]) -> None:
        """Tell what runs printed and logged."""
        self.put([entry_of_output(run, row) for run, row in lines if row.level >= self._least])

    def put(self, entries: Sequence[Entry]) -> None:
        """Write entries as they are, whatever their level."""
        if entries:
            for outlet in self._outlets:
                outlet.put(entries)

    def to_file(self, path: str | None, *, format: str = "auto", zone: tzinfo | None = None) -> None:
        """Write to a file, too, from now on, instead of to an earlier one; None: to none. Raises LogFileError."""
        first, *earlier = self._outlets
        added: tuple[Outlet, ...] = ()
        if path is not None:
            form = plain_form(format, zone)

            def notice(count: int) -> str:
                return f"{form(dropped_entry(count, self._clock))}\n"

            added = (Outlet(form, FileSink(Path(path), notice=notice), first.redactor),)
        self._outlets = (first, *added)
        for outlet in earlier:
            outlet.sink.close()

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until what was written has left; False: it has not within the time."""
        flushed = [outlet.sink.flush(timeout_s) for outlet in self._outlets]
        return all(flushed)

    def close(self) -> None:
        """Leave stdlib logging as Python starts it, tell what was cut, flush, and end."""
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.removeHandler(self.handler)
        root.setLevel(logging.WARNING)
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.NOTSET)
        self.handler.close()
        for outlet in self._outlets:
            outlet.sink.close()


class Outlet:
    """One place where lines go, in one form."""

    def __init__(self, form: Format, sink: Sink, redactor: Redactor) -> None:
        self.form = form
        self.sink = sink
        self.redactor = redactor

    def put(self, entries: Sequence[Entry]) -> None:
        """Write entries in one write."""
        lines = [self.form(entry) for entry in entries]
        text = "\n".join(lines) + "\n"
        redactor = self.redactor
        # One search over the whole group, in which nearly always nothing is found. Where it is, the parts are masked
        # before they get their form: masking the form could break it, or mask a time that looks like a secret.
        if redactor.has_short or redactor.holds_secret(text) or max(map(len, lines)) > LONGEST_TEXT:
            text = "".join(map(self._careful, entries, lines))
        self.sink.write(text, len(lines))

    def _careful(self, entry: Entry, line: str) -> str:
        day, end, _ = line.rpartition("\n")  # the one thing a form may put before its line
        return f"{day}{end}{self.form(redacted(entry, self.redactor))}\n"


class LogHandler(logging.Handler):
    """Hands stdlib records to the event log, cutting floods."""

    def __init__(self, log: EventLog, gate: FloodGate, clock: Clock) -> None:
        super().__init__()
        self._log = log
        self._gate = gate
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        try:
            admitted, dropped = self._gate.pass_one()
            if dropped:
                self._tell_dropped(dropped)
            if admitted:
                self._log.put([of_record(record, self._clock.now())])
        except Exception as error:  # arguments that do not fit must not end the code that logs them
            # Not handleError: it prints the record to stderr, secrets and all.
            message = f"a record of {record.name} could not be written: {one_line_error(error)}"
            self._log.put([Entry(self._clock.now(), logging.ERROR, "log", message, {}, True)])

    def flush(self) -> None:
        self._log.flush()

    def close(self) -> None:
        if dropped := self._gate.close():
            self._tell_dropped(dropped)
        super().close()

    def _tell_dropped(self, count: int) -> None:
        self._log.put([dropped_entry(count, self._clock)])


def dropped_entry(count: int, clock: Clock) -> Entry:
    """Return the line that stands where ``count`` lines are missing."""
    message = f"{count} line{'' if count == 1 else 's'} dropped"
    return Entry(clock.now(), logging.WARNING, "log", message, {"dropped": count}, True)


def setup(
    *,
    redactor: Redactor,
    clock: Clock,
    format: str = "auto",
    level: str = "info",
    stream: TextIO | None = None,
    under_journald: bool | None = None,
    max_lines_per_second: float = 1000,
    zone: tzinfo | None = None,
    environ: Mapping[str, str] = os.environ,
    journal_socket: Path = SOCKET,
    file: str | None = None,
) -> EventLog:
    """Send stdlib logging and run events to ``stream`` (None: stdout); end it with :meth:`EventLog.close`.

    "auto" is the form for people. Under the journal (None: found out by JOURNAL_STREAM) every event is an entry with
    fields; where the journal's socket is not to be had it is a line with no time, which begins with its priority.
    Colours stand on a terminal, unless NO_COLOR is set or TERM is "dumb". ``zone`` is what people read times in (None:
    the machine's). Loggers of libraries are heard from warnings on, and at level "debug" from info on. ``file`` gets
    the same lines. Raises ``ValueError`` for a format or level that does not exist, LogFileError.
    """
    if format not in FORMATS:
        raise ValueError(f"{format!r} is no log format: one of {', '.join(FORMATS)}")
    if level not in LEVELS:
        raise ValueError(f"{level!r} is no log level: one of {', '.join(LEVELS)}")
    target = sys.stdout if stream is None else stream
    descriptor = _descriptor(target)
    if under_journald is None:
        under_journald = descriptor is not None and systemd.is_journal(descriptor, environ)
    native = under_journald and descriptor is not None and journal_socket.is_socket()
    form = _form(format, target, under_journald=under_journald, native=native, zone=zone, environ=environ)
    sink: Sink = StreamSink(target)

    def notice(count: int) -> str:
        return f"{form(dropped_entry(count, clock))}\n"

    if descriptor is not None:
        target.flush()
        if native:
            sink = JournalSink(descriptor, notice=notice, path=journal_socket)
        else:
            sink = DescriptorSink(descriptor, notice=notice)
    log = EventLog(
        sink, form, redactor=redactor, clock=clock, level=LEVELS[level], max_lines_per_second=max_lines_per_second
    )
    log.to_file(file, format=format, zone=zone)
    logging.captureWarnings(True)
    logging.getLogger().addHandler(log.handler)
    log.set_level(LEVELS[level])
    return log


def plain_form(name: str, zone: tzinfo | None) -> Format:
    """Return the form of a file: no colours, and the whole time in every line."""
    if name == "json":
        return JsonFormat()
    return LogfmtFormat() if name == "logfmt" else HumanFormat(times="full", zone=zone)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, AttributeError):  # a text buffer
        return None


def _form(
    name: str, stream: TextIO, *, under_journald: bool, native: bool, zone: tzinfo | None, environ: Mapping[str, str]
) -> Format:
    form: Format
    if name in ("json", "logfmt"):
        form = plain_form(name, zone)
    elif under_journald:
        form = HumanFormat(times="none", bare=native)
    else:
        terminal = stream.isatty()
        colour = terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        form = HumanFormat(times="short" if terminal else "full", colour=colour, zone=zone)
    if native:
        return JournalForm(form)
    return journal(form, systemd.priority) if under_journald else form
