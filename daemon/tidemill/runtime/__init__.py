"""What running code may ask about itself: ``flow_run``, ``task_run`` and ``deployment``."""

from tidemill.runtime import deployment, flow_run, task_run

__all__ = [
    "deployment",
    "flow_run",
    "task_run",
]
