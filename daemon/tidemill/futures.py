"""Task runs on their way."""

from tidemill.sdk.futures import DoneAndNotDone, FutureList, TaskFuture, as_completed, wait
from tidemill.sdk.resolving import to_results, to_states

# Prefect's names, for annotations.
PrefectFuture = TaskFuture
PrefectConcurrentFuture = TaskFuture
PrefectFutureList = FutureList
PrefectTaskRunFuture = TaskFuture
DoneAndNotDoneFutures = DoneAndNotDone
resolve_futures_to_states = to_states
resolve_futures_to_results = to_results

__all__ = [
    "DoneAndNotDone",
    "DoneAndNotDoneFutures",
    "FutureList",
    "PrefectConcurrentFuture",
    "PrefectFuture",
    "PrefectFutureList",
    "PrefectTaskRunFuture",
    "TaskFuture",
    "as_completed",
    "resolve_futures_to_results",
    "resolve_futures_to_states",
    "to_results",
    "to_states",
    "wait",
]
