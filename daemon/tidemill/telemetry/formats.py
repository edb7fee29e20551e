"""The forms of a log line: for people, logfmt, and JSON. One event is one line, whatever it says."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec

from tidemill.telemetry.entries import Entry

Format = Callable[[Entry], str]

# What would begin a new line, move the cursor or turn the text's direction: a run's output must not fake the log's.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_QUOTED = re.compile('[\\s="\\\\]')
_LOGFMT_KEYS = frozenset({"time", "level", "subject", "msg", "error"})
_JSON_KEYS = frozenset({"time", "level", "subject", "message", "error", "traceback"})
_NO_KEY = re.compile(r"[^\w.*-]")
_SUBJECT_WIDTH = 28
_SECOND = timedelta(seconds=1)

_DIM, _BOLD, _END = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_COLOURS = {"DEBUG": "\x1b[2m", "INFO": "", "WARN": "\x1b[33m", "ERROR": "\x1b[31m", "FATAL": "\x1b[1;31m"}
_STATE_COLOURS = {"Completed": "\x1b[32m", "Cached": "\x1b[32m", "Cancelled": "\x1b[33m"}


def level_name(level: int) -> str:
    """Return a level's name as programs read it: debug, info, warning, error, critical."""
    if level >= logging.CRITICAL:
        return "critical"
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warning"
    return "info" if level >= logging.INFO else "debug"


_SHORT = {"debug": "DEBUG", "info": "INFO", "warning": "WARN", "error": "ERROR", "critical": "FATAL"}


def one_line(text: str) -> str:
    """Return ``text`` with line ends and other control characters written as escapes."""
    return _CONTROL.sub(_escape, text) if _CONTROL.search(text) else text


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    plain = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    code = ord(character)
    return plain or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


class HumanFormat:
    """``09:00:00 INFO  bored-daily brisk-otter       Completed in 0.2 s``: aligned, in local time.

    ``times``: "short" for a terminal, where the day and the zone's offset stand on a line of their own whenever they
    change; "full" for files; "none" where the reader has its own (the journal). ``bare``: without the level and the
    fields, for a reader that has them, too.
    """

    def __init__(
        self, *, times: str = "short", colour: bool = False, zone: tzinfo | None = None, bare: bool = False
    ) -> None:
        self._times = times
        self._bare = bare
        self._colour = colour
        self._zone = zone  # None: the machine's
        never = datetime.min.replace(tzinfo=UTC)
        # The second last told: from, until, its text. One value, since several threads log.
        self._second = (never, never, "")
        self._day = ""

    def __call__(self, entry: Entry) -> str:
        day, time = "", ""
        if self._times != "none":
            begin, end, text = self._second
            if not begin <= entry.at < end:
                day, text = self._turn(entry.at)
            time = f"{text} "
        level = _SHORT[level_name(entry.level)]
        subject, message = one_line(entry.subject), one_line(entry.message)
        if self._bare:
            error = f": {one_line(entry.error)}" if entry.error is not None else ""
            return f"{day}{time}{subject:<{_SUBJECT_WIDTH}} {message}{error}"
        rest = _rest(entry) if entry.error is not None or not entry.said else ""
        if not self._colour:
            return f"{day}{time}{level:<5} {subject:<{_SUBJECT_WIDTH}} {message}{rest}"
        tint = _COLOURS[level]
        words = tint or _STATE_COLOURS.get(str(entry.fields.get("state")), "")
        return (
            f"{day}{_DIM}{time}{_END}{tint}{level:<5}{_END if tint else ''} {_BOLD}{subject:<{_SUBJECT_WIDTH}}{_END} "
            f"{words}{message}{_END if words else ''}{f'{_DIM}{rest}{_END}' if rest else ''}"
        )

    def _turn(self, at: datetime) -> tuple[str, str]:
        """Go to another second; return the line of a new day where one is due, and the time."""
        begin = at.replace(microsecond=0)
        local = at.astimezone(self._zone)
        full = self._times == "full"
        text = local.isoformat(sep=" ", timespec="seconds") if full else f"{local:%H:%M:%S}"
        self._second = (begin, begin + _SECOND, text)
        day = "" if full else f"{local:%A %Y-%m-%d}, UTC{local.isoformat()[-6:]}"
        if day == self._day:
            return "", text
        self._day = day
        return (f"{_DIM}{day}{_END}\n" if self._colour else f"{day}\n"), text


