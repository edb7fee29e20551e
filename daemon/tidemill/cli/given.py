"""Values as people give them in a shell: ``KEY=VALUE``, JSON."""

from __future__ import annotations

import argparse
import json
from typing import Any


def parameter(value: str) -> tuple[str, Any]:
    """Return name and value of ``KEY=VALUE``; the value is JSON, or else text. For argparse."""
    name, equals, given = value.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{value!r} is not KEY=VALUE")
    try:
        return name, json.loads(given, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return name, given


def parameters(value: str) -> dict[str, Any]:
    """Return a JSON object. For argparse."""
    try:
        found = json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
