"""How flow code says that it failed, and what it advises about trying again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


class FlowFailed(Exception):  # noqa: N818 - it names an outcome, as the state does
    """The run failed, for a reason that needs no traceback.

    ``message`` becomes the state's message as it is; ``data`` is JSON kept with the state. ``retriable`` False spends
    no retry on it; ``retry_after`` asks for at least that long a wait, which the deployment's policy caps.
    """

    def __init__(
        self, message: str, *, data: Any = None, retriable: bool = True, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.data = data
        self.retriable = retriable
        self.retry_after = retry_after
