"""The log of the run that calls."""

from tidemill.sdk.logging import get_run_logger

__all__ = [
    "get_run_logger",
]
