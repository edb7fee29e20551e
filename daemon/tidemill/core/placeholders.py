"""Placeholders in what an automation says and gives: ``{deployment}`` stands for the one it is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tidemill.core.automations import Cause

# What stands for what in a message, a parameter or a name; where there is none, an empty text.
PLACEHOLDERS: Mapping[str, str] = {
    "automation": "the automation's name",
    "reason": "what happened, in one line",
    "deployment": "the deployment it is about",
    "flow": "its flow",
    "run": "the name of the run",
    "run_id": "the run's id",
    "state": "the state's name",
    "message": "the state's message",
    "artifact": "the artifact's key",
    "version": "its version",
    "at": "when it happened, in UTC",
}
ABOUT_DEPLOYMENT = "{deployment}"
ABOUT_RUN = "{run}"
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def unknown_placeholders(text: str) -> list[str]:
    """Return what stands in braces and is no placeholder; a brace alone is returned as itself."""
    found = []
    for match in _PLACEHOLDER.finditer(text):
        name = match.group(1)
        if match.group() in ("{", "}") or (name is not None and name not in PLACEHOLDERS):
            found.append(match.group() if name is None else name)
    return found


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return ``text`` with its placeholders filled; ``{{`` and ``}}`` are braces."""

    def one(match: re.Match[str]) -> str:
        if match.group() in ("{{", "}}"):
            return match.group()[0]
        return values.get(match.group(1) or "", "")

    return _PLACEHOLDER.sub(one, text)


def holds(value: Any) -> bool:
    """Say whether a placeholder stands in a text, or in a text inside a JSON value."""
    if isinstance(value, str):
        return any(match.group(1) is not None for match in _PLACEHOLDER.finditer(value))
    if isinstance(value, dict):
        return any(map(holds, value.values()))
    return isinstance(value, list) and any(map(holds, value))


def fill_all(value: Any, values: Mapping[str, str]) -> Any:
    """Return a JSON value with the placeholders in its texts filled; keys stay as they are."""
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, dict):
        return {key: fill_all(each, values) for key, each in value.items()}
    return [fill_all(each, values) for each in value] if isinstance(value, list) else value


def values_of(automation: str, cause: Cause) -> dict[str, str]:
    """Return what the placeholders stand for."""
    return {
        "automation": automation,
        "reason": cause.reason,
        "deployment": cause.deployment or "",
        "flow": cause.flow or "",
        "run": cause.run_name or "",
        "run_id": cause.run or "",
        "state": cause.state or "",
        "message": cause.message or "",
        "artifact": cause.artifact or "",
        "version": "" if cause.version is None else str(cause.version),
        "at": f"{cause.at:%Y-%m-%dT%H:%M:%SZ}",
    }
