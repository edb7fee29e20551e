"""How many submitted tasks run at a time."""

from tidemill.sdk.task_runners import ConcurrentTaskRunner, TaskRunner, ThreadPoolTaskRunner

__all__ = [
    "ConcurrentTaskRunner",
    "TaskRunner",
    "ThreadPoolTaskRunner",
]
