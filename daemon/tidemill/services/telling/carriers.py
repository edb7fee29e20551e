"""Carrying a message to a channel: secrets are fetched for the moment, and each kind has its own way out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.clock import Clock
from tidemill.core.channels import Channel, ChannelType, UndeliveredError
from tidemill.core.deployments import SecretRef
from tidemill.core.notices import Message
from tidemill.core.ports import Threads
from tidemill.errors import TidemillError
from tidemill.services.telling.webhooks import Web

logger = logging.getLogger("tidemill.notify")


class Carriers:
    """Every way to tell people. ``reveal`` fetches a secret, which is masked everywhere from then on."""

    def __init__(
        self,
        *,
        reveal: Callable[[SecretRef], str],
        redact: Callable[[Any], Any],
        threads: Threads,
        clock: Clock,
        host: str,
        environ: Mapping[str, str],
    ) -> None:
        self._reveal = reveal
        self.redact = redact
        self._threads = threads
        self.host = host
        self._environ = environ
        self.web = Web(clock)

    async def carry(self, channel: Channel, message: Message) -> None:
        """Hand a message over to a channel; raises UndeliveredError, whose text has no secrets."""
        try:
            await self._carry(channel, message)
        except UndeliveredError as error:
            raise UndeliveredError(self.redact(str(error)), retry_after_s=error.retry_after_s) from None
        except TidemillError as error:  # a secret that is not there any more
            raise UndeliveredError(self.redact(str(error))) from None

    async def ping(self, url: str | SecretRef, ending: str) -> None:
        """Ask a URL, with ``ending`` added to its path; raises UndeliveredError, whose text has no secrets."""
        try:
            await self.web.ask("GET", with_ending(self.plain(url), ending))
        except UndeliveredError as error:
            raise UndeliveredError(self.redact(str(error)), retry_after_s=error.retry_after_s) from None
        except TidemillError as error:
            raise UndeliveredError(self.redact(str(error))) from None

    def plain(self, value: str | SecretRef) -> str:
        """Return a text, or the secret that it refers to. Raises a TidemillError."""
        return self._reveal(value) if isinstance(value, SecretRef) else value

    async def _carry(self, channel: Channel, message: Message) -> None:
        if channel.type is ChannelType.MAIL:
            await self._mail(channel, message)
            return
        url = self.plain(channel.url or "")
        if channel.type is ChannelType.WEBHOOK:
            headers = {name: self.plain(value) for name, value in channel.headers.items()}
            secret = None if channel.signing_secret is None else self._reveal(channel.signing_secret)
            await self.web.post(channel, message, url=url, headers=headers, signing_secret=secret)
            return
        from tidemill.services.telling.apprise_urls import send_by_apprise

        await self._threads.run(lambda: send_by_apprise(url, message))

    async def _mail(self, channel: Channel, message: Message) -> None:
        from tidemill.services.telling.mail import PartlyRefusedError, send_mail  # a start without mail does without it

        password = None if channel.password is None else self._reveal(channel.password)
        try:
            await self._threads.run(
                lambda: send_mail(channel, message, host=self.host, password=password, environ=self._environ)
            )
        except PartlyRefusedError as error:
            logger.warning("notify channel %s: %s", channel.name, self.redact(str(error)))

    async def aclose(self) -> None:
        await self.web.aclose()


def with_ending(url: str, ending: str) -> str:
    """Return a URL with a word added to its path, before its query."""
    if not ending:
        return url
    path, mark, query = url.partition("?")
    return f"{path.rstrip('/')}/{ending}{mark}{query}"
