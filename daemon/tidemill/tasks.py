"""Tasks."""

from tidemill.sdk.caching import DEFAULT, NO_CACHE, task_input_hash
from tidemill.sdk.retrying import exponential_backoff
from tidemill.sdk.tasks import Task, task

__all__ = [
    "DEFAULT",
    "NO_CACHE",
    "Task",
    "exponential_backoff",
    "task",
    "task_input_hash",
]
