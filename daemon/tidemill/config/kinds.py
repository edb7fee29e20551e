"""What a value of the file can be: each kind turns what TOML holds into what the daemon uses, or says what is wrong."""

from __future__ import annotations

import enum
import ipaddress
import math
import re
from collections.abc import Callable, Hashable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidemill.config.faults import Wrong, did_you_mean, kind_of, show
from tidemill.core import zones
from tidemill.core.refusals import ScheduleError
from tidemill.durations import format_size, parse_duration, parse_size

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but tab and line end
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
MAX_TEXT = 64 * 1024
_SOCKET_PATH_BYTES = 107  # sockaddr_un
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_INT64 = (-(2**63), 2**63 - 1)
NO_LIMIT = frozenset({"forever", "unlimited"})

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


class Kind(msgspec.Struct, frozen=True):
    """A sort of value. ``write`` is the remedy for a value of another sort, ``convert`` raises :class:`Wrong`.

    ``convert`` takes the value and the folder that relative paths start from.
    """

    name: str
    write: str
    convert: Callable[[Any, Path], Any]


def of_type(value: Any, wanted: type[T], words: str, write: str) -> T:
    """Return ``value`` if TOML holds it as ``wanted``; true is no number here."""
    if isinstance(value, bool) is not (wanted is bool) or not isinstance(value, wanted):
        raise Wrong(f"{show(value)} is {kind_of(value)}, not {words}", write)
    return value


def text(write: str = 'write it in quotes: "…"', *, empty: bool = False) -> Kind:
    def convert(value: Any, _: Path) -> str:
        found = of_type(value, str, "text", write)
        if _CONTROL.search(found):
            raise Wrong("holds a control character", "remove it")
        if not found.strip() and not empty:
            raise Wrong("is empty", write)
        if len(found) > MAX_TEXT:
            raise Wrong(f"is longer than {MAX_TEXT} characters", "shorten it")
        return found

    return Kind("text", write, convert)


def flag() -> Kind:
    write = "write true or false"
    return Kind("true or false", write, lambda value, _: of_type(value, bool, "true or false", write))


def whole(low: int, high: int, *, no_limit: bool = False) -> Kind:
    write = f"write a whole number from {low} to {high}" + (', or "unlimited"' if no_limit else "")

    def convert(value: Any, _: Path) -> int | None:
        if no_limit and isinstance(value, str) and value in NO_LIMIT:
            return None
        found = of_type(value, int, "a whole number", write)
        if not low <= found <= high:
            raise Wrong(f"{show(found)} is not in {low}–{high}", write)  # noqa: RUF001
        return found

    return Kind("whole number", write, convert)


def number(low: float, high: float) -> Kind:
    write = f"write a number from {low:g} to {high:g}"

    def convert(value: Any, _: Path) -> float:
        found = value if isinstance(value, float) else of_type(value, int, "a number", write)
        if not low <= found <= high:  # false for NaN, too
            raise Wrong(f"{show(found)} is not in {low:g}–{high:g}", write)  # noqa: RUF001
        return float(found)

    return Kind("number", write, convert)


def _duration(value: Any, write: str) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Wrong(f"{show(value)} is {kind_of(value)}, not a duration", write)
    if isinstance(value, float) and not math.isfinite(value):
        raise Wrong(f"{show(value)} is no duration", write)
    if isinstance(value, str) and (len(value) > 100 or not value.isprintable()):
        raise Wrong(f"{show(value)} is no duration", write)
    try:
        return parse_duration(value)
    except (ValueError, OverflowError) as error:
        raise Wrong(_with_value(value, str(error))) from None


def _with_value(value: Any, problem: str) -> str:
    """Lead a problem with the value it is about, unless it quotes it already."""
    shown = show(value)
    return problem if shown in problem or repr(value) in problem else f"{shown}: {problem}"


def duration(*, zero: bool = False, no_limit: bool = False) -> Kind:
    write = 'write a duration such as "90s", "1h30m" or "2d"; a bare number means seconds'
    write += ', or "forever"' if no_limit else ""

    def convert(value: Any, _: Path) -> timedelta | None:
        if no_limit and isinstance(value, str) and value in NO_LIMIT:
            return None
        found = _duration(value, write)
        if not found and not zero:
            raise Wrong(f"{show(value)} is no time at all", write)
        return found

    return Kind("duration", write, convert)


def durations() -> Kind:
    write = 'write a duration such as "10s", or a list of them: ["10s", "1m", "5m"]'

    def convert(value: Any, _: Path) -> tuple[timedelta, ...]:
        if not isinstance(value, list):
            return (_duration(value, write),)
        if not 1 <= len(value) <= 100:
            raise Wrong(f"holds {len(value)} durations, not 1–100", write)  # noqa: RUF001
        return _each(value, lambda item: _duration(item, write))

    return Kind("duration or list of durations", write, convert)


