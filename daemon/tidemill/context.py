"""Where running code is, and the tags of what begins there."""

from tidemill.sdk.scopes import FlowRunContext, TaskRunContext, get_run_context, tags

__all__ = [
    "FlowRunContext",
    "TaskRunContext",
    "get_run_context",
    "tags",
]
