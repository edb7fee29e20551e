"""Events that flow code tells."""

from tidemill.sdk.events import Event, emit_event

__all__ = [
    "Event",
    "emit_event",
]
