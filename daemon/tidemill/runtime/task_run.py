"""Attributes of the task run that the calling code belongs to; see ``dir()`` of this module."""

from typing import Any

from tidemill.sdk.runtime import TASK_RUN, attribute


def __getattr__(name: str) -> Any:
    return attribute("task_run", TASK_RUN, name)


def __dir__() -> list[str]:
    return sorted(TASK_RUN)