def size(low: int, *, no_limit: bool = False) -> Kind:
    write = 'write a size such as "512MiB" or "2GiB"; a bare number means bytes' + (
        ', or "unlimited"' if no_limit else ""
    )

    def convert(value: Any, _: Path) -> int | None:
        if no_limit and isinstance(value, str) and value in NO_LIMIT:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Wrong(f"{show(value)} is {kind_of(value)}, not a size", write)
        sound = value <= _INT64[1] if isinstance(value, int) else len(value) <= 100 and value.isprintable()
        if not sound:
            raise Wrong(f"{show(value)} is no size", write)
        try:
            found = parse_size(value)
        except (ValueError, OverflowError) as error:
            raise Wrong(_with_value(value, str(error))) from None
        if not low <= found <= _INT64[1]:
            raise Wrong(f"{show(value)} is {'no size' if found > low else f'less than {format_size(low)}'}", write)
        return found

    return Kind("size", write, convert)


def choice(words: type[enum.StrEnum]) -> Kind:
    write = "write " + " or ".join(f'"{word}"' for word in words)

    def convert(value: Any, _: Path) -> enum.StrEnum:
        found = of_type(value, str, "one of its words", write)
        try:
            return words(found)
        except ValueError:
            raise Wrong(f"{show(found)} is not one of its words", did_you_mean(found, list(words)) or write) from None

    return Kind(" | ".join(words), write, convert)


def _name(value: Any) -> str:
    write = "write small letters, digits and _ . - (64 at most), the first a letter or digit"
    found = of_type(value, str, "a name", write)
    if not NAME.fullmatch(found):
        raise Wrong(f"{show(found)} is no name", write)
    return found


def name() -> Kind:
    return Kind("name", 'write a name such as "nightly-backup"', lambda value, _: _name(value))


def texts(write: str, *, most: int = 100, unique: bool = False, empty: bool = False) -> Kind:
    """Build the kind of a list of texts; one text alone stands for a list of one."""
    one = text(write, empty=empty)

    def convert(value: Any, folder: Path) -> tuple[str, ...]:
        if isinstance(value, str):
            return (one.convert(value, folder),)
        items = of_type(value, list, "a list of texts", write)
        if len(items) > most:
            raise Wrong(f"holds {len(items)} texts, more than {most}", "shorten the list")
        found: tuple[str, ...] = _each(items, lambda item: one.convert(item, folder))
        return _unique(found) if unique else found

    return Kind("list of texts", write, convert)


def _each(items: list[Any], convert: Callable[[Any], T]) -> tuple[T, ...]:
    found = []
    for number_, item in enumerate(items):
        try:
            found.append(convert(item))
        except Wrong as wrong:
            raise Wrong(wrong.problem, wrong.remedy, (number_, *wrong.at)) from None
    return tuple(found)


def _unique(found: tuple[H, ...]) -> tuple[H, ...]:
    seen: set[H] = set()
    for number_, item in enumerate(found):
        if item in seen:
            raise Wrong(f"{show(item)} stands twice", "keep one of them", (number_,))
        seen.add(item)
    return found


def folder() -> Kind:
    write = 'write a folder, absolute or beside this file: "flows"'

    def convert(value: Any, base: Path) -> Path:
        found = text(write).convert(value, base)
        if found.startswith("~"):
            raise Wrong(f"{show(found)}: ~ is not expanded, a daemon may have no home", "write the whole path")
        return base / str(found)

    return Kind("folder", write, convert)


def path(example: str) -> Kind:
    """Build the kind of a place that is named by its whole path, or beside the file."""
    write = f'write a path, absolute or beside this file: "{example}"'

    def convert(value: Any, base: Path) -> str:
        found = str(text(write).convert(value, base))
        if found.startswith("~"):
            raise Wrong(f"{show(found)}: ~ is not expanded, a daemon may have no home", "write the whole path")
        return str(base / found)

    return Kind("path", write, convert)


def environment() -> Kind:
    write = 'write a table of texts: { LC_ALL = "C.UTF-8" }'

    def convert(value: Any, base: Path) -> dict[str, str]:
        table = of_type(value, dict, "a table", write)
        found: dict[str, str] = {}
        for name_, item in table.items():
            if not _VARIABLE.fullmatch(name_):
                raise Wrong(f"{show(name_)} is no name of an environment variable", write, (name_,))
            try:
                found[name_] = text(write, empty=True).convert(item, base)
            except Wrong as wrong:
                raise Wrong(wrong.problem, wrong.remedy, (name_, *wrong.at)) from None
        return found

    return Kind("table of texts", write, convert)


def zone() -> Kind:
    write = 'write an IANA name such as "Europe/Helsinki"'

    def convert(value: Any, _: Path) -> str:
        found = of_type(value, str, "a time zone", write)
        if not found.isprintable() or len(found) > 64:
            raise Wrong(f"{show(found)} is no known time zone", write)
        try:
            zones.zone(found)
        except ScheduleError as error:
            raise Wrong(error.problem, error.remedy or write) from None
        return found

    return Kind("time zone", write, convert)