def _rest(entry: Entry) -> str:
    """Return what the sentence does not say: the exception, and the fields whose values it does not name.

    The fields of an event that has a name are for programs: its sentence says what happened.
    """
    parts = [f": {one_line(entry.error)}"] if entry.error is not None else []
    if not entry.said and "event" not in entry.fields:
        parts += [
            f" {_pair(key, value)}"
            for key, value in entry.fields.items()
            if value is not None and not _said(value, entry.message)
        ]
    return "".join(parts)


def _said(value: object, message: str) -> bool:
    return all(str(each) in message for each in (value if isinstance(value, list) else [value]))


class LogfmtFormat:
    """``time=2026-11-21T07:00:00.000000Z level=info subject=scheduler msg="..." key=value``."""

    def __call__(self, entry: Entry) -> str:
        parts = [
            f"time={rfc3339(entry.at)} level={level_name(entry.level)}",
            _pair("subject", entry.subject),
            _pair("msg", entry.message),
        ]
        parts += [_pair(key, value) for key, value in _free(entry.fields, _LOGFMT_KEYS).items()]
        if entry.error is not None:
            parts.append(_pair("error", entry.error))
        return " ".join(parts)


class JsonFormat:
    """One JSON object a line; an exception's whole traceback is in it."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def __call__(self, entry: Entry) -> str:
        document: dict[str, Any] = {
            "time": entry.at if entry.at.tzinfo is UTC else entry.at.astimezone(UTC),
            "level": level_name(entry.level),
            "subject": entry.subject,
            "message": entry.message,
        }
        document.update(_free(entry.fields, _JSON_KEYS))
        if entry.error is not None:
            document |= {"error": entry.error, "traceback": entry.traceback}
        try:
            text = self._encoder.encode(document).decode()
        except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
            # What JSON has no form for (half a surrogate pair, keys that are no texts, a circle) is told by its repr.
            told = {_json_text(key): _json_text(value) for key, value in document.items()}
            text = self._encoder.encode(told).decode()
        return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text) if _CONTROL.search(text) else text


def _json_text(value: object) -> str:
    text = rfc3339(value) if isinstance(value, datetime) else value if isinstance(value, str) else repr(value)
    return text.encode(errors="backslashreplace").decode()


def _free(fields: Mapping[str, Any], taken: frozenset[str]) -> Mapping[str, Any]:
    """Return the fields, one whose name is taken under a name of its own."""
    if taken.isdisjoint(fields):
        return fields
    return {f"{key}_" if key in taken else key: value for key, value in fields.items()}


def _pair(key: str, value: object) -> str:
    if not key.isidentifier():
        key = _NO_KEY.sub("_", key)
    if isinstance(value, str):
        text = value
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    else:
        text = rfc3339(value) if isinstance(value, datetime) and value.tzinfo else str(value)
    if text and not _QUOTED.search(text) and text.isprintable():
        return f"{key}={text}"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}="{one_line(escaped)}"'


def rfc3339(at: datetime) -> str:
    """Return an aware instant in UTC, to the microsecond."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return f"{at.isoformat(timespec='microseconds')[:26]}Z"


def journal(form: Format, priority: Callable[[int], int]) -> Format:
    """Return a form with the journal's priority before every line."""

    def prefixed(entry: Entry) -> str:
        return f"<{priority(entry.level)}>{form(entry)}"

    return prefixed
