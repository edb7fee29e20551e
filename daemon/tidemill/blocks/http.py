"""HTTP APIs."""

from tidemill.sdk.blocks import HttpApi

__all__ = [
    "HttpApi",
]
