"""Task runs on their way."""

from tidemill.sdk.futures import DoneAndNotDone, FutureList, TaskFuture, as_completed, wait
from tidemill.sdk.resolving import to_states

# Prefect's names, for annotations.
PrefectFuture = TaskFuture
PrefectConcurrentFuture = TaskFuture
PrefectFutureList = FutureList
resolve_futures_to_states = to_states

__all__ = [
    "DoneAndNotDone",
    "FutureList",
    "PrefectConcurrentFuture",
    "PrefectFuture",
    "PrefectFutureList",
    "TaskFuture",
    "as_completed",
    "resolve_futures_to_states",
    "to_states",
    "wait",
]
