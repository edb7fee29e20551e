"""Logging inside a run: records made there go to the run's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tidemill.sdk.context import current, run_context

RUN_LOGGER = "tidemill.flow_runs"
_HOUSE = "tidemill."

logging.getLogger(RUN_LOGGER).setLevel(logging.DEBUG)


class _Silent(logging.Logger):
    """Takes records and keeps none."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return False


_silenced: ContextVar[bool] = ContextVar("tidemill_silenced", default=False)


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """Have :func:`get_run_logger` give a logger that keeps nothing, with or without a run: for tests of ``.fn``."""
    token = _silenced.set(True)
    try:
        yield
    finally:
        _silenced.reset(token)


def get_logger(name: str | None = None) -> logging.Logger:
    """Return ``logging``'s logger of that name; inside a run its records go to the run's log as all do."""
    return logging.getLogger(name or "flows")


def get_run_logger() -> logging.Logger:
    """Return the logger whose records go to the log of the run that calls.

    It is one logger for all runs: the run is found when a record is made. Raises :class:`~tidemill.sdk.context.
    NoRunError` outside a run.

    >>> get_run_logger().warning("only %d rows", 3)  # doctest: +SKIP
    """
    if _silenced.get():
        return _Silent("disabled")
    run_context()
    return logging.getLogger(RUN_LOGGER)


def belongs_to_run(record: logging.LogRecord) -> bool:
    """Say whether a record was made by a run's code, not by tidemill working on its behalf or outside any run."""
    if current.get() is None:
        return False
    return record.name == RUN_LOGGER or not (record.name.startswith(_HOUSE) or record.name == "tidemill")


class RunLogHandler(logging.Handler):
    """Hands records made inside a run to that run's recorder. One of it stands on the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        context = current.get()
        if context is None or not belongs_to_run(record):
            return
        try:
            context.log(self.format(record).rstrip("\n"), record.levelno, record.name)  # a warning's ends in one
        except Exception:
            self.handleError(record)


class OutsideRuns(logging.Filter):
    """For the daemon's own handlers: leaves out what a run's code logs, which reaches the log through its recorder."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not belongs_to_run(record)
