"""Durations and sizes as people write them, and back.

``1h30m`` and ``2GiB`` mean the same in the configuration file, on the command line and in messages.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

MAX_DURATION = timedelta(days=3653)  # ten years
MAX_SIZE = 2**63 - 1  # what SQLite and the kernel can count

_US = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_UNITS = tuple(_US)  # from the longest to the shortest
_BYTES = {
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-zµ]+)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[A-Za-zµ]+\s*)+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_DURATION_FORM = 'write it as "90s", "1h30m", "1.5h", "2d", "1w" or "250ms"'
_SIZE_FORM = 'write it as "2GiB", "64KiB", "10MB" or a number of bytes'
_LONGEST_TEXT = 64


def parse_duration(text: object) -> timedelta:
    """Return the duration that ``text`` says; a number is seconds, with or without quotes.

    Units are w, d (24 h), h, m, s, ms and us, each at most once and from long to short; exact to the microsecond.
    Raises ``ValueError`` with a sentence that says what would be right, also for what is neither text nor number.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"{text!r} is not a duration: {_DURATION_FORM}, or as a number of seconds")
    if not isinstance(text, str):
        return _of_number(text)
    plain = text.strip()
    if len(plain) > _LONGEST_TEXT:
        raise ValueError(f"a duration of {len(plain)} characters is too long: {_DURATION_FORM}")
    if plain.startswith("-"):
        raise ValueError(f'"{plain}" is negative: a duration is zero or more')
    if plain.isascii() and _NUMBER.fullmatch(plain):
        return _bounded(_exact_us(plain, "s", plain), plain)
    if not _DURATION.fullmatch(plain):
        raise ValueError(f'"{plain}" is not a duration: {_DURATION_FORM}')
    total, rank = 0, -1
    for amount, name in _PART.findall(plain):
        unit = _unit(name, plain)
        if _UNITS.index(unit) <= rank:
            raise ValueError(f'"{plain}" is not a duration: units go from long to short, each once, such as "1h30m"')
        rank = _UNITS.index(unit)
        total += _exact_us(amount, unit, plain)
    return _bounded(total, plain)


def _of_number(seconds: float) -> timedelta:
    if not seconds >= 0:  # negative, or not a number at all
        raise ValueError(f"{seconds} is not a duration: it is a number of seconds, zero or more")
    if seconds > 1e12:  # before it is multiplied or printed: it may have thousands of digits
        raise ValueError("that number of seconds is longer than ten years (3653d)")
    return _bounded(round(seconds * 1_000_000), str(seconds))


def _unit(name: str, text: str) -> str:
    if name in _US:
        return name
    if name == "µs":
        return "us"
    near = {"M": '"m" is minutes; a month has no fixed length', "y": 'a year has no fixed length, write "365d"'}
    hint = near.get(name) or (f'did you mean "{name.lower()}"' if name.lower() in _US else f"units are {_units()}")
    raise ValueError(f'"{text}": there is no unit "{name}"; {hint}')


def _units() -> str:
    return ", ".join(_UNITS[:-1]) + " and " + _UNITS[-1]


def _exact_us(amount: str, unit: str, text: str) -> int:
    us = Decimal(amount) * _US[unit]
    if us != us.to_integral_value():
        raise ValueError(f'"{text}" is finer than a microsecond')
    return int(us)


def _bounded(us: int, text: str) -> timedelta:
    if us > MAX_DURATION // timedelta(microseconds=1):
        raise ValueError(f'"{text}" is longer than ten years (3653d)')
    return timedelta(microseconds=us)


def format_duration(duration: timedelta) -> str:
    """Return the duration exactly and briefly: ``1h30m``, ``1.5s``, ``250ms``, ``2w``, ``0s``; negative with a sign.

    ``parse_duration`` reads it back unchanged (but for the sign).
    """
    us = duration // timedelta(microseconds=1)
    if us < 0:
        return "-" + format_duration(-duration)
    if us == 0:
        return "0s"
    if us % _US["w"] == 0:
        return f"{us // _US['w']}w"
    if us < _US["ms"]:
        return f"{us}us"
    if us < _US["s"]:
        return f"{_decimal(us, 1_000)}ms"
    text = ""
    for unit in ("d", "h", "m"):
        amount, us = divmod(us, _US[unit])
        text += f"{amount}{unit}" if amount else ""
    return text + (f"{_decimal(us, 1_000_000)}s" if us else "")


def _decimal(us: int, per: int) -> str:
    whole, rest = divmod(us, per)
    digits = f"{rest:0{len(str(per)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def parse_size(text: object) -> int:
    """Return the bytes that ``text`` says: KiB, MiB, GiB, TiB are powers of 1024, kB, MB, GB, TB of 1000.

    A plain number is bytes; case does not matter. Raises ``ValueError`` with a sentence that says what would be right.
    """
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(f"{text!r} is not a size: {_SIZE_FORM}")
    if isinstance(text, int):
        size = text
    else:
        plain = text.strip()
        match = _SIZE.fullmatch(plain) if plain.isascii() and len(plain) <= _LONGEST_TEXT else None
        if match is None:
            raise ValueError(f'"{plain[:_LONGEST_TEXT]}" is not a size: {_SIZE_FORM}')
        amount, unit = match[1], match[2].lower() or "b"
        if unit not in _BYTES:
            both = (
                f'say which: "{amount}{unit.upper()}iB" or "{amount}{unit.upper()}B"' if unit in "kmgt" else _SIZE_FORM
            )
            raise ValueError(f'"{plain}": there is no unit "{match[2]}"; {both}')
        exact = Decimal(amount) * _BYTES[unit]
        if exact != exact.to_integral_value():
            raise ValueError(f'"{plain}" is not a whole number of bytes')
        size = int(exact)
    if not 0 <= size <= MAX_SIZE:
        raise ValueError("a size is between 0 and 8 EiB")
    return size


def format_size(size: int) -> str:
    """Return the size for people: ``2GiB`` and ``10MB`` where that is exact, else rounded to one place: ``1.5KiB``."""
    if size < 0:
        return "-" + format_size(-size)
    for name, unit in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    for name, unit in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    for name, unit in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= unit:
            return f"{size / unit:.1f}{name}"
    return f"{size}B"


def in_words(duration_s: float) -> str:
    """Return a duration as one reads it: ``4 ms``, ``0.2 s``, ``3 min 12 s``, ``2 h 5 min``."""
    if duration_s < 0.0995:
        return f"{max(0.0, duration_s) * 1000:.0f} ms"
    if duration_s < 59.95:
        return f"{duration_s:.1f} s"
    whole = round(duration_s)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def span(seconds: float | timedelta) -> str:
    """Return a duration for reading: ``0.24s``, ``12s``, ``3m05s``, ``2h10m``, ``3d4h``."""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds < 10:
        return f"{seconds:.2f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"
