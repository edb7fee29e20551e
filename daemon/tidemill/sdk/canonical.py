"""One text for one JSON value: equal values have equal texts, so a version is made only where something changed."""

from __future__ import annotations

import json
import math
from typing import Any

MAX_ARTIFACT_BYTES = 1024 * 1024


def canonical(value: Any, *, limit: int | None = MAX_ARTIFACT_BYTES) -> str:
    """Return the canonical JSON text of ``value``: sorted keys, no blanks, characters unescaped.

    Tuples count as lists. Raises ``ValueError`` that says what is wrong and where: NaN or Infinity, something that is
    not JSON, a text that is not Unicode, more than ``limit`` bytes of UTF-8 (None: any size).
    """
    try:
        text = json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {_where(value) or error}") from None
    if limit is not None and size > limit:
        raise ValueError(f"too large: {size:,} bytes of JSON, at most {limit:,} are kept")
    return text


def unicode_text(text: str) -> str:
    """Return a text in which half a surrogate pair is spelled out: ``\\udc80``.

    Names of files that are not UTF-8 hold some, and so do the errors about them; nothing that is kept or sent may.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _where(value: Any) -> str | None:
    try:
        return _fault(value)
    except RecursionError:
        return "nested too deeply, or containing itself"


def _fault(value: Any, path: str = "$") -> str | None:
    """Say where the first thing that is not JSON stands: ``$.rows[3].price is NaN``."""
    fault: str | None = None
    if isinstance(value, dict):
        odd = [key for key in value if not isinstance(key, str)]
        if odd and len(odd) < len(value):
            return f"{path} has both text keys and keys that are {type(odd[0]).__name__}"
        if odd and not isinstance(odd[0], int | float | bool | None):
            return f"{path} has a key that is {type(odd[0]).__name__}, not text"
        for key, item in value.items():
            fault = fault or _text_fault(str(key), f"a key of {path}") or _fault(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            fault = fault or _fault(item, f"{path}[{place}]")
    elif isinstance(value, str):
        fault = _text_fault(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        fault = f"{path} is {'NaN' if math.isnan(value) else 'Infinity'}; use null or a text"
    elif not isinstance(value, int | float | bool | None):
        fault = f"{path} is {type(value).__name__}, which JSON does not have"
    return fault


def _text_fault(text: str, path: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{path} holds half a surrogate pair, which is not Unicode text"
    return None
