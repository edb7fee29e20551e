"""Channels: the ways in which people are told, as the configuration states them. A secret in one is a reference."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from tidemill.core.deployments import SecretRef
from tidemill.core.notices import NoticeKind

DEFAULT = "default"  # the channel that hears everything nobody else was named for


class ChannelType(enum.StrEnum):
    MAIL = "mail"  # by the machine's own mail program, or by an SMTP server
    WEBHOOK = "webhook"  # a JSON document by HTTP
    APPRISE = "apprise"  # whatever Apprise has a URL for


class Encryption(enum.StrEnum):
    STARTTLS = "starttls"
    TLS = "tls"  # from the first byte
    NONE = "none"


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[notify]`` entry. Which fields mean something depends on the type."""

    name: str
    type: ChannelType
    hears: frozenset[NoticeKind] | None = None  # None: everything
    # Mail:
    to: tuple[str, ...] = ()
    sender: str | None = None  # None: tidemill@ and the machine's name
    sendmail: str | None = None  # the program's path
    server: str | None = None  # a host name; None: sendmail, or this machine's own SMTP server where that cannot work
    port: int | None = None  # None: 25, or what goes with the encryption
    encryption: Encryption = Encryption.NONE
    username: str | None = None
    password: SecretRef | None = None
    # Webhook and Apprise:
    url: str | SecretRef | None = None
    # Webhook:
    method: str = "POST"
    headers: dict[str, str | SecretRef] = msgspec.field(default_factory=dict)
    signing_secret: SecretRef | None = None
    template: Any = None  # JSON whose texts hold {subject}, {text}, …; None: the whole document


class UndeliveredError(Exception):
    """A message did not reach a channel. The text says why, in words and without secrets.

    ``retry_after_s`` is how long the receiver asks us to wait; None: it does not say.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
