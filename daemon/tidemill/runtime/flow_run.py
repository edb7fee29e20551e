"""Attributes of the flow run that the calling code belongs to; see ``dir()`` of this module."""

from typing import Any

from tidemill.sdk.runtime import FLOW_RUN, attribute


def __getattr__(name: str) -> Any:
    return attribute("flow_run", FLOW_RUN, name)


def __dir__() -> list[str]:
    return sorted(FLOW_RUN)
