"""The base of all blocks."""

from tidemill.sdk.blocks import Block

__all__ = [
    "Block",
]
