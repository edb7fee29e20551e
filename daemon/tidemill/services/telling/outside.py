"""The world outside that is told things: messages to people, pings to a dead man's switch."""

from __future__ import annotations

from typing import Any, Protocol

from tidemill.core.channels import Channel
from tidemill.core.deployments import SecretRef
from tidemill.core.notices import Message


class Outside(Protocol):
    """How the daemon reaches others. The real one is services/telling/carriers.py."""

    @property
    def host(self) -> str:
        """This machine's name, as people read it."""
        ...

    def redact(self, value: Any) -> Any:
        """Return a JSON value with every secret masked."""
        ...

    async def carry(self, channel: Channel, message: Message) -> None:
        """Hand a message over; raises UndeliveredError, whose text has no secrets."""
        ...

    async def ping(self, url: str | SecretRef, ending: str) -> None:
        """Ask a URL, with ``ending`` added to its path; raises UndeliveredError, whose text has no secrets."""
        ...

    async def aclose(self) -> None:
        """Give back what is held."""
        ...


class Nobody:
    """An outside where all is taken and nobody hears: for simulations."""

    host = "localhost"

    def redact(self, value: Any) -> Any:
        return value

    async def carry(self, channel: Channel, message: Message) -> None:
        return None

    async def ping(self, url: str | SecretRef, ending: str) -> None:
        return None

    async def aclose(self) -> None:
        return None
