"""What flow code may have to catch."""

from tidemill.sdk.context import NoRunError
from tidemill.sdk.exceptions import (
    BlockingInLoopError,
    CancelledRun,
    ConcurrencySlotAcquisitionError,
    ConfigurationError,
    CrashedRun,
    FailedRun,
    FlowPauseTimeout,
    FlowRunWaitTimeout,
    HashError,
    MappingLengthMismatch,
    MappingMissingIterable,
    MissingResult,
    NotPausedError,
    ParameterBindError,
    ParameterTypeError,
    PausedRun,
    ReservedArgumentError,
    RunError,
    TerminationSignal,
    UnfinishedRun,
    UpstreamTaskError,
)
from tidemill.sdk.failures import FlowFailed

MissingContextError = NoRunError  # Prefect's name

__all__ = [
    "BlockingInLoopError",
    "CancelledRun",
    "ConcurrencySlotAcquisitionError",
    "ConfigurationError",
    "CrashedRun",
    "FailedRun",
    "FlowFailed",
    "FlowPauseTimeout",
    "FlowRunWaitTimeout",
    "HashError",
    "MappingLengthMismatch",
    "MappingMissingIterable",
    "MissingContextError",
    "MissingResult",
    "NoRunError",
    "NotPausedError",
    "ParameterBindError",
    "ParameterTypeError",
    "PausedRun",
    "ReservedArgumentError",
    "RunError",
    "TerminationSignal",
    "UnfinishedRun",
    "UpstreamTaskError",
]
