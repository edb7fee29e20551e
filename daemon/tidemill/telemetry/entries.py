"""One line of the daemon's log before it has a form: a sentence for people and fields for programs."""

from __future__ import annotations

import logging
import traceback
from datetime import datetime
from types import TracebackType
from typing import Any

import msgspec

from tidemill.telemetry.redaction import Redactor

# A line beyond this is cut, and says so. The journal's own limit for a line is 48 KiB.
LONGEST_TEXT = 16 * 1024
_FRAMES = 8


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event. ``fields`` are for programs; ``said``: subject and sentence tell people all of them."""

    at: datetime
    level: int  # logging's number
    subject: str  # whom it is about: "bored-daily brisk-otter", "scheduler"
    message: str
    fields: dict[str, Any]
    said: bool = False
    error: str | None = None  # an exception on one line
    traceback: str | None = None


def of_record(record: logging.LogRecord, at: datetime) -> Entry:
    """Return the entry of a stdlib log record; ``extra={"fields": {...}}`` gives it fields."""
    fields = getattr(record, "fields", None)
    error = record.exc_info[1] if record.exc_info else None
    return Entry(
        at=at,
        level=record.levelno,
        subject=record.name.removeprefix("tidemill."),
        message=record.getMessage(),
        fields=fields if isinstance(fields, dict) else {},
        error=None if error is None else one_line_error(error),
        traceback=None if error is None else "".join(traceback.format_exception(error)).rstrip(),
    )


def one_line_error(error: BaseException) -> str:
    """Return an exception, where it was raised from inside out, and what caused it, on one line."""
    parts: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        parts.append("".join(traceback.format_exception_only(at)).strip() + _places(at.__traceback__))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return ", caused by ".join(parts)


def _places(raised: TracebackType | None) -> str:
    frames = traceback.extract_tb(raised)[: -_FRAMES - 1 : -1]
    places = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames)
    return f" ({places})" if places else ""


def redacted(entry: Entry, redactor: Redactor) -> Entry:
    """Return the entry with secrets masked, and then cut: a cut secret would not be found."""
    return Entry(
        at=entry.at,
        level=entry.level,
        subject=cut(redactor.text(entry.subject)),
        message=cut(redactor.text(entry.message)),
        fields={
            key: cut(value) if isinstance(value, str) else value for key, value in redactor.value(entry.fields).items()
        },
        said=entry.said,
        error=None if entry.error is None else cut(redactor.text(entry.error)),
        traceback=None if entry.traceback is None else cut(redactor.text(entry.traceback)),
    )


def cut(text: str) -> str:
    """Return ``text`` shortened to a line's length, saying by how much."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} … [{len(text) - LONGEST_TEXT} characters cut]"
