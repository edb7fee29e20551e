"""What flow code may have to catch. The names are Prefect's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidemill.errors import TidemillError

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunError(Exception):
    """Base of what the engine raises in flow code."""


class FailedRun(RunError):  # noqa: N818 - Prefect's name
    """The result of a failed run was asked for, and no exception is known."""


class CrashedRun(RunError):  # noqa: N818
    """The result of a crashed run was asked for, and no exception is known."""


class CancelledRun(RunError):  # noqa: N818
    """The result of a cancelled run was asked for."""


class PausedRun(RunError):  # noqa: N818
    """The result of a paused run was asked for: resume it first."""


class UnfinishedRun(RunError):  # noqa: N818
    """The result of a run that has not ended was asked for: wait for it first."""


class MissingResult(RunError):  # noqa: N818
    """A run completed, and its result was not kept."""


class UpstreamTaskError(RunError):
    """An input comes from a task run that did not complete: the run that needs it is not ready."""


class ParameterTypeError(RunError):
    """A flow's parameters do not fit its annotations. The text names each parameter."""


class ParameterBindError(TypeError, RunError):
    """A call's arguments do not fit the function's signature."""


class ReservedArgumentError(RunError, TypeError):
    """A function has an argument whose name the engine needs: ``return_state`` or ``wait_for``."""


class MappingLengthMismatch(RunError):  # noqa: N818
    """The iterables given to ``map`` differ in length; wrap what is not to be mapped over in ``unmapped``."""

    def __init__(self, lengths: Mapping[str, int]) -> None:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        super().__init__(f"iterables of one map must be equally long, and {told}; wrap constants in unmapped(...)")


class MappingMissingIterable(RunError):  # noqa: N818
    """Nothing given to ``map`` can be mapped over."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        names = ", ".join(parameters) or "nothing"
        super().__init__(f"map needs at least one iterable argument, and was given: {names}")


class ConfigurationError(RunError):
    """Options that do not go together."""


class HashError(RunError):
    """A value has no stable hash, so no cache key can be made of it."""


class FlowPauseTimeout(RunError):  # noqa: N818
    """Nobody resumed a paused run in time."""


class NotPausedError(RunError):
    """A run that is not paused was to be resumed."""


class FlowRunWaitTimeout(RunError):  # noqa: N818
    """A run did not end in the time it was waited for."""


class ConcurrencySlotAcquisitionError(RunError):
    """Slots could not be had: no such limit (``strict``), or the limit forbids so many."""


class RunTimeoutError(TimeoutError):
    """Code had the time that ``timeout_seconds`` gives it."""


class FlowRunTimeoutError(RunTimeoutError):
    """A flow had the time that its ``timeout_seconds`` gives it."""


class TaskRunTimeoutError(RunTimeoutError):
    """A task had the time that its ``timeout_seconds`` gives it."""


class BlockingInLoopError(TidemillError):
    """Sync code that has to wait was called in the daemon's own event loop, which would stop everything.

    Await the async form of the call, make the task async, or run the flow in a process pool.
    """


class TerminationSignal(BaseException):
    """The run was told to end. Raised in sync flow code at its next step; let it through."""