def _address(value: Any) -> str:
    write = 'write "127.0.0.1:4200", "[::1]:4200", "localhost:4200" or "unix:/path/to.sock"'
    found = of_type(value, str, "an address", write)
    if found.startswith("unix:"):
        path = found.removeprefix("unix:")
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise Wrong(f"{show(found)} names no absolute path", write)
        if len(path.encode("utf-8", "surrogatepass")) > _SOCKET_PATH_BYTES:
            raise Wrong(
                f"{show(found)}: a socket's path has at most {_SOCKET_PATH_BYTES} bytes", "choose a shorter one"
            )
        return found
    match = _HOST_PORT.fullmatch(found)
    if match is None:
        raise Wrong(f"{show(found)} is no address", write)
    six, host, port = match.groups()
    if int(port) > 65535:
        raise Wrong(f"{show(found)}: port {port} is not in 0–65535", write)  # noqa: RUF001
    try:
        if six is not None:
            ipaddress.IPv6Address(six)
        elif host.replace(".", "").isdigit():
            ipaddress.IPv4Address(host)
    except ValueError:
        raise Wrong(f"{show(found)}: {show(six or host)} is no IP address", write) from None
    return found


def addresses() -> Kind:
    write = 'write an address such as "127.0.0.1:4200", or a list of them; [] listens nowhere'

    def convert(value: Any, _: Path) -> tuple[str, ...]:
        if isinstance(value, str):
            return (_address(value),)
        items = of_type(value, list, "an address", write)
        if len(items) > 16:
            raise Wrong(f"holds {len(items)} addresses, more than 16", "shorten the list")
        return _unique(_each(items, _address))

    return Kind("address or list of addresses", write, convert)


def hosts() -> Kind:
    write = 'write host names as a browser sends them, without port: ["tidemill.example.org"]'

    def convert(value: Any, base: Path) -> tuple[str, ...]:
        found: tuple[str, ...] = texts(write).convert(value, base)
        for number_, item in enumerate(found):
            if not _HOST.fullmatch(item):
                at = () if isinstance(value, str) else (number_,)
                raise Wrong(f"{show(item)} is no host name", write, at)
        return tuple(item.lower() for item in found)

    return Kind("list of host names", write, convert)


def instant() -> Kind:
    """Build the kind of an instant: aware where an offset is given, naive where the schedule's zone rules."""
    write = "write 2026-03-29T02:30:00 (in the schedule's zone) or 2026-03-29T02:30:00+02:00"

    def convert(value: Any, _: Path) -> datetime:
        found = value
        if isinstance(found, str) and len(found) < 50:
            try:
                found = datetime.fromisoformat(found)
            except ValueError:
                raise Wrong(f"{show(value)} is no date with time", write) from None
        if isinstance(found, date) and not isinstance(found, datetime):
            return datetime.combine(found, time())
        if not isinstance(found, datetime):
            raise Wrong(f"{show(value)} is {kind_of(value)}, not a date with time", write)
        return found

    return Kind("date with time", write, convert)


def dates() -> Kind:
    write = "write a list of dates: [2026-12-24, 2026-12-25]"

    def one(value: Any) -> date:
        found = value
        if isinstance(found, str) and len(found) < 50:
            try:
                found = date.fromisoformat(found)
            except ValueError:
                raise Wrong(f"{show(value)} is no date", write) from None
        if isinstance(found, datetime) or not isinstance(found, date):
            raise Wrong(f"{show(value)} is {kind_of(value)}, not a date", write)
        return found

    def convert(value: Any, _: Path) -> tuple[date, ...]:
        if not isinstance(value, list):
            return (one(value),)
        if len(value) > 1000:
            raise Wrong(f"holds {len(value)} dates, more than 1000", "shorten the list")
        return _unique(_each(value, one))

    return Kind("list of dates", write, convert)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            try:
                found[key] = _json(item)
            except Wrong as wrong:
                raise Wrong(wrong.problem, wrong.remedy, (key, *wrong.at)) from None
        return found
    if isinstance(value, list):
        return list(_each(value, _json))
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise Wrong(f"{show(value)} is no JSON number", "leave it out, or write it as text")
    if isinstance(value, int) and not _INT64[0] <= value <= _INT64[1]:
        raise Wrong(f"{show(value)} has more than 64 bits", "write it as text")
    return value


def json_value() -> Kind:
    """Build the kind of any JSON value; dates and times become their ISO text."""
    return Kind("any JSON value", "write text, a number, true, false, a list or a table", lambda value, _: _json(value))


def json_table() -> Kind:
    write = 'write a table: { region = "fi" }'

    def convert(value: Any, _: Path) -> dict[str, Any]:
        found: dict[str, Any] = _json(of_type(value, dict, "a table", write))
        return found

    return Kind("table", write, convert)
