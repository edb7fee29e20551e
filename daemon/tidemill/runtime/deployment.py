"""Attributes of the deployment that the calling code belongs to; see ``dir()`` of this module."""

from typing import Any

from tidemill.sdk.runtime import DEPLOYMENT, attribute


def __getattr__(name: str) -> Any:
    return attribute("deployment", DEPLOYMENT, name)


def __dir__() -> list[str]:
    return sorted(DEPLOYMENT)
