"""What flow code uses while it runs: its context, its log and its artifacts.

Nothing here knows the database or the server: everything a flow says goes through the :class:`~tidemill.core.ports.
Recorder` port, so the same code runs in the daemon's loop, in a thread and in a child process.
"""

from tidemill.sdk.artifacts import (
    create_json_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from tidemill.sdk.context import NoRunError, RunContext, run_context
from tidemill.sdk.failures import FlowFailed
from tidemill.sdk.logging import get_run_logger

__all__ = [
    "FlowFailed",
    "NoRunError",
    "RunContext",
    "create_json_artifact",
    "create_link_artifact",
    "create_markdown_artifact",
    "create_table_artifact",
    "get_run_logger",
    "run_context",
]
