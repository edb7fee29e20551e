"""Any value as JSON that can be shown: what JSON does not have is told by its type."""

from __future__ import annotations

from typing import Any

import msgspec

from tidemill.sdk.outcomes import kept


def as_document(value: Any) -> Any:
    """Return a value as JSON of bounded size."""
    if value is None or isinstance(value, bool | int | str):
        return kept(value)
    try:
        return kept(msgspec.to_builtins(value))
    except Exception:
        return kept(value)
