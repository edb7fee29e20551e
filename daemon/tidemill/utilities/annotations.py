"""Marks around arguments."""

from tidemill.sdk.annotations import allow_failure, opaque, quote, unmapped

__all__ = [
    "allow_failure",
    "opaque",
    "quote",
    "unmapped",
]
