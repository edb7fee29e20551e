"""Named, typed configuration that flows use."""

from tidemill.sdk.blocks import JSON, Block, HttpApi, Secret, Webhook

__all__ = [
    "JSON",
    "Block",
    "HttpApi",
    "Secret",
    "Webhook",
]
