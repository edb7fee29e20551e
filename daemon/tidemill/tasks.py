"""Tasks."""

from tidemill.sdk.caching import task_input_hash
from tidemill.sdk.retrying import exponential_backoff
from tidemill.sdk.tasks import Task, task

__all__ = [
    "Task",
    "exponential_backoff",
    "task",
    "task_input_hash",
]
