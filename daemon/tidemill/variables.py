"""Named JSON values."""

from tidemill.sdk.variables import Variable

__all__ = [
    "Variable",
]
