"""Telling people."""

from tidemill.sdk.blocks import Webhook

__all__ = [
    "Webhook",
]
