"""Blocks of values."""

from tidemill.sdk.blocks import JSON, Secret

__all__ = [
    "JSON",
    "Secret",
]
