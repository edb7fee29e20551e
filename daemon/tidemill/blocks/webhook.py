"""Addresses to send to."""

from tidemill.sdk.blocks import Webhook

__all__ = [
    "Webhook",
]
