"""Flows: the decorator, and the built-in ones, named in the configuration, with checked parameters."""

from tidemill.sdk.flows import Flow, flow
from tidemill.sdk.serving import serve

__all__ = ["Flow", "flow", "serve"]
