"""The log of the run that calls."""

from tidemill.sdk.logging import (
    disable_run_logger,
    get_logger,
    get_run_logger,
)

__all__ = [
    "disable_run_logger",
    "get_logger",
    "get_run_logger",
]
